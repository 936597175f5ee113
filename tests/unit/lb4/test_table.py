"""The VIP table: what each change makes of which VIPs, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lb4 import offers as offers_module
from lb4 import record as record_module
from lb4 import table as table_module
from lb4.record import VipRecord
from lb4.selector import SelectorIndex
from lb4.services import BackendKey
from lb4.table import VipTable
from lb4.vip import State, VipKey
from mesos_dns.catalog import Delta
from mesos_dns.model import (
    Draining,
    Entity,
    Framework,
    Health,
    HealthOverlay,
    Key,
    Network,
    Node,
    PortMapping,
    Suspect,
    Task,
    Vip,
    VipAddress,
    VipCheck,
    VipSelector,
    VipServer,
)
from tests.fakes import questions
from tests.fakes.questions import AGENT, MARATHON, drop, put
from tests.fakes.vip_tables import NotingTable as Table
from tests.fakes.vip_tables import X, up
from tests.fakes.vip_tables import vip_task as task

SECOND = Node("agent-S1", "agent1", ("10.1.0.2", "fd00::2"), 5051)


# --- tasks ----------------------------------------------------------------------------------------


def test_a_vip_comes_changes_and_goes() -> None:
    table = Table()
    assert (len(table), table.backends, list(table.keys()), table.get(X)) == (0, 0, [], None)
    table.put(task(0), task(1))
    assert table.told() == [up(0), up(1)]
    assert table.hears(X)
    assert (len(table), table.backends, list(table.keys())) == (1, 2, [X])
    table.drop(task(0))
    assert table.told() == [up(1)]
    assert table.hears(X)
    table.drop(task(1))
    assert table.get(X) is None
    assert table.hears(X)
    assert (len(table), table.backends) == (0, 0)
    assert "vips=0" in repr(table)


def test_a_backend_says_where_it_comes_from() -> None:
    one = task(0, runtime="mesos", port_mappings=(PortMapping(31000, 8080),))
    state = Table(one).get(X)
    assert state is not None
    (backend,) = state.backends
    assert (backend.key, backend.node, backend.task) == (("10.1.0.1", 31000), "10.1.0.1", one.key)
    assert backend.local == BackendKey("9.0.0.1", 8080)


def test_two_spellings_of_one_name_are_one_vip() -> None:
    table = Table(task(0, "/x:80"), task(1, "X:80"), task(2, "x:80", "/x:80"))
    assert list(table.keys()) == [X]
    assert table.told() == [up(0), up(1), up(2)]


def test_a_change_that_bears_on_no_vip_is_silent() -> None:
    table = Table(task(0))
    table.put(task(0, start_time=7.0, labels=(("a", "b"),)))
    table.put(questions.task(5), Framework("f-9", "other"), Node("agent-S9", "h", ("10.9.0.1",)))
    table.put(MARATHON, AGENT, Node(AGENT.id, "renamed", AGENT.addresses), VipAddress("other.marathon", "11.0.0.9"))
    table.put(Suspect("10.9.0.1"), HealthOverlay("f-1", "nobody", Health.UNHEALTHY), Vip("nobody", 80))
    table.drop(questions.task(5), questions.task(77))
    assert table.hears()
    assert table.heard_names == []


def test_one_delta_is_told_once_with_all_it_changed() -> None:
    table = Table(task(0), task(1, "/y:80"), task(2, "/z:80"))
    table.put(task(0, port=1), task(1, "/y:80", port=2))
    assert table.hears(X, VipKey("tcp", "y.marathon", 80))


@pytest.mark.parametrize(
    ("state", "health", "expected"),
    [
        ("TASK_RUNNING", Health.HEALTHY, [("9.0.0.1", 8080, 1, State.ACTIVE)]),
        ("TASK_RUNNING", Health.PENDING, [("9.0.0.1", 8080, 0, State.PENDING)]),
        ("TASK_RUNNING", Health.UNHEALTHY, [("9.0.0.1", 8080, 0, State.UNHEALTHY)]),
        ("TASK_KILLING", Health.HEALTHY, [("9.0.0.1", 8080, 0, State.DRAINING)]),
        ("TASK_STAGING", Health.NONE, []),
        ("TASK_UNREACHABLE", Health.NONE, []),
        ("TASK_LOST", Health.NONE, []),
    ],
)
def test_states(state: str, health: Health, expected: list[tuple[str, int, int, State]]) -> None:
    """A VIP whose backends all have weight 0 stays: its name goes on to resolve."""
    assert Table(task(0, state=state, health=health)).told() == expected


def test_a_new_task_at_the_place_of_one_that_is_killed() -> None:
    table = Table(task(0, state="TASK_KILLING"), task(1, networks=(Network("", ("9.0.0.1",)),)))
    assert table.told() == [up(0)]
    assert table.backends == 1


def test_health_of_an_orchestrator() -> None:
    table = Table(task(0, health=Health.HEALTHY), task(1))
    overlay = HealthOverlay("f-1", task(0).id, Health.UNHEALTHY)
    table.put(overlay)
    assert table.told() == [("9.0.0.1", 8080, 0, State.UNHEALTHY), up(1)]
    assert table.hears(X)
    table.put(HealthOverlay("f-1", task(0).id, Health.UNHEALTHY, ports=(1,)))
    assert table.hears()
    table.drop(overlay)
    assert table.told() == [up(0), up(1)]


def test_duplicates_of_a_task_are_ignored() -> None:
    assert Table(task(0), task(0, duplicate=1, networks=(Network("", ("9.0.0.9",)),))).told() == [up(0)]


# --- what tasks are joined with -------------------------------------------------------------------


def test_tasks_wait_for_their_agent_and_framework() -> None:
    table = Table(task(0), task(1, node="agent-S1", networks=()))
    assert table.told() == [up(0)]
    table.put(SECOND)
    assert table.told() == [up(0), ("10.1.0.2", 8080, 1, State.ACTIVE)]
    assert table.hears(X)
    table.put(Node(SECOND.id, "h", ("10.1.0.3",)))
    assert table.told() == [up(0), ("10.1.0.3", 8080, 1, State.ACTIVE)]
    table.put(Node(SECOND.id, "h"))
    assert table.told() == [up(0)]
    table.drop(MARATHON)
    assert table.told() == []
    table.put(MARATHON)
    assert table.told() == [up(0)]


def test_a_framework_that_is_renamed_takes_its_vips_along() -> None:
    table = Table(task(0))
    table.put(Framework("f-1", "other"))
    assert table.told() == []
    assert list(table.keys()) == [VipKey("tcp", "x.other", 80)]
    assert table.hears(X, VipKey("tcp", "x.other", 80))


def test_frameworks_of_one_name_share_a_vip() -> None:
    other = Framework("f-2", "marathon")
    table = Table(other, task(0), Task(**{**_fields(task(1)), "framework_id": "f-2"}))
    assert table.told() == [up(0), up(1)]


def _fields(one: Task) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Task.__struct_fields__}


def test_a_suspect_node_touches_its_own_vips_only() -> None:
    table = Table(SECOND, task(0), task(1, node="agent-S1"), task(2, "/y:80"))
    suspect = Suspect("10.1.0.2")
    table.put(suspect)
    assert table.told() == [up(0), ("9.0.0.2", 8080, 0, State.SUSPECT)]
    assert table.hears(X)
    table.drop(suspect)
    assert table.told() == [up(0), up(1)]
    assert table.hears(X)


def test_when_all_nodes_are_suspect_all_backends_stay() -> None:
    table = Table(task(0), task(1, health=Health.PENDING), Suspect("10.1.0.1"))
    assert table.told() == [("9.0.0.1", 8080, 1, State.FAIL_OPEN), ("9.0.0.2", 8080, 0, State.PENDING)]


def test_a_node_that_never_reported_is_not_suspect() -> None:
    assert Table(SECOND, task(0), task(1, node="agent-S1"), Suspect("10.1.0.1")).told() == [
        ("9.0.0.1", 8080, 0, State.SUSPECT),
        up(1),
    ]


def test_a_task_that_is_drained_touches_its_own_vips_only() -> None:
    table = Table(task(0), task(1), task(2, "/y:80"))
    draining = Draining("f-1", task(1).id, 1_800_000_000.0)
    table.put(draining)
    assert table.told() == [up(0), ("9.0.0.2", 8080, 0, State.DRAINING)]
    assert table.hears(X)
    table.put(Draining("f-1", task(1).id, 1_800_000_060.0))
    assert table.hears()
    table.drop(draining)
    assert table.told() == [up(0), up(1)]
    assert table.hears(X)


def test_a_task_that_comes_while_it_is_drained_gets_nothing() -> None:
    table = Table(Draining("f-1", task(1).id, 1_800_000_000.0), task(0), task(1))
    assert table.told() == [up(0), ("9.0.0.2", 8080, 0, State.DRAINING)]


def test_when_all_tasks_of_a_vip_are_drained_they_go_on_until_they_are_killed() -> None:
    drained = [Draining("f-1", task(number).id, 1_800_000_000.0) for number in (0, 1)]
    table = Table(task(0), task(1), *drained)
    assert table.told() == [("9.0.0.1", 8080, 1, State.FAIL_OPEN), ("9.0.0.2", 8080, 1, State.FAIL_OPEN)]
    table.put(task(0, state="TASK_KILLING"))
    assert table.told() == [("9.0.0.1", 8080, 0, State.DRAINING), ("9.0.0.2", 8080, 1, State.FAIL_OPEN)]
    table.put(task(1, state="TASK_KILLING"))
    assert [weight for _, _, weight, _ in table.told()] == [0, 0]


def test_unhealthy_ones_that_were_healthy_once_stay_when_none_is_better() -> None:
    table = Table(task(0, health=Health.UNHEALTHY), task(1, health=Health.HEALTHY))
    table.put(task(1, health=Health.UNHEALTHY))
    assert table.told() == [("9.0.0.1", 8080, 0, State.UNHEALTHY), ("9.0.0.2", 8080, 1, State.FAIL_OPEN)]
    table.drop(task(1))
    table.put(task(1, health=Health.UNHEALTHY))
    assert table.told() == [(f"9.0.0.{last}", 8080, 0, State.UNHEALTHY) for last in (1, 2)], "forgotten with the task"


# --- names and their addresses --------------------------------------------------------------------


def test_names_with_the_families_of_their_backends() -> None:
    table = Table()
    table.put(task(0, "/x:80", "/x:81", "11.1.2.3:80"))
    assert dict(table.names) == {"x.marathon": {4}}
    assert table.heard_names == [{"x.marathon"}]
    table.put(task(1, "/x:81", networks=(Network("", ("fd01::1",)),)))
    assert dict(table.names) == {"x.marathon": {4, 6}}
    table.put(task(2, "/x:81", state="TASK_KILLING", networks=(Network("", ("fd01::2",)),)))
    table.drop(task(1))
    assert dict(table.names) == {"x.marathon": {4, 6}}
    assert len(table.heard_names) == 2
    table.drop(task(2))
    assert dict(table.names) == {"x.marathon": {4}}
    table.drop(task(0))
    assert dict(table.names) == {}
    assert len(table.heard_names) == 4


def test_names_of_configured_vips_with_servers() -> None:
    table = Table(Vip("db.prod", 80, servers=(VipServer("10.0.0.4", 80),)), Vip("none.prod", 80))
    assert dict(table.names) == {"db.prod": {4}}


def test_allocated_addresses() -> None:
    table = Table(task(0, "/x:80", "/x:81"))
    address = VipAddress("x.marathon", "11.0.0.1")
    assert table.address_of("x.marathon") is None
    table.put(address)
    assert table.address_of("x.marathon") == address
    assert table.hears(X, VipKey("tcp", "x.marathon", 81))
    table.put(VipAddress("x.marathon", "11.0.0.2", cluster="a-cluster"))
    assert table.address_of("x.marathon") == VipAddress("x.marathon", "11.0.0.2", cluster="a-cluster")
    assert table.hears(X, VipKey("tcp", "x.marathon", 81))
    table.put(VipAddress("x.marathon", "11.0.0.3", cluster="z-cluster"))
    assert table.hears()
    for cluster in ("z-cluster", "a-cluster", "mesos"):
        table.drop(VipAddress("x.marathon", cluster=cluster))
    assert table.address_of("x.marathon") is None


# --- the VIP file ---------------------------------------------------------------------------------

DB = VipKey("tcp", "db.prod", 5432)


def test_servers() -> None:
    servers = (VipServer("10.0.0.4", 5432, 2), VipServer("10.0.0.5", 5432, 0))
    vip = Vip("DB.prod", 5432, servers=servers)
    table = Table(vip)
    assert table.told(DB) == [("10.0.0.4", 5432, 2, State.ACTIVE), ("10.0.0.5", 5432, 0, State.ACTIVE)]
    table.put(Vip("DB.prod", 5432, servers=servers[:1]))
    assert table.told(DB) == [("10.0.0.4", 5432, 2, State.ACTIVE)]
    table.drop(vip)
    assert table.get(DB) is None


def test_selectors_take_tasks_that_are_there_and_that_come() -> None:
    vip = Vip("db.prod", 5432, selector=VipSelector(app="/prod/db"))
    table = Table(questions.task(0, "db.prod", host_ports=(31000,)), questions.task(1, "other", host_ports=(31000,)))
    table.put(vip)
    assert table.told(DB) == [("10.1.0.1", 31000, 1, State.ACTIVE)]
    table.put(questions.task(2, "db.prod", host_ports=(31001,)))
    assert [place[1] for place in table.told(DB)] == [31000, 31001]
    assert len(table.heard) == 2
    table.put(Vip("db.prod", 5432, selector=VipSelector(app="/prod/db", framework="chronos")))
    assert table.told(DB) == []
    table.put(Framework("f-1", "chronos"))
    assert len(table.told(DB)) == 2
    table.put(Vip("db.prod", 5432, selector=VipSelector(app="other")))
    assert [place[1] for place in table.told(DB)] == [31000]
    table.drop(vip)
    assert table.get(DB) is None


class Turns:
    """What is to be called in later turns of the loop, one in each."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def take(self) -> None:
        (callback,) = self.waiting
        self.waiting.clear()
        callback()


