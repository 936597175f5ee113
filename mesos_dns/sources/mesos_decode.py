"""Decode what Mesos' v1 operator API says (JSON) into the model.

Every value is decoded by a typed struct first, which is fast and refuses anything odd; a value that
is refused is read again tolerantly (`mesos_tolerant`), so that a wrong type costs one field, or one
entity where the field is its identity. Errors: `Malformed`, which names the entity when it can be had.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from mesos_dns.model import DEFAULT_CLUSTER, Health, Task
from mesos_dns.sources import mesos_wire as wire
from mesos_dns.sources.mesos_tolerant import Malformed, convert

T = TypeVar("T", bound=msgspec.Struct)
Lost = Callable[[str, list[str]], None]
"""Called with an entity's description and what was left out of it."""


class Id(msgspec.Struct, gc=False):
    """v1's nesting of ids."""

    value: str


class _Range(msgspec.Struct, gc=False):
    begin: int
    end: int


class _Ranges(msgspec.Struct, gc=False):
    range: list[_Range] | None = None


class _Resource(msgspec.Struct, gc=False):
    name: str
    ranges: _Ranges | None = None


class WireTask(wire.TaskParts, gc=False, kw_only=True):
    """mesos.v1.Task."""

    task_id: Id
    framework_id: Id
    agent_id: Id
    resources: list[_Resource] | None = None


class AgentInfo(msgspec.Struct, gc=False):
    """mesos.v1.AgentInfo, as an item of recovered_agents too."""

    id: Id
    hostname: str | None = None
    port: wire.PortNumber | None = None


class WireAgent(msgspec.Struct, gc=False):
    """mesos.v1.master.Response.GetAgents.Agent."""

    agent_info: AgentInfo
    active: bool | None = None
    deactivated: bool | None = None
    pid: str | None = None


class FrameworkInfo(msgspec.Struct, gc=False):
    """mesos.v1.FrameworkInfo."""

    id: Id
    name: str | None = None
    hostname: str | None = None
    webui_url: str | None = None


class WireFramework(msgspec.Struct, gc=False):
    """mesos.v1.master.Response.GetFrameworks.Framework."""

    framework_info: FrameworkInfo
    active: bool | None = None
    connected: bool | None = None
    recovered: bool | None = None


class _UpdateStatus(wire.WireStatus, gc=False, kw_only=True):
    task_id: Id


class TaskUpdate(msgspec.Struct, gc=False):
    """mesos.v1.master.Event.TaskUpdated; `state` is the truth, the status may be an older one."""

    framework_id: Id
    status: _UpdateStatus
    state: str | None = None


class _TaskAdded(msgspec.Struct):
    task: WireTask


class _AgentAdded(msgspec.Struct):
    agent: WireAgent


class _AgentRemoved(msgspec.Struct):
    agent_id: Id


class _FrameworkSeen(msgspec.Struct):
    framework: WireFramework


class _FrameworkRemoved(msgspec.Struct):
    framework_info: FrameworkInfo


class Event(msgspec.Struct):
    """mesos.v1.master.Event, without the snapshot of SUBSCRIBED. `type` decides which member is set."""

    type: str
    task_added: _TaskAdded | None = None
    task_updated: TaskUpdate | None = None
    agent_added: _AgentAdded | None = None
    agent_removed: _AgentRemoved | None = None
    framework_added: _FrameworkSeen | None = None
    framework_updated: _FrameworkSeen | None = None
    framework_removed: _FrameworkRemoved | None = None


class _Kind(msgspec.Struct):
    type: str


_kind = msgspec.json.Decoder(_Kind)
event_decoder = msgspec.json.Decoder(Event)
task_decoder = msgspec.json.Decoder(WireTask)
agent_decoder = msgspec.json.Decoder(WireAgent)
framework_decoder = msgspec.json.Decoder(WireFramework)
info_decoder = msgspec.json.Decoder(AgentInfo)


def event_type(data: bytes) -> str:
    """The type of a record; "" when the record is no event at all (broken JSON)."""
    try:
        return _kind.decode(data).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def decode(decoder: msgspec.json.Decoder[T], data: bytes, kind: type[T], lost: Lost) -> T:
    """One value by its typed decoder, or tolerantly when that refuses it. Raises Malformed."""
    try:
        try:
            return decoder.decode(data)
        except msgspec.ValidationError:
            # It may still be no JSON at all: the refused part came first.
            value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{kind.__name__}: {error}") from None
    gone: list[str] = []
    try:
        result = convert(value, kind, gone)
    except Malformed as error:
        raise Malformed(f"{describe(value)} {error}") from None
    if gone:
        lost(describe(value), gone)
    return result


