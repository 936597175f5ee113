"""What goes through VIPs: sums by VIP, and samples that Prometheus accepts."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from lb4.connections import ConnectionCounts
from lb4.metrics_traffic import FAMILIES, traffic
from lb4.services import BackendKey, BackendStats, ServiceKey, ServiceStats
from lb4.table import VipTable
from mesos_dns.model import Network, Port, VipAddress
from tests.fakes.questions import AGENT, MARATHON, put, task

pytestmark = pytest.mark.asyncio

FOUR, SIX = ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("tcp", "fd01:c::1", 80)
FIXED, OTHER = ServiceKey("udp", "10.7.7.7", 53), ServiceKey("tcp", "192.0.2.1", 80)
NAME = {"vip": "web.marathon", "protocol": "tcp", "port": "80"}


def table() -> VipTable:
    """A VIP of a name that has addresses of both families, and one of an address."""
    fixed = Port(53, "dns", "udp", (("VIP_0", "10.7.7.7:53"),))
    both = Port(8080, "http", "tcp", (("VIP_0", "/web:80"),))
    networks = (Network("dcos", ("9.0.0.1", "fd00::1")),)
    tasks = [task(0, ports=(fixed,)), task(1, ports=(both,), networks=networks)]
    vips = VipTable()
    vips.apply(put(MARATHON, AGENT, *tasks, VipAddress("web.marathon", "11.0.0.1", "fd01:c::1")))
    return vips


def values(metrics: list[Metric], name: str) -> list[tuple[dict[str, str], float]]:
    """(labels, value) of each sample of this name."""
    return [(s.labels, s.value) for metric in metrics for s in metric.samples if s.name == name]


async def test_both_families_of_a_name_are_one() -> None:
    backends = {BackendKey("9.0.0.1", 8080): BackendStats(active=3), BackendKey("9.0.0.2", 80): BackendStats(2)}
    stats = {
        FOUR: ServiceStats(1, 2, 3, 4, 5, backends),
        SIX: ServiceStats(10, 20, 30, 40, 50),
        FIXED: ServiceStats(7),
        OTHER: ServiceStats(9),
    }
    metrics = await traffic(table(), stats, None)
    told = [dict(map(_by_vip, values(metrics, family.name))) for family in FAMILIES]
    assert [each["web.marathon"] for each in told] == [11, 22, 33, 44, 55, 5]
    assert told[0] == {"web.marathon": 11, "10.7.7.7": 7}
    assert (NAME, 11) in values(metrics, "pharos_l4_vip_connections_total")


def _by_vip(sample: tuple[dict[str, str], float]) -> tuple[str, float]:
    return sample[0]["vip"], sample[1]


async def test_handshakes() -> None:
    counts = ConnectionCounts()
    counts.made.update({FOUR: 3, SIX: 4, OTHER: 5})
    counts.failed[FIXED] = 6
    found = values(await traffic(table(), {}, counts), "pharos_l4_vip_handshakes_total")
    assert found == [
        ({**NAME, "result": "made"}, 7),
        ({"vip": "10.7.7.7", "protocol": "udp", "port": "53", "result": "failed"}, 6),
    ]


async def test_prometheus_is_told_all_of_it() -> None:
    metrics = await traffic(table(), {FOUR: ServiceStats(1)}, None)

    class Told(Collector):
        def collect(self) -> list[Metric]:
            return metrics

    registry = CollectorRegistry()
    registry.register(Told())
    for _ in range(2):  # samples are made as often as they are read
        text = generate_latest(registry).decode()
        assert "# TYPE pharos_l4_vip_connections_total counter" in text
        assert 'pharos_l4_vip_connections_total{port="80",protocol="tcp",vip="web.marathon"} 1.0' in text
        assert "# TYPE pharos_l4_vip_active_connections gauge" in text


async def test_the_loop_has_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesos_dns.sources.pace.TURN", -1.0)  # a turn at each occasion
    stats = {ServiceKey("tcp", "11.0.0.1", port): ServiceStats(1) for port in range(1, 50)}
    turns, working = 0, asyncio.ensure_future(traffic(table(), stats, None))
    while not working.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(values(await working, "pharos_l4_vip_connections_total")) == 49
    assert turns > 49
