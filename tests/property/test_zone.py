"""The zone view under random change: always what it would be if it were made anew, and what the rules say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from mesos_dns import names
from mesos_dns.catalog import Delta
from mesos_dns.config import DnsConfig
from mesos_dns.model import Entity, Framework, Health, Key, Leadership, Node, Task
from mesos_dns.names import AAAA, SOA, A, Rdata, Record, TaskPlace
from mesos_dns.records import fold, legal_owner
from mesos_dns.served import Zone
from mesos_dns.zone import ZoneView
from tests.fakes.worlds import Step, advance, steps

configs = st.builds(
    DnsConfig,
    health=st.sampled_from(("ignore", "exclude-unhealthy")),
    enforce_rfc952=st.booleans(),
    ip_sources=st.sampled_from((("netinfo", "mesos", "host"), ("host",), ("docker", "mesos"))),
)
Content = dict[tuple[str, str, int], frozenset[Rdata]]
"""(zone, folded owner, type) → rdata."""


def everything(view: ZoneView, owners: Iterable[str]) -> Content:
    """All record sets of a view, at its own owners and those given; checks existence on the way."""
    found: Content = {}
    for zone in view.zones.values():
        known = {*zone.store.owners(), *owners}
        if zone.tasks is not None:
            known |= set(zone.tasks.owners())
        for owner in known:
            for rtype in zone.types(owner):
                if rtype != SOA and (rdata := zone.rrset(owner, rtype)):
                    found[zone.origin, owner, rtype] = frozenset(rdata)
                    assert zone.exists(owner)
                    assert len(rdata) == len(set(rdata))
    return found


def shown(view: ZoneView, owners: Iterable[str]) -> tuple[Content, set[str], dict[bytes, str | None]]:
    """What outsiders can see: records, the zones' origins, and pointers."""
    addresses = [names.packed(f"10.{a}.0.{b}") for a in (0, 1) for b in (1, 2)]
    addresses += [names.packed(f"9.0.0.{b}") for b in (1, 2)] + [names.packed(f"fd00::{b}") for b in (1, 2)]
    pointers = {address: view.pointers.name(address) for address in addresses}
    return everything(view, owners), {zone.origin for zone in view.zones.values()}, pointers


def task_places(state: dict[Key, Entity]) -> list[TaskPlace]:
    """Running tasks whose framework and agent are known."""
    places = []
    for task in state.values():
        if isinstance(task, Task) and task.state == names.RUNNING:
            framework = state.get(("framework", task.cluster, task.framework_id))
            node = state.get(("node", task.cluster, task.node_id))
            if isinstance(framework, Framework) and isinstance(node, Node):
                places.append(TaskPlace(task, framework.name, node.addresses))
    return places


def naive(state: dict[Key, Entity], view: ZoneView) -> dict[tuple[str, int], frozenset[Rdata]]:
    """The domain without files, straight from the rules: no groups, no counts, no increments."""
    room = 255 - len(view.domain.wire) + 1
    fit: dict[tuple[str, int], set[Rdata]] = defaultdict(set)
    unfit: dict[tuple[str, int], set[Rdata]] = defaultdict(set)

    def add(records: Iterable[Record], into: dict[tuple[str, int], set[Rdata]]) -> None:
        for owner, rtype, rdata in records:
            if legal_owner(owner, room) and (not isinstance(rdata, tuple) or legal_owner(rdata[1], room)):
                into[fold(owner), rtype].add(rdata)

    for entity in state.values():
        if isinstance(entity, Framework):
            add(names.framework_records(entity, view.rules), fit)
        elif isinstance(entity, Node):
            add(names.node_records(entity), fit)
        elif isinstance(entity, Leadership):
            add(names.leadership_records(entity), fit)
    for place in task_places(state):
        good = view.config.health == "ignore" or place.task.health in (Health.NONE, Health.HEALTHY)
        add(names.task_records(place, view.rules), fit if good else unfit)
    return {key: frozenset(fit.get(key) or unfit[key]) for key in {*fit, *unfit}}