def describe(value: object) -> str:
    """The id or name of a raw entity for a log line."""
    for _ in range(4):
        if not isinstance(value, dict):
            break
        for name in ("task_id", "id", "name"):
            item = value.get(name)
            item = item.get("value") if isinstance(item, dict) else item
            if isinstance(item, str) and item:
                return f"{name}={item[:200]!r}"
        value = next((item for item in value.values() if isinstance(item, dict)), None)
    return "an entity without an id"


def task(wired: WireTask, cluster: str = DEFAULT_CLUSTER, lost: Lost | None = None) -> Task:
    """A v1 task as the model has it."""
    ports: tuple[int, ...] = ()
    ranges = [
        (item.begin, item.end)
        for resource in wired.resources or ()
        if resource.name == "ports" and resource.ranges is not None
        for item in resource.ranges.range or ()
    ]
    if ranges:
        ports, over = wire.expand_ranges(ranges)
        if over and lost is not None:
            lost(f"task_id={wired.task_id.value!r}", [f"resources.ports: {over} ports more than allowed"])
    return build_task(wired, (wired.framework_id.value, wired.task_id.value, wired.agent_id.value), ports, cluster)


def agent(wired: WireAgent) -> wire.AgentSeen:
    """A v1 agent."""
    info = wired.agent_info
    return wire.agent_seen(info.id.value, info.hostname, wired.pid, info.port, wired.deactivated)


def framework(wired: WireFramework) -> wire.FrameworkSeen:
    """A v1 framework; v1 tells no scheduler pid."""
    info, recovered = wired.framework_info, bool(wired.recovered)
    return wire.FrameworkSeen(
        id=sys.intern(info.id.value),
        name=info.name or "",
        active=wired.active is not False or recovered,
        recovered=recovered,
        hostname=info.hostname or "",
        webui_url=info.webui_url or "",
    )


def build_task(parts: wire.TaskParts, ids: tuple[str, str, str], host_ports: tuple[int, ...], cluster: str) -> Task:
    """A task from its parts; `ids` are the framework's, the task's and the agent's."""
    statuses = parts.statuses or ()
    running = wire.newest_running(statuses)
    discovery = parts.discovery
    return Task(
        framework_id=sys.intern(ids[0]),
        id=ids[1],
        name=sys.intern(parts.name or ""),
        node_id=sys.intern(ids[2]),
        state=sys.intern(parts.state),
        health=wire.health_of(statuses, checked=parts.health_check is not None),
        labels=wire.labels_of(parts.labels),
        discovery_name="" if discovery is None else sys.intern(discovery.name or ""),
        visibility="" if discovery is None else sys.intern(discovery.visibility or ""),
        ports=() if discovery is None else wire.ports_of(discovery),
        networks=() if running is None else wire.networks_of(running),
        label_addresses=() if running is None else wire.label_addresses_of(running),
        port_mappings=wire.mappings_of(parts.container, running),
        host_ports=host_ports,
        runtime=wire.runtime_of(parts.container),
        start_time=wire.started(statuses),
        cluster=cluster,
    )


def updated(before: Task, update: TaskUpdate) -> Task:
    """A task after TASK_UPDATED: the event carries only a status, the rest is remembered."""
    status = update.status
    state = sys.intern(update.state or status.state)
    health = before.health
    if status.healthy is not None:
        health = Health.HEALTHY if status.healthy else Health.UNHEALTHY
    networks, label_addresses, mappings = before.networks, before.label_addresses, before.port_mappings
    if status.state == wire.RUNNING:
        networks, label_addresses = wire.networks_of(status), wire.label_addresses_of(status)
        mappings = tuple(dict.fromkeys(mappings + wire.mappings_of(None, status)))
    return msgspec.structs.replace(
        before,
        state=state,
        health=health,
        networks=networks,
        label_addresses=label_addresses,
        port_mappings=mappings,
        start_time=before.start_time or status.timestamp or 0.0,
    )


def numbered(task: Task, number: int) -> Task:
    """A task as the `number`-th further one of its id (0: the first, as it is)."""
    return msgspec.structs.replace(task, duplicate=number) if number else task


def inherit(now: Task, before: Task | None) -> Task:
    """What a fresh description of a task leaves out though it was told before: a health result, its start.

    A status replaces the one before it of the same state, so results and times get lost at the master.
    A task that is being staged (again) starts afresh.
    """
    if before is None or before.node_id != now.node_id or now.state in ("TASK_STAGING", "TASK_STARTING"):
        return now
    health = now.health
    if health in (Health.NONE, Health.PENDING) and before.health in (Health.HEALTHY, Health.UNHEALTHY):
        health = before.health
    start = before.start_time or now.start_time
    if health is now.health and start == now.start_time:
        return now
    return msgspec.structs.replace(now, health=health, start_time=start)
