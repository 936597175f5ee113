"""The JSON shapes that Mesos' operator API and its /state have in common, and what they mean.

Only the fields that Pharos needs are listed; everything else is skipped while parsing. Shapes are
those of mesos.proto's v1 JSON form; /state writes labels as a flat list where v1 nests them, and old
versions write one `ip_address` per network, so both forms are read everywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Annotated, TypeAlias

import msgspec

from mesos_dns.model import Health, Labels, Network, Port, PortMapping, canonical_address
from mesos_dns.sharing import share

TERMINAL = frozenset(
    {
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
    }
)
"""States after which a task never runs again under that agent; TASK_UNREACHABLE is none of them."""

RUNNING = "TASK_RUNNING"
MAX_HOST_PORTS = 4096
"""Ports of one task that are kept; a task with more is most likely a mistake in its resources."""

_ADDRESS_LABELS = {
    "Docker.NetworkSettings.IPAddress": "docker",
    "MesosContainerizer.NetworkSettings.IPAddress": "mesos",
}

PortNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]
AnyNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
"""What Mesos takes as the number of a discovery port (a protobuf uint32)."""


class WireLabel(msgspec.Struct, gc=False):
    """key and value; protobuf leaves an empty value out."""

    key: str
    value: str | None = None


class WireLabels(msgspec.Struct, gc=False):
    """v1's nesting of labels."""

    labels: list[WireLabel] | None = None


AnyLabels: TypeAlias = WireLabels | list[WireLabel] | None


class WirePort(msgspec.Struct, gc=False):
    """DiscoveryInfo's port."""

    number: AnyNumber
    name: str | None = None
    protocol: str | None = None
    labels: AnyLabels = None


class WirePorts(msgspec.Struct, gc=False):
    """v1's nesting of ports."""

    ports: list[WirePort] | None = None


class WireDiscovery(msgspec.Struct, gc=False):
    """DiscoveryInfo."""

    name: str | None = None
    visibility: str | None = None
    ports: WirePorts | None = None


class WireAddress(msgspec.Struct, gc=False):
    """NetworkInfo.IPAddress; a request for any address has none."""

    ip_address: str | None = None


class WireMapping(msgspec.Struct, gc=False):
    """PortMapping of Docker and of CNI networks."""

    host_port: PortNumber
    container_port: PortNumber
    protocol: str | None = None


class WireNetwork(msgspec.Struct, gc=False):
    """NetworkInfo; `ip_address` is the form before 0.26."""

    name: str | None = None
    ip_addresses: list[WireAddress] | None = None
    ip_address: str | None = None
    port_mappings: list[WireMapping] | None = None


class WireContainerStatus(msgspec.Struct, gc=False):
    """ContainerStatus."""

    network_infos: list[WireNetwork] | None = None


class WireDocker(msgspec.Struct, gc=False):
    """ContainerInfo.DockerInfo."""

    port_mappings: list[WireMapping] | None = None


class WireContainer(msgspec.Struct, gc=False):
    """ContainerInfo."""

    type: str | None = None
    docker: WireDocker | None = None
    network_infos: list[WireNetwork] | None = None


class WireStatus(msgspec.Struct, gc=False):
    """TaskStatus, without the ids."""

    state: str
    timestamp: float | None = None
    healthy: bool | None = None
    container_status: WireContainerStatus | None = None
    labels: AnyLabels = None


class TaskParts(msgspec.Struct, gc=False, kw_only=True):
    """What a task has in v1 and in /state alike."""

    state: str
    name: str | None = None
    labels: AnyLabels = None
    discovery: WireDiscovery | None = None
    statuses: list[WireStatus] | None = None
    container: WireContainer | None = None
    health_check: dict[str, msgspec.Raw] | None = None


class AgentSeen(msgspec.Struct, frozen=True, gc=False):
    """An agent as a master tells it; `host` is its pid's, else its host name, and may be a name."""

    id: str
    hostname: str
    host: str
    port: int = 0
    draining: bool = False


class FrameworkSeen(msgspec.Struct, frozen=True, gc=False):
    """A framework as a master tells it. `pid` is None where the API does not tell it (v1)."""

    id: str
    name: str
    active: bool = True
    recovered: bool = False
    hostname: str = ""
    webui_url: str = ""
    pid: str | None = None


def labels_of(labels: AnyLabels) -> Labels:
    """Labels in the order written, of either form."""
    items = labels.labels if isinstance(labels, WireLabels) else labels
    if not items:
        return ()
    return share(tuple([(item.key, item.value or "") for item in items]))


def ports_of(discovery: WireDiscovery) -> tuple[Port, ...]:
    """DiscoveryInfo's ports as the framework wrote them."""
    if discovery.ports is None or not discovery.ports.ports:
        return ()
    return share(
        tuple(
            [
                Port(port.number, sys.intern(port.name or ""), sys.intern(port.protocol or ""), labels_of(port.labels))
                for port in discovery.ports.ports
            ]
        )
    )


