"""The old endpoints' JSON has only what a real master's has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.demo import documents
from agent.demo.cluster import Cluster
from agent.demo.documents import MasterFacts
from agent.demo.spec import Check, PortSpec, TaskSpec
from agent.demo.v0 import resources, task_json
from agent.demo.world import Usage
from tests.unit.agent.demo.shapes import recording, shape, unknown

STATES = ["", "_variants", "_unreachable", "_after_failover", "_torn_down"]
FACTS = MasterFacts("id", "127.0.0.11", 5050, 1.5)


def with_tasks_merged(document: dict[str, Any]) -> dict[str, Any]:
    """A recorded task shape holds for running, unreachable and completed tasks alike."""
    merged = dict(document)
    kinds = ("tasks", "unreachable_tasks", "completed_tasks")
    frameworks = document["frameworks"] + document["completed_frameworks"]
    together = [
        {**found, **{kind: [task for other in kinds for task in found[other]] for kind in kinds}}
        for found in frameworks
    ]
    return merged | {"frameworks": together, "completed_frameworks": together}


@pytest.mark.asyncio
async def test_state_has_only_recorded_shapes(busy: Cluster) -> None:
    recorded = shape(*[with_tasks_merged(recording(f"state{name}.json.gz")) for name in STATES])
    found = json.loads((await documents.state(busy, FACTS)).whole())
    assert not unknown(shape(with_tasks_merged(found)), recorded)
    assert set(found) | {"log_dir"} == set(recording("state.json.gz"))  # a simulation has no log folder
    busy.fail_over(agents=0, frameworks=1)
    found = json.loads((await documents.state(busy, FACTS)).whole())
    assert found["recovered_slaves"]
    assert not unknown(shape(with_tasks_merged(found)), recorded)


@pytest.mark.asyncio
async def test_old_lists_have_only_recorded_shapes(busy: Cluster) -> None:
    slaves = json.loads((await documents.agents(busy)).whole())
    recorded = shape(recording("slaves.json"), recording("slaves_agent_back.json"))
    assert slaves["slaves"]
    assert not unknown(shape(slaves), recorded)

    summary = json.loads((await documents.summary(busy, FACTS)).whole())
    assert not unknown(shape(summary), shape(recording("state-summary.json.gz")))

    frameworks = with_tasks_merged(json.loads((await documents.frameworks(busy)).whole()))
    states = [with_tasks_merged(recording(f"state{name}.json.gz")) for name in STATES]
    assert not unknown(shape(frameworks["frameworks"]), shape(*[state["frameworks"] for state in states]))
    assert set(frameworks) == set(recording("frameworks.json"))


def test_task_of_the_recording_in_full(cluster: Cluster) -> None:
    frameworks = recording("state.json.gz")["frameworks"]
    web = next(task for found in frameworks for task in found["tasks"] if task["name"] == "web.group")
    ports = (PortSpec("http", labels={"VIP_0": "/group/web:80"}), PortSpec("stats", protocol="udp"))
    spec = TaskSpec("web.group", ports=ports, labels={"team": "alpha"}, check=Check.HTTP)
    task = cluster.start(next(iter(cluster.frameworks.values())), spec, next(iter(cluster.agents.values())))
    cluster.health(task, True)
    assert shape(json.loads(task_json(task))) == shape(web)


def test_ports_are_written_as_ranges() -> None:
    usage = Usage()
    usage.add(TaskSpec("a"), (31002, 31000, 31001, 31005))
    assert resources(usage)["ports"] == "[31000-31002, 31005-31005]"
    usage.take(TaskSpec("a"), (31002, 31000, 31001, 31005))
    assert "ports" not in resources(usage)
