"""Documents are reduced to what differs, element by element; duplicates, orphans and oddities."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from mesos_dns.model import Entity, Key
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.mesos_snapshot import SUMMARY_PATHS, Snapshot, StateDocument, V1Document
from tests.fakes import mesos_master as master

TASKS = "subscribed.get_state.get_tasks.tasks"
UNREACHABLE = "subscribed.get_state.get_tasks.unreachable_tasks"


def snapshot(said: dict[Key, Entity] | None = None) -> Snapshot:
    return Snapshot(frozenset({"task"}), "c", said or {}, SourceCounters(), Complaints(logging.getLogger("test")))


def add(document: V1Document | StateDocument, path: str, *values: Any) -> None:
    for value in values:
        document.add(path, json.dumps(value).encode())


def ids(found: Snapshot) -> list[str]:
    return ["/".join(key[2:]) for key in found.tasks]


def test_what_was_said_before_costs_only_its_key() -> None:
    first = snapshot()
    add(V1Document(first), TASKS, master.task(1), master.task(2))
    said: dict[Key, Entity] = dict(first.tasks)
    second = snapshot(said)
    add(V1Document(second), TASKS, master.task(1), master.task(2, state="TASK_KILLING"), master.task(3))
    assert second.kept == {("task", "c", "F1", "t1")}
    assert ids(second) == ["F1/t2", "F1/t3"]


def test_terminal_tasks_are_none() -> None:
    found = snapshot()
    add(V1Document(found), TASKS, master.task(1, state="TASK_KILLED"), master.task(2, state="TASK_UNREACHABLE"))
    assert ids(found) == ["F1/t2"]


@pytest.mark.parametrize("order", [(TASKS, UNREACHABLE), (UNREACHABLE, TASKS)])
def test_a_task_that_is_also_unreachable_runs(order: tuple[str, str]) -> None:
    found = snapshot()
    for path in order:
        add(V1Document(found), path, master.task(1, state="TASK_RUNNING" if path == TASKS else "TASK_UNREACHABLE"))
    assert [task.state for task in found.tasks.values()] == ["TASK_RUNNING"]


def test_agents_frameworks_and_what_is_of_no_interest() -> None:
    found = snapshot()
    document = V1Document(found)
    add(document, "get_agents.agents", master.agent(1), {"agent_info": {"id": 5}}, 7)
    add(document, "get_agents.recovered_agents", master.agent(2)["agent_info"])
    add(document, "get_frameworks.frameworks", master.framework(1), None)
    add(document, "get_tasks.completed_tasks", "whatever")
    assert (set(found.agents), found.recovered, set(found.frameworks)) == ({"A1"}, {"A2"}, {"F1"})
    assert found.hosts() == {"10.0.0.1", "10.9.0.1"}


def test_state_numbers_tasks_of_one_id() -> None:
    found = snapshot()
    raw = {"id": "t", "slave_id": "A", "state": "TASK_RUNNING", "framework_id": "F"}
    document = StateDocument(found)
    add(document, "frameworks.tasks", raw, {**raw, "slave_id": "B"})
    add(document, "frameworks.unreachable_tasks", {**raw, "state": "TASK_UNREACHABLE"})
    add(document, "frameworks", {"id": "F"})
    assert [(task.node_id, task.duplicate) for task in found.tasks.values()] == [("A", 0), ("B", 1)]


def test_state_tasks_belong_to_the_framework_around_them() -> None:
    found = snapshot()
    document = StateDocument(found)
    raw = {"slave_id": "A", "state": "TASK_RUNNING"}
    add(document, "frameworks.tasks", {**raw, "id": "t1"}, {**raw, "id": "t2", "framework_id": "other"})
    add(document, "frameworks", {"id": "F1", "tasks": []})
    add(document, "frameworks.tasks", {**raw, "id": "t3"})
    add(document, "frameworks", {"id": "F2", "tasks": []})
    assert sorted(ids(found)) == ["F1/t1", "F1/t2", "F2/t3"]


def test_a_malformed_framework_of_state() -> None:
    found = snapshot()
    document = StateDocument(found)
    add(document, "frameworks.tasks", {"id": "t1", "slave_id": "A", "state": "TASK_RUNNING", "framework_id": "F1"})
    add(document, "frameworks", {"name": "no id"})
    add(document, "frameworks", {"id": "F2"})
    assert ids(found) == ["F1/t1"]


def test_summaries_are_read_for_frameworks_only() -> None:
    found = snapshot()
    document = StateDocument(found, SUMMARY_PATHS)
    add(document, "slaves", {"id": "A"})
    add(document, "frameworks.tasks", {"id": "t"})
    add(document, "frameworks", {"id": "F", "pid": "s@10.0.0.1:5"})
    assert (found.agents, found.tasks, found.frameworks["F"].pid) == ({}, {}, "s@10.0.0.1:5")
