"""What an event of Marathon touches: the apps and pods that have to be read again.

Events are hints only: their order is not guaranteed, and what they say of a task or an app is not used. Shapes are
those of Marathon 0.8 to 1.11; an event that can't be read touches everything.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from mesos_dns.sources.marathon_stream import ServerEvent

WANTED = (
    "api_post_event",
    "app_terminated_event",
    "status_update_event",
    "health_status_changed_event",
    "add_health_check_event",
    "remove_health_check_event",
    "instance_changed_event",
    "instance_health_changed_event",
    "unknown_instance_terminated_event",
    "pod_created_event",
    "pod_updated_event",
    "pod_deleted_event",
    "deployment_info",
    "deployment_success",
    "deployment_failed",
    "deployment_step_success",
    "deployment_step_failure",
    "event_stream_attached",
)
"""Types of events that are asked for; Marathon before 1.3.7 sends all the same."""

_KNOWN = frozenset(WANTED)
_PODS = "/v2/pods/"


class Touched(msgspec.Struct):
    """Ids of what has to be read again. `runs`: of an app or a pod, the event does not say which.

    `deployments`: of apps that one of these deployments works on, as far as is known. `everything`: anything may have
    changed. `pods_all`: some pod.
    """

    apps: set[str] = msgspec.field(default_factory=set)
    pods: set[str] = msgspec.field(default_factory=set)
    runs: set[str] = msgspec.field(default_factory=set)
    deployments: set[str] = msgspec.field(default_factory=set)
    pods_all: bool = False
    everything: bool = False


class _Definition(msgspec.Struct, gc=False):
    id: str | None = None


class _Action(msgspec.Struct, gc=False):
    app: str | None = None
    pod: str | None = None


class _Step(msgspec.Struct, gc=False):
    actions: list[_Action] | None = None


class _Plan(msgspec.Struct, gc=False):
    steps: list[Any] | None = None


class _Event(msgspec.Struct, gc=False, rename="camel"):
    event_type: str | None = None
    id: str | None = None
    app_id: str | None = None
    run_spec_id: str | None = None
    uri: str | None = None
    app_definition: _Definition | None = None
    plan: _Plan | None = None
    current_step: Any = None


_decoder = msgspec.json.Decoder(_Event)


def known_type(event: ServerEvent) -> str:
    """The event's type for counting: one of WANTED, else "other"."""
    return event.type if event.type in _KNOWN else "other"


def touched_by(event: ServerEvent) -> Touched:
    """What an event touches. Raises ValueError when its data is no such event."""
    if event.too_large:
        return Touched(everything=True)
    if event.type and event.type not in _KNOWN:
        return Touched()
    try:
        found = _decoder.decode(event.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{event.type or 'an event'}: {error}") from None
    kind = event.type or found.event_type or ""
    touched = Touched()
    if kind not in _KNOWN or kind == "event_stream_attached":
        return touched
    if kind.startswith("deployment_"):
        _deployment(found, touched)
    elif kind.startswith("pod_"):
        pod = _pod_of(found.uri or "")
        touched.pods_all = not pod
        touched.pods.update([pod] if pod else [])
    else:
        definition = found.app_definition
        told = [found.app_id, definition.id if definition is not None else None]
        touched.apps.update(absolute(name) for name in told if name)
        if found.run_spec_id:
            touched.runs.add(absolute(found.run_spec_id))
    return touched


def absolute(name: str) -> str:
    """An id as it is in documents; some events leave out its first slash."""
    return name if name.startswith("/") else "/" + name


def _deployment(found: _Event, touched: Touched) -> None:
    """Apps and pods that the plan's actions name; before 1.0 some events have only the deployment's id."""
    steps = [*((found.plan.steps or []) if found.plan is not None else []), found.current_step]
    for step in steps:
        # Steps were lists of actions, an action alone, and objects with actions, in this order of versions.
        actions = step.get("actions", [step]) if isinstance(step, dict) else step
        for action in actions if isinstance(actions, list) else []:
            if isinstance(action, dict):
                _action(action, touched)
    if not touched.apps and not touched.pods and found.id:
        touched.deployments.add(found.id)


def _action(action: dict[str, Any], touched: Touched) -> None:
    for name, into in (("app", touched.apps), ("pod", touched.pods)):
        value = action.get(name)
        if isinstance(value, str) and value:
            into.add(absolute(value))


def _pod_of(uri: str) -> str:
    """The pod that a URI of the API names; "" when it names none."""
    path = urlsplit(uri).path
    if not path.startswith(_PODS):
        return ""
    name = unquote(path.removeprefix(_PODS)).partition("::")[0].strip("/")
    return f"/{name}" if name else ""
