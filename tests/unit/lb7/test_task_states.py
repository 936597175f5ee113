"""Which tasks take part: state, health, and what Mesos knows first."""

from __future__ import annotations

import pytest
from msgspec import structs

from lb7 import task_states
from lb7.task_states import OUT_OF_SERVICE, MesosTasks
from mesos_dns.model import Framework, Health, HealthOverlay, Task
from tests.fakes.marathon_apps import FRAMEWORK, app, task

APP = app("/a")
OVERLAY = task(APP)
TASK = Task(framework_id=FRAMEWORK, id=OVERLAY.task_id, name="a", node_id="n", state="TASK_RUNNING")
KNOWN = Framework(id=FRAMEWORK, name="marathon")


def in_service(overlay: HealthOverlay, mesos: MesosTasks | None = None, filtered: bool = True) -> bool:
    return (mesos or MesosTasks()).in_service(overlay, filtered)


@pytest.mark.parametrize("state", ["TASK_RUNNING", "TASK_LOST", "TASK_UNREACHABLE", ""])
def test_states_that_take_part(state: str) -> None:
    assert in_service(structs.replace(OVERLAY, state=state))


@pytest.mark.parametrize("state", sorted(OUT_OF_SERVICE))
def test_states_that_do_not(state: str) -> None:
    assert not in_service(structs.replace(OVERLAY, state=state))
    assert not in_service(structs.replace(OVERLAY, state=state), filtered=False)
    mesos = MesosTasks()
    mesos.set_task(TASK.key, structs.replace(TASK, state=state))
    assert not in_service(OVERLAY, mesos)


@pytest.mark.parametrize(
    ("health", "takes_part"),
    [(Health.NONE, True), (Health.HEALTHY, True), (Health.PENDING, False), (Health.UNHEALTHY, False)],
)
def test_health_counts_where_it_is_asked_for(health: Health, takes_part: bool) -> None:
    assert in_service(structs.replace(OVERLAY, health=health)) is takes_part
    assert in_service(structs.replace(OVERLAY, health=health), filtered=False)


def test_the_worse_health_counts() -> None:
    mesos = MesosTasks()
    mesos.set_task(TASK.key, structs.replace(TASK, health=Health.UNHEALTHY))
    assert not in_service(OVERLAY, mesos)
    mesos.set_task(TASK.key, structs.replace(TASK, health=Health.NONE))
    assert in_service(OVERLAY, mesos)
    assert not in_service(structs.replace(OVERLAY, health=Health.UNHEALTHY), mesos)


def test_a_task_that_mesos_dropped_is_out_before_marathon_says_so() -> None:
    mesos = MesosTasks()
    mesos.set_framework(KNOWN.key, True)
    assert mesos.set_task(TASK.key, TASK) == OVERLAY.key
    assert mesos.set_task(TASK.key, None) == OVERLAY.key
    assert not in_service(OVERLAY, mesos)
    mesos.set_task(TASK.key, TASK)
    assert in_service(OVERLAY, mesos)


@pytest.mark.parametrize("state", ["TASK_LOST", "TASK_UNREACHABLE"])
def test_a_task_that_marathon_has_as_lost_stays_when_mesos_forgets_it(state: str) -> None:
    mesos = MesosTasks()
    mesos.set_framework(KNOWN.key, True)
    mesos.set_task(TASK.key, structs.replace(TASK, state=state))
    mesos.set_task(TASK.key, None)
    assert in_service(structs.replace(OVERLAY, state=state), mesos)
    assert not in_service(OVERLAY, mesos)


def test_a_task_that_mesos_never_had_is_judged_by_marathon_alone() -> None:
    mesos = MesosTasks()
    mesos.set_framework(KNOWN.key, True)
    mesos.set_task(TASK.key, None)
    assert in_service(OVERLAY, mesos)


def test_nothing_goes_when_mesos_is_no_longer_followed() -> None:
    mesos = MesosTasks()
    mesos.set_framework(KNOWN.key, True)
    mesos.set_task(TASK.key, TASK)
    mesos.set_task(TASK.key, None)
    assert mesos.set_framework(KNOWN.key, False) == [OVERLAY.key]
    assert in_service(OVERLAY, mesos)
    assert mesos.set_framework(KNOWN.key, False) == []
    assert mesos.set_framework(KNOWN.key, True) == [OVERLAY.key]
    assert not in_service(OVERLAY, mesos)


def test_what_is_remembered_as_gone_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_states, "REMEMBERED", 2)
    mesos = MesosTasks()
    mesos.set_framework(KNOWN.key, True)
    for number in range(3):
        other = structs.replace(TASK, id=str(number))
        mesos.set_task(other.key, other)
        mesos.set_task(other.key, None)
    left = [in_service(structs.replace(OVERLAY, task_id=str(number)), mesos) for number in range(3)]
    assert left == [True, False, False]
    mesos.forget(structs.replace(OVERLAY, task_id="1").key)
    assert in_service(structs.replace(OVERLAY, task_id="1"), mesos)
