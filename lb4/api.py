"""GET /v1/vips and /v1/nodes: which virtual IPs there are, what is behind them, and what became of them here."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from aiohttp import web

from lb4.api_shapes import NodeRow, VipBackendRow, VipFailureRow, VipRow
from lb4.services import BackendKey
from lb4.table import VipTable
from lb4.vip import Backend, VipKey, VipState
from lb4.weights import with_checks
from mesos_dns.api import json_only, stream, when_known
from mesos_dns.api_context import ApiContext
from mesos_dns.api_document import Documented
from mesos_dns.api_stream import encode
from mesos_dns.catalog import Catalog
from mesos_dns.config import host_port_text
from mesos_dns.model import Node, Suspect, canonical_address
from mesos_dns.sources.pace import Pace


class InDataPlane(Protocol):
    """What the data plane of this process says of VIPs."""

    @property
    def revision(self) -> int:
        """Grows with every change of what is said here."""

    def failing_of(self, key: VipKey) -> Container[BackendKey]:
        """Backends that fail this node's own check of a VIP."""

    def is_served(self, key: VipKey) -> bool:
        """It is in the data plane, by one of its addresses at least."""

    def failures(self, key: VipKey) -> Sequence[VipFailureRow]:
        """What could not be done."""

    def shared(self, key: VipKey) -> Collection[VipKey]:
        """Other VIPs with a backend in common."""


@dataclass
class VipView:
    """What the answers are made of. `zone` is the origin of VIPs' names; `plane` gives None where there is none."""

    table: VipTable
    catalog: Catalog
    zone: Callable[[], str]
    plane: Callable[[], InDataPlane | None] = lambda: None
    _run: str = field(init=False, default_factory=lambda: secrets.token_hex(4))

    def tag(self) -> str:
        """What is told is the same while this is (an ETag)."""
        plane = self.plane()
        revision = plane.revision if plane is not None else 0
        number = hash((self.table.revision, revision, self.zone()))
        return f'"{self._run}.{number & 0xFFFF_FFFF_FFFF_FFFF:016x}"'


def routes(context: ApiContext, view: VipView) -> list[web.RouteDef]:
    """The routes for `[api]`."""

    async def vips(request: web.Request) -> web.StreamResponse:
        tag = view.tag()
        if tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers={"ETag": tag})
        if wanted := request.query.get("name", ""):
            return await stream(request, rows(view, wanted), {"ETag": tag})
        async with context.enumerations:
            return await stream(request, rows(view), {"ETag": view.tag()})

    async def nodes(request: web.Request) -> web.StreamResponse:
        async with context.enumerations:
            return await stream(request, node_rows(view.catalog))

    found = []
    for path, handler in (("/v1/vips", vips), ("/v1/nodes", nodes)):
        for spelling in (path, f"{path}/"):
            found.append(web.get(spelling, json_only(when_known(context, handler)), allow_head=False))
    return found


async def rows(view: VipView, wanted: str = "") -> AsyncIterator[bytes]:
    """Every VIP, or those of a name (with or without zone, port or both), as pieces of a JSON list."""
    pace = Pace()
    start = b"["
    for key in sorted({*view.table.keys(), *view.table.withheld}):
        await pace.turn()
        if wanted and not is_named(key, wanted, view.zone()):
            continue
        yield start + encode(row(view, view.table.get(key) or VipState(key)))
        start = b","
    yield b"[]" if start == b"[" else b"]"


def is_named(key: VipKey, wanted: str, zone: str) -> bool:
    """Whether `wanted` is this VIP's name or address, as people write it."""
    text = wanted.strip().lower().removesuffix(".")
    names = {key.name, f"{key.name}.{zone}"}
    address = canonical_address(text)
    if text in names or (address and address == key.name):
        return True
    host, colon, port = text.rpartition(":")
    return bool(colon) and port == str(key.port) and (host.removesuffix(".") in names or host.strip("[]") == key.name)


