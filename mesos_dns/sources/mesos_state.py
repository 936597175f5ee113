"""Decode a master's /state, /state-summary and /frameworks (JSON) into the model.

The shapes before the operator API: `slave_id` for an agent, flat ids, labels as a flat list,
resources as an object whose "ports" is a text such as "[31000-31002, 31410-31410]". A scheduler's
pid is told only here.
"""

from __future__ import annotations

import re
import sys

import msgspec

from mesos_dns.model import DEFAULT_CLUSTER, Task
from mesos_dns.sources import mesos_wire as wire
from mesos_dns.sources.mesos_decode import Lost, build_task
from mesos_dns.sources.mesos_tolerant import Malformed


class _Resources(msgspec.Struct, gc=False):
    ports: str | None = None


class StateTask(wire.TaskParts, gc=False, kw_only=True):
    """A task of /state. `framework_id` may be missing: then it is that of the framework around it."""

    id: str
    slave_id: str
    framework_id: str = ""
    resources: _Resources | None = None


class StateAgent(msgspec.Struct, gc=False):
    """An item of `slaves` or `recovered_slaves`."""

    id: str
    hostname: str | None = None
    port: wire.PortNumber | None = None
    pid: str | None = None
    deactivated: bool | None = None


class StateFramework(msgspec.Struct, gc=False):
    """An item of `frameworks`, without its tasks."""

    id: str
    name: str | None = None
    pid: str | None = None
    hostname: str | None = None
    webui_url: str | None = None
    active: bool | None = None
    recovered: bool | None = None


class StateHead(msgspec.Struct):
    """Who answers and who leads, and that the document is a /state at all (its arrays are taken out)."""

    slaves: list[msgspec.Raw] | None
    frameworks: list[msgspec.Raw] | None
    leader: str | None = None
    pid: str | None = None


class SummaryHead(msgspec.Struct):
    """A /state-summary or /frameworks."""

    frameworks: list[msgspec.Raw] | None


task_decoder = msgspec.json.Decoder(StateTask)
agent_decoder = msgspec.json.Decoder(StateAgent)
framework_decoder = msgspec.json.Decoder(StateFramework)

MAX_PORTS_TEXT = 1 << 20

_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII)


def parse_ports(text: str) -> tuple[tuple[int, int], ...]:
    """The (begin, end) ranges of "[31000-31002, 31410-31410]". Raises Malformed for anything else."""
    # Split first: one pattern for the whole text would take quadratic time on runs of blanks.
    inner = text.strip()
    if len(text) > MAX_PORTS_TEXT or not (inner.startswith("[") and inner.endswith("]") and len(inner) > 1):
        raise Malformed(f'resources.ports: expected "[BEGIN-END, …]", got {text[:100]!r}')
    ranges = []
    for item in inner[1:-1].split(",") if inner[1:-1].strip() else ():
        match = _RANGE.fullmatch(item.strip())
        if match is None:
            raise Malformed(f'resources.ports: expected "[BEGIN-END, …]", got {text[:100]!r}')
        ranges.append((int(match[1]), int(match[2])))
    return tuple(ranges)


def task(wired: StateTask, cluster: str = DEFAULT_CLUSTER, lost: Lost | None = None) -> Task:
    """A task of /state; a bad ports text costs only the ports."""
    ports: tuple[int, ...] = ()
    if wired.resources is not None and wired.resources.ports:
        try:
            ports, over = wire.expand_ranges(parse_ports(wired.resources.ports))
            reason = f"resources.ports: {over} ports more than allowed" if over else ""
        except Malformed as error:
            reason = str(error)
        if reason and lost is not None:
            lost(f"id={wired.id!r}", [reason])
    return build_task(wired, (wired.framework_id, wired.id, wired.slave_id), ports, cluster)


def agent(wired: StateAgent) -> wire.AgentSeen:
    """An agent of /state."""
    return wire.agent_seen(wired.id, wired.hostname, wired.pid, wired.port, wired.deactivated)


def framework(wired: StateFramework) -> wire.FrameworkSeen:
    """A framework of /state, /state-summary or /frameworks; its pid is "" when it has none.

    One that the master only recovered from its agents has not told its pid yet: None.
    """
    recovered = bool(wired.recovered)
    return wire.FrameworkSeen(
        id=sys.intern(wired.id),
        name=wired.name or "",
        active=wired.active is not False or recovered,
        recovered=recovered,
        hostname=wired.hostname or "",
        webui_url=wired.webui_url or "",
        pid=wired.pid or (None if recovered else ""),
    )
