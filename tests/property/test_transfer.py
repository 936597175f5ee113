"""Zone transfers of random clusters: what a secondary gets is what the server answers, at one moment."""

from __future__ import annotations

from collections import Counter

import dns.message
import dns.name
import dns.rdatatype
import dns.zone
from hypothesis import given, settings

from mesos_dns.catalog import Delta
from mesos_dns.config import DnsConfig
from mesos_dns.contents import Contents
from mesos_dns.model import Entity, Framework, Key, Node
from mesos_dns.names import CNAME, NS, SOA
from mesos_dns.respond import Responder
from mesos_dns.served import Zone
from mesos_dns.transfer import Transfer, messages, ready
from mesos_dns.wire import IllegalName, name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.worlds import Step, advance, file_steps, statics, steps, stories, tasks

Row = tuple[dns.name.Name, int, int, str]
"""(owner, type, TTL, rdata), names in lower case."""

TYPES = (1, 2, 5, 12, 16, 28, 33)
AROUND: tuple[Entity, ...] = (
    *(Framework(f"f-{number}", name) for number, name in enumerate(("marathon", "Marathon", "chronos"))),
    *(Node(name, "h", (f"10.1.0.{number}",), 5051) for number, name in enumerate(("agent-S0", "agent-S1"), 1)),
)
"""What tasks need to have names; a story begins with it, and may change it."""
many_tasks = stories(tasks, 16) | stories(tasks | tasks | statics(), 16)
CLIENT = b"\x7f\0\0\1"


def beginning(config: DnsConfig) -> tuple[ZoneView, dict[Key, Entity]]:
    """A view and a state with what is around tasks."""
    view, state = ZoneView(config, ns_addresses=("127.0.0.1",)), {entity.key: entity for entity in AROUND}
    view.apply(Delta(1, {key: (None, entity) for key, entity in state.items()}))
    return view, state


def transferred(responder: Responder, zone: Zone) -> list[bytes]:
    """The messages of an AXFR, as a client of TCP reads them."""
    query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + zone.wire + b"\0\xfc\0\1"
    found = responder.respond(query, "tcp", CLIENT)
    assert isinstance(found, Transfer)
    return [message for message in messages(found, Contents(zone, responder.view.serial)) if message]


def rows_of(wire: bytes) -> list[Row]:
    """The answer section, record by record."""
    message = dns.message.from_wire(wire, one_rr_per_rrset=True, ignore_trailing=False)
    return [
        (rrset.name.canonicalize(), rrset.rdtype, rrset.ttl, rdata.to_text().lower())
        for rrset in message.answer
        for rdata in rrset
    ]


def octets(name: dns.name.Name) -> bytes:
    """A name in wire form."""
    return name.to_wire() or b""


def asked(responder: Responder, name: dns.name.Name, rtype: int) -> set[Row]:
    """What the server answers of one type for exactly this owner."""
    query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + octets(name) + rtype.to_bytes(2, "big") + b"\0\1"
    reply = responder.respond(query, "tcp")
    assert isinstance(reply, bytes)
    return {row for row in rows_of(reply) if row[:2] == (name, rtype)}


def names_in(view: ZoneView, zone: Zone) -> set[dns.name.Name]:
    """Every owner that the zone may have: those of the stores, and those that tasks give."""
    owners = {*zone.store.owners()}
    if zone.tasks is not None:
        owners |= set(zone.tasks.owners())
        owners |= {owner for place in view.places() for owner, _, _ in view.task_records(place)}
    found = set()
    for owner in owners:
        try:
            wire = name_to_wire(f"{owner}.{zone.origin}" if owner else zone.origin)
        except IllegalName:
            continue
        found.add(dns.name.from_wire(wire, 0)[0].canonicalize())
    return found


def delegated(name: dns.name.Name, zone: Zone, rows: list[Row]) -> bool:
    """True at and below a delegation of a zone from a file: the server refers to others there."""
    origin = dns.name.from_wire(zone.wire, 0)[0]
    return zone.plain and any(
        rtype == NS and owner != origin and name.is_subdomain(owner) for owner, rtype, _, _ in rows
    )


def check_zone(responder: Responder, zone: Zone) -> None:
    """One zone, transferred, against the server's answers."""
    view = responder.view
    wires = transferred(responder, zone)
    rows = [row for wire in wires for row in rows_of(wire)]
    assert rows[0] == rows[-1]
    assert rows[0][1] == SOA
    del rows[-1]
    assert max(Counter(rows).values()) == 1
    owners: dict[dns.name.Name, set[int]] = {}
    for owner, rtype, _, _ in rows:
        owners.setdefault(owner, set()).add(rtype)
    read = (dns.message.from_wire(wire, one_rr_per_rrset=True, xfr=True, origin=rows[0][0]) for wire in wires)
    dns.zone.from_xfr(read, check_origin=rows[0][0] in owners and NS in owners[rows[0][0]])
    for name in names_in(view, zone) | set(owners):
        folded = octets(name)
        if view.find(folded) is not zone or delegated(name, zone, rows):
            continue
        wildcard = any(dns.name.Name((b"*", *name.labels[n:])) in owners for n in range(1, len(name.labels)))
        if name.labels[0] == b"*" and not zone.store.exists(view.relative(folded, zone)):
            assert name not in owners  # a task's name, which must not become a wildcard
            continue
        if wildcard and name not in owners:
            continue
        for rtype in TYPES:
            if rtype == CNAME and len(owners.get(name, ())) > 1:
                continue
            assert {row for row in rows if row[:2] == (name, rtype)} == asked(responder, name, rtype), (name, rtype)


@settings(max_examples=60)
@given(many_tasks | steps | file_steps)
def test_a_secondary_has_what_the_server_answers(story: list[Step]) -> None:
    config = DnsConfig(transfer=("127.0.0.1",))
    view, state = beginning(config)
    responder = Responder(view, config)
    for step in story:
        view.apply(Delta(1, advance(state, step)))
        for zone in view.zones.values():
            if ready(zone, view):
                check_zone(responder, zone)


def told(contents: Contents) -> list[object]:
    return [contents.soa, *(record for record in contents.records() if record is not None)]


@settings(max_examples=100)
@given(many_tasks | steps | file_steps)
def test_changes_during_a_transfer_are_not_seen_and_nothing_is_lost_by_it(story: list[Step]) -> None:
    view, state = beginning(DnsConfig())
    for step in story:
        begun = []
        for zone in view.zones.values():
            expected = told(Contents(zone, view.serial))
            contents = Contents(zone, view.serial)
            begun.append((contents, expected, contents.records()))
        first = [[next(records, None) for _ in range(3)] for _, _, records in begun]
        view.apply(Delta(1, advance(state, step)))
        for (contents, expected, records), started in zip(begun, first, strict=True):
            read = [record for record in (*started, *records) if record is not None]
            assert [contents.soa, *read] == expected
    fresh = ZoneView(DnsConfig(), ns_addresses=("127.0.0.1",))
    fresh.apply(Delta(1, {key: (None, entity) for key, entity in state.items()}))
    for wire, zone in view.zones.items():
        now, anew = (set(map(repr, told(Contents(each, 7)))) for each in (zone, fresh.zones[wire]))
        assert {row.lower() for row in now} == {row.lower() for row in anew}
