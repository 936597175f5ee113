"""What the lookup API answers, as structs: the encoder and the OpenAPI document both follow them.

Host, Service, Enumeration and Axfr are mesos-dns' shapes, letter for letter; the rest is ours.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Version(msgspec.Struct, frozen=True, rename={"service": "Service", "url": "URL", "version": "Version"}):
    """Who answers."""

    service: str = "Pharos"
    url: str = ""
    version: str = ""


class Host(msgspec.Struct, frozen=True, gc=False):
    """One address of a name. An unknown name gives one row of empty texts."""

    host: Annotated[str, Meta(description="the name in lower case with its trailing dot")] = ""
    ip: str = ""


class Service(msgspec.Struct, frozen=True, gc=False):
    """One SRV record and one address of its target, for each address family that the target has.

    An unknown name gives one row of empty texts.
    """

    service: Annotated[str, Meta(description="the name in lower case with its trailing dot")] = ""
    host: Annotated[str, Meta(description="the target")] = ""
    ip: Annotated[str, Meta(description="one of the target's addresses, chosen at random")] = ""
    port: Annotated[str, Meta(description="decimal digits")] = ""


class EnumeratedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that a task gives."""

    name: str
    host: Annotated[str, Meta(description="an address, or TARGET:PORT of an SRV record")]
    rtype: Annotated[str, Meta(description="A, AAAA or SRV")]


class EnumeratedTask(msgspec.Struct, frozen=True, gc=False):
    """A running task; a record that several tasks give is listed at the first one only."""

    name: str
    id: str
    records: list[EnumeratedRecord] | None = None


class EnumeratedFramework(msgspec.Struct, frozen=True):
    """A framework with its running tasks."""

    tasks: list[EnumeratedTask]
    name: str


class Enumeration(msgspec.Struct, frozen=True):
    """Every framework; null when there is none."""

    frameworks: list[EnumeratedFramework] | None


class AxfrRecords(msgspec.Struct, frozen=True, rename={"a": "As", "aaaa": "AAAAs", "srv": "SRVs"}):
    """Records by owner: absolute names in the case they were written in."""

    a: dict[str, list[str]]
    aaaa: dict[str, list[str]]
    srv: Annotated[dict[str, list[str]], Meta(description="TARGET:PORT")]


class Axfr(msgspec.Struct, frozen=True, rename="pascal"):
    """The cluster's zone."""

    ttl: Annotated[int, Meta(description="seconds")] = msgspec.field(name="TTL")
    serial: int
    refresh_seconds: Annotated[int, Meta(description="the SOA record's refresh interval")]
    mname: str
    rname: str
    domain: str
    records: AxfrRecords


class RecordRow(msgspec.Struct, frozen=True, gc=False):
    """One record of a zone, in dcos-net's shape."""

    name: Annotated[str, Meta(description="absolute, in lower case, without the trailing dot")]
    host: Annotated[str, Meta(description="an address, or TARGET:PORT of an SRV record")]
    rtype: Annotated[str, Meta(description="A, AAAA or SRV")]


class TaskPort(msgspec.Struct, frozen=True, gc=False):
    """A port that the framework announces (DiscoveryInfo)."""

    number: int
    name: str
    protocol: str
    labels: dict[str, str]


class TaskRow(msgspec.Struct, frozen=True):
    """A task, whatever its state."""

    cluster: str
    framework: Annotated[str, Meta(description="the framework's name, empty when it is not known yet")]
    framework_id: str
    id: str
    name: str
    state: Annotated[str, Meta(description="as Mesos says it, such as TASK_RUNNING")]
    health: Annotated[str, Meta(description="none (no check), pending, healthy or unhealthy")]
    node_id: str
    host: Annotated[str, Meta(description="host name of the task's agent")]
    addresses: Annotated[list[str], Meta(description="what the task's own name points to")]
    ports: Annotated[list[int], Meta(description="ports of the agent's host that the task holds")]
    discovery_name: str
    discovery_ports: list[TaskPort]
    labels: Annotated[dict[str, str], Meta(description="of a label that is given twice, the last")]
    start_time: Annotated[float, Meta(description="seconds since the epoch, 0 when unknown")]


class SourceRow(msgspec.Struct, frozen=True):
    """One source's standing."""

    name: str
    connected: bool
    synced: Annotated[bool, Meta(description="has told everything it knows at least once in this process")]
    restored: Annotated[bool, Meta(description="what is served was saved by an earlier process")]
    stale: Annotated[bool, Meta(description="what is served may be out of date")]
    age_seconds: Annotated[float, Meta(description="how long it has been stale")]
    detail: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether this process should get requests."""

    ready: bool
    draining: bool
    sources: list[SourceRow]