def test_selectors_are_tried_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers_module, "LOOK_AT", 2)
    turns, heard = Turns(), list[frozenset[VipKey]]()
    table = VipTable(heard.append, later=turns.waiting.append)
    tasks = [questions.task(number, f"db{number % 2}", host_ports=(31000 + number,)) for number in range(6)]

    def told() -> list[int]:
        state = table.get(DB)
        return [backend.port - 31000 for backend in state.backends] if state is not None else []

    table.apply(put(MARATHON, AGENT, *tasks))
    assert not table.pending
    vip = Vip("db.prod", 5432, selector=VipSelector(app="db0"))
    table.apply(put(vip))
    assert (told(), table.pending, len(turns.waiting)) == ([0], True, 1)
    table.apply(put(Framework("f-9", "other")))
    assert len(turns.waiting) == 1, "no turn more is asked for, whatever comes between"
    table.apply(put(questions.task(8, "db0", host_ports=(31008,))))
    while table.pending:
        turns.take()
    assert (told(), turns.waiting) == ([0, 2, 4, 8], [])
    heard.clear()
    # Three edits come before the first of them is done.
    for app in ("db1", "nobody", "db1"):
        table.apply(put(Vip("db.prod", 5432, selector=VipSelector(app=app))))
    while table.pending:
        turns.take()
    assert told() == [1, 3, 5]
    table.apply(drop(vip.key))
    while table.pending:
        turns.take()
    assert (told(), len(table), turns.waiting) == ([], 0, [])


