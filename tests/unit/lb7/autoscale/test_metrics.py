"""Metrics of autoscaling: of the decider, of its apps, of what is read."""

from __future__ import annotations

import asyncio
from collections import Counter

from prometheus_client.core import Metric as Family

from lb7.autoscale.metrics import AutoscaleMetrics, kind_of
from lb7.autoscale.policy import Kind, Metric, Policy
from tests.fakes.scaling import Decider, Edges, World, running, until
from tests.fakes.virtual_time import run

POLICY = Policy(max=4, metrics=(Metric(kind="rps", target=100), Metric(kind="queue", name="jobs", target=5)))


class Counted(Edges):
    """Edges that count."""

    failures = Counter(timeout=2)


def value(families: list[Family], name: str, **labels: str) -> float | None:
    """One sample's value; None: there is none."""
    for family in families:
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


async def collected(decider: Decider) -> list[Family]:
    return await AutoscaleMetrics(lambda: decider.scaler).collect()


def test_the_one_that_decides_tells_of_apps() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.add("/web", 1, POLICY, "marathon-2")
        failing = world.add("/failing", 3, POLICY)
        world.load[key], world.error[failing] = 2000.0, "timeout"
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await until(lambda: world.instances[key] == 4)
            await asyncio.sleep(30)
            found = await collected(one)
            assert value(found, "pharos_autoscale_leading") == 1
            assert value(found, "pharos_autoscale_instances", app="/web", kind="current") == 5
            assert value(found, "pharos_autoscale_instances", app="/web", kind="max") == 8
            assert value(found, "pharos_autoscale_instances", app="/failing", kind="min") == 1
            assert value(found, "pharos_autoscale_at_maximum", app="/web") == 1
            assert value(found, "pharos_autoscale_at_maximum", app="/failing") == 0
            assert value(found, "pharos_autoscale_metric_missing", app="/failing", metric="jobs") == 1
            assert value(found, "pharos_autoscale_metric_missing", app="/web", metric="jobs") == 0
            assert value(found, "pharos_autoscale_apps", state="maximum") == 1
            assert value(found, "pharos_autoscale_apps", state="no-metric") == 1
            assert value(found, "pharos_autoscale_actions_total", result="done") == 1
            assert value(found, "pharos_autoscale_actions_total", result="refused") == 0
            assert value(found, "pharos_autoscale_decisions_total", reason="no-metric") is not None
            assert value(found, "pharos_autoscale_edges", state="connected") == 1
            assert value(found, "pharos_autoscale_terms_total") == 1
            age = value(found, "pharos_autoscale_decision_age_seconds")
            assert age is not None
            assert 0 <= age <= 5
            others = await collected(two)
            assert value(others, "pharos_autoscale_leading") == 0
            assert value(others, "pharos_autoscale_at_maximum", app="/web") is None

    run(main())


def test_what_is_read_is_counted() -> None:
    async def main() -> None:
        world = World()
        decider = world.decider("one")
        decider.scaler.around.sampling.providers[:] = [edges := Counted(world), Edges(world)]
        edges.reads = 7
        found = await collected(decider)
        assert value(found, "pharos_autoscale_reads_total", kind="edges") == 7
        assert value(found, "pharos_autoscale_read_failures_total", kind="edges", reason="timeout") == 2

    run(main())


def test_words_for_providers() -> None:
    class Agents(Edges):
        kinds: frozenset[Kind] = frozenset({"cpu", "memory"})

    class Hooks(Edges):
        kinds: frozenset[Kind] = frozenset({"hook"})

    assert [kind_of(each(World())) for each in (Edges, Agents, Hooks)] == ["edges", "agents", "hook"]


def test_where_nothing_is_scaled_there_is_nothing() -> None:
    assert asyncio.run(AutoscaleMetrics(lambda: None).collect()) == []
