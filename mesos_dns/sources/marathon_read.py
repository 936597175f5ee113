"""Read Marathon's documents about apps into the model: strictly, and each app and task for itself.

An app that can't be read costs only itself: it is named in `bad` with the reason, and whoever keeps what was known
keeps it. A malformed task costs only itself in the same way (`bad_tasks`), unless it has no id.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from mesos_dns.model import DEFAULT_CLUSTER, App, Health, HealthOverlay, canonical_address
from mesos_dns.sharing import share
from mesos_dns.sources import marathon_wire as wire

MAX_ID = 1024
"""Characters of the longest id that is read."""

MAX_TASKS = 100_000
"""Tasks of one app that are read; one with more is refused."""

Before: TypeAlias = Callable[[str], Health | None]
"""A task's id → its health as it was last known; None: nothing is known."""


class BadApp(ValueError):
    """An app that can't be read: `id` ("" when not even that can be had) and why."""

    def __init__(self, app_id: str, reason: str) -> None:
        super().__init__(reason)
        self.id = app_id


class ReadApp(msgspec.Struct):
    """One app and its tasks.

    `tasks_told` is False when the document had no tasks of it; `bad_tasks` are (task id or "", reason), `lost` what
    had to be left out of the definition.
    """

    app: App
    overlays: list[HealthOverlay]
    tasks_told: bool = True
    bad_tasks: list[tuple[str, str]] = []
    lost: list[str] = []


class Read(msgspec.Struct):
    """A whole document: what is in it, and (app id, reason) of what can't be read."""

    apps: list[App]
    overlays: list[HealthOverlay]
    bad: list[tuple[str, str]]


class _Document(msgspec.Struct):
    apps: list[msgspec.Raw]


class _AppDocument(msgspec.Struct):
    app: msgspec.Raw


class _Identified(msgspec.Struct):
    id: str


_apps = msgspec.json.Decoder(_Document)
_app = msgspec.json.Decoder(_AppDocument)
_strict = msgspec.json.Decoder(wire.WireApp)
_loose = msgspec.json.Decoder(wire.LooseApp)
_task = msgspec.json.Decoder(wire.WireTask)
_identified = msgspec.json.Decoder(_Identified)

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON that is expected."""


def read_apps(
    document: bytes, framework_id: str = "", cluster: str = DEFAULT_CLUSTER, before: Before = lambda _: None
) -> Read:
    """A /v2/apps document with its tasks embedded. Raises ValueError when it is none."""
    try:
        items = _apps.decode(document).apps
    except UNREADABLE as error:
        raise ValueError(f"no document of apps: {error}") from None
    read = Read([], [], [])
    for item in items:
        try:
            found = read_element(bytes(item), framework_id, cluster, before)
        except BadApp as error:
            read.bad.append((error.id, str(error)))
            continue
        read.apps.append(found.app)
        read.overlays += found.overlays
        read.bad += [(found.app.id, f"task {name or '?'}: {reason}") for name, reason in found.bad_tasks]
    return read


def read_app(
    document: bytes, framework_id: str = "", cluster: str = DEFAULT_CLUSTER, before: Before = lambda _: None
) -> ReadApp:
    """A /v2/apps/ID document. Raises BadApp."""
    try:
        item = _app.decode(document).app
    except UNREADABLE as error:
        raise BadApp("", f"no document of an app: {error}") from None
    return read_element(bytes(item), framework_id, cluster, before)


def read_element(
    data: bytes, framework_id: str = "", cluster: str = DEFAULT_CLUSTER, before: Before = lambda _: None
) -> ReadApp:
    """One app as it is an element of a document. Raises BadApp."""
    bad_tasks: list[tuple[str, str]] = []
    try:
        parts: wire.AppParts
        try:
            parts = whole = _strict.decode(data)
            tasks: Iterable[wire.WireTask] | None = whole.tasks
        except msgspec.ValidationError:
            # A wrong type somewhere: only where that is in the tasks can the rest be used.
            parts = loose = _loose.decode(data)
            tasks = None if loose.tasks is None else list(_readable(loose.tasks, bad_tasks))
        return _converted(parts, tasks, bad_tasks, framework_id, cluster, before)
    except UNREADABLE as error:
        raise BadApp(id_of(data), str(error)) from None
    except ValueError as error:
        raise BadApp(parts.id[:MAX_ID], str(error)) from None


def id_of(data: bytes) -> str:
    """The id of an object that can't be read otherwise; "" when that can't be had either."""
    try:
        return _identified.decode(data).id[:MAX_ID]
    except UNREADABLE:
        return ""


def check_id(app_id: str) -> str:
    """The id, if it can be one. Raises ValueError."""
    if not app_id.startswith("/") or len(app_id) > MAX_ID or not app_id.isprintable():
        raise ValueError(f"expected an id of at most {MAX_ID} characters that begins with '/', got {app_id[:200]!r}")
    return sys.intern(app_id)


def _readable(tasks: list[msgspec.Raw], bad: list[tuple[str, str]]) -> Iterable[wire.WireTask]:
    """The tasks that can be read; the others are noted."""
    for item in tasks:
        try:
            yield _task.decode(item)
        except UNREADABLE as error:
            bad.append((id_of(bytes(item)), str(error)))


def _converted(
    parts: wire.AppParts,
    tasks: Iterable[wire.WireTask] | None,
    bad_tasks: list[tuple[str, str]],
    framework_id: str,
    cluster: str,
    before: Before,
) -> ReadApp:
    """The entities. Raises ValueError."""
    lost: list[str] = []
    network = wire.network_of(parts)
    info = parts.version_info
    version = parts.version or ""
    app = App(
        id=check_id(parts.id),
        labels=wire.labels_of(parts.labels, lost, "labels"),
        kind="app",
        network=network,
        ports=wire.ports_of(parts, network, lost),
        checks=wire.checks_of(parts),
        instances=parts.instances or 0,
        version=version,
        config_changed=wire.time_of((info.last_config_change_at if info is not None else None) or version),
        scaled=wire.time_of((info.last_scaling_at if info is not None else None) or version),
        deployments=tuple([item.id for item in parts.deployments or ()]),
        framework_id=framework_id,
        cluster=cluster,
    )
    overlays = []
    for task in tasks or ():
        if not task.id or len(task.id) > MAX_ID:
            bad_tasks.append((task.id[:MAX_ID], f"expected an id of 1 to {MAX_ID} characters"))
        else:
            overlays.append(_overlay(app, task, before))
    if len(overlays) > MAX_TASKS:
        raise ValueError(f"{len(overlays)} tasks, at most {MAX_TASKS} are read")
    return ReadApp(app, overlays, tasks is not None, bad_tasks, lost)


def _overlay(app: App, task: wire.WireTask, before: Before) -> HealthOverlay:
    state = sys.intern(task.state or "TASK_RUNNING")
    addresses = [canonical_address(item.ip_address) for item in task.ip_addresses or () if item.ip_address]
    return HealthOverlay(
        framework_id=app.framework_id,
        task_id=task.id,
        health=_health(task, state, before) if app.checks else Health.NONE,
        ports=tuple(task.ports or ()),
        app=app.id,
        host=sys.intern(task.host or ""),
        addresses=share(tuple([address for address in addresses if address])),
        state=state,
        version=sys.intern(task.version or ""),
        staged=wire.time_of(task.staged_at),
        started=wire.time_of(task.started_at),
        cluster=app.cluster,
    )


def _health(task: wire.WireTask, state: str, before: Before) -> Health:
    """The health of a task whose app has a check."""
    told = wire.health_of(task.health_check_results)
    return wire.health_without_result(state, before(task.id)) if told is None else told
