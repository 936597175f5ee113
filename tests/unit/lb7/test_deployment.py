"""Deployment groups: which app is the older, and how many of its tasks are drained."""

from __future__ import annotations

import pytest

from lb7.deployment import Member, group_fault, group_of, merge
from mesos_dns.model import Health
from tests.fakes.marathon_apps import app, task


def member(
    name: str, count: int, *, started: str = "", target: str = "4", healthy: int | None = None, **more: object
) -> Member:
    labels = {"DEPLOYMENT_GROUP": "nginx", "DEPLOYMENT_TARGET_INSTANCES": target}
    if started:
        labels["DEPLOYMENT_STARTED_AT"] = started
    if "new" in more:
        labels["DEPLOYMENT_NEW_INSTANCES"] = str(more.pop("new"))
    of = app(name, labels, instances=count, **more)  # type: ignore[arg-type]
    up = count if healthy is None else healthy
    return Member(
        of,
        tuple([task(of, n, health=Health.HEALTHY if n <= up else Health.PENDING) for n in range(1, count + 1)]),
    )


def test_names_of_groups() -> None:
    for compat in (False, True):
        assert [
            group_of(app("/a", labels), compat) for labels in ({}, {"DEPLOYMENT_GROUP": ""}, {"DEPLOYMENT_GROUP": "x"})
        ] == ["", "", "/x"]
        assert group_of(app("/a", {"DEPLOYMENT_GROUP": "/x"}), compat) == "/x"


@pytest.mark.parametrize(
    ("name", "group", "compat"),
    [
        ("web", "/prod/web", "/web"),
        ("/web", "/prod/web", "/web"),
        ("prod/web", "/prod/web", "/prod/web"),
        ("/prod/web", "/prod/web", "/prod/web"),
        ("/evil/web", "", "/evil/web"),
        ("/prod/deep/web", "", "/prod/deep/web"),
        ("/", "", "/"),
        ("/prod/", "", "/prod/"),
        ("x" * 256, "", ""),
    ],
)
def test_a_group_is_in_the_folder_of_its_apps(name: str, group: str, compat: str) -> None:
    of = app("/prod/web-1", {"DEPLOYMENT_GROUP": name})
    assert (group_of(of, False), group_of(of, True)) == (group, compat)
    assert bool(group_fault(of, False)) is not bool(group)
    assert bool(group_fault(of, True)) is not bool(compat)


def test_no_group_is_no_fault() -> None:
    assert group_fault(app("/a"), False) == ""


@pytest.mark.parametrize(
    ("old", "new", "healthy", "target", "drained"),
    [
        (4, 1, 1, "4", 1),
        (4, 1, 0, "4", 0),
        (2, 3, 3, "4", 1),
        (8, 2, 2, "10", 0),
        (10, 10, 10, "10", 10),
        (1, 3, 3, "1", 1),
    ],
)
def test_how_many_are_drained(old: int, new: int, healthy: int, target: str, drained: int) -> None:
    blue = member("/blue", old, started="2026-01-01T00:00:00", target=target, new=0)
    green = member("/green", new, started="2026-01-02T00:00:00Z", target=target, healthy=healthy, new=0)
    merged = merge("/nginx", [green, blue])
    assert merged.app is blue.app
    assert len(merged.tasks) == old + new
    ids = sorted(overlay.task_id for overlay in blue.tasks)
    assert merged.draining == set(ids[:drained])


def test_without_new_instances_all_may_go() -> None:
    blue = member("/blue", 3, started="2026-01-01T00:00:00")
    green = member("/green", 1, started="2026-01-02T00:00:00")
    assert merge("/nginx", [blue, green]).draining == {"blue.1"}


def test_without_checks_instances_count_as_healthy() -> None:
    blue = member("/blue", 3, started="2026-01-01T00:00:00", new=0, target="3", checks=())
    green = member("/green", 2, started="2026-01-02T00:00:00", new=0, target="3", checks=(), healthy=0)
    assert merge("/nginx", [blue, green]).draining == {"blue.1", "blue.2"}


def test_the_one_that_was_scaled_last_is_the_newer_where_there_are_new_instances() -> None:
    blue = member("/blue", 2, started="2026-01-01T00:00:00", scaled=9.0)
    green = member("/green", 1, started="2026-01-02T00:00:00", new=0, scaled=5.0)
    assert merge("/nginx", [blue, green]).app is green.app


def test_one_alone_is_as_it_is() -> None:
    blue = member("/blue", 2)
    merged = merge("/nginx", [blue])
    assert (merged.app, merged.tasks, merged.draining) == (blue.app, blue.tasks, frozenset())


def test_a_third_is_merged_with_the_two() -> None:
    members = [member(f"/{n}", 2, started=f"2026-01-0{n}T00:00:00", new=0, target="2") for n in (1, 2, 3)]
    merged = merge("/nginx", members)
    assert merged.app.id == "/1"
    assert len(merged.tasks) == 6
    assert len(merged.draining) == 2


def test_labels_that_can_not_be_read() -> None:
    blue = member("/blue", 2, started="yesterday", target="x")
    green = member("/green", 1, started="2026-01-02T00:00:00", new=0, target="many")
    merged = merge("/nginx", [blue, green])
    assert merged.app is blue.app
    assert [(problem.app, problem.reason) for problem in merged.problems] == [("/nginx", "deployment")] * 2
    assert merged.draining == {"blue.1"}
