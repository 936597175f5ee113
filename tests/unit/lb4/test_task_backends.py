"""What a task gives to VIPs: by which port, where it is reached, with what weight."""

from __future__ import annotations

from typing import Any

import pytest

from lb4.labels import BadLabel
from lb4.services import BackendKey
from lb4.task_backends import (
    MAX_ADDRESSES,
    MAX_VIPS,
    PortUse,
    Whereabouts,
    asks,
    backends_of,
    port_use,
    read_labels,
)
from lb4.vip import Backend, State, VipKey
from mesos_dns.model import Health, Labels, Network, Port, PortMapping, Task
from tests.fakes.questions import task

HOST = Whereabouts("10.1.0.1")
X = VipKey("tcp", "x.marathon", 80)


def port(number: int = 8080, protocol: str = "tcp", *labels: tuple[str, str], name: str = "") -> Port:
    return Port(number, name, protocol, labels or (("VIP_0", "/x:80"),))


def given(use: PortUse, where: Whereabouts = HOST, **fields: Any) -> tuple[Backend, ...]:
    one = task(**fields)
    return backends_of(one.key, one, use, where, one.health)


def places(*args: Any, **fields: Any) -> list[tuple[str, int]]:
    return [(backend.address, backend.port) for backend in given(*args, **fields)]


# --- labels ---------------------------------------------------------------------------------------


def test_labels_of_ports() -> None:
    one = task(
        ports=(
            port(31000, "tcp", ("VIP_0", "/x:80"), ("VIP_1", "10.7.7.7:443"), ("network-scope", "host")),
            port(31001, "UDP", ("vip_0", "x:80"), ("network-scope", "container")),
            port(31002, "tcp", ("Vip_0", "/y:80")),
        )
    )
    assert asks(one)
    reading = read_labels(one, "marathon")
    assert reading.refused == ()
    assert reading.uses == (
        (X, PortUse(31000, "tcp", True)),
        (VipKey("tcp", "10.7.7.7", 443), PortUse(31000, "tcp", True)),
        (VipKey("udp", "x.marathon", 80), PortUse(31001, "udp")),
    )


def test_both_forms_are_read() -> None:
    one = task(
        ports=(port(),),
        labels=(("a", "b"), ("vip_PORT1", "udp://foo:5000")),
        host_ports=(31000, 31005),
    )
    assert read_labels(one, "marathon").uses == (
        (X, PortUse(8080, "tcp")),
        (VipKey("udp", "foo.marathon", 5000), PortUse(31005, "udp", True)),
    )


def test_bad_labels_cost_only_themselves() -> None:
    one = task(
        ports=(
            port(8080, "tcp", ("VIP_0", "/x"), ("VIP_1", "/x:80")),
            port(8081, "udp,tcp", ("VIP_0", "/y:80")),
            port(8082, "", ("VIP_0", "/y:80")),
            port(70000, "tcp", ("VIP_0", "/y:80")),
        ),
        labels=(("vip_port0", "tcp://foo:5000"), ("vip_port5", "tcp://foo:5000"), ("vip_port1", "tcp://foo:1")),
        host_ports=(31000, 0),
    )
    reading = read_labels(one, "marathon")
    assert reading.uses == (
        (X, PortUse(8080, "tcp")),
        (VipKey("tcp", "foo.marathon", 5000), PortUse(31000, "tcp", True)),
    )
    assert [refusal.reason for refusal in reading.refused] == [
        "no-port",
        "protocol",
        "protocol",
        "backend-port",
        "index",
        "backend-port",
    ]
    assert reading.refused[0].label == "/x"


def test_a_discovery_port_0_is_ignored() -> None:
    reading = read_labels(task(ports=(port(0), port(0, "sctp"))), "marathon")
    assert reading == ((), ())


def test_the_labels_of_a_task_are_bounded() -> None:
    many = tuple((f"VIP_{number}", f"/x{number}:80") for number in range(MAX_VIPS + 6))
    reading = read_labels(task(ports=(port(8080, "tcp", *many),)), "marathon")
    assert len(reading.uses) == MAX_VIPS
    assert [refusal.reason for refusal in reading.refused] == ["too-many"]
    assert str(MAX_VIPS + 6) in reading.refused[0].text


@pytest.mark.parametrize("labels", [(), (("HAPROXY_0", "x"),), (("VIP_0", "/x:80"),)])
def test_a_quick_look_at_tasks_without_vips(labels: Labels) -> None:
    assert not asks(task(labels=labels, ports=(Port(80, "http", "tcp", (("Vip", "/x:80"),)),)))


def test_numbers_that_are_no_ports() -> None:
    for number in (0, 65536, 1 << 31):
        with pytest.raises(BadLabel):
            port_use(Port(number), "tcp")


# --- where ----------------------------------------------------------------------------------------

MAPPED: dict[str, Any] = {"port_mappings": (PortMapping(31100, 8080),)}


def test_a_mapped_port_is_reached_at_the_agent_even_where_the_container_could_be() -> None:
    (backend,) = given(PortUse(8080, "tcp"), runtime="mesos", **MAPPED)
    assert (backend.address, backend.port, backend.node) == ("10.1.0.1", 31100, "10.1.0.1")
    assert backend.local == BackendKey("9.0.0.1", 8080)
    (by_host,) = given(PortUse(31100, "tcp", True), runtime="mesos", **MAPPED)
    assert by_host == backend


