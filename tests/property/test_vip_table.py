"""The VIP table under random change: always what the rules make of what is in the catalog, and told exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from lb4 import offers as offers_module
from lb4.definitions import key_of, servers_of
from lb4.labels import BadLabel, address_family
from lb4.selector import SelectorIndex, port_for
from lb4.services import BackendKey
from lb4.table import VipTable
from lb4.task_backends import RUNNING, PortUse, Whereabouts, asks, backends_of, read_labels
from lb4.vip import Backend, State, VipKey, VipState
from lb4.weights import best_of, effective, with_checks, worse
from mesos_dns.catalog import Delta
from mesos_dns.model import (
    Draining,
    Endpoint,
    Ensemble,
    Entity,
    Framework,
    Health,
    HealthOverlay,
    Key,
    Leadership,
    Network,
    Node,
    Port,
    PortMapping,
    Suspect,
    Task,
    Vip,
    VipAddress,
    VipSelector,
    VipServer,
)
from mesos_dns.names import packed
from tests.fakes.worlds import Step, advance

HOSTS = ("10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.3")
TASK_ADDRESSES = ("9.0.0.1", "9.0.0.2", "fd01::1", "10.0.0.2", "nonsense")
LABELS = ("/x:80",) * 4 + (
    "X:80",
    "x:81",
    "10.0.0.2:80",
    "11.0.0.1:80",
    "11.0.0.7:80",
    "[fd01:c::5]:80",
    "/x",
    ":80",
    "/10.0.0:80",
    "/y:0",
)
FRAMEWORKS = ("marathon", "Marathon", "other", "1", "///")
NAMES = ("db.prod", "web", "db")

port_labels = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("VIP_0", "vip", "Vip_0")), st.sampled_from(LABELS)),
        st.just(("VIP_0", "/x:80")),
        st.sampled_from((("network-scope", "host"), ("network-scope", "container"), ("role", "db"))),
    ),
    max_size=3,
).map(tuple)
ports = st.builds(
    Port,
    st.sampled_from((8080,) * 5 + (0, 80, 31000, 70000)),
    st.sampled_from(("", "pg")),
    st.sampled_from(("tcp",) * 6 + ("udp", "", "udp,tcp")),
    port_labels,
)
healths = st.sampled_from((*Health, Health.UNHEALTHY, Health.UNHEALTHY))
tasks = st.builds(
    Task,
    framework_id=st.sampled_from(("f-0", "f-0", "f-0", "f-1")),
    id=st.sampled_from(("t-0", "t-0", "t-1", "t-2")),
    name=st.sampled_from(NAMES),
    node_id=st.sampled_from(("S0", "S1", "S2", "")),
    state=st.sampled_from(("TASK_RUNNING",) * 5 + ("TASK_KILLING", "TASK_UNREACHABLE")),
    health=healths,
    labels=st.sampled_from(((), (("vip_port0", "tcp://x:80"),), (("role", "db"), ("vip_PORT1", "tcp://z:80")))),
    discovery_name=st.sampled_from(("", *NAMES)),
    ports=st.lists(ports, min_size=1, max_size=2).map(tuple),
    networks=st.lists(
        st.builds(Network, st.just(""), st.lists(st.sampled_from(TASK_ADDRESSES), max_size=2).map(tuple)), max_size=1
    ).map(tuple),
    port_mappings=st.sampled_from(((), (PortMapping(31000, 8080),), (PortMapping(0, 80), PortMapping(31001, 80)))),
    host_ports=st.sampled_from(((), (31000,), (31000, 31001))),
    runtime=st.sampled_from(("mesos", "docker")),
    duplicate=st.sampled_from((0, 0, 0, 1)),
)
selectors = st.builds(
    VipSelector,
    app=st.sampled_from(("", "/prod/db", "web", "db.prod")),
    framework=st.sampled_from(("", "", "", "marathon", "f-1")),
    labels=st.sampled_from(((), (), (), (("role", "db"),))),
    port=st.sampled_from(("", "", "", "pg", "80", "31000")),
)
vips = st.builds(
    Vip,
    target=st.sampled_from(("x.marathon", "X.marathon", "db.prod", "11.0.0.1", "11.0.0.7", "10.0.0.2", "a b")),
    port=st.sampled_from((80, 80, 80, 81, 0)),
    scheduler=st.sampled_from(("", "rr")),
    persistence=st.sampled_from((0, 60)),
    selector=st.one_of(st.none(), selectors, selectors),
    servers=st.lists(
        st.builds(
            VipServer, st.sampled_from(("10.0.0.2", "fd00::1", "9.0.0.1", "x")), st.just(8080), st.sampled_from((0, 3))
        ),
        max_size=2,
    ).map(tuple),
    cluster=st.sampled_from(("mesos", "mesos", "another")),
)
nodes = st.builds(
    Node,
    st.sampled_from(("S0", "S1", "S2")),
    st.just("h"),
    st.lists(st.sampled_from(HOSTS), max_size=2, unique=True).map(tuple),
    st.sampled_from((1, 2)),
)
frameworks = st.builds(Framework, st.sampled_from(("f-0", "f-1")), st.sampled_from(FRAMEWORKS), st.booleans())
overlays = st.builds(
    HealthOverlay,
    st.sampled_from(("f-0", "f-1")),
    st.sampled_from(("t-0", "t-1", "t-2")),
    healths,
)
suspects = st.builds(Suspect, st.sampled_from((*HOSTS, "9.0.0.1")), st.sampled_from(("mesos", "another")))
drained = st.builds(
    Draining,
    st.sampled_from(("f-0", "f-1")),
    st.sampled_from(("t-0", "t-1", "t-2")),
    st.just(1_800_000_000.0),
)
allocated = st.builds(
    VipAddress,
    st.sampled_from(("x.marathon", "db.prod", "nobody")),
    st.sampled_from(("", "11.0.0.7", "11.0.0.8")),
    cluster=st.sampled_from(("mesos", "another")),
)
machines = st.one_of(
    st.builds(Leadership, st.none(), st.sampled_from(((), (Endpoint("11.0.0.1", 5050),)))),
    st.builds(Leadership, st.just(Endpoint("10.0.0.2", 5050))),
    st.builds(Ensemble, st.sampled_from(((), (("11.0.0.1", "fd01:c::5"), ())))),
)
plain_tasks = st.builds(
    Task,
    framework_id=st.just("f-0"),
    id=st.sampled_from(("t-0", "t-1", "t-2")),
    name=st.sampled_from(("db.prod", "web")),
    node_id=st.sampled_from(("S0", "S1")),
    state=st.sampled_from(("TASK_RUNNING",) * 6 + ("TASK_KILLING",)),
    health=healths,
    ports=st.sampled_from(("/x:80", "10.0.0.2:80", "11.0.0.7:80", "")).map(
        lambda label: (Port(8080, "pg", "tcp", (("VIP_0", label),)),) if label else ()
    ),
    networks=st.sampled_from(((Network("", ("9.0.0.1",)),), (Network("", ("9.0.0.2",)),), ())),
    host_ports=st.just((31000,)),
)
entities: st.SearchStrategy[Entity] = st.one_of(
    plain_tasks,
    plain_tasks,
    plain_tasks,
    tasks,
    tasks,
    nodes,
    frameworks,
    overlays,
    suspects,
    drained,
    vips,
    vips,
    allocated,
    machines,
)


def _by_key(found: list[Entity]) -> dict[Key, Entity]:
    return {entity.key: entity for entity in found}


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """A cluster where most tasks are seen, and a few changes of it after another."""
    agents: list[Entity] = [Node(f"S{number}", "h", (HOSTS[number],)) for number in range(3)]
    agents += [Framework(f"f-{number}", FRAMEWORKS[number]) for number in range(2)]
    begin = draw(st.lists(st.one_of(plain_tasks, plain_tasks, vips), min_size=4, max_size=8))
    changes = st.lists(entities, max_size=3).map(_by_key)
    return [
        (_by_key([*agents, *begin]), set()),
        *draw(st.lists(st.tuples(changes, st.sets(st.integers(0, 12), max_size=2)), min_size=2, max_size=8)),
    ]


steps = stories()

Good = set[Key]
"""Tasks that were seen healthy, or running without a check."""


class Oracle:
    """What the rules say of a set of entities: everything anew, nothing indexed."""

    def __init__(self, state: dict[Key, Entity], good: Good) -> None:
        self.state, self.good = state, good
        self.offers: dict[VipKey, list[Backend]] = defaultdict(list)
        self.definitions: dict[VipKey, dict[Key, Vip]] = defaultdict(dict)
        for key, entity in state.items():
            if isinstance(entity, Vip):
                self._define(key, entity)
        for key, task in self.tasks():
            self._read(key, task)

    def of(self, kind: type[Any]) -> list[Any]:
        return [entity for entity in self.state.values() if isinstance(entity, kind)]

    def tasks(self) -> Iterator[tuple[Key, Task]]:
        """The tasks that have to do with VIPs."""
        for key, task in self.state.items():
            if isinstance(task, Task) and not task.duplicate and (asks(task) or self.chosen(task)):
                yield key, task

    def health(self, task: Task) -> Health:
        other = self.state.get(("health", task.cluster, task.framework_id, task.id))
        return worse(task.health, other.health if isinstance(other, HealthOverlay) else Health.NONE)

    def chosen(self, task: Task) -> list[tuple[VipKey, Vip]]:
        found = []
        for key, definitions in self.definitions.items():
            for vip in definitions.values():
                index = SelectorIndex()
                index.add(key, vip)
                found += [(key, vip)] * len(index.candidates(task))
        return found

    def _define(self, key: Key, vip: Vip) -> None:
        try:
            vip_key = key_of(vip)
        except BadLabel:
            return
        self.definitions[vip_key][key] = vip
        self.offers[vip_key] += servers_of(vip, vip_key)[0]

    def _read(self, key: Key, task: Task) -> None:
        framework = self.state.get(("framework", task.cluster, task.framework_id))
        own = tuple(address for network in task.networks for address in network.addresses)
        node = self.state.get(("node", task.cluster, task.node_id))
        if not isinstance(framework, Framework):
            return
        if not task.node_id:
            where = Whereabouts(own[0] if own else "", alone=True)
        elif isinstance(node, Node):
            where = Whereabouts(node.addresses[0] if node.addresses else "")
        else:
            return
        uses: list[tuple[VipKey, PortUse | None]] = list(read_labels(task, framework.name).uses)
        uses += [
            (vip_key, port_for(vip.selector, vip_key.protocol, task, framework))
            for vip_key, vip in self.chosen(task)
            if vip.selector is not None
        ]
        for vip_key, use in uses:
            if use is not None:
                self.offers[vip_key] += backends_of(key, task, use, where, self.health(task))

    def addresses(self) -> set[str]:
        """The addresses that no VIP may have: those of machines, and those allocated to names in use."""
        found = {address for node in self.of(Node) for address in node.addresses}
        for leadership in self.of(Leadership):
            found |= {each.address for each in (leadership.leader, *leadership.masters) if each is not None}
        found |= {address for ensemble in self.of(Ensemble) for server in ensemble.servers for address in server}
        first: dict[str, VipAddress] = {}
        for entity in sorted(self.of(VipAddress), key=lambda entity: entity.cluster):
            first.setdefault(entity.name, entity)
        used = {key.name for key, offered in self.offers.items() if offered} | {key.name for key in self.definitions}
        return found | {entity.address for name, entity in first.items() if name in used} - {""}

    def vips(self) -> dict[VipKey, VipState]:
        """Every VIP, those that are withheld as well."""
        suspected = {suspect.address for suspect in self.of(Suspect)}
        leaving = {("task", *draining.key[1:]) for draining in self.of(Draining)}
        found = {}
        for key, offered in self.offers.items():
            family = address_family(key.name)
            backends = [backend for backend in offered if not family or (":" in backend.address) == (family == 6)]
            places: dict[BackendKey, list[Backend]] = defaultdict(list)
            drained = leaving if key.protocol == "tcp" else ()
            for backend in effective(backends, suspected, lambda task: task in self.good, drained):
                places[backend.key].append(backend)
            if places:
                order = sorted(places, key=lambda place: (":" in place.address, packed(place.address), place.port))
                made = tuple(best_of(places[place]) for place in order)
                definitions = self.definitions.get(key, {})
                vip = definitions[min(definitions)] if definitions else Vip("", 0)
                found[key] = VipState(key, made, vip.scheduler, vip.persistence)
        return found


def seen_good(state: dict[Key, Entity], good: Good) -> Good:
    """The tasks that are known as good, after a delta."""
    oracle = Oracle(state, set())
    here = dict(oracle.tasks())
    now = {
        key
        for key, task in here.items()
        if task.state == RUNNING and oracle.health(task) in (Health.HEALTHY, Health.NONE)
    }
    return (good | now) & here.keys()


def shown(table: VipTable) -> dict[VipKey, VipState | None]:
    return {key: table.get(key) for key in list(table.keys())}


@given(steps)
def test_the_table_is_what_the_rules_make_of_the_catalog(story: list[Step]) -> None:
    table, state, good = VipTable(), dict[Key, Entity](), Good()
    for step in story:
        table.apply(Delta(1, advance(state, step)))
        good = seen_good(state, good)
        oracle = Oracle(state, good)
        vips, own = oracle.vips(), oracle.addresses()
        expected = {key: vip for key, vip in vips.items() if key.name not in own}
        assert shown(table) == expected
        assert set(table.withheld) == vips.keys() - expected.keys()
        assert len(table) == len(expected)
        assert table.backends == sum(len(vip.backends) for vip in expected.values())
        families: dict[str, set[int]] = defaultdict(set)
        for key, vip in expected.items():
            if not address_family(key.name):
                families[key.name] |= {6 if ":" in backend.address else 4 for backend in vip.backends}
        assert dict(table.names) == families
        used = {key.name for key, offered in oracle.offers.items() if offered} | {
            key.name for key in oracle.definitions
        }
        assert set(table.fixed_addresses) == {name for name in used if address_family(name)}
        assert table.faults == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.none() | healths), max_size=12))
def test_what_was_healthy_once_stays_when_none_is_better(story: list[tuple[int, Health | None]]) -> None:
    agent, framework = Node("S0", "h", ("10.0.0.1",)), Framework("f-0", "marathon")
    state: dict[Key, Entity] = {agent.key: agent, framework.key: framework}
    table, good = VipTable(), Good()
    table.apply(Delta(1, {key: (None, entity) for key, entity in state.items()}))
    asks_x = (Port(8080, "", "tcp", (("VIP_0", "/x:80"),)),)
    for number, health in story:
        task = Task("f-0", f"t-{number}", "x", "S0", RUNNING, health or Health.NONE, ports=asks_x)
        task = structs.replace(task, networks=(Network("", (f"9.0.0.{number}",)),))
        step: Step = ({task.key: task}, set()) if health is not None else ({}, {2 + number})
        table.apply(Delta(1, advance(state, step)))
        good = seen_good(state, good)
        assert shown(table) == Oracle(state, good).vips()


@given(steps, st.lists(st.booleans(), max_size=20))
def test_selectors_that_are_tried_in_several_turns_make_the_same(story: list[Step], turns: list[bool]) -> None:
    """But for what was seen healthy: that a selector comes to a task late can make it unknown."""
    waiting: list[Callable[[], None]] = []
    with mock.patch.multiple(offers_module, LOOK_AT=1, FIND=1):
        table, state = VipTable(later=waiting.append), dict[Key, Entity]()
        for put, gone in story:
            calm = {key: one for key, one in put.items() if getattr(one, "health", None) is not Health.UNHEALTHY}
            table.apply(Delta(1, advance(state, (calm, gone))))
            assert waiting or not table.pending
            while waiting and turns and turns.pop():
                waiting.pop()()
        while waiting:
            waiting.pop()()
        whole = VipTable()
        whole.apply(Delta(1, {key: (None, entity) for key, entity in state.items()}))
        assert not table.pending
        assert shown(table) == shown(whole)
        assert dict(table.withheld) == dict(whole.withheld)
        assert dict(table.names) == dict(whole.names)
        table.apply(Delta(1, {key: (entity, None) for key, entity in state.items()}))
        while waiting:
            waiting.pop()()
        assert held(table) == held(VipTable())
        assert table.faults == 0


@given(steps)
def test_a_table_made_anew_is_the_same_whatever_the_order(story: list[Step]) -> None:
    """But for what was seen healthy: here no task turns unhealthy."""
    table, state = VipTable(), dict[Key, Entity]()
    for put, gone in story:
        calm = {key: entity for key, entity in put.items() if getattr(entity, "health", None) is not Health.UNHEALTHY}
        table.apply(Delta(1, advance(state, (calm, gone))))
        for order in (list(state.items()), list(reversed(state.items()))):
            whole, single = VipTable(), VipTable()
            whole.apply(Delta(1, {key: (None, entity) for key, entity in order}))
            for key, entity in order:
                single.apply(Delta(1, {key: (None, entity)}))
            for other in (whole, single):
                assert shown(table) == shown(other)
                assert dict(table.withheld) == dict(other.withheld)
                assert dict(table.names) == dict(other.names)
                assert set(table.fixed_addresses) == set(other.fixed_addresses)
                for name in ("x.marathon", "db.prod", "nobody"):
                    assert table.address_of(name) == other.address_of(name)


@given(steps)
def test_listeners_hear_of_exactly_what_changed(story: list[Step]) -> None:
    heard: list[frozenset[VipKey]] = []
    heard_names: list[frozenset[str]] = []
    table, state = VipTable(heard.append), dict[Key, Entity]()
    table.listen_names(heard_names.append)

    def addressed(key: VipKey) -> tuple[VipState | None, VipAddress | None]:
        return table.get(key), table.address_of(key.name) if not address_family(key.name) else None

    for step in story:
        heard.clear()
        heard_names.clear()
        before, names = {key: addressed(key) for key in list(table.keys())}, dict(table.names)
        table.apply(Delta(1, advance(state, step)))
        after = {key: addressed(key) for key in list(table.keys())}
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert heard == ([changed] if changed else [])
        now = dict(table.names)
        renamed = {name for name in names.keys() | now.keys() if names.get(name) != now.get(name)}
        assert heard_names == ([renamed] if renamed else [])


@given(steps)
def test_nothing_is_left_of_an_empty_catalog(story: list[Step]) -> None:
    table, state = VipTable(), dict[Key, Entity]()
    for step in story:
        table.apply(Delta(1, advance(state, step)))
    table.apply(Delta(1, {key: (entity, None) for key, entity in state.items()}))
    assert shown(table) == {}
    assert not table.names
    assert not table.withheld
    assert not table.fixed_addresses
    assert table.backends == 0
    # Nothing that grew with what was there may stay: what an empty table holds is all that it holds.
    assert held(table) == held(VipTable())


def held(table: VipTable) -> dict[str, int]:
    """How many things each container in a table and its parts has, but for the counts of what was left out."""
    parts = {"table": table, "tasks": table._tasks, "cluster": table._cluster, "selectors": table._selectors}
    return {
        f"{part}.{name}": len(value)
        for part, owner in parts.items()
        for name, value in vars(owner).items()
        if isinstance(value, dict | set) and name != "bad_labels"
    }


backends = st.lists(
    st.builds(
        lambda number, state, base: Backend(
            f"10.0.0.{number}",
            80,
            base,
            base if state in (State.ACTIVE, State.FAIL_OPEN) else 0,
            state=state,
            task=("task", str(number)),
            node=f"10.0.0.{number}",
        ),
        st.integers(1, 6),
        st.sampled_from(list(State)),
        st.integers(1, 3),
    ),
    max_size=6,
    unique_by=lambda backend: backend.address,
).map(tuple)


@given(backends, st.sets(st.integers(1, 6)))
def test_own_checks_never_take_the_last_backend(found: tuple[Backend, ...], numbers: set[int]) -> None:
    failing = {BackendKey(f"10.0.0.{number}", 80) for number in numbers}
    checked = with_checks(found, failing)
    assert [each.key for each in checked] == [each.key for each in found]
    assert all(each.weight in (0, each.base) for each in checked)
    if any(each.weight > 0 for each in found):
        assert any(each.weight > 0 for each in checked)
    for before, after in zip(found, checked, strict=True):
        if before.state in (State.PENDING, State.DRAINING, State.UNHEALTHY):
            assert after == before
    if any(each.weight > 0 and each.key not in failing for each in found):
        assert all(each.weight == 0 for each in checked if each.key in failing)
    assert with_checks(found, ()) == found or not any(each.weight > 0 for each in found)
