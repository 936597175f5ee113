"""What a Mesos agent's /monitor/statistics says of the CPU and memory of containers. Pure.

Recorded of Mesos 1.12 with the posix isolators; field names and their meaning are mesos.proto's (ResourceStatistics):

    [{"executor_id": "…", "framework_id": "…", "source": "…", "executor_name": "…",
      "statistics": {"timestamp": 1795409862.9, "cpus_user_time_secs": 0.08, "cpus_system_time_secs": 0.03,
                     "cpus_soft_limit": 0.2, "mem_rss_bytes": 74375168, "mem_soft_limit_bytes": 67108864, …}}, …]

What an instance has is what it asked for (the soft limits: what HPA counts by), or its hard limit where the agent tells
no soft one. The executor's own share is in it, and so is what it uses.

    cpu     Δ(user + system) / Δtimestamp / cpus, between two reads; none where a counter went back
    memory  mem_rss_bytes / mem limit: anonymous memory. Page cache, which the kernel takes back when there is need, is
            in mem_total_bytes and not here. With the posix isolator it is the sum of the processes' RSS, in which
            what they share counts several times.

Whose a container is: a task without an executor of its own (Marathon's commands and Docker images) has an executor of
the task's id, which `source` has too; one with a custom executor of Marathon's "marathon-" and the task's id; all tasks
of a pod's instance ID.instance-UUID share one, instance-ID.UUID. What other frameworks call theirs is not known.
With the posix isolator a CPU counter is the sum over the processes that live: it goes back when one has ended.
"""

from __future__ import annotations

import math
import re
from typing import Annotated

import msgspec
from msgspec import Meta

SHORTEST, LONGEST = 1.0, 120.0
"""Seconds between two reads that CPU can be told from: less is noise, more says nothing of now."""

_POD = re.compile(r"(.+)\.instance-([^.]+)\..*")

Count = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(max_length=4096)]


class Statistics(msgspec.Struct, gc=False):
    """The part of a container's statistics that counts here."""

    timestamp: float
    cpus_user_time_secs: Count | None = None
    cpus_system_time_secs: Count | None = None
    cpus_soft_limit: Count | None = None
    cpus_limit: Count | None = None
    mem_rss_bytes: Count | None = None
    mem_soft_limit_bytes: Count | None = None
    mem_limit_bytes: Count | None = None


class Container(msgspec.Struct):
    """One element of /monitor/statistics. An agent that could not measure a container leaves `statistics` out."""

    executor_id: Name
    framework_id: Name
    source: Name = ""
    statistics: Statistics | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Of one container: `cpu` and `memory` as parts of what it has, None where they are not known; the counter of CPU
    seconds and the agent's time of it, for the next read."""

    cpu: float | None
    memory: float | None
    seconds: float | None
    at: float


Usages = dict[tuple[str, str], Usage]
"""By framework id and name: that of the executor, and its source."""


def add_container(element: bytes, before: Usages, into: Usages) -> None:
    """Add an element of the list to `into`. `before`: what the last read of the same agent said. Raises ValueError."""
    try:
        container = msgspec.json.decode(element, type=Container)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"a container can't be read: {error}") from None
    if container.statistics is None:
        return
    key = (container.framework_id, container.executor_id)
    usage = usage_of(container.statistics, before.get(key))
    into[key] = usage
    if container.source:
        into.setdefault((container.framework_id, container.source), usage)


def usage_of(told: Statistics, before: Usage | None) -> Usage:
    """What a container uses."""
    user, system = told.cpus_user_time_secs, told.cpus_system_time_secs
    seconds = None if user is None and system is None else (user or 0.0) + (system or 0.0)
    cpu = None
    if before is not None and before.seconds is not None and seconds is not None:
        passed, used = told.timestamp - before.at, seconds - before.seconds
        if SHORTEST <= passed <= LONGEST and used >= 0:
            cpu = _part(used / passed, told.cpus_soft_limit, told.cpus_limit)
    memory = _part(told.mem_rss_bytes, told.mem_soft_limit_bytes, told.mem_limit_bytes)
    return Usage(cpu, memory, seconds, told.timestamp)


def _part(used: float | None, soft: float | None, hard: float | None) -> float | None:
    """`used` of what there is."""
    whole = soft or hard
    if used is None or not whole:
        return None
    part = used / whole
    return part if math.isfinite(part) else None


def usage_of_task(usages: Usages, framework_id: str, task_id: str) -> Usage | None:
    """What the container that a task runs in uses; None where the agent tells of none."""
    usage = usages.get((framework_id, task_id)) or usages.get((framework_id, f"marathon-{task_id}"))
    if usage is None and (pod := _POD.fullmatch(task_id)):
        usage = usages.get((framework_id, f"instance-{pod[1]}.{pod[2]}"))
    return usage
