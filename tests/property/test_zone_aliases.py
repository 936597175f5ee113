"""The other names of DC/OS' zones over random clusters: what is said under one name is said under all."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from mesos_dns.catalog import Delta
from mesos_dns.model import Entity, Key
from mesos_dns.wire import IllegalName, name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.fast_answers import Twins
from tests.fakes.worlds import Step, advance, file_steps, steps

TYPES = (1, 6, 28)
"""Not SRV: its targets are in the zone that was asked."""
PAIRS = [
    (f"{meant}.thisdcos.directory", f"{label}.thisdcos.{end}")
    for label, meant in (("dcos", "dcos"), ("mesos", "mesos"), ("l4lb", "l4lb"), ("dclb", "l4lb"))
    for end in ("directory", "global")
    if (label, end) != (meant, "directory")
]


def owners(view: ZoneView, origin: str) -> list[str]:
    """Owners of a zone, those above and below them, and one that is not there."""
    zone = view.zones[name_to_wire(origin)]
    found = {*zone.store.owners(), *(zone.tasks.owners() if zone.tasks is not None else ()), "", "not-there"}
    return sorted(found | {owner.partition(".")[2] for owner in found} | {f"x.{owner}" for owner in found if owner})


def question(owner: str, origin: str, rtype: int) -> bytes | None:
    """A query; None for a name that is too long."""
    try:
        name = name_to_wire(f"{owner}.{origin}".removeprefix("."))
    except IllegalName:
        return None
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + name + rtype.to_bytes(2, "big") + b"\0\1"


def behind(reply: object, query: bytes, origin: str) -> bytes:
    """A reply without its question, the names of its zone made equal."""
    assert isinstance(reply, bytes)
    assert reply[12 : len(query)] == query[12:]
    return reply[:12] + reply[len(query) :].replace(name_to_wire(origin), b"ORIGIN")


@settings(max_examples=15)
@given(steps | file_steps, st.sampled_from(("ignore", "exclude-unhealthy")))
def test_what_is_said_under_one_name_is_said_under_all(story: list[Step], health: str) -> None:
    twins, state = Twins(health=health), dict[Key, Entity]()
    for step in story:
        twins.apply(Delta(1, advance(state, step)))
        for first, other in PAIRS:
            for owner, rtype in product(owners(twins.plain.view, first), TYPES):
                asked, again = question(owner, first, rtype), question(owner, other, rtype)
                if asked is None or again is None:
                    continue
                expected = behind(twins.said(asked, "tcp"), asked, first)
                # Before the question is asked there may be an answer that a change should have dropped.
                for found in (twins.ready(again, "tcp"), twins.said(again, "tcp")):
                    assert found is None or behind(found, again, other) == expected, (owner, other, rtype)
                twins.warm(again)
                assert twins.agreed(again, "tcp") is None or behind(twins.ready(again, "tcp"), again, other) == expected
