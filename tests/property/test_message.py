"""Reading queries: what dnspython writes is read as it was meant, and no bytes do harm."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.message import Bad, Query, read_query
from mesos_dns.wire import name_from_wire, name_to_wire

labels = st.lists(st.binary(min_size=1, max_size=63), max_size=5).filter(
    lambda parts: sum(map(len, parts)) + len(parts) < 255
)
names = labels.map(lambda parts: dns.name.Name([*parts, b""]))


@given(names, st.integers(0, 65535), st.sampled_from((1, 3, 255)), st.none() | st.integers(0, 65535), st.booleans())
def test_a_query_is_read_as_it_was_written(
    name: dns.name.Name, rtype: int, rclass: int, payload: int | None, dnssec_ok: bool
) -> None:
    query = dns.message.make_query(name, dns.rdatatype.RdataType(rtype), dns.rdataclass.RdataClass(rclass))
    if payload is not None:
        query.use_edns(0, dns.flags.DO if dnssec_ok else 0, payload)
    packet = query.to_wire()
    owner = name.to_wire()
    assert owner is not None
    read = read_query(packet)
    assert isinstance(read, Query)
    assert read.id == query.id
    assert read.name == owner.lower()
    assert (read.qtype, read.qclass) == (rtype, rclass)
    assert read.question == packet[12 : 12 + len(read.question)]
    assert read.edns == (payload is not None)
    assert read.payload == (512 if payload is None else max(512, payload))
    assert read.dnssec_ok == (payload is not None and dnssec_ok)


def made(code: int, data: bytes) -> dns.edns.Option:
    return dns.edns.GenericOption(dns.edns.OptionType.make(code), data)


options = st.lists(st.tuples(st.sampled_from((3, 8, 10, 11, 12, 15, 65001)), st.binary(max_size=45)), max_size=5)


@given(options)
def test_options_are_read_as_they_were_written(given: list[tuple[int, bytes]]) -> None:
    query = dns.message.make_query("web.mesos", "A")
    query.use_edns(0, 0, 1232, options=[made(code, data) for code, data in given])
    read = read_query(query.to_wire())
    cookies = [data for code, data in given if code == 10]
    if cookies and not (len(cookies[0]) == 8 or 16 <= len(cookies[0]) <= 40):
        assert isinstance(read, Bad)
        assert (read.rcode, read.edns) == (1, True)
        return
    assert isinstance(read, Query)
    assert read.cookie == (cookies[0] if cookies else b"")
    assert read.keepalive == ((11, b"") in given)
    assert read.padding == any(code == 12 for code, _ in given)


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(packet: bytes) -> None:
    read = read_query(packet)
    if len(packet) < 12 or packet[2] & 0x80:
        assert read is None
    else:
        assert isinstance(read, Query | Bad)
        assert read.id == int.from_bytes(packet[:2], "big")
        assert packet[12:].startswith(read.question)


@given(
    st.lists(
        st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1, max_size=15), max_size=6
    )
)
def test_names_as_text_and_as_bytes(parts: list[str]) -> None:
    name = ".".join(parts)
    assert name_from_wire(name_to_wire(name)) == name


@given(labels)
def test_different_bytes_are_different_texts(parts: list[bytes]) -> None:
    wire = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    text = name_from_wire(wire)
    assert text.count(".") == max(0, len(parts) - 1)
    assert [part.replace("\udc2e", ".").encode("utf-8", "surrogateescape") for part in text.split(".")] == (
        parts or [b""]
    )
