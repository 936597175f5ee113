"""Event sequences and tasks whose outcome was recorded from dcos-net's own parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesos_dns.model import Health, Task
from tests.fakes import replay
from tests.fakes.followed import Followed
from tests.fakes.mesos_master import record

pytestmark = pytest.mark.asyncio

STATES = {"TASK_RUNNING": "running", "TASK_KILLING": "killing"}

# A status without a task before it has no name and no ports: dcos-net lists it though no record can come of it.
IGNORED = {"update_for_unknown_task"}


async def localhost(host: str) -> tuple[str, ...]:
    if host != "localhost":
        raise OSError(host)
    return ("127.0.0.1",)


def player(followed: Followed) -> replay.Replay:
    """A replay that resolves localhost, as the recordings need it."""
    return replay.Replay(followed, localhost)


def told(followed: Followed) -> Iterator[tuple[str, Task]]:
    """Tasks whose agent and framework are known (dcos-net withholds the others)."""
    nodes, frameworks = followed.nodes(), followed.frameworks()
    for (framework_id, task_id), task in followed.tasks().items():
        if task.node_id in nodes and framework_id in frameworks:
            yield f"{framework_id}/{task_id}", task


def states(followed: Followed) -> dict[str, str]:
    return {key: STATES.get(task.state, "preparing") for key, task in told(followed)}


def cases(folder: Path, name: str) -> list[dict[str, Any]]:
    found = json.loads((folder / "dcos-net" / name).read_text())["cases"]
    assert found
    return list(found)


async def test_edge_cases_event_by_event(truth: Path) -> None:
    for case in cases(truth, "operator_stream_edge_cases.json"):
        followed = Followed()

        def after(number: int, case: dict[str, Any] = case, followed: Followed = followed) -> None:
            expected = {} if case["id"] in IGNORED else case["expected_steps"][number]["task_states"]
            if case["id"] == "recovered_agents_hold_publication":
                expected = {}  # dcos-net publishes nothing before all agents are back: compared at the end
            if expected:
                assert states(followed) == expected, (case["id"], number)

        await player(followed).connection((record(event) for event in case["events"]), after)
        if case["id"] not in IGNORED:
            assert states(followed) == case["expected_steps"][-1]["task_states"], case["id"]


async def test_recorded_streams(truth: Path) -> None:
    for case in cases(truth, "operator_stream_cases.json"):
        followed = Followed()
        await player(followed).connection(record(event) for event in case["events"])
        expected = case["expected_after_last_event"]
        compare(case["id"], followed, expected["tasks"])


async def test_snapshots(truth: Path) -> None:
    for case in cases(truth, "get_state_cases.json"):
        event = {"type": "SUBSCRIBED", "subscribed": {"get_state": case["input"]["get_state"]}}
        followed = Followed()
        await player(followed).connection(iter([record(event)]))
        compare(case["id"], followed, case["expected"]["tasks"])


async def test_odd_tasks(truth: Path) -> None:
    fixture = json.loads((truth / "dcos-net/task_edge_cases.json").read_text())["fixture"]
    for case in cases(truth, "task_edge_cases.json"):
        state = {
            "get_agents": {"agents": fixture["agents"]},
            "get_frameworks": {"frameworks": fixture["frameworks"]},
            "get_tasks": {"tasks": case["tasks"]},
        }
        followed = Followed()
        playing = player(followed)
        await playing.connection(iter([record({"type": "SUBSCRIBED", "subscribed": {"get_state": state}})]))
        assert playing.counters.malformed == 0, case["id"]
        compare(case["id"], followed, case["expected"]["tasks"])


def compare(name: str, followed: Followed, expected: dict[str, Any]) -> None:
    """The same tasks, and of each the same state, name, agent, runtime, health; the same addresses while it runs."""
    found = dict(told(followed))
    expected = {key: want for key, want in expected.items() if want["state"] != "terminal"}
    assert found.keys() == expected.keys(), name
    nodes, frameworks = followed.nodes(), followed.frameworks()
    for key, want in expected.items():
        task = found[key]
        where = (name, key)
        assert STATES.get(task.state, "preparing") == want["state"], where
        assert (task.discovery_name or task.name) == want["name"], where
        assert frameworks[task.framework_id].name == want["framework"], where
        assert want["runtime"] in (task.runtime, "unknown"), where
        assert [want["agent_ip"]] == list(nodes[task.node_id].addresses), where
        if want["state"] == "running" and "task_ip" in want:
            addresses = [address for network in task.networks for address in network.addresses]
            assert addresses == want["task_ip"] or (not addresses and want["task_ip"] == [want["agent_ip"]]), where
        if "healthy" in want:
            assert (task.health in (Health.HEALTHY, Health.NONE)) == want["healthy"], where
