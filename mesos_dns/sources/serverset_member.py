"""What one registration in ZooKeeper says: Finagle's serverset members and SmartStack's Nerve entries. Pure.

A Finagle member (Aurora's announcer, twitter commons) is JSON with `serviceEndpoint`, perhaps named
`additionalEndpoints`, `status` and `shard`; a Nerve entry has `host`, `port` and perhaps `name`,
`weight` and `labels`. Which of the two a znode holds is seen from its members.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mesos_dns.hosts import is_host
from mesos_dns.model import Labels, Network, Port, Task

MAX_MEMBER = 1 << 16
MAX_ENDPOINTS = 64
MAX_LABELS = 64
MAX_TEXT = 1024

_STATES = {
    "ALIVE": "TASK_RUNNING",
    "STARTING": "TASK_STARTING",
    "STOPPING": "TASK_KILLING",
    "STOPPED": "TASK_FINISHED",
    "DEAD": "TASK_LOST",
    "WARNING": "TASK_LOST",
}
"""Finagle sends requests to ALIVE members only; so names are given to those. No status at all is ALIVE."""

MEMBER_NAME = re.compile(r"(?!vector_).*_\d{10}", re.DOTALL)
"""A sequential znode. Finagle's `vector_N` (weights of a whole serverset) are none of the members."""


class Member(msgspec.Struct, frozen=True):
    """A registration: where it is (host name or address), and what names and views need of it."""

    host: str
    port: int
    named: tuple[tuple[str, int], ...] = ()
    state: str = "TASK_RUNNING"
    labels: Labels = ()


class _Endpoint(msgspec.Struct):
    host: str
    port: int


class _Finagle(msgspec.Struct):
    serviceEndpoint: _Endpoint
    additionalEndpoints: dict[str, _Endpoint] | None = None
    status: str | None = None
    shard: int | None = None


class _Nerve(msgspec.Struct):
    host: str
    port: int | str
    name: str | None = None
    weight: float | None = None
    labels: dict[str, Any] | None = None


def decode(data: bytes) -> tuple[Member, list[str]]:
    """A member, and what of it had to be left out. Raises ValueError."""
    if len(data) > MAX_MEMBER:
        raise ValueError(f"it has over {MAX_MEMBER} bytes")
    try:
        members = msgspec.json.decode(data, type=dict[str, Any])
        if "serviceEndpoint" in members:
            return _finagle(msgspec.convert(members, _Finagle))
        if "host" in members:
            return _nerve(msgspec.convert(members, _Nerve)), []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    raise ValueError("it has neither serviceEndpoint (Finagle) nor host (Nerve)")


def _finagle(found: _Finagle) -> tuple[Member, list[str]]:
    left_out: list[str] = []
    main = found.serviceEndpoint
    named: dict[str, int] = {}
    for name, endpoint in (found.additionalEndpoints or {}).items():
        # A task has one set of addresses: an endpoint on another host can't be one of its ports.
        if endpoint.host != main.host:
            left_out.append(f"endpoint {name[:80]!r} is on another host")
        elif not 0 < endpoint.port < 65536 or not 0 < len(name) <= MAX_TEXT:
            left_out.append(f"endpoint {name[:80]!r} has no legal port or name")
        elif len(named) < MAX_ENDPOINTS:
            named[name] = endpoint.port
        else:
            left_out.append(f"endpoint {name[:80]!r}: there are over {MAX_ENDPOINTS}")
    status = found.status or "ALIVE"
    if status not in _STATES:
        raise ValueError(f"status {status[:80]!r} is none of {', '.join(_STATES)}")
    labels = (("status", status), *((("shard", str(found.shard)),) if found.shard is not None else ()))
    return _member(main.host, main.port, tuple(named.items()), _STATES[status], labels), left_out


def _nerve(found: _Nerve) -> Member:
    text = str(found.port)
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"port {text[:80]!r} is no number")
    labels = [(name, value) for name, value in (found.labels or {}).items() if isinstance(value, str)][:MAX_LABELS]
    if found.name:
        labels.append(("name", found.name))
    if found.weight is not None:
        labels.append(("weight", f"{found.weight:g}"))
    return _member(found.host, int(text[:6]), (), "TASK_RUNNING", tuple(labels))


def _member(host: str, port: int, named: tuple[tuple[str, int], ...], state: str, labels: Labels) -> Member:
    if not is_host(host):
        raise ValueError(f"host {host[:80]!r} is neither an address nor a host name")
    if not 0 < port < 65536:
        raise ValueError(f"port {port} is none of 1 to 65535")
    return Member(host, port, named, state, labels)


def place_of(root: str, suffix: str, folder: str) -> tuple[str, str]:
    """(name, framework) of the members of a folder below a root.

    The last segment is the name; those before it, from the last to the first, and the root's suffix
    are the framework: /aurora/ROLE/ENV/JOB below /aurora is JOB in ENV.ROLE.aurora. SmartStack's
    last segment "services" says nothing and is left out. A dot inside a segment is no border.
    """
    segments = [segment for segment in folder[len(root) :].split("/") if segment]
    if len(segments) > 1 and segments[-1] == "services":
        segments.pop()
    if not segments:
        segments = [root.rpartition("/")[2] or suffix]
    above = [segment.replace(".", "-") for segment in reversed(segments[:-1])]
    return segments[-1], ".".join([*above, suffix])


def task_of(
    member: Member, path: str, place: tuple[str, str], addresses: tuple[str, ...], start_time: float, cluster: str
) -> Task:
    """A member as a task: its endpoint is the first port, named endpoints answer to their names alone."""
    name, framework = place
    named = tuple(Port(port, name, "tcp", secondary=True) for name, port in member.named)
    return Task(
        framework_id=framework,
        id=path,
        name=name,
        node_id="",
        state=member.state,
        labels=(("endpoint", f"{member.host}:{member.port}"), *member.labels),
        discovery_name=name,
        ports=(Port(member.port, "", "tcp"), *named),
        networks=(Network("", addresses),) if addresses else (),
        start_time=start_time,
        cluster=cluster,
    )
