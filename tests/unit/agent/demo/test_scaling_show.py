"""agent.demo.scaling_show: what is said when the number of tasks changes, and that the app's policy is one."""

from __future__ import annotations

import asyncio

import pytest

from agent.config import load_text
from agent.demo import scaling_show
from agent.demo.cluster import Cluster
from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.scaling_show import APP, DEFINITION, MOST, SECTION, show_scaling
from lb7.autoscale.labels import read_scaling
from mesos_dns.model import App


def test_its_labels_are_a_policy() -> None:
    labels = DEFINITION["labels"]
    assert isinstance(labels, dict)
    policy, problems = read_scaling(App(APP, labels=tuple(labels.items())))
    assert not problems
    assert policy is not None
    assert (policy.min, policy.max, policy.sleeps) == (0, MOST, True)
    assert load_text(SECTION, "demo").autoscale is not None


@pytest.mark.asyncio
async def test_changes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_show, "LOADS", ((0, 0.01),))
    monkeypatch.setattr(scaling_show, "LOOK", 0.01)
    cluster = Cluster(seed=1)
    cluster.add_agent("127.0.1.1")
    marathon = DeployingMarathon(cluster, cluster.add_framework("marathon"))
    app = marathon.create_now({**DEFINITION, "instances": 1})
    said: list[str] = []
    shown = asyncio.create_task(show_scaling(marathon, 1, said.append))
    try:
        async with asyncio.timeout(30):
            while not any("1 → 2 instances; 0 requests answered, 0 failed" in line for line in said):
                await asyncio.sleep(0.02)
                if said and len(app.instances) == 1:  # by then it has been looked at
                    marathon.start_now(app)
        assert f"  {APP}: no requests a second from now on" in said
    finally:
        shown.cancel()
        await asyncio.wait([shown])
        await marathon.close()
