"""Who goes first, by example and against the rule written out plainly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale.scaled_app import AppTask
from lb7.autoscale.victims import victims

TASKS = st.lists(
    st.builds(
        AppTask,
        id=st.uuids().map(str),
        node_id=st.sampled_from(["", "S0", "S1", "S2"]),
        host=st.sampled_from(["", "10.0.0.1"]),
        ready=st.booleans(),
        started=st.sampled_from([0.0, 1.0, 2.0, 3.0]),
    ),
    max_size=12,
    unique_by=lambda task: task.id,
)
LOADS = st.lists(st.integers(0, 3), min_size=12, max_size=12)


def spelled(*tasks: str) -> tuple[AppTask, ...]:
    """Tasks from "NAME AGENT STARTED", with "!" before those that are not ready."""
    found = []
    for text in tasks:
        name, agent, started = text.split()
        found.append(AppTask(name.lstrip("!"), node_id=agent, ready=not name.startswith("!"), started=float(started)))
    return tuple(found)


@pytest.mark.parametrize(
    ("tasks", "active", "after", "gone"),
    [
        (("a S0 1", "b S1 2", "c S2 3"), {}, 2, "c"),  # the youngest
        (("a S0 1", "b S1 2", "c S2 3"), {"a": 0, "b": 1, "c": 2}, 2, "a"),  # the least busy
        (("a S0 1", "b S0 2", "c S2 3"), {}, 2, "b"),  # where there are two
        (("a S0 1", "b S0 2", "c S1 3", "d S1 4"), {}, 2, "db"),  # one of each
        (("!a S0 1", "b S1 2", "!c S2 3"), {"a": 9}, 2, "c"),  # does not serve, the youngest of these
        (("!a S0 1", "b S1 2", "!c S2 0"), {"a": 9}, 1, "ca"),  # not even started
        (("!a S0 1", "b S0 2", "c S1 3"), {}, 1, "ac"),  # without the first S0 has no more than S1
        (("a S0 1", "b S1 2"), {}, 0, "ba"),
        (("a S0 1", "b S1 2"), {}, 2, ""),
        (("a S0 1", "b S1 2"), {}, 3, ""),
    ],
)
def test_who_goes(tasks: tuple[str, ...], active: dict[str, int], after: int, gone: str) -> None:
    assert "".join(victims(spelled(*tasks), active, len(tasks), after)) == gone


def test_never_more_than_asked_for_nor_than_there_are_too_many() -> None:
    tasks = spelled("a S0 1", "b S1 2", "c S2 3")
    assert victims(tasks, {}, 5, 4) == ()  # two were never started
    assert len(victims(tasks, {}, 5, 2)) == 1
    assert len(victims(tasks, {}, 2, 1)) == 1  # one too many is not ours to remove


def test_one_that_was_replaced_is_not_removed_in_place_of_one_that_counts() -> None:
    tasks = spelled("!lost S0 1", "a S1 2", "b S2 3", "!new S3 4")
    assert victims(tasks, {}, 3, 2) == ("new",)
    assert victims(tasks, {}, 3, 1) == ("new", "b")
    assert victims(tasks, {}, 4, 3) == ("new",)
    assert victims(tasks, {}, 4, 2) == ("new", "lost")


def plainly(tasks: list[AppTask], active: dict[str, int], count: int) -> list[str]:
    """The rule: again and again the worst of those that are left."""
    left, chosen = list(tasks), []
    for _ in range(count):
        idle = [task for task in left if not task.ready]
        agents = [task.node_id or task.host for task in left]
        worst = min(
            idle or left,
            key=lambda task: (
                0 if idle else active.get(task.id, 0),
                0 if idle else -agents.count(task.node_id or task.host),
                -(task.started or math.inf),
                task.id,
            ),
        )
        left.remove(worst)
        chosen.append(worst.id)
    return chosen


@given(TASKS, LOADS, st.integers(0, 12), st.integers(0, 12))
def test_the_rule(tasks: list[AppTask], loads: list[int], before: int, after: int) -> None:
    active = {task.id: load for task, load in zip(tasks, loads, strict=False) if load}
    found = victims(tasks, active, before, after)
    count = max(0, min(before - after, len(tasks) - after))
    oldest = sorted((task for task in tasks if not task.ready), key=lambda task: (-(task.started or math.inf), task.id))
    counting = list(tasks)
    for task in oldest[::-1][: max(0, len(tasks) - before)]:
        counting.remove(task)
    assert list(found) == plainly(counting, active, count)
    assert len(set(found)) == count
