"""The zone view: what each change touches, when the serial grows, and what is withheld."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from mesos_dns import names
from mesos_dns.catalog import Delta
from mesos_dns.model import Endpoint, Framework, Health, Leadership, Network, Node, NodeState
from mesos_dns.names import AAAA, NS, PTR, SOA, SRV, A, Rdata
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.questions import AGENT, MARATHON, drop, put, static, task, view_of

LEADER = Endpoint("10.0.0.11", 5050)


def rrset(view: ZoneView, name: str, rtype: int = A) -> list[Rdata]:
    wire = name_to_wire(name)
    zone = view.find(wire)
    assert zone is not None
    return sorted(zone.rrset(view.relative(wire, zone), rtype), key=repr)


def address(number: int) -> bytes:
    return bytes([9, 0, 0, number + 1])


class Touches(set[tuple[str, str]]):
    """What was reported since the last look."""

    def __init__(self, view: ZoneView) -> None:
        super().__init__()
        self._view, self._serial = view, view.serial
        view.touch = lambda tag, owner: self.add((tag, owner))

    def look(self) -> tuple[set[tuple[str, str]], bool]:
        """The reports, and whether the serial grew."""
        found, grew = set(self), self._view.serial > self._serial
        self.clear()
        self._serial = self._view.serial
        return found, grew


def test_zones_and_the_longest_origin() -> None:
    view = view_of()
    origins = {zone.origin for zone in view.zones.values()}
    ends = ("thisdcos.directory", "thisdcos.global")
    assert origins == {"mesos", *(f"{label}.{end}" for label in ("dcos", "mesos", "l4lb", "dclb") for end in ends)}
    assert view.find(name_to_wire("example.org")) is None
    assert view.find(name_to_wire("xmesos")) is None
    zone = view.find(name_to_wire("web.marathon.mesos"))
    assert zone is view.domain
    assert view.relative(name_to_wire("web.marathon.mesos"), view.domain) == "web.marathon"
    assert {zone.origin for zone in view_of(directory="").zones.values()} == {"mesos"}
    assert "mesos" in repr(view)


def test_the_copy_shares_records_and_has_its_own_ttl() -> None:
    view = view_of(task(host_ports=(31000,)))
    copy = view.find(name_to_wire("mesos.thisdcos.directory"))
    assert copy is not None
    assert rrset(view, "web.marathon.mesos.thisdcos.directory") == [address(0)]
    assert (copy.ttl, copy.srv_prefix, copy.tag) == (5, (1, 1), view.domain.tag)
    assert (view.domain.ttl, view.domain.srv_prefix) == (60, (0, 1))


def test_the_directory() -> None:
    view = view_of(task(), Leadership(LEADER, (LEADER, Endpoint("10.0.0.12", 5050))))
    base = "dcos.thisdcos.directory"
    assert rrset(view, f"web.marathon.agentip.{base}") == [bytes([10, 1, 0, 1])]
    assert rrset(view, f"web.marathon.containerip.{base}") == [address(0)]
    assert rrset(view, f"web.marathon.autoip.{base}") == [address(0)]
    assert rrset(view, f"leader.{base}") == [bytes([10, 0, 0, 11])]
    assert len(rrset(view, f"master.{base}")) == 2


def test_the_name_server_has_the_addresses_given() -> None:
    view = ZoneView(view_of().config, ns_addresses=("192.0.2.1", "fd00::1"))
    assert rrset(view, "ns1.mesos") == [bytes([192, 0, 2, 1])]
    assert len(rrset(view, "ns1.mesos", AAAA)) == 1
    assert rrset(view, "mesos", NS) == [name_to_wire("ns1.mesos")]
    elsewhere = ZoneView(view_of(soa_mname="ns.example.org").config, ns_addresses=("192.0.2.1",))
    assert len(elsewhere.domain.store) == 0


def test_a_task_without_its_framework_or_agent_is_withheld() -> None:
    other = Node("agent-S1", "agent1", ("10.1.0.2",), 5051)
    view = view_of(task(0), task(1, node="agent-S1"), msgspec.structs.replace(task(2), framework_id="f-2"))
    assert rrset(view, "web.marathon.mesos") == [address(0)]
    assert len(list(view.places())) == 1
    view.apply(put(other))
    assert rrset(view, "web.marathon.mesos") == [address(0), address(1)]
    view.apply(put(Framework("f-2", "chronos")))
    assert rrset(view, "web.chronos.mesos") == [address(2)]
    view.apply(drop(AGENT.key))
    assert rrset(view, "web.marathon.mesos") == [address(1)]
    assert rrset(view, "web.chronos.mesos") == []
    assert not view.domain.exists("chronos")


@pytest.mark.parametrize("state", ["TASK_STAGING", "TASK_KILLING", "TASK_UNREACHABLE", "TASK_FINISHED"])
def test_only_running_tasks_have_names(state: str) -> None:
    view = view_of(task())
    view.apply(put(task(state=state)))
    assert rrset(view, "web.marathon.mesos") == []
    view.apply(put(task()))
    assert rrset(view, "web.marathon.mesos") == [address(0)]


def test_two_marathons_and_a_chronos() -> None:
    second = Framework("f-2", "marathon", addresses=("10.0.0.22",), port=1)
    chronos = Framework("f-3", "chronos", addresses=("10.0.0.23",), port=2)
    view = view_of(second, chronos, task(0), *(msgspec.structs.replace(task(n), framework_id=f"f-{n}") for n in (2, 3)))
    assert rrset(view, "web.marathon.mesos") == [address(0), address(2)]
    assert rrset(view, "web.chronos.mesos") == [address(3)]
    assert rrset(view, "marathon.mesos") == [bytes([10, 0, 0, 21]), bytes([10, 0, 0, 22])]
    view.apply(drop(MARATHON.key))
    assert rrset(view, "web.marathon.mesos") == [address(2)]
    assert rrset(view, "marathon.mesos") == [bytes([10, 0, 0, 22])]


def test_a_renamed_framework_moves_its_tasks() -> None:
    view = view_of(task(), health="ignore")
    view.apply(put(msgspec.structs.replace(MARATHON, name="apps")))
    assert rrset(view, "web.apps.mesos") == [address(0)]
    assert not view.domain.exists("web.marathon")


def test_a_task_that_moves_to_another_agent() -> None:
    view = view_of(Node("agent-S1", "agent1", ("10.1.0.2",), 5051), task(host_ports=(31000,)))
    view.apply(put(task(node="agent-S1", host_ports=(31000,))))
    unique = names.unique_suffix(task(node="agent-S1"))
    assert rrset(view, "_web._tcp.marathon.mesos", SRV) == [(31000, f"web{unique}.marathon.slave")]
    assert rrset(view, f"web{unique}.marathon.slave.mesos") == [bytes([10, 1, 0, 2])]
    assert not view.domain.exists(f"web{names.unique_suffix(task())}.marathon")


# --- health ---------------------------------------------------------------------------------------

HEALTHS: list[tuple[list[Health], list[int]]] = [
    ([Health.HEALTHY, Health.UNHEALTHY, Health.NONE, Health.PENDING], [0, 2]),
    ([Health.UNHEALTHY, Health.PENDING], [0, 1]),
    ([Health.HEALTHY], [0]),
]


@pytest.mark.parametrize(("healths", "served"), HEALTHS)
def test_unhealthy_tasks_are_left_out_but_never_all(healths: list[Health], served: list[int]) -> None:
    tasks = [task(number, health=health, host_ports=(31000 + number,)) for number, health in enumerate(healths)]
    view = view_of(*tasks)
    assert rrset(view, "web.marathon.mesos") == [address(number) for number in served]
    assert [data[0] for data in rrset(view, "_web._tcp.marathon.mesos", SRV) if isinstance(data, tuple)] == [
        31000 + number for number in served
    ]
    assert len(rrset(view_of(*tasks, health="ignore"), "web.marathon.mesos")) == len(tasks)


def test_an_unhealthy_task_keeps_its_canonical_name() -> None:
    view = view_of(task(0, health=Health.UNHEALTHY), task(1, health=Health.HEALTHY))
    assert rrset(view, f"web{names.unique_suffix(task(0))}.marathon.mesos") == [address(0)]


def test_fitness_is_decided_for_each_record_set() -> None:
    six = (Network("six", ("fd00::1",)),)
    view = view_of(task(0, health=Health.HEALTHY), task(1, health=Health.UNHEALTHY, networks=six))
    assert rrset(view, "web.marathon.mesos") == [address(0)]
    assert len(rrset(view, "web.marathon.mesos", AAAA)) == 1


# --- touches and serial -------------------------------------------------------------------------------


def test_a_change_touches_its_owners_only() -> None:
    view = view_of(task(0), task(1, "db"))
    touches = Touches(view)
    view.apply(put(task(0, health=Health.UNHEALTHY)))
    found, grew = touches.look()
    assert grew
    unique = names.unique_suffix(task(0))
    assert found == {
        *(("domain", f"{name}.marathon{slave}") for name in ("web", f"web{unique}") for slave in ("", ".slave")),
        *(("directory", f"web.marathon.{kind}ip") for kind in ("agent", "auto", "container")),
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": (("a", "b"),)},
        {"start_time": 5.0},
        {"visibility": "CLUSTER"},
        {"runtime": "docker"},
        {"health": Health.HEALTHY},  # from "no check": both are fit
    ],
)
def test_a_change_that_bears_on_no_record_is_quiet(fields: dict[str, Any]) -> None:
    view = view_of(task())
    touches = Touches(view)
    view.apply(put(task(**fields)))
    assert touches.look() == (set(), False)
    assert [place.task for place in view.places()] == [task(**fields)]


def test_other_quiet_changes() -> None:
    view = view_of(task(), task(1, state="TASK_STAGING"), Leadership(LEADER, (LEADER,)))
    touches = Touches(view)
    view.apply(put(task(), MARATHON, AGENT, Leadership(LEADER, (LEADER,))))
    view.apply(put(msgspec.structs.replace(MARATHON, active=False, webui_url="http://marathon.example")))
    view.apply(put(msgspec.structs.replace(AGENT, hostname="other")))
    view.apply(put(task(1, state="TASK_STAGING", labels=(("a", "b"),))))
    view.apply(put(msgspec.structs.replace(task(2), framework_id="unknown")))
    view.apply(Delta(9, {("app", "mesos", "/web"): (None, None), ("task", "mesos", "f-1", "gone"): (None, None)}))
    assert touches.look() == (set(), False)


def test_the_serial_grows_once_for_a_delta() -> None:
    view = view_of()
    before = view.serial
    view.apply(put(*(task(number) for number in range(10))))
    first = view.serial
    assert first > before
    view.apply(drop(task(0).key))
    assert view.serial == first + 1


def test_the_serial_starts_where_it_was() -> None:
    view = ZoneView(view_of().config, serial=4_000_000_000)
    assert view.serial == 4_000_000_000
    view.apply(put(MARATHON))
    assert view.serial == 4_000_000_001


def test_agents_and_frameworks_touch_their_names() -> None:
    view = view_of()
    touches = Touches(view)
    view.apply(put(msgspec.structs.replace(AGENT, addresses=("10.1.0.7",))))
    assert touches.look() == ({("domain", "slave"), ("reverse", "0a010001"), ("reverse", "0a010007")}, True)
    view.apply(put(msgspec.structs.replace(MARATHON, port=1)))
    assert touches.look() == ({("domain", "_framework._tcp.marathon")}, True)


# --- reserved names, pointers ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["leader", "slave", "master", "master0", "ns1"])
def test_a_framework_cannot_take_over_a_reserved_name(name: str) -> None:
    rogue = Framework("f-9", name, addresses=("10.6.6.6",), port=666)
    view = view_of(rogue, msgspec.structs.replace(task(), framework_id="f-9"), Leadership(LEADER, (LEADER,)))
    assert bytes([10, 6, 6, 6]) not in rrset(view, f"{name}.mesos")
    assert rrset(view, f"{name}.mesos")
    assert view.pointers.name(bytes([10, 6, 6, 6])) is None
    assert rrset(view, f"web.{name}.mesos") == [address(0)]


def test_pointers() -> None:
    view = view_of(task(), task(1, networks=()), Leadership(LEADER, (LEADER,)))
    pointer = view.pointers.name
    assert pointer(address(0)) == f"web{names.unique_suffix(task())}.marathon"
    assert pointer(bytes([10, 1, 0, 1])) == "slave"  # of the agent, which the second task has too
    assert pointer(bytes([10, 0, 0, 11])) == "master0"
    assert pointer(bytes([10, 0, 0, 21])) == "marathon"
    view.apply(drop(task().key))
    assert pointer(address(0)) is None
    view.apply(put(msgspec.structs.replace(AGENT, state=NodeState.UNREACHABLE)))
    assert pointer(bytes([10, 1, 0, 1])) is None  # slave.mesos does not have the address either


def test_a_master_that_runs_an_agent_points_to_the_master() -> None:
    both = Node("agent-S2", "both", ("10.0.0.11",), 5051)
    view = view_of(both, Leadership(LEADER, (LEADER,)))
    assert view.pointers.name(bytes([10, 0, 0, 11])) == "master0"
    view.apply(drop(("leadership", "mesos")))
    assert view.pointers.name(bytes([10, 0, 0, 11])) == "slave"


def test_no_pointer_to_a_name_that_does_not_fit_the_domain() -> None:
    domain = ".".join(["d" * 63, "e" * 63, "f" * 60])
    view = view_of(task(name="w" * 50), domain=domain)
    assert view.pointers.name(address(0)) is None
    assert view_of(task(name="w" * 40), domain=domain).pointers.name(address(0)) is not None


# --- bad names ------------------------------------------------------------------------------------


def test_a_bad_name_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        view = view_of(task(0, "x" * 63, discovery_name=".bad", host_ports=(1,)), task(1))
        view.apply(put(task(2, "y", discovery_name=".bad", host_ports=(2,))))
    assert rrset(view, "web.marathon.mesos") == [address(1)]
    assert rrset(view, "bad.marathon.mesos") == [address(0), address(2)]  # its label is fine
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == len(set(logged))
    assert any(".bad.marathon.mesos" in text for text in logged)
    assert view.refused > 0
    view.apply(drop(task(0, "x" * 63).key))
    view.apply(drop(task(2, "y").key))
    assert not view.domain.exists("bad.marathon")


def test_every_view_of_records() -> None:
    view = view_of(task(), Leadership(LEADER, (LEADER,)))
    owners = {owner for owner, _, _ in view.cluster_records()}
    assert {"marathon", "_framework._tcp.marathon", "slave", "_slave._tcp", "leader", "master0"} <= owners
    (place,) = view.places()
    assert ("web.marathon", A, address(0)) in view.task_records(place)
    assert view.frameworks() == [MARATHON]
    assert PTR not in {rtype for _, rtype, _ in view.task_records(place)}
    assert SOA not in {rtype for _, rtype, _ in view.cluster_records()}


def test_duplicates_of_one_task_id_are_all_served() -> None:
    twin = msgspec.structs.replace(task(0, networks=(Network("x", ("9.9.9.9",)),)), duplicate=1)
    view = view_of(task(0), twin)
    assert set(rrset(view, "web.marathon.mesos")) == {address(0), bytes([9, 9, 9, 9])}
    view.apply(drop(twin.key))
    assert rrset(view, "web.marathon.mesos") == [address(0)]


def test_a_change_that_cannot_be_taken_in_costs_no_others(caplog: pytest.LogCaptureFixture) -> None:
    view = view_of()
    odd = static("e.x.", "A", b"\x0a\0\0\1", zone="a..b.")
    view.apply(put(odd, AGENT, MARATHON, task()))
    assert view.domain.exists("web.marathon")
    assert view.refused == 1
    assert "could not take a change in" in caplog.text
    view.apply(drop(task().key))
    assert not view.domain.exists("web.marathon")