def row(view: VipView, state: VipState) -> VipRow:
    """What is told of one VIP."""
    key, plane = state.key, view.plane()
    fixed = canonical_address(key.name)
    allocated = view.table.address_of(key.name) if not fixed else None
    address, address6 = (allocated.address, allocated.address6) if allocated is not None else ("", "")
    if fixed:
        address, address6 = ("", fixed) if ":" in fixed else (fixed, "")
    failures = list(plane.failures(key)) if plane is not None else []
    said, reason = _standing(view, key, bool(address or address6), failures)
    backends = with_checks(state.backends, plane.failing_of(key)) if plane is not None else state.backends
    return VipRow(
        vip=vip_text(key, view.zone()),
        protocol=key.protocol,
        backend=[_backend(each) for each in backends],
        address=address,
        address6=address6,
        state=said,
        reason=reason,
        failures=failures,
        shared=[vip_text(other, view.zone()) for other in plane.shared(key)] if plane is not None else [],
    )


def _standing(view: VipView, key: VipKey, has_address: bool, failures: Sequence[VipFailureRow]) -> tuple[str, str]:
    plane = view.plane()
    withheld: Mapping[VipKey, str] = view.table.withheld
    if key in withheld:
        return "withheld", withheld[key]
    if not has_address:
        return "waiting", "no address yet"
    if failures:
        return "failed", f"{failures[0].operation}: {failures[0].reason}"
    if plane is not None and not plane.is_served(key):
        return "waiting", "not in the data plane yet"
    return "serving", ""


def _backend(backend: Backend) -> VipBackendRow:
    task = backend.task[3] if len(backend.task) > 3 else ""
    return VipBackendRow(
        backend.address, backend.port, backend.weight, backend.health, backend.state, backend.node, task
    )


def vip_text(key: VipKey, zone: str) -> str:
    """NAME.ZONE:PORT, or ADDRESS:PORT (IPv6 in brackets)."""
    if canonical_address(key.name):
        return host_port_text(key.name, key.port)
    return f"{key.name}.{zone}:{key.port}"


async def node_rows(catalog: Catalog) -> AsyncIterator[bytes]:
    """Every agent, as pieces of a JSON list."""
    pace = Pace()
    suspects = {entity.address for entity in catalog.entities("reachability") if isinstance(entity, Suspect)}
    ages = [status.age() for name, status in catalog.sources.items() if name in ("mesos", "relay")]
    right = datetime.now(UTC).timestamp() - max(ages, default=0.0)
    updated = datetime.fromtimestamp(right, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    start = b"["
    for entity in catalog.entities("node"):
        await pace.turn()
        if not isinstance(entity, Node):
            continue
        yield start + encode(
            NodeRow(
                hostname=entity.hostname,
                private_ip=entity.addresses[0] if entity.addresses else "",
                public_ips=[],
                updated=updated,
                id=entity.id,
                addresses=list(entity.addresses),
                state=entity.state,
                reachability="suspect" if suspects.intersection(entity.addresses) else "ok",
            )
        )
        start = b","
    yield b"[]" if start == b"[" else b"]"


DOCUMENTED = (
    Documented(
        "/v1/vips",
        "vips",
        "Virtual IPs and what is behind them; ?name= limits it to one.",
        VipRow,
        [
            {
                "vip": "web.marathon.l4lb.thisdcos.directory:80",
                "protocol": "tcp",
                "backend": [
                    {
                        "ip": "10.0.0.1",
                        "port": 31000,
                        "weight": 1,
                        "health": "healthy",
                        "state": "active",
                        "node": "10.0.0.1",
                        "task": "web.1",
                    }
                ],
                "address": "11.225.36.193",
                "address6": "",
                "state": "serving",
                "reason": "",
                "failures": [],
                "shared": [],
            }
        ],
    ),
    Documented(
        "/v1/nodes",
        "nodes",
        "The cluster's agents.",
        NodeRow,
        [
            {
                "hostname": "agent0.example.com",
                "private_ip": "10.0.0.1",
                "public_ips": [],
                "updated": "2026-11-01T10:00:00.000Z",
                "id": "f1a0c2d4-S0",
                "addresses": ["10.0.0.1"],
                "state": "active",
                "reachability": "ok",
            }
        ],
    ),
)
"""For /openapi.json."""
