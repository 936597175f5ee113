"""Deployment groups: two apps that are one while the newer takes over from the older, as zdd.py has it.

Apps with one HAPROXY_DEPLOYMENT_GROUP are routed as one app with the group's name, by the labels and service ports of
the older, to the tasks of both. Of the older's tasks, as many are drained as the newer has healthy ones, but so many
only that TARGET_INSTANCES stay. Which is the older: HAPROXY_DEPLOYMENT_STARTED_AT says; where the newer has
NEW_INSTANCES, the one that was scaled last is the newer (marathon-lb's rule).

A group is of one folder of Marathon's, in which its name is, too: who may make apps elsewhere can't join it, nor take
a name there. With `compat` a group is of the whole Marathon, as marathon-lb has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from lb7.label_values import read_number, short
from lb7.table import Problem
from mesos_dns.model import App, Health, HealthOverlay

GROUP = "HAPROXY_DEPLOYMENT_GROUP"
_STARTED = "HAPROXY_DEPLOYMENT_STARTED_AT"
_TARGET = "HAPROXY_DEPLOYMENT_TARGET_INSTANCES"
_NEW = "HAPROXY_DEPLOYMENT_NEW_INSTANCES"
_MOST = 1_000_000
_MAX_NAME = 255
"""Characters of a group's name."""


class Member(NamedTuple):
    """An app and its tasks."""

    app: App
    tasks: tuple[HealthOverlay, ...]


class Merged(NamedTuple):
    """What stands for a group: the app whose labels count, all tasks, and the ids of those that are drained."""

    app: App
    tasks: tuple[HealthOverlay, ...]
    draining: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


def group_of(app: App, compat: bool) -> str:
    """The name of an app's deployment group, which is like an app's id; "" when it has none, or can't be in it.

    Of apps in /prod the groups `web`, `/web` and `/prod/web` are /prod/web, and `/other/web` is none. With `compat` it
    is the label with a slash before it.
    """
    name = _label(app)
    if not name or len(name) > _MAX_NAME:
        return ""
    if compat:
        return name if name.startswith("/") else f"/{name}"
    folder = app.id.rpartition("/")[0]
    name = name.removeprefix("/").removeprefix(f"{folder.removeprefix('/')}/")
    return f"{folder}/{name}" if name and "/" not in name else ""


def group_fault(app: App, compat: bool) -> str:
    """Why an app is routed alone although it names a group; "" where it is not so."""
    name = _label(app)
    if not name or group_of(app, compat):
        return ""
    if len(name) > _MAX_NAME:
        return f"{GROUP}: expected at most {_MAX_NAME} characters, got {short(name)}"
    return f"{GROUP}: {short(name)} is no name in the app's own folder; the app is routed alone"


def _label(app: App) -> str:
    return next((value.strip() for name, value in app.labels if name == GROUP), "")


def merge(name: str, members: Iterable[Member]) -> Merged:
    """One app of the members of a group; more than two are merged one after the other, in the order of their ids."""
    ordered = sorted(members, key=lambda member: member.app.id)
    merged = Merged(*ordered[0])
    for member in ordered[1:]:
        merged = _merge_two(name, merged, Merged(*member))
    return merged


def _merge_two(name: str, before: Merged, member: Merged) -> Merged:
    problems: list[Problem] = [*before.problems]
    if _started(name, before.app, problems) < _started(name, member.app, problems):
        old, new = before, member
    else:
        old, new = member, before
    target = 1
    labels = dict(new.app.labels)
    if _NEW in labels:
        if old.app.scaled > new.app.scaled:
            old, new = new, old
        target = _target(name, labels, new.app.instances, problems)
    healthy = sum(task.health is Health.HEALTHY for task in new.tasks) if member.app.checks else new.app.instances
    drainable = max(0, healthy + old.app.instances - target)
    tasks = sorted(old.tasks, key=lambda task: task.task_id)
    count = min(len(tasks), healthy, drainable)
    draining = old.draining | new.draining | {task.task_id for task in tasks[:count]}
    return Merged(old.app, (*tasks, *new.tasks), draining, tuple(problems))


def _started(name: str, app: App, problems: list[Problem]) -> datetime:
    text = dict(app.labels).get(_STARTED)
    first = datetime.min.replace(tzinfo=UTC)
    if not text:
        return first
    try:
        started = datetime.fromisoformat(text)
    except ValueError:
        problems.append(Problem(name, "deployment", f"{_STARTED} of {app.id}: expected a time, got {short(text)}"))
        return first
    return started if started.tzinfo is not None else started.replace(tzinfo=UTC)


def _target(name: str, labels: Mapping[str, str], instances: int, problems: list[Problem]) -> int:
    """How many instances there are to be; those of the newer app where that can't be read."""
    try:
        return read_number(labels.get(_TARGET, ""), 0, _MOST)
    except ValueError as error:
        problems.append(Problem(name, "deployment", f"{_TARGET}: {error}"))
        return instances
