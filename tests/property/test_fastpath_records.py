"""Ready answers against a judge that shares no code with the server: records, existence, SOA, glue, TTLs, case."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
from dns.name import Name
from hypothesis import given, settings
from hypothesis import strategies as st

from mesos_dns.catalog import Delta
from mesos_dns.model import Entity, Key
from tests.fakes.fast_answers import Twins
from tests.fakes.judge import COPY, DIRECTORY, DOMAIN, Found, Judge, Verdict, name_of
from tests.fakes.worlds import Step, advance, file_steps, steps

TYPES = (1, 28, 33, 16, 2, 5, 15)
NEAR = ("x", "tcp", "_tcp", "a.b", "été", "s0", "x-abcde-s0", "-")


def names_near(judge: Judge, chance: Random) -> Iterator[Name]:
    """Everything that exists, something beside and below each of them, and names in no zone."""
    for zone in judge.zones.values():
        for owner in [zone.origin, *sorted(zone.there)]:
            yield owner
            for parent in (owner, owner.parent()) if owner != zone.origin else (owner,):
                near = name_of(chance.choice(NEAR), parent)
                if near is not None:
                    yield near
    for text in ("example.net", "directory", "com"):
        yield dns.name.from_text(text)


def query(name: Name, rtype: int, chance: Random) -> tuple[bytes, Name]:
    """A question in some mixture of cases."""
    written = Name([label.upper() if chance.random() < 0.3 else label for label in name.labels])
    head = b"\x12\x34\1\0\0\1\0\0\0\0\0\0"
    return head + wire_of(written) + rtype.to_bytes(2, "big") + b"\0\1", written


def wire_of(name: Name) -> bytes:
    wire = name.to_wire()
    assert wire is not None
    return wire


def sets(section: list[dns.rrset.RRset]) -> list[Found]:
    return [
        (
            rrset.name,
            int(rrset.rdtype),
            frozenset((rrset.ttl,)),
            frozenset(
                rdata.to_text().lower() if rrset.rdtype == dns.rdatatype.SRV else rdata.to_text() for rdata in rrset
            ),
        )
        for rrset in section
    ]


def agree(said: list[Found], expected: list[Found]) -> bool:
    """The same sets in the same order, each TTL one of those that may be."""
    return len(said) == len(expected) and all(
        (name, kind, data) == (other, other_kind, other_data) and ttl <= ttls
        for (name, kind, ttl, data), (other, other_kind, ttls, other_data) in zip(said, expected, strict=True)
    )


def check(reply: bytes, written: Name, verdict: Verdict) -> None:
    message = dns.message.from_wire(reply, ignore_trailing=False)
    assert dns.rcode.to_text(message.rcode()) == verdict.rcode
    assert bool(message.flags & dns.flags.AA) == (verdict.rcode != "REFUSED")
    assert not message.flags & (dns.flags.TC | dns.flags.RA)
    assert message.question[0].name.labels == written.labels
    assert agree(sets(message.answer), verdict.answer), (message.to_text(), verdict)
    assert agree(sets(message.authority), verdict.authority), (message.to_text(), verdict)
    assert {(name, kind, data) for name, kind, _, data in sets(message.additional)} == verdict.additional
    if message.answer:
        assert message.answer[0].name.labels == written.labels  # spelled as in the question
    elif verdict.authority:
        assert message.authority[0].name == message.authority[0].name.canonicalize()


@settings(max_examples=60)
@given(steps | file_steps, st.sampled_from(("ignore", "exclude-unhealthy")), st.integers(0, 1 << 32))
def test_what_is_ready_is_what_the_records_say(story: list[Step], health: str, seed: int) -> None:
    twins, state, chance = Twins(health=health), dict[Key, Entity](), Random(seed)
    for step in story:
        twins.apply(Delta(1, advance(state, step)))
        judge = Judge(state, twins.config, twins.fast.view.serial)
        for name in dict.fromkeys(names_near(judge, chance)):
            for rtype in chance.sample(TYPES, 3):
                packet, written = query(name, rtype, chance)
                verdict = judge.decide(name, rtype)
                twins.warm(packet)
                reply = twins.ready(packet, "tcp")
                if reply is None:
                    assert verdict is None or not verdict.certain, (name, rtype, verdict)
                else:
                    assert verdict is not None, (name, rtype)
                    check(reply, written, verdict)


@settings(max_examples=60)
@given(steps)
def test_a_name_that_exists_is_never_denied_and_one_that_does_not_is(story: list[Step]) -> None:
    """Without anything asked before: this is the names alone, of tasks with all kinds of ids and agents."""
    twins, state, ever = Twins(), dict[Key, Entity](), set[Name]()
    for step in story:
        twins.apply(Delta(1, advance(state, step)))
        judge = Judge(state, twins.config, twins.fast.view.serial)
        for origin in (DOMAIN, COPY, DIRECTORY):
            zone = judge.zones[origin]
            ever |= zone.there | {near for owner in zone.there if (near := name_of("absent", owner)) is not None}
        for name in ever:
            reply = twins.ready(query(name, 4711, Random(1))[0])
            home = judge.find(name)
            assert home is not None
            if name in home.there or name == home.origin:
                assert reply is None, name
                view = twins.fast.view
                wire = wire_of(name.canonicalize())
                held = view.find(wire)
                assert held is not None
                assert held.exists(view.relative(wire, held))
            elif judge.is_denied(home, name) and judge.decide(name, 1) is not None:
                assert reply is not None, name
                assert reply[3] & 15 == 3