def owners_of(state: dict[Key, Entity], view: ZoneView) -> set[str]:
    """Every folded owner that a task may have."""
    return {fold(owner) for place in task_places(state) for owner, _, _ in names.task_records(place, view.rules)}


@given(configs, steps)
def test_increments_give_what_a_new_view_gives(config: DnsConfig, story: list[Step]) -> None:
    view, state, seen = ZoneView(config), dict[Key, Entity](), set[str]()
    for step in story:
        view.apply(Delta(1, advance(state, step)))
        seen |= owners_of(state, view)
        for order in (list(state.items()), list(reversed(state.items()))):
            fresh = ZoneView(config)
            fresh.apply(Delta(1, {key: (None, entity) for key, entity in order}))
            assert shown(view, seen) == shown(fresh, seen)
    view.apply(Delta(1, {key: (entity, None) for key, entity in state.items()}))
    assert shown(view, seen) == shown(ZoneView(config), seen)
    assert not any(len(zone.store) for zone in view.zones.values())
    assert not view.domain.tasks
    assert len(view.pointers) == 0


@given(configs, steps)
def test_the_domain_is_what_the_rules_say(config: DnsConfig, story: list[Step]) -> None:
    view, state = ZoneView(config), dict[Key, Entity]()
    for step in story:
        changes = advance(state, step)
        view.apply(Delta(1, {key: change for key, change in changes.items() if key[0] != "records"}))
    state = {key: entity for key, entity in state.items() if key[0] != "records"}
    expected = naive(state, view)
    found = everything(view, {owner for owner, _ in expected})
    ours = {(owner, rtype): rdata for (zone, owner, rtype), rdata in found.items() if zone == "mesos" and owner}
    assert ours == expected
    for owner in {owner for owner, _ in expected}:
        pieces = owner.split(".")
        assert all(view.domain.exists(".".join(pieces[start:])) for start in range(len(pieces))), owner


def exists_by_the_rules(zone: Zone, content: Content, name: str) -> bool:
    return any(owner == name or owner.endswith("." + name) for origin, owner, _ in content if origin == zone.origin)


@given(steps, st.lists(st.sampled_from(("tcp", "_tcp", "b", "a.b", "x", "marathon", "slave", "team")), max_size=3))
def test_a_name_exists_where_records_are_at_or_below_it(story: list[Step], pieces: list[str]) -> None:
    view, state = ZoneView(DnsConfig()), dict[Key, Entity]()
    for step in story:
        view.apply(Delta(1, advance(state, step)))
    content = everything(view, owners_of(state, view))
    for zone in view.zones.values():
        tails = {owner for origin, owner, _ in content if origin == zone.origin}
        names_to_try = {".".join(owner.split(".")[1:]) for owner in tails} | {".".join(pieces), "x." + ".".join(pieces)}
        for name in names_to_try - {""}:
            # An SRV's owner exists even where every target is too long to be served.
            if exists_by_the_rules(zone, content, name):
                assert zone.exists(name)
            elif zone.exists(name):
                assert not any(rtype in (A, AAAA) for rtype in zone.types(name))


@given(configs, steps)
def test_the_serial_grows_when_something_is_touched_and_never_else(config: DnsConfig, story: list[Step]) -> None:
    touched: list[tuple[str, str]] = []
    view = ZoneView(config, touch=lambda tag, owner: touched.append((tag, owner)))
    state: dict[Key, Entity] = {}
    seen: set[str] = set()
    for step in story:
        before, serial = shown(view, seen), view.serial
        touched.clear()
        view.apply(Delta(1, advance(state, step)))
        assert (view.serial > serial) == bool(touched)
        # What changed for anybody to see was reported (that answers follow is tested with a responder).
        if shown(view, seen) != before:
            assert touched
        seen |= owners_of(state, view)
        again, touches = view.serial, len(touched)
        view.apply(Delta(1, {key: (entity, entity) for key, entity in state.items()}))
        assert (view.serial, len(touched)) == (again, touches)
