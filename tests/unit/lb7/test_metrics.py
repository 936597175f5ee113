"""The metrics of lb7 over a route view, workers in memory, and without either."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from lb7._http1 import FAULTS
from lb7.metrics import BAD_REQUESTS, TURNED_AWAY, L7Metrics, L7Parts
from lb7.server_checks import ServerChecks
from lb7.view import RouteView
from lb7.wire import Counters, Counts
from mesos_dns.probe import Result
from tests.fakes.carriers import FakeWorkers
from tests.fakes.cluster_counts import grown
from tests.fakes.counting_edge import Edge
from tests.fakes.marathon_apps import app, tasks, view_of

pytestmark = pytest.mark.asyncio

SHOP = app("/shop", {"0_VHOST": "shop.example.com", "0_BIND_OPTIONS": "accept-proxy"})
LB7 = Path(__file__).resolve().parents[3] / "lb7"


def values(metrics: list[Metric], name: str) -> list[tuple[dict[str, str], float]]:
    """(labels, value) of each sample of this name."""
    return [(s.labels, s.value) for metric in metrics for s in metric.samples if s.name == name]


def view() -> RouteView:
    return view_of(None, SHOP, *tasks(SHOP))


async def collected(parts: L7Parts | None) -> list[Metric]:
    return await L7Metrics(lambda: parts).collect()


async def test_without_an_edge_there_is_nothing() -> None:
    assert await collected(None) == []


async def test_who_follows_the_demand() -> None:
    edge = Edge("/a:1")
    async with edge.demand.follow():
        metrics = await collected(L7Parts(view(), demand=edge.demand))
    assert values(metrics, "pharos_l7_demand_followers") == [({}, 1)]
    assert values(metrics, "pharos_l7_demand_dropped_total") == [({}, 0)]
    assert values(await collected(L7Parts(view())), "pharos_l7_demand_followers") == []


async def test_the_routes() -> None:
    metrics = await collected(L7Parts(view()))
    assert values(metrics, "pharos_l7_listeners") == [({}, 4)]  # http, https, app_id, port:10000
    assert values(metrics, "pharos_l7_hosts") == [({}, 4)]
    assert values(metrics, "pharos_l7_routes") == [({}, 4)]
    assert values(metrics, "pharos_l7_clusters") == [({}, 1)]
    assert values(metrics, "pharos_l7_unsupported") == [({"reason": "bind-options"}, 1)]
    assert values(metrics, "pharos_l7_faults_total") == [({}, 0)]
    assert values(metrics, "pharos_l7_workers") == []
    servers = {labels["state"]: value for labels, value in values(metrics, "pharos_l7_servers")}
    assert servers == {"up": 2, "down": 0, "draining": 0}


async def test_workers() -> None:
    worker: dict[str, Any] = {"log_dropped": 2, "log_lost": 3, "error": 4, "idle_gave_way": 5, "own_limit": 6}
    now: dict[str, int | float] = {"connections": 6, "requests_open": 7, "pooled": 8}
    workers = FakeWorkers(Counters(worker=worker, now=now))
    workers.left_out["cluster /a:1"] = "too large"
    workers.replaced, workers.versions, workers.problems = 9, [3, -1], {"https": "no certificate"}
    workers.certificates = {"a.pem": {"names": ("a",), "expires": 2e9}, "b.pem": {"names": (), "expires": None}}
    metrics = await collected(L7Parts(view(), workers))
    for name, value in (
        ("workers", 1),
        ("worker_restarts_total", 9),
        ("failed_listeners", 1),
        ("left_out", 1),
        ("open_connections", 6),
        ("open_requests", 7),
        ("server_connections", 8),
        ("access_log_dropped_total", 5),
        ("errors_total", 4),
        ("idle_gave_way_total", 5),
        ("own_limit_total", 6),
    ):
        assert values(metrics, f"pharos_l7_{name}") == [({}, value)]
    assert values(metrics, "pharos_l7_certificate_expiry_seconds") == [({"file": "a.pem"}, 2e9)]


async def test_listeners() -> None:
    words: dict[str, Any] = {
        **{"accepted": 1, "requests": 2, "received": 3, "sent": 4, "no_route": 5},
        **{
            "bad_line": 6,
            "ambiguous": 7,
            "timeout_request": 8,
            "tunnel_timeout": 11,
            "max_connections": 9,
            "reset": 10,
            "answer_bad_line": 12,
        },
    }
    metrics = await collected(L7Parts(view(), FakeWorkers(Counters(listeners={"http": words}))))
    for name, labels, value in (
        ("connections_total", {}, 1),
        ("listener_requests_total", {}, 2),
        ("listener_received_bytes_total", {}, 3),
        ("listener_sent_bytes_total", {}, 4),
        ("no_route_total", {}, 5),
        ("refused_connections_total", {"reason": "max_connections"}, 9),
        ("outcomes_total", {"reason": "reset"}, 10),
        ("bad_answers_total", {"reason": "bad_line"}, 12),
    ):
        assert values(metrics, f"pharos_l7_{name}") == [({"listener": "http", **labels}, value)]
    slow = {labels["kind"]: value for labels, value in values(metrics, "pharos_l7_timeouts_total")}
    assert slow == {"request": 8, "tunnel": 11}
    bad = {labels["reason"]: value for labels, value in values(metrics, "pharos_l7_bad_requests_total")}
    assert bad == {"bad_line": 6, "ambiguous": 7}


async def test_words_that_the_proxy_counts_have_a_place() -> None:
    """Each word that is counted of a listener is one of those that are sorted, or an outcome on purpose."""
    text = "".join(path.read_text() for path in (*LB7.glob("*.pxi"), LB7 / "_proxy.pyx", LB7 / "_tcp.pyx"))
    calls = "answer_self|fail|refuse|turn_away|count_word|self.count|front.count"
    counted = set(re.findall(rf'(?:{calls})\([^"\n]*"(\w+)"', text))
    assert len(counted) > 20
    outcomes = {
        *("redirect", "denied", "unauthorized", "no_route", "no_server", "no_connection", "reset"),
        *("client_gone", "client_left", "connect_failed", "max_requests_per_route", "error"),
    }
    sorted_by_form = {word for word in counted if "timeout" in word or word.startswith("answer_") or "_full" in word}
    assert counted - sorted_by_form - BAD_REQUESTS - TURNED_AWAY - outcomes == set()
    assert set(FAULTS) <= BAD_REQUESTS


async def test_checks() -> None:
    checks = ServerChecks(lambda names: None)
    checks.results["tcp", Result.OK] = 3
    metrics = await collected(L7Parts(view(), checks=checks))
    assert values(metrics, "pharos_l7_checked_servers") == [({}, 0)]
    assert values(metrics, "pharos_l7_failing_servers") == [({}, 0)]
    assert values(metrics, "pharos_l7_checks_total") == [({"type": "tcp", "result": "ok"}, 3)]
    await checks.close()


async def test_they_can_be_written() -> None:
    counts: Counts = {"requests": 1, "status": [0, 0, 1], "latency": [1], "latency_sum": 1.0}
    counted = Counters(clusters=[("/shop:10000", grown(counts))])

    class Source(Collector):
        def collect(self) -> list[Metric]:
            return metrics

    metrics = await collected(L7Parts(view(), FakeWorkers(counted)))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Source())
    text = generate_latest(registry).decode()
    assert 'pharos_l7_requests_total{app="/shop",code="2xx",port="10000"} 1.0' in text


async def test_many_apps_are_looked_through_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesos_dns.sources.pace.TURN", -1.0)  # a turn for the loop at each occasion
    many = [app(f"/a{n}", {"0_VHOST": f"a{n}.example.com"}, ports=(20000 + n,)) for n in range(30)]
    parts = L7Parts(view_of(None, *many))
    turns, reading = 0, asyncio.ensure_future(collected(parts))
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert values(await reading, "pharos_l7_clusters") == [({}, 30)]
    assert turns > 30