def networks_of(status: WireStatus) -> tuple[Network, ...]:
    """The networks of a container's status, each with its valid addresses (canonical, in order)."""
    if status.container_status is None or not status.container_status.network_infos:
        return ()
    return share(tuple([Network(info.name or "", _addresses(info)) for info in status.container_status.network_infos]))


def _addresses(info: WireNetwork) -> tuple[str, ...]:
    texts = [item.ip_address for item in info.ip_addresses or () if item.ip_address]
    if not texts and info.ip_address:
        texts = [info.ip_address]
    return tuple([address for text in texts if (address := canonical_address(text))])


def label_addresses_of(status: WireStatus) -> tuple[tuple[str, str], ...]:
    """Addresses that old containerizers put into a status' labels."""
    if status.labels is None:
        return ()
    found = []
    for key, value in labels_of(status.labels):
        kind = _ADDRESS_LABELS.get(key)
        if kind is not None and (address := canonical_address(value)):
            found.append((kind, address))
    return tuple(found)


def newest_running(statuses: Iterable[WireStatus]) -> WireStatus | None:
    """The newest status of state TASK_RUNNING; of several with one timestamp the first (as mesos-dns)."""
    newest: WireStatus | None = None
    for status in statuses:
        if status.state == RUNNING and (newest is None or (status.timestamp or 0.0) > (newest.timestamp or 0.0)):
            newest = status
    return newest


def health_of(statuses: Iterable[WireStatus], *, checked: bool) -> Health:
    """Health as the newest status that has a result says; without any, PENDING when a check is defined."""
    newest: WireStatus | None = None
    for status in statuses:
        if status.healthy is not None and (newest is None or (status.timestamp or 0.0) > (newest.timestamp or 0.0)):
            newest = status
    if newest is None:
        return Health.PENDING if checked else Health.NONE
    return Health.HEALTHY if newest.healthy else Health.UNHEALTHY


def started(statuses: Iterable[WireStatus]) -> float:
    """The earliest time that a status names; 0 when none does."""
    return min([status.timestamp for status in statuses if status.timestamp], default=0.0)


def mappings_of(container: WireContainer | None, status: WireStatus | None = None) -> tuple[PortMapping, ...]:
    """Port mappings of Docker's bridge and of CNI networks: those asked for, and those that a status
    tells (the containers of a pod share a network, so only their status has them)."""
    wired: list[WireMapping] = []
    infos: list[WireNetwork] = []
    if container is not None:
        wired += (container.docker.port_mappings or ()) if container.docker is not None else ()
        infos += container.network_infos or ()
    if status is not None and status.container_status is not None:
        infos += status.container_status.network_infos or ()
    for info in infos:
        wired += info.port_mappings or ()
    if not wired:
        return ()
    found = [PortMapping(item.host_port, item.container_port, item.protocol or "tcp") for item in wired]
    return tuple(dict.fromkeys(found))


def runtime_of(container: WireContainer | None) -> str:
    """ "docker" for Docker's containerizer, "mesos" for Mesos' own (also without a container)."""
    return "docker" if container is not None and container.type == "DOCKER" else "mesos"


def agent_seen(
    agent_id: str, hostname: str | None, pid: str | None, port: int | None, deactivated: bool | None
) -> AgentSeen:
    """An agent from its fields: the pid's address before the host name and port it registered with."""
    name = hostname or ""
    host, number = pid_address(pid or "") or (name, port or 0)
    return AgentSeen(sys.intern(agent_id), name, host, number, bool(deactivated))


def expand_ranges(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], int]:
    """Port numbers of (begin, end) ranges in order, and how many were left out.

    Numbers outside 0..65535 and those beyond MAX_HOST_PORTS are left out.
    """
    ports: list[int] = []
    lost = 0
    for begin, end in ranges:
        first, last = max(begin, 0), min(end, 65535)
        lost += max(0, end - begin + 1) - max(0, last - first + 1)
        room = MAX_HOST_PORTS - len(ports)
        count = max(0, last - first + 1)
        lost += max(0, count - room)
        ports.extend(range(first, first + min(count, room)))
    return tuple(ports), lost


_UPID = re.compile(r"[^@]*@(?:\[([^\]@]+)\]|([^:@\[\]]+)):(\d{1,5})", re.ASCII)


def pid_address(pid: str) -> tuple[str, int] | None:
    """Host and port of a libprocess pid "name@host:port" ("name@[v6]:port"); None when it is none."""
    match = _UPID.fullmatch(pid)
    if match is None or int(match[3]) > 65535:
        return None
    return match[1] or match[2], int(match[3])
