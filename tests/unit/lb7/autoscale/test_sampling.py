"""What is known of an app: each metric from who reads it; a reader that fails costs its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from lb7.autoscale.policy import Kind, Metric, Policy
from lb7.autoscale.samples import Instance, Reading
from lb7.autoscale.sampling import Sampling
from lb7.autoscale.scaled_app import AppTask, ScaledApp
from mesos_dns.model import App, Key
from tests.fakes.scaling import Edges, World

METRICS = (
    Metric(kind="rps", target=100),
    Metric(kind="cpu", target=0.5),
    Metric(kind="hook", target=1, url="http://x"),
)


class Agents:
    """Reads CPU, badly."""

    kinds: frozenset[Kind] = frozenset({"cpu"})

    def __init__(self) -> None:
        self.wanted = 0

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        self.wanted += 1
        raise RuntimeError("want")

    def reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        raise RuntimeError("reading")

    async def run(self) -> None:
        """Nothing."""


class Traffic(Edges):
    """Reads requests alone."""

    kinds = frozenset({"rps"})


def test_each_from_who_reads_it(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    key = App("/web", framework_id="marathon-1").key
    world.load[key], world.held[key] = 250.0, 3
    policy = Policy(max=9, metrics=METRICS)
    tasks = (AppTask("a"), AppTask("b", ready=False))
    app = ScaledApp(App("/web", framework_id="marathon-1", instances=7), policy, tasks=tasks)
    agents, edges = Agents(), Traffic(world)
    sampling = Sampling(edges, [agents])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            sampling.want({key: app})
            samples = sampling.samples(app, 4, "locked", 9.0)
    assert (samples.instances, samples.held, samples.locked) == (4, 3, "locked")
    assert samples.running == (Instance("a"), Instance("b", ready=False))
    assert samples.readings["rps"] == Reading(value=250.0, at=9.0)
    assert "reading" in samples.readings["cpu"].error
    assert samples.readings["hook"].error == "nobody reads hook here"
    assert (agents.wanted, edges.wanted, len(caplog.records)) == (3, {key}, 1)
