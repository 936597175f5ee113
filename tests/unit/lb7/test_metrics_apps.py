"""What goes to apps' ports, as metrics."""

from __future__ import annotations

import pytest
from prometheus_client.core import Metric

from lb7._balance import LATENCY_BOUNDS
from lb7._balance import Cluster as Balanced
from lb7.counters import Totals
from lb7.metrics_apps import COUNTERS, STATES, apps, labels_of
from lb7.settings import Settings
from lb7.table import Cluster, Server
from lb7.wire import Counters, Counts
from tests.fakes.cluster_counts import grown

pytestmark = pytest.mark.asyncio

WEB = "/shop/web:10000"
LABELS = {"app": "/shop/web", "port": "10000"}


def values(metrics: list[Metric], name: str) -> list[tuple[dict[str, str], float]]:
    """(labels, value) of each sample of this name."""
    return [(s.labels, s.value) for metric in metrics for s in metric.samples if s.name == name]


def totals(clusters: dict[str, Counts], now: dict[str, dict[str, int | float]] | None = None) -> Totals:
    found = Totals()
    found.count(
        0, Counters(clusters=[(name, grown(counts)) for name, counts in clusters.items()], clusters_now=now or {})
    )
    return found


async def test_every_counter_of_a_cluster_has_its_metric() -> None:
    counted = Balanced(Cluster(WEB, "/shop/web", 10000), Settings(), 0.0).counts_dict()
    assert set(counted) == {*COUNTERS, "status", "latency", "latency_sum"}
    latency = counted["latency"]
    assert isinstance(latency, list)
    assert len(latency) == len(LATENCY_BOUNDS) + 1


async def test_counters() -> None:
    counts: Counts = {word: number for number, word in enumerate(COUNTERS, 1)}
    metrics = await apps(totals({WEB: counts}), {})
    for number, (name, _) in enumerate(COUNTERS.values(), 1):
        assert values(metrics, name) == [(LABELS, number)]


async def test_what_never_happened_is_left_out() -> None:
    metrics = await apps(totals({WEB: {"requests": 1, "retries": 0}}), {})
    assert values(metrics, "pharos_l7_retries_total") == []
    assert values(metrics, "pharos_l7_request_latency_seconds_count") == []


async def test_answers_by_status() -> None:
    metrics = await apps(totals({WEB: {"status": [2, 0, 10, 0, 4, 1]}}), {})
    found = {labels["code"]: value for labels, value in values(metrics, "pharos_l7_requests_total")}
    assert found == {"none": 2, "2xx": 10, "4xx": 4, "5xx": 1}


async def test_latency_is_a_histogram() -> None:
    latency = [1, 2, *[0] * (len(LATENCY_BOUNDS) - 2), 4]
    metrics = await apps(totals({WEB: {"latency": [*latency], "latency_sum": 7.5}}), {})
    buckets = {labels["le"]: value for labels, value in values(metrics, "pharos_l7_request_latency_seconds_bucket")}
    assert len(buckets) == len(LATENCY_BOUNDS) + 1
    assert (buckets["0.001"], buckets["0.0025"], buckets["60.0"], buckets["+Inf"]) == (1, 3, 3, 7)
    assert values(metrics, "pharos_l7_request_latency_seconds_count") == [(LABELS, 7)]
    assert values(metrics, "pharos_l7_request_latency_seconds_sum") == [(LABELS, 7.5)]


async def test_apps_of_one_id_are_one_line() -> None:
    metrics = await apps(totals({WEB: {"requests": 1}, f"{WEB}@mesos/f-2": {"requests": 2}}), {})
    assert values(metrics, "pharos_l7_admitted_total") == [(LABELS, 3)]


async def test_figures_of_now() -> None:
    metrics = await apps(totals({}, {WEB: {"active": 5, "waiting": 2, "held": 1}}), {})
    assert values(metrics, "pharos_l7_active_requests") == [(LABELS, 5)]
    assert values(metrics, "pharos_l7_waiting") == [(LABELS, 2)]
    assert values(metrics, "pharos_l7_held_requests") == [(LABELS, 1)]


async def test_what_was_held_and_for_too_long() -> None:
    metrics = await apps(totals({WEB: {"held": 3, "hold_timeouts": 2}}), {})
    assert values(metrics, "pharos_l7_held_total") == [(LABELS, 3)]
    assert values(metrics, "pharos_l7_hold_timeouts_total") == [(LABELS, 2)]


async def test_servers_by_state() -> None:
    servers = (Server("a:1", "a", 1), Server("b:1", "b", 1, down=True), Server("c:1", "c", 1, draining=True))
    metrics = await apps(Totals(), {WEB: Cluster(WEB, "/shop/web", 10000, servers)})
    assert values(metrics, "pharos_l7_servers") == [({**LABELS, "state": state}, 1) for state in STATES]


async def test_a_cluster_without_servers_is_told() -> None:
    metrics = await apps(Totals(), {WEB: Cluster(WEB, "/shop/web", 10000)})
    assert [value for _, value in values(metrics, "pharos_l7_servers")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        (WEB, LABELS),
        ("/a:1#2", {"app": "/a", "port": "1"}),
        ("/a:1@mesos/f/group", {"app": "/a", "port": "1"}),
        ("odd", {"app": "odd", "port": ""}),
    ],
)
async def test_labels(name: str, labels: dict[str, str]) -> None:
    assert labels_of(name) == labels
