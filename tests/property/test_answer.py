"""The responder over random clusters: every packet is sound, and a kept answer never survives a change."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from mesos_dns.catalog import Delta
from mesos_dns.config import DnsConfig
from mesos_dns.kept import KeptAnswers
from mesos_dns.model import Entity, Key
from mesos_dns.respond import Responder
from mesos_dns.wire import IllegalName, name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.questions import responder_of, task
from tests.fakes.worlds import Step, advance, file_steps, steps

TYPES = (1, 2, 5, 6, 12, 16, 28, 33, 43, 65, 255, 252, 4711)
FIXED = (
    *(
        "mesos",
        "slave.mesos",
        "leader.mesos",
        "master.mesos",
        "master0.mesos",
        "ns1.mesos",
        "nope.mesos",
        "x.b.marathon.mesos",
    ),
    *(
        "_leader._tcp.mesos",
        "_slave._tcp.mesos",
        "_framework._tcp.marathon.mesos",
        "marathon.mesos",
        "team.marathon.mesos",
    ),
    *(
        "example.org",
        "www.example.org",
        "a.www.example.org",
        "x.www.example.org",
        "x.sub.example.org",
        "ns.sub.example.org",
    ),
    *("sub.example.org", "www.sub.mesos", "sub.mesos", "x.apps.mesos", "y.x.apps.example.org", "apps.example.org"),
    *(
        "web.marathon.agentip.dcos.thisdcos.directory",
        "leader.dcos.thisdcos.directory",
        "agentip.dcos.thisdcos.directory",
    ),
    *("1.0.0.10.in-addr.arpa", "2.0.0.9.in-addr.arpa", "2.0.1.10.in-addr.arpa", "example.net", ""),
)


def question_names(view: ZoneView) -> list[bytes]:
    """Names to ask: all owners of tasks in the domain and its copy, what is above them, and some fixed ones."""
    found = [name_to_wire(name) for name in FIXED]
    for place in view.places():
        for owner, _, rdata in view.task_records(place):
            for name in (owner, owner.partition(".")[2], rdata[1] if isinstance(rdata, tuple) else "x." + owner):
                for origin in ("mesos", "mesos.thisdcos.directory"):
                    try:
                        found.append(name_to_wire(f"{name}.{origin}"))
                    except IllegalName:
                        continue
    return list(dict.fromkeys(found))


def query(name: bytes, rtype: int, payload: int | None = None) -> bytes:
    head = b"\x12\x34\x01\0\0\1\0\0\0\0\0" + (b"\0" if payload is None else b"\1")
    opt = b"" if payload is None else b"\0\0\x29" + payload.to_bytes(2, "big") + bytes(6)
    return head + name + rtype.to_bytes(2, "big") + b"\0\1" + opt


RESPONDER = responder_of(*(task(number, host_ports=(31000,)) for number in range(20)))
Sections = tuple[int, int, tuple[tuple[str, ...], ...]]


def sections(reply: bytes) -> Sections:
    """rcode, AA, and each section in one order."""
    message = dns.message.from_wire(reply, ignore_trailing=False)
    parts = (message.answer, message.authority, message.additional)
    return (
        int(message.rcode()),
        int(message.flags & dns.flags.AA),
        tuple(tuple(sorted(rrset.to_text() for rrset in in_order(part))) for part in parts),
    )


def in_order(part: list[dns.rrset.RRset]) -> list[dns.rrset.RRset]:
    for rrset in part:
        rrset.items = dict(sorted(rrset.items.items(), key=lambda item: item[0].to_text()))
    return part


@settings(max_examples=60)
@given(steps | file_steps, st.sampled_from(("ignore", "exclude-unhealthy")))
def test_a_kept_answer_never_survives_a_change(story: list[Step], health: str) -> None:
    config = DnsConfig(health="ignore" if health == "ignore" else "exclude-unhealthy")
    view, state = ZoneView(config, ns_addresses=("127.0.0.1",)), dict[Key, Entity]()
    responder = Responder(view, config)
    asked: dict[bytes, None] = dict.fromkeys(map(name_to_wire, FIXED))
    for step in story:
        view.apply(Delta(1, advance(state, step)))
        asked |= dict.fromkeys(question_names(view))
        fresh = ZoneView(config, ns_addresses=("127.0.0.1",))
        fresh.apply(Delta(1, {key: (None, entity) for key, entity in state.items()}))
        fresh.serial = view.serial
        other = Responder(fresh, config)
        for name in asked:
            for rtype in TYPES[:8]:
                packet = query(name, rtype)
                kept, new = responder.respond(packet, "tcp"), other.respond(packet, "tcp")
                assert isinstance(kept, bytes)
                assert isinstance(new, bytes)
                assert sections(kept) == sections(new), (name, rtype)
    store = responder._kept
    assert isinstance(store, KeptAnswers)
    assert {dependency for answer in store._answers.values() for dependency in answer.depends} == set(store._dependents)


@settings(max_examples=25)
@given(steps, st.sampled_from((None, 0, 600, 1232, 65535)), st.integers(0, 1 << 32))
def test_every_reply_is_sound(story: list[Step], payload: int | None, turn: int) -> None:
    view, state = ZoneView(DnsConfig(), ns_addresses=("127.0.0.1",)), dict[Key, Entity]()
    for step in story:
        view.apply(Delta(1, advance(state, step)))
    responder = Responder(view, view.config)
    responder.replies.turn = turn & 0xFFFFFFFF
    for name in question_names(view):
        for rtype in TYPES:
            packet = query(name, rtype, payload)
            small, whole = responder.respond(packet, "udp"), responder.respond(packet, "tcp")
            assert isinstance(small, bytes)
            assert isinstance(whole, bytes)
            assert len(small) <= (512 if payload is None else min(1232, max(512, payload)))
            check_pair(packet, small, whole)


def check_pair(packet: bytes, small: bytes, whole: bytes) -> None:
    """A UDP reply against the TCP reply to the same question."""
    cut, full = (dns.message.from_wire(reply, ignore_trailing=False) for reply in (small, whole))
    question = dns.message.from_wire(packet).question
    for message in (cut, full):
        assert message.id == 0x1234
        assert message.question == question
        assert (message.edns == 0) == bool(packet[11])
        if message.rcode() == 3 or (message.rcode() == 0 and not message.answer and message.authority):
            assert all(rrset.rdtype in (2, 6) for rrset in message.authority)
    records = [{(rrset.name, rdata) for rrset in message.answer for rdata in rrset} for message in (cut, full)]
    assert records[0] <= records[1]
    if not cut.flags & dns.flags.TC:
        assert records[0] == records[1]
        glue = [{(rrset.name, rdata) for rrset in message.additional for rdata in rrset} for message in (cut, full)]
        assert glue[0] <= glue[1]
    assert not full.flags & dns.flags.TC
    targets = {rdata.target for rrset in full.answer if rrset.rdtype == 33 for rdata in rrset}
    if targets:
        assert {rrset.name for rrset in full.additional} <= targets


@settings(max_examples=25)
@given(steps)
def test_pointers_point_to_names_that_have_the_address(story: list[Step]) -> None:
    view, state = ZoneView(DnsConfig()), dict[Key, Entity]()
    for step in story:
        view.apply(Delta(1, advance(state, step)))
    responder = Responder(view, view.config)
    for reverse in (name for name in FIXED if name.endswith("in-addr.arpa")):
        reply = responder.respond(query(name_to_wire(reverse), 12), "udp")
        assert isinstance(reply, bytes)
        for rrset in dns.message.from_wire(reply).answer:
            target = rrset[0].target.to_wire()
            back = responder.respond(query(target, 1), "tcp")
            assert isinstance(back, bytes)
            octets = ".".join(reversed(reverse.split(".")[:4]))
            held = {rdata.to_text() for found in dns.message.from_wire(back).answer for rdata in found}
            assert octets in held or delegated(view, target), (reverse, held)


def delegated(view: ZoneView, target: bytes) -> bool:
    """True when a plain zone of a file has taken the name over."""
    zone = view.find(target)
    return zone is not None and zone.plain


@given(
    st.sampled_from(
        (b"\3web\10marathon\5mesos\0\0\1\0\1", b"\4_web\4_tcp\10marathon\5mesos\0\0\x21\0\1", b"\0\0\1\0\1")
    ),
    st.binary(min_size=12, max_size=12),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
    st.binary(max_size=60),
)
def test_mutated_queries_get_a_sound_reply_or_none(
    question: bytes, head: bytes, changes: list[tuple[int, int]], tail: bytes
) -> None:
    packet = bytearray(head + question + tail)
    packet[2] &= 0x7F
    packet[4:12] = b"\0\1\0\0\0\0\0\1" if tail else b"\0\1\0\0\0\0\0\0"
    for at, value in changes:
        packet[at % len(packet)] = value
    check_any(RESPONDER, bytes(packet))


@given(st.binary(max_size=200))
def test_random_bytes_get_a_sound_reply_or_none(packet: bytes) -> None:
    check_any(RESPONDER, packet)
    if len(packet) >= 12:
        check_any(RESPONDER, packet[:2] + b"\1\0\0\1\0\0\0\0\0\0" + packet[12:])


def check_any(responder: Responder, packet: bytes) -> None:
    """Whatever came: no exception, and what is sent can be read and is no larger than allowed."""
    for transport, client in (("udp", b""), ("tcp", b""), ("udp", b"\x0a\0\0\1"), ("tls", bytes(16))):
        reply = responder.respond(packet, transport, client)
        if reply is None:
            assert len(packet) < 12 or packet[2] & 0x80
            continue
        assert isinstance(reply, bytes)
        assert reply[:2] == packet[:2]
        assert reply[2] & 0x80
        if transport == "udp":
            assert len(reply) <= 1232
        opcode = reply[2] >> 3 & 15
        if opcode == 0:  # dnspython reads other opcodes by their own rules
            dns.message.from_wire(reply, ignore_trailing=False)