def test_a_fault_in_trying_selectors_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise RuntimeError("a fault")

    table = Table(questions.task(0, "db", host_ports=(31000,)))
    monkeypatch.setattr(SelectorIndex, "fitting", fails)
    table.put(Vip("db.prod", 5432, selector=VipSelector(app="db")), task(1))
    assert (table.faults, table.pending, table.told()) == (1, False, [up(1)])


def test_settings_and_the_union_of_backends() -> None:
    check = VipCheck("http", "/up")
    vip = Vip("x.marathon", 80, "tcp", "mh", 60, 9, 3, VipSelector(app="db"), (VipServer("10.0.0.4", 1),), check)
    table = Table(task(0), questions.task(1, "db", host_ports=(31000,)))
    table.put(vip)
    state = table.get(X)
    assert state is not None
    assert [backend.key for backend in state.backends] == [("9.0.0.1", 8080), ("10.0.0.4", 1), ("10.1.0.1", 31000)]
    settings = (state.scheduler, state.persistence, state.upper_threshold, state.lower_threshold, state.check)
    assert settings == ("mh", 60, 9, 3, check)
    table.put(Vip("x.marathon", 80, scheduler="rr"))
    state = table.get(X)
    assert state is not None
    assert (state.scheduler, state.check, len(state.backends)) == ("rr", None, 1)
    assert len(table.heard) == 2


