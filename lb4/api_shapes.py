"""What /v1/vips and /v1/nodes answer, as structs: dcos-net's shapes, and more keys beside them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class VipBackendRow(msgspec.Struct, frozen=True, gc=False):
    """One backend, as other nodes than its own reach it."""

    ip: str
    port: int
    weight: Annotated[int, Meta(description="in force: after health, draining, reachability and fail-open")]
    health: Annotated[str, Meta(description="none (no check), pending, healthy or unhealthy")]
    state: Annotated[str, Meta(description="active, pending, unhealthy, draining, suspect or fail-open")] = "active"
    node: Annotated[str, Meta(description="address of the node that it runs on; empty: a fixed server")] = ""
    task: Annotated[str, Meta(description="id of its task; empty: a fixed server")] = ""


class VipFailureRow(msgspec.Struct, frozen=True, gc=False):
    """A change that this process could not make in its data plane."""

    operation: str
    address: str
    errno: Annotated[str, Meta(description="such as EPERM; empty where it has none")]
    reason: str


class VipRow(msgspec.Struct, frozen=True):
    """A virtual IP: its name or address with its port, and its backends."""

    vip: Annotated[str, Meta(description="NAME:PORT or ADDRESS:PORT")]
    protocol: Annotated[str, Meta(description="tcp or udp")]
    backend: list[VipBackendRow]
    address: Annotated[str, Meta(description="its IPv4 address; empty: none, or not allocated yet")] = ""
    address6: Annotated[str, Meta(description="its IPv6 address; empty: none, or not allocated yet")] = ""
    state: Annotated[
        str,
        Meta(
            description="serving (this process' data plane has it, or it has none), waiting (for an address or the "
            "data plane), failed, or withheld"
        ),
    ] = "serving"
    reason: Annotated[str, Meta(description="why it is not serving")] = ""
    failures: list[VipFailureRow] = []
    shared: Annotated[
        list[str],
        Meta(description="other VIPs with a backend in common: IPVS may mix up connections of one client to them"),
    ] = []


class NodeRow(msgspec.Struct, frozen=True):
    """An agent of the cluster."""

    hostname: str
    private_ip: str
    public_ips: list[str]
    updated: Annotated[str, Meta(description="when it was last known to be so (RFC 3339)")]
    id: Annotated[str, Meta(description="Mesos' id of the agent")] = ""
    addresses: list[str] = []
    state: Annotated[str, Meta(description="active, unreachable, draining or gone, as the master says")] = "active"
    reachability: Annotated[str, Meta(description="ok, or suspect: no server hears anything of it")] = "ok"
