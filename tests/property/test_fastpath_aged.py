"""Answers of others at any age against dnspython: records as they came, but for TTLs, which are lower by the age."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from itertools import pairwise
from random import Random
from types import SimpleNamespace

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from mesos_dns.answer import Answer, ttl_places
from mesos_dns.message import CD, RD, Query, question_end, read_query
from tests.fakes.aged_answers import BEGAN, Cached, address, of_age
from tests.fakes.fast_answers import NOW, PUBLIC
from tests.fakes.fast_packets import Packets
from tests.fakes.native_table import key_of

NAMES = (
    "example.net",
    "www.example.net",
    "a.very.long.name.below.www.example.net",
    "cdn.example",
    ".",
    "x" * 63 + ".net",
)
TTL = st.sampled_from((0, 1, 59, 60, 61, 300, 86400, 0x7FFFFFFF)) | st.integers(0, 1000)
AGE = st.sampled_from((0, 1, 60, 299, 86399)) | st.integers(0, 1000)
LIVES = 100_000

data = st.one_of(
    st.ip_addresses(v=4).map(lambda each: ("A", str(each))),
    st.ip_addresses(v=6).map(lambda each: ("AAAA", str(each))),
    st.sampled_from(NAMES).map(lambda name: ("CNAME", name + "." * (name != "."))),
    st.sampled_from(NAMES).map(lambda name: ("MX", f"10 {name}{'.' * (name != '.')}")),
    st.integers(0, 255).map(lambda size: ("TXT", '"' + "t" * size + '"')),
    st.sampled_from(NAMES[:4]).map(lambda name: ("SOA", f"ns.{name}. admin.{name}. 7 3600 600 86400 60")),
)
record = st.tuples(st.sampled_from(NAMES), TTL, data)
section = st.lists(record, max_size=12)


def came(
    name: str, answer: list[tuple[str, int, tuple[str, str]]], authority: list[tuple[str, int, tuple[str, str]]]
) -> bytes:
    """The packet of an upstream server, with compressed names."""
    message = dns.message.make_response(dns.message.make_query(name, "A"))
    for records, said in ((message.answer, answer), (message.authority, authority)):
        for owner, ttl, (kind, text) in said:
            records.append(dns.rrset.from_text(owner + "." * (owner != "."), ttl, "IN", kind, text))
    return message.to_wire(max_size=65535)


def answer_of(packet: bytes, count: int, rcode: int, rotate: bool) -> Answer:
    """The two sections, each record by itself."""
    start = question_end(packet)
    wire = packet[start:]
    ends = [0, *(at + 6 + int.from_bytes(wire[at + 4 : at + 6], "big") for at in ttl_places(wire))]
    records = [wire[begin:end] for begin, end in pairwise(ends)]
    return Answer(rcode, records[:count], authority=records[count:], aa=False, rotate=rotate)


def records_of(message: dns.message.Message) -> list[list[tuple[dns.name.Name, int, int, dns.rdata.Rdata]]]:
    return [
        [(rrset.name, int(rrset.rdtype), rrset.ttl, rrset[0]) for rrset in part]
        for part in (message.answer, message.authority)
    ]


def older(said: list[tuple[dns.name.Name, int, int, dns.rdata.Rdata]], age: int) -> list[object]:
    return [(name, kind, max(0, ttl - age), rdata) for name, kind, ttl, rdata in said]


def parsed(packet: bytes) -> dns.message.Message:
    return dns.message.from_wire(packet, one_rr_per_rrset=True, ignore_trailing=False)


CACHED = Cached(max_udp_payload=4096)


@settings(max_examples=200)
@given(
    st.sampled_from(NAMES),
    section,
    section.map(lambda said: said[:3]),
    AGE,
    st.sampled_from((0, 3, 2)),
    st.sampled_from((None, 512, 700, 1232, 4096)),
    st.sampled_from(("udp", "tcp")),
    st.booleans(),
)
def test_only_ttls_change(
    name: str,
    answer: list[tuple[str, int, tuple[str, str]]],
    authority: list[tuple[str, int, tuple[str, str]]],
    age: int,
    rcode: int,
    payload: int | None,
    transport: str,
    stale: bool,
) -> None:
    packet = came(name, answer, authority)
    made = answer_of(packet, len(answer), rcode, rotate=False)
    key = packet[12 : question_end(packet)]
    CACHED.now = BEGAN
    assert CACHED.path.keep_aged(key.lower(), made, LIVES, stale=stale)
    CACHED.now = BEGAN + age
    query = dns.message.make_query(name, "A", use_edns=payload is not None and 0, payload=payload or 1232)
    asked = query.to_wire()
    reply = CACHED.ready(asked, transport, PUBLIC)
    assert reply is not None
    assert reply == CACHED.said(made, asked, transport, stale=stale)
    before, after = records_of(parsed(packet)), parsed(reply)
    assert after.rcode() == rcode
    found = records_of(after)
    age = 0 if stale else age  # what is past its time has one TTL
    if after.flags & dns.flags.TC:
        assert found[0] == older(before[0], age)[: len(found[0])]
        assert not found[1]
    else:
        assert found == [older(part, age) for part in before]
    assert CACHED.path.forget_aged(key.lower())


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(NAMES), TTL, data), min_size=2, max_size=8), AGE, st.integers(0, 0xFFFFFFFF))
def test_rotated_records_stay_whole(said: list[tuple[str, int, tuple[str, str]]], age: int, turn: int) -> None:
    texts = [
        ("www.example.net", ttl, ("TXT", f'"{number}{"t" * (ttl % 90)}"')) for number, (_, ttl, _) in enumerate(said)
    ]
    packet = came("www.example.net", texts, [])
    made = answer_of(packet, len(texts), 0, rotate=True)
    key = packet[12 : question_end(packet)]
    CACHED.now = BEGAN
    assert CACHED.path.keep_aged(key, made, LIVES)
    CACHED.now = BEGAN + age
    asked = dns.message.make_query("www.example.net", "A").to_wire()
    reply = CACHED.ready(asked, "tcp", PUBLIC, turn)
    assert reply == CACHED.said(made, asked, "tcp", turn)
    first = turn * len(texts) >> 32
    expected = older(records_of(parsed(packet))[0], age)
    assert records_of(parsed(reply))[0] == expected[first:] + expected[:first]


def drawn(seed: int, names: tuple[str, ...]) -> Iterator[bytes]:
    """Queries, ordinary and odd, for these names and those near them."""
    packets = Packets(Random(seed), SimpleNamespace(now=NOW))  # type: ignore[arg-type]
    wires = [dns.name.from_text(name).to_wire() or b"" for name in names]
    for _ in range(200):
        yield packets.any(wires)


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.sampled_from(("udp", "tcp")))
def test_what_is_odd_is_left_to_python(seed: int, transport: str) -> None:
    made = Answer(0, [address(n, 77) for n in range(40)], aa=False)
    for rtype in (1, 28, 33, 16, 255):
        CACHED.now = BEGAN
        assert CACHED.path.keep_aged(key_of("www.example.net", rtype), made, LIVES)
    CACHED.now = BEGAN + seed % 100
    answered = 0
    for query in drawn(seed, ("www.example.net",)):
        reply = CACHED.ready(query, transport, PUBLIC)
        read = read_query(query)
        if reply is None or not isinstance(read, Query):
            assert reply is None
            continue
        assert read.flags & RD
        assert not read.flags & CD
        assert not read.dnssec_ok
        assert reply == CACHED.said(made, query, transport)
        answered += 1
    assert answered


STRANGERS = Cached(allow=[IPv4Network("192.0.2.0/24"), IPv6Network("2001:db8:1::/48")], max_udp_payload=4096)


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.sampled_from((PUBLIC, bytes(16), bytes(10) + b"\xff\xff" + PUBLIC)))
def test_strangers_are_told_the_same_by_both_sides(seed: int, client: bytes) -> None:
    refused = 0
    for query in drawn(seed, ("www.example.net", "mesos", "leader.mesos")):
        reply = STRANGERS.ready(query, "udp", client)
        if reply is not None:
            assert reply[3] & 15 == 5
            assert reply == STRANGERS.responder.respond(query, "udp", client)
            refused += 1
    assert refused > 10


@given(st.binary(max_size=80), st.integers(0, 1 << 32))
def test_any_octets_are_records_or_none(octets: bytes, age: int) -> None:
    try:
        places = ttl_places(octets)
    except ValueError:
        return
    lower = of_age(Answer(0, [octets]), age).wire
    assert len(lower) == len(octets)
    assert ttl_places(lower) == places
    for at in places:
        before, after = (int.from_bytes(each[at : at + 4], "big") for each in (octets, lower))
        assert after == max(0, before - age)