def test_definitions_of_several_clusters() -> None:
    servers = [(VipServer(f"10.0.0.{number}", 1),) for number in (1, 2)]
    one = Vip("db.prod", 5432, scheduler="rr", servers=servers[0], cluster="b")
    two = Vip("DB.prod", 5432, scheduler="mh", servers=servers[1], cluster="a")
    for order in ((one, two), (two, one)):
        table = Table(*order)
        state = table.get(DB)
        assert state is not None
        assert (state.scheduler, len(state.backends)) == ("mh", 2)
        table.drop(two)
        state = table.get(DB)
        assert state is not None
        assert (state.scheduler, len(state.backends)) == ("rr", 1)


def test_bad_definitions_and_servers_cost_only_themselves() -> None:
    bad = Vip("a b", 80, servers=(VipServer("10.0.0.4", 1),))
    table = Table(bad, Vip("db.prod", 5432, servers=(VipServer("x", 1), VipServer("10.0.0.4", 1))))
    assert list(table.keys()) == [DB]
    assert table.told(DB) == [("10.0.0.4", 1, 1, State.ACTIVE)]
    assert table.bad_labels == {"name": 1, "server": 1}
    table.drop(bad)
    table.put(Vip("db.prod", 0))
    assert table.bad_labels == {"name": 1, "server": 1, "port": 1}