def test_docker_is_never_rewritten() -> None:
    (backend,) = given(PortUse(8080, "tcp"), runtime="docker", **MAPPED)
    assert (backend.port, backend.local) == (31100, None)


def test_the_container_address_behind_a_mapping_is_of_the_hosts_family() -> None:
    networks: tuple[Network, ...] = (Network("n", ("fd01:b::2", "9.0.0.2")),)
    (four,) = given(PortUse(8080, "tcp"), runtime="mesos", networks=networks, **MAPPED)
    assert four.local == BackendKey("9.0.0.2", 8080)
    (six,) = given(PortUse(8080, "tcp"), Whereabouts("fd00::1"), runtime="mesos", networks=networks, **MAPPED)
    assert six.local == BackendKey("fd01:b::2", 8080)
    for networks in ((), (Network("n", ("10.1.0.1",)),), (Network("n", ("fd01:b::2",)),)):
        (none,) = given(PortUse(8080, "tcp"), runtime="mesos", networks=networks, **MAPPED)
        assert none.local is None


def test_a_mapping_counts_for_its_protocol_only() -> None:
    assert places(PortUse(8080, "udp"), **MAPPED) == [("9.0.0.1", 8080)]
    assert places(PortUse(8080, "udp"), port_mappings=(PortMapping(31100, 8080, "UDP"),)) == [("10.1.0.1", 31100)]
    several = (
        PortMapping(0, 8080),
        PortMapping(31100, 8080, "udp"),
        PortMapping(31200, 8080),
        PortMapping(31300, 8080),
    )
    assert places(PortUse(8080, "tcp"), port_mappings=several) == [("10.1.0.1", 31200)]


def test_a_port_without_a_mapping_is_reached_at_every_address_of_the_container() -> None:
    networks = (Network("a", ("172.19.0.2", "fd01:b::2")), Network("b", ("9.0.0.2",)))
    found = given(PortUse(8080, "tcp"), networks=networks, runtime="mesos")
    assert [(backend.address, backend.port, backend.node, backend.local) for backend in found] == [
        (address, 8080, "10.1.0.1", None) for address in ("172.19.0.2", "fd01:b::2", "9.0.0.2")
    ]


def test_a_container_without_an_address_is_reached_at_the_agent() -> None:
    assert places(PortUse(31000, "tcp"), networks=()) == [("10.1.0.1", 31000)]
    assert places(PortUse(31000, "tcp"), Whereabouts(""), networks=()) == []
    assert places(PortUse(8080, "tcp"), Whereabouts(""), **MAPPED) == []


def test_a_port_of_the_host_that_no_mapping_names_is_the_agents() -> None:
    assert places(PortUse(31000, "tcp", True), **MAPPED) == [("10.1.0.1", 31000)]


def test_a_task_whose_orchestrator_tells_no_nodes() -> None:
    alone = Whereabouts("9.0.0.1", alone=True)
    networks = (Network("", ("9.0.0.1", "fd00::9")),)
    for host in (False, True):
        found = given(PortUse(80, "tcp", host), alone, node="", networks=networks, **MAPPED)
        assert [(b.address, b.port, b.node, b.local) for b in found] == [
            ("9.0.0.1", 80, "9.0.0.1", None),
            ("fd00::9", 80, "fd00::9", None),
        ]
    assert places(PortUse(80, "tcp"), Whereabouts("", alone=True), networks=()) == []


def test_absurd_addresses() -> None:
    networks = (Network("", ("", "nonsense", *(f"9.1.0.{number}" for number in range(1, 100)))),)
    found = places(PortUse(80, "tcp"), networks=networks)
    assert found == [(f"9.1.0.{number}", 80) for number in range(1, MAX_ADDRESSES - 1)]
    assert places(PortUse(80, "tcp"), Whereabouts("nonsense"), networks=()) == []


# --- state and health -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "health", "weight", "told"),
    [
        ("TASK_RUNNING", Health.NONE, 1, State.ACTIVE),
        ("TASK_RUNNING", Health.HEALTHY, 1, State.ACTIVE),
        ("TASK_RUNNING", Health.PENDING, 0, State.PENDING),
        ("TASK_RUNNING", Health.UNHEALTHY, 0, State.UNHEALTHY),
        ("TASK_KILLING", Health.HEALTHY, 0, State.DRAINING),
        ("TASK_KILLING", Health.UNHEALTHY, 0, State.DRAINING),
    ],
)
def test_weights(state: str, health: Health, weight: int, told: State) -> None:
    (backend,) = given(PortUse(8080, "tcp"), state=state, health=health)
    assert (backend.base, backend.weight, backend.state, backend.health) == (1, weight, told, health)
    assert backend.task == task().key


@pytest.mark.parametrize("state", ["TASK_STAGING", "TASK_STARTING", "TASK_UNREACHABLE", "TASK_FINISHED", "TASK_X", ""])
def test_other_states_give_nothing(state: str) -> None:
    one: Task = task(state=state)
    assert backends_of(one.key, one, PortUse(8080, "tcp"), HOST, Health.HEALTHY) == ()
