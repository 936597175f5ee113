"""What Marathon tells of an app, its queue and its deployments, as far as scaling needs it: strictly read, or refused.

All read functions raise ValueError with what does not fit.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, NoReturn, TypeVar

import msgspec

MAX_REFUSAL = 300
"""Characters of a refusal that are told on."""

_T = TypeVar("_T")


class _Id(msgspec.Struct):
    id: str


class _Upgrade(msgspec.Struct, rename="camel"):
    minimum_health_capacity: float = 1.0
    maximum_over_capacity: float = 1.0


class _Versions(msgspec.Struct, rename="camel"):
    last_scaling_at: str = ""
    last_config_change_at: str = ""


class _Volume(msgspec.Struct):
    persistent: Any = None


class _Container(msgspec.Struct):
    volumes: list[_Volume] | None = None


class _Task(msgspec.Struct):
    id: str
    state: str = ""
    version: str = ""


class _App(msgspec.Struct, rename="camel"):
    id: str
    instances: int
    version: str = ""
    cpus: float = 0.0
    mem: float = 0.0
    deployments: list[_Id] | None = None
    tasks: list[_Task] | None = None
    upgrade_strategy: _Upgrade | None = None
    version_info: _Versions | None = None
    container: _Container | None = None
    residency: Any = None
    health_checks: list[Any] | None = None
    readiness_checks: list[Any] | None = None


class _OneApp(msgspec.Struct):
    app: _App


class ToldApp(msgspec.Struct, frozen=True):
    """An app as Marathon has it now. `tasks`: version by id of those that are not being killed, `deployments` the ids
    of what is under way; `checked`: a check tells when a new instance is good; `resident`: it has volumes that stay."""

    id: str
    instances: int
    version: str = ""
    cpus: float = 0.0
    mem: float = 0.0
    deployments: tuple[str, ...] = ()
    tasks: dict[str, str] = {}
    min_health: float = 1.0
    over_capacity: float = 1.0
    scaled_at: str = ""
    configured_at: str = ""
    resident: bool = False
    checked: bool = False


def read_app(body: bytes) -> ToldApp:
    """The answer to GET /v2/apps/{id}."""
    app = _decoded(body, _OneApp).app
    upgrade, versions = app.upgrade_strategy or _Upgrade(), app.version_info or _Versions()
    numbers = (app.cpus, app.mem, upgrade.minimum_health_capacity, upgrade.maximum_over_capacity)
    if app.instances < 0 or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(f"numbers that can't be: instances {app.instances}, {numbers}")
    volumes = (app.container.volumes if app.container else None) or []
    return ToldApp(
        id=app.id,
        instances=app.instances,
        version=app.version,
        cpus=app.cpus,
        mem=app.mem,
        deployments=tuple(one.id for one in app.deployments or ()),
        tasks={task.id: task.version for task in app.tasks or () if task.state != "TASK_KILLING"},
        min_health=upgrade.minimum_health_capacity,
        over_capacity=upgrade.maximum_over_capacity,
        scaled_at=versions.last_scaling_at,
        configured_at=versions.last_config_change_at,
        resident=app.residency is not None or any(volume.persistent is not None for volume in volumes),
        checked=bool(app.health_checks or app.readiness_checks),
    )


class _Delay(msgspec.Struct, rename="camel"):
    time_left_seconds: float = 0.0


class _Queued(msgspec.Struct):
    app: _Id | None = None
    delay: _Delay | None = None


class _Queue(msgspec.Struct):
    queue: list[msgspec.Raw]


def read_queue(body: bytes) -> dict[str, float]:
    """The answer to GET /v2/queue: seconds until more is launched, by the id of each app that waits for a while.

    An entry that can't be read costs nobody but itself.
    """
    found = {}
    for entry in _decoded(body, _Queue).queue:
        with contextlib.suppress(ValueError):
            one = _decoded(entry, _Queued)
            if one.app and one.delay and 0 < one.delay.time_left_seconds < math.inf:
                found[one.app.id] = one.delay.time_left_seconds
    return found


def read_deployments(body: bytes) -> frozenset[str]:
    """The answer to GET /v2/deployments: the ids of all that are under way."""
    return frozenset(one.id for one in _decoded(body, list[_Id]))


class _Info(msgspec.Struct, rename="camel"):
    framework_id: str | None = None


def read_framework(body: bytes) -> str:
    """The answer to GET /v2/info: the framework's id, "" while it has none."""
    return _decoded(body, _Info).framework_id or ""


class Accepted(msgspec.Struct, frozen=True, rename="camel"):
    """A change that Marathon carries out now."""

    deployment_id: str
    version: str = ""


def read_accepted(body: bytes) -> Accepted:
    """The answer to a change that was accepted."""
    return _decoded(body, Accepted)


class Refusal(msgspec.Struct):
    """Why Marathon does not do what it was asked for; `deployments` are those that lock the app."""

    message: str = ""
    deployments: list[_Id] = []
    details: Any = None

    @property
    def locks(self) -> tuple[str, ...]:
        """Ids of the deployments."""
        return tuple(one.id for one in self.deployments)

    @property
    def text(self) -> str:
        """For people."""
        told = f"{self.message}: {msgspec.json.encode(self.details).decode()}" if self.details else self.message
        return told[:MAX_REFUSAL]


def read_refusal(body: bytes) -> Refusal:
    """The answer of a status that is no success. Never raises: what is no JSON of Marathon is its own text."""
    try:
        return _decoded(body, Refusal)
    except ValueError:
        return Refusal(repr(body[:MAX_REFUSAL].decode("utf-8", "replace")))


def _decoded(body: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    raise ValueError(str(error)) from None