# --- what is bad ----------------------------------------------------------------------------------


def test_bad_labels_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(*[task(number, "/x:80", "/y:0") for number in range(3)])
    assert table.told() == [up(0), up(1), up(2)]
    assert table.bad_labels == {"port": 3}
    (record,) = caplog.records
    assert "'/y:0'" in record.getMessage()
    assert task(0).id in record.getMessage()


def test_too_many_backends_are_cut_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(record_module, "MAX_BACKENDS", 2)
    table = Table(*[task(number) for number in range(3)], task(3, "/y:80"))
    assert table.told() == [up(0), up(1)]
    assert table.told(VipKey("tcp", "y.marathon", 80)) == [up(3)]
    table.put(task(4))
    assert table.bad_labels == {"too-many-backends": 1}
    assert len(caplog.records) == 1


def test_faults_cost_only_what_they_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    made = VipRecord.made

    def breaks(self: VipRecord, *args: Any) -> Any:
        if self.key == X:
            raise RuntimeError("a fault")
        return made(self, *args)

    table = Table(task(0))
    monkeypatch.setattr(VipRecord, "made", breaks)
    table.put(task(1, "/x:80", "/y:80"))
    assert table.told() == [up(0)]
    assert table.told(VipKey("tcp", "y.marathon", 80)) == [up(1)]
    assert table.faults == 1
    monkeypatch.undo()
    table.put(task(2))
    assert table.told() == [up(0), up(1), up(2)]


def test_a_change_that_can_not_be_taken_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(vip: Vip) -> VipKey:
        raise RuntimeError("a fault")

    monkeypatch.setattr(table_module, "key_of", fails)
    table = Table(Vip("db.prod", 80), task(0))
    assert table.told() == [up(0)]
    assert table.faults == 1


def test_what_is_no_entity_of_its_kind_is_none() -> None:
    table = Table(task(0))
    changes: dict[Key, tuple[Entity | None, Entity | None]] = {task(0).key: (None, AGENT), ("odd", "x"): (None, AGENT)}
    table.apply(Delta(1, changes))
    assert table.told() == []
    assert table.faults == 0


def test_a_listener_that_fails_costs_only_itself() -> None:
    def fails(keys: frozenset[VipKey]) -> None:
        raise RuntimeError("a fault")

    table = VipTable(fails)
    heard: list[frozenset[VipKey]] = []
    table.listen(heard.append)
    table.apply(put(MARATHON, AGENT, task(0)))
    assert heard == [{X}]
    assert table.faults == 1


def test_a_vip_whose_backends_are_all_of_the_other_family_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(task(1, "[fd11::1]:80"))
    assert table.get(VipKey("tcp", "fd11::1", 80)) is None
    table.put(task(2, "[fd11::1]:80"))
    assert table.bad_labels["family"] == 1
    lines = [each.getMessage() for each in caplog.records if "reason=family" in each.getMessage()]
    assert len(lines) == 1
    assert "'fd11::1:80/tcp'" in lines[0]
    assert "an IPv6 address with backends of the other family only" in lines[0]
