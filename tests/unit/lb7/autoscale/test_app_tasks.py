"""Tasks of apps: which there are, and which of them serve."""

from __future__ import annotations

import pytest
from msgspec import structs

from lb7.autoscale.app_tasks import AppTasks
from lb7.autoscale.scaled_app import AppTask
from mesos_dns.model import Framework, Health, HealthOverlay, Task

APP = ("app", "mesos", "F", "/web")
OVERLAY = HealthOverlay("F", "t1", app="/web", host="h1", state="TASK_RUNNING", started=5.0)
TASK = Task("F", "t1", "web", "n1", "TASK_RUNNING")
FRAMEWORK = Framework("F", "marathon")


def kept(*, filtered: bool = True) -> AppTasks:
    tasks = AppTasks(filtered)
    tasks.keep(APP)
    return tasks


def take(tasks: AppTasks, *entities: HealthOverlay | Task | Framework) -> list[tuple[str, ...]]:
    return [app for entity in entities for app in tasks.take(entity.key, entity)]


def test_a_task_of_marathon_alone_and_of_both() -> None:
    tasks = kept()
    assert take(tasks, OVERLAY) == [APP]
    assert tasks.of(APP) == (AppTask("t1", "", "h1", True, 5.0),)
    assert take(tasks, TASK) == [APP]
    assert tasks.of(APP) == (AppTask("t1", "n1", "h1", True, 5.0),)


def test_they_are_in_the_order_of_their_ids() -> None:
    tasks = kept()
    take(tasks, *(structs.replace(OVERLAY, task_id=name) for name in ("c", "a", "b")))
    assert [task.id for task in tasks.of(APP)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("marathon", "mesos", "there", "ready"),
    [
        ("TASK_RUNNING", "TASK_RUNNING", True, True),
        ("TASK_STAGING", "TASK_RUNNING", True, False),
        ("TASK_STARTING", "", True, False),
        ("TASK_RUNNING", "TASK_KILLING", True, False),
        ("TASK_KILLING", "", True, False),
        ("TASK_LOST", "", True, False),
        ("TASK_UNREACHABLE", "", True, False),
        ("TASK_RUNNING", "TASK_UNREACHABLE", True, False),
        ("TASK_RUNNING", "TASK_FAILED", False, False),
        ("TASK_KILLED", "", False, False),
        ("TASK_GONE", "TASK_RUNNING", False, False),
        ("", "", True, True),
    ],
)
def test_states(marathon: str, mesos: str, there: bool, ready: bool) -> None:
    tasks = kept()
    take(tasks, structs.replace(OVERLAY, state=marathon))
    if mesos:
        take(tasks, structs.replace(TASK, state=mesos))
    assert [task.ready for task in tasks.of(APP)] == [ready] * there


@pytest.mark.parametrize(
    ("health", "of_mesos", "ready"),
    [
        (Health.NONE, Health.NONE, True),
        (Health.HEALTHY, Health.HEALTHY, True),
        (Health.PENDING, Health.NONE, False),
        (Health.UNHEALTHY, Health.NONE, False),
        (Health.HEALTHY, Health.UNHEALTHY, False),
    ],
)
def test_health(health: Health, of_mesos: Health, ready: bool) -> None:
    tasks = kept()
    take(tasks, structs.replace(OVERLAY, health=health), structs.replace(TASK, health=of_mesos))
    assert [task.ready for task in tasks.of(APP)] == [ready]
    tasks.refilter(False)
    assert [task.ready for task in tasks.of(APP)] == [True]


def test_one_that_mesos_dropped_is_no_more_as_long_as_mesos_is_followed() -> None:
    tasks = kept()
    take(tasks, FRAMEWORK, OVERLAY, TASK)
    assert list(tasks.take(TASK.key, None)) == [APP]
    assert tasks.of(APP) == ()
    assert list(tasks.take(FRAMEWORK.key, None)) == [APP]
    assert [task.node_id for task in tasks.of(APP)] == [""]


def test_one_that_mesos_dropped_and_marathon_too_may_come_again() -> None:
    tasks = kept()
    take(tasks, FRAMEWORK, OVERLAY, TASK)
    assert list(tasks.take(TASK.key, None)) == [APP]
    assert list(tasks.take(OVERLAY.key, None)) == [APP]
    take(tasks, OVERLAY)
    assert [task.id for task in tasks.of(APP)] == ["t1"]


def test_one_that_goes_or_is_of_another_app() -> None:
    tasks = kept()
    take(tasks, OVERLAY, structs.replace(OVERLAY, task_id="t2"))
    moved = structs.replace(OVERLAY, app="/other")
    assert take(tasks, moved) == [APP]
    assert [task.id for task in tasks.of(APP)] == ["t2"]
    assert list(tasks.take(("health", "mesos", "F", "t2"), None)) == [APP]
    assert tasks.of(APP) == ()
    assert moved.app_key == ("app", "mesos", "F", "/other")


def test_of_apps_that_are_not_kept_nothing_is_told() -> None:
    tasks = AppTasks(filtered=True)
    assert take(tasks, OVERLAY, TASK, FRAMEWORK) == []
    assert tasks.of(APP) == ()
    tasks.keep(APP)
    assert [task.node_id for task in tasks.of(APP)] == ["n1"]
    tasks.leave(APP)
    assert tasks.of(APP) == ()


def test_a_second_task_of_one_id_counts_for_nothing() -> None:
    tasks = kept()
    take(tasks, OVERLAY)
    assert take(tasks, structs.replace(TASK, duplicate=1)) == []
