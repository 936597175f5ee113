"""The answers of a master: what it says of itself, and of a cluster that it does not know whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.demo import documents
from agent.demo.cluster import Cluster
from agent.demo.documents import MasterFacts
from agent.demo.spec import TaskSpec
from tests.unit.agent.demo.shapes import recording, shape

FACTS = MasterFacts("id", "127.0.0.11", 15050, 1.5)


def call(cluster: Cluster, kind: str) -> dict[str, Any]:
    body = documents.call(cluster, FACTS, kind)
    assert body is not None
    assert len(body.whole()) == body.length
    found: dict[str, Any] = json.loads(body.whole())
    return found


def test_get_master_is_the_recorded_one(cluster: Cluster) -> None:
    recorded = recording("v1_get_master.json")
    found = call(cluster, "GET_MASTER")
    assert shape(found) == shape(recorded)
    assert found["get_master"]["master_info"]["ip"] == recorded["get_master"]["master_info"]["ip"]  # 127.0.0.11


def test_small_calls_are_the_recorded_ones(cluster: Cluster) -> None:
    assert call(cluster, "GET_VERSION") == recording("v1_get_version.json")
    assert call(cluster, "GET_HEALTH") == {"type": "GET_HEALTH", "get_health": {"healthy": True}}
    assert call(cluster, "GET_OPERATIONS") == {"type": "GET_OPERATIONS", "get_operations": {}}
    assert documents.call(cluster, FACTS, "LAUNCH_ROCKET") is None


def test_parts_of_get_state_are_the_answers_of_their_own_calls(busy: Cluster) -> None:
    whole = call(busy, "GET_STATE")["get_state"]
    for name in ("get_tasks", "get_agents", "get_frameworks", "get_executors"):
        assert call(busy, name.upper())[name] == whole[name]


def test_subscribed_says_the_heartbeat_as_a_float(cluster: Cluster) -> None:
    found = json.loads(documents.subscribed(cluster, 15).whole())
    assert found["subscribed"]["heartbeat_interval_seconds"] == 15.0
    assert b'"heartbeat_interval_seconds":15.0}' in documents.subscribed(cluster, 15).whole()


def test_a_master_that_knows_nothing_has_the_same_keys(busy: Cluster) -> None:
    empty = json.loads(documents.subscribed(None, 15).whole())["subscribed"]["get_state"]
    full = json.loads(documents.subscribed(busy, 15).whole())["subscribed"]["get_state"]
    assert {kind: set(value) for kind, value in empty.items()} == {kind: set(value) for kind, value in full.items()}
    assert not any(entry for value in empty.values() for entry in value.values())


@pytest.mark.asyncio
async def test_tasks_of_agents_yet_to_come_are_shown_nowhere(cluster: Cluster) -> None:
    marathon = next(iter(cluster.frameworks.values()))
    near, far = cluster.agents.values()
    shown, hidden = cluster.start(marathon, TaskSpec("a"), near), cluster.start(marathon, TaskSpec("b"), far)
    cluster.fail_over(agents=1, frameworks=1)
    await documents.prepare_v1(cluster)
    bodies = [
        documents.subscribed(cluster, 15),
        await documents.state(cluster, FACTS),
        await documents.frameworks(cluster),
        await documents.tasks(cluster),
    ]
    for body in bodies:
        assert shown.id.encode() in body.whole()
        assert hidden.id.encode() not in body.whole()
    assert json.loads((await documents.agents(cluster)).whole())["recovered_slaves"][0]["id"] == far.id


@pytest.mark.asyncio
async def test_summary_counts_tasks(cluster: Cluster) -> None:
    marathon, agent = next(iter(cluster.frameworks.values())), next(iter(cluster.agents.values()))
    cluster.start(marathon, TaskSpec("a"), agent)
    cluster.launch(marathon, TaskSpec("b"), agent)
    found = json.loads((await documents.summary(cluster, FACTS)).whole())
    assert found["slaves"][0]["TASK_RUNNING"] == found["frameworks"][0]["TASK_STAGING"] == 1
    assert found["frameworks"][0]["slave_ids"] == [agent.id]
    assert found["slaves"][0]["framework_ids"] == [marathon.id]
