"""The metrics of lb4 over a table, a data plane in memory, and without either."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client.core import Metric

from lb4.balancer import Balancer
from lb4.connections import ConnectionCounts
from lb4.metrics import L4Metrics, L4Parts
from lb4.services import BackendKey, BackendStats, ServiceKey, ServiceStats
from lb4.table import VipTable
from mesos_dns.model import Health, Port, Suspect, VipAddress
from tests.fakes.data_plane import FakePlane
from tests.fakes.questions import AGENT, MARATHON, put, task

pytestmark = pytest.mark.asyncio

VIP = ServiceKey("tcp", "11.0.0.1", 80)
NAME = {"vip": "web.marathon", "protocol": "tcp", "port": "80"}


def table() -> VipTable:
    port = Port(8080, "http", "tcp", (("VIP_0", "/web:80"), ("VIP_1", "bad")))
    found = VipTable()
    tasks = [task(n, ports=(port,), health=health) for n, health in enumerate((Health.HEALTHY, Health.PENDING))]
    found.apply(put(MARATHON, AGENT, *tasks, VipAddress("web.marathon", "11.0.0.1"), Suspect("10.9.9.9")))
    return found


def values(metrics: list[Metric], name: str) -> list[tuple[dict[str, str], float]]:
    """(labels, value) of each sample of this name."""
    return [(s.labels, s.value) for metric in metrics for s in metric.samples if s.name == name]


async def test_without_l4_there_is_the_table_alone() -> None:
    metrics = await L4Metrics(lambda: L4Parts(table())).collect()
    assert values(metrics, "pharos_l4_vips") == [({}, 1)]
    states = {labels["state"]: value for labels, value in values(metrics, "pharos_l4_backends")}
    assert (states["active"], states["pending"], states["draining"]) == (1, 1, 0)
    assert sum(value for _, value in values(metrics, "pharos_l4_bad_labels_total")) == 2
    assert not values(metrics, "pharos_l4_services")
    assert not values(metrics, "pharos_l4_allocated_names")


class Counting(FakePlane):
    """A data plane that has counted something, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def stats(self, services: Any = None) -> dict[ServiceKey, ServiceStats]:
        self.asked += 1
        if self.broken is not None:
            raise self.broken
        backends = {BackendKey("9.0.0.1", 8080): BackendStats(active=3), BackendKey("9.0.0.2", 80): BackendStats(2)}
        return {VIP: ServiceStats(10, 20, 30, 40, 50, backends), ServiceKey("tcp", "192.0.2.1", 80): ServiceStats(1)}


def balancer_of(vips: VipTable, plane: FakePlane) -> Balancer:
    return Balancer(
        vips,
        plane,
        known=lambda: True,
        own=frozenset(),
        owned=lambda address: address.startswith("11."),
        scheduler="wlc",
        reconcile=30,
        drain_timeout=60,
    )


async def test_what_goes_through_a_vip() -> None:
    vips, plane = table(), Counting()
    balancer = balancer_of(vips, plane)
    for _ in range(5):
        await balancer.turn()
    counts = ConnectionCounts()
    counts.look(["TCP 0A004FB6 0001 0B000001 0050 0A004FB7 1F91 ESTABLISHED 900"])
    parts = L4Parts(vips, balancer, plane, connections=counts, containers=2, kernel_failures={"x": "y"})
    source = L4Metrics(lambda: parts)
    metrics = await source.collect()
    for name, value in (
        ("connections_total", 10),
        ("received_packets_total", 20),
        ("sent_packets_total", 30),
        ("received_bytes_total", 40),
        ("sent_bytes_total", 50),
        ("active_connections", 5),
    ):
        assert values(metrics, f"pharos_l4_vip_{name}") == [(NAME, value)]
    assert values(metrics, "pharos_l4_vip_handshakes_total") == [({**NAME, "result": "made"}, 1)]
    assert values(metrics, "pharos_l4_services") == [({}, 1)]
    assert values(metrics, "pharos_l4_served_vips") == [({}, 1)]
    assert ({"operation": "add-service", "result": "done"}, 1) in values(metrics, "pharos_l4_operations_total")
    assert values(metrics, "pharos_l4_apply_seconds_count")[0][1] >= 1
    assert values(metrics, "pharos_l4_containers") == [({}, 2)]
    assert values(metrics, "pharos_l4_kernel_failures") == [({}, 1)]
    await source.collect()
    assert plane.asked == 1  # two who ask cost one dump


async def test_a_data_plane_that_can_not_be_read_leaves_the_rest() -> None:
    vips, plane = table(), Counting()
    plane.broken = OSError("gone")
    metrics = await L4Metrics(lambda: L4Parts(vips, balancer_of(vips, plane), plane)).collect()
    assert values(metrics, "pharos_l4_vips") == [({}, 1)]
    assert not values(metrics, "pharos_l4_vip_connections_total")


async def test_what_carries_connections() -> None:
    parts = L4Parts(table(), connections=ConnectionCounts())
    assert parts.connections is not None
    parts.connections.look([], cut=True)
    metrics = await L4Metrics(lambda: parts).collect()
    planes = {labels["name"]: value for labels, value in values(metrics, "pharos_l4_data_plane")}
    assert planes == {"ipvs": 0, "proxy": 0, "off": 1}
    assert values(metrics, "pharos_l4_connection_tables_cut_total") == [({}, 1)]
    parts.dataplane = "proxy"
    metrics = await L4Metrics(lambda: parts).collect()
    assert ({"name": "proxy"}, 1) in values(metrics, "pharos_l4_data_plane")


async def test_many_vips_are_looked_through_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesos_dns.sources.pace.TURN", -1.0)  # a turn for the loop at each occasion
    vips = VipTable()
    ports = tuple(Port(8000 + n, "http", "tcp", (("VIP_0", f"/web{n}:80"),)) for n in range(30))
    vips.apply(put(MARATHON, AGENT, task(0, ports=ports)))
    turns, reading = 0, asyncio.ensure_future(L4Metrics(lambda: L4Parts(vips)).collect())
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert values(await reading, "pharos_l4_vips") == [({}, 30)]
    assert turns > 30
