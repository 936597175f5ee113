"""DC/OS' zone of ZooKeeper's servers (recorded from dcos-net), and tasks whose orchestrator tells no nodes."""

from __future__ import annotations

import pytest

from mesos_dns.catalog import Delta
from mesos_dns.config import DnsConfig
from mesos_dns.model import Ensemble, Entity, Framework, Network, Port, Task
from mesos_dns.names import AAAA, SRV, A, packed
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import EVERYTHING, ZoneView

WIRE = name_to_wire("zk")


def tell(view: ZoneView, before: Entity | None, after: Entity | None) -> None:
    key = (after or before).key  # type: ignore[union-attr]
    view.apply(Delta(1, {key: (before, after)}))


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        (("10.0.0.1", "10.0.0.2", "10.0.0.3"), ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1", "10.0.0.2")),
        (("10.0.0.1",), ("10.0.0.1",) * 5),
        (tuple(f"10.0.0.{n}" for n in range(1, 8)), tuple(f"10.0.0.{n}" for n in range(1, 6))),
    ],
)
def test_always_five_names_the_servers_repeated_in_turn(servers: tuple[str, ...], expected: tuple[str, ...]) -> None:
    touched: list[str] = []
    view = ZoneView(DnsConfig(), touch=lambda tag, owner: touched.append(tag))
    assert WIRE not in view.zones
    ensemble = Ensemble(tuple((address,) for address in servers))
    tell(view, None, ensemble)
    zone = view.zones[WIRE]
    assert [zone.rrset(f"zk-{n}", A) for n in range(1, 6)] == [[packed(address)] for address in expected]
    assert not zone.exists("zk-6")
    assert zone.ttl == 5
    assert EVERYTHING in touched
    tell(view, ensemble, Ensemble((("fd00::1",), ())))
    assert zone.rrset("zk-1", AAAA) == [packed("fd00::1")]
    assert not zone.exists("zk-2")
    tell(view, Ensemble((("fd00::1",), ())), None)
    assert WIRE not in view.zones


def test_without_the_directory_there_is_no_such_zone() -> None:
    view = ZoneView(DnsConfig(directory=""))
    tell(view, None, Ensemble((("10.0.0.1",),)))
    assert WIRE not in view.zones


@pytest.mark.parametrize("source", ["netinfo", "host"])
def test_a_task_without_a_node_is_where_it_registered(source: str) -> None:
    view = ZoneView(DnsConfig(ip_sources=(source,)))  # type: ignore[arg-type]
    ports = (Port(31000, "", "tcp"), Port(31001, "health", "tcp", secondary=True))
    task = Task(
        *("e.aurora", "/aurora/e/j/member_0000000007", "j", "", "TASK_RUNNING"),
        discovery_name="j",
        ports=ports,
        networks=(Network("", ("10.0.0.1",)),),
        cluster="serversets",
    )
    tell(view, None, task)
    assert not view.domain.exists("j.e.aurora"), "its framework is not known yet"
    tell(view, None, Framework("e.aurora", "e.aurora", cluster="serversets"))
    assert view.domain.rrset("j.e.aurora", A) == [packed("10.0.0.1")]
    ((port, target),) = view.domain.rrset("_j._tcp.e.aurora", SRV)
    assert (port, str(target)[-20:]) == (31000, "-0000000007.e.aurora")
    assert [port for port, _ in view.domain.rrset("_health._j._tcp.e.aurora", SRV)] == [31001]
    assert not view.domain.rrset("slave", A), "its host is no Mesos agent"
