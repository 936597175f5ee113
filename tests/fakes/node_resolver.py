"""A node's whole resolver on loopback, over entities that a test puts, with upstreams of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import dns.message
import dns.rcode
import msgspec

from mesos_dns.config import DnsConfig
from mesos_dns.cookies import secrets_of
from mesos_dns.fastpath import fast_path
from mesos_dns.model import Entity
from mesos_dns.presence import Presence
from mesos_dns.resolver.address import parse_upstream
from mesos_dns.resolver.config import ResolverConfig, serving
from mesos_dns.resolver.local import local_records
from mesos_dns.resolver.resolver import Resolver
from mesos_dns.resolver.upstreams import Upstreams
from mesos_dns.respond import Responder
from mesos_dns.server import DnsServer
from mesos_dns.zone import ZoneView
from tests.fakes.dns_serving import connected, framed, read_one, udp
from tests.fakes.questions import AGENT, MARATHON, packet, put

NODE = "10.1.0.7"


class NodeResolver:
    """Its parts; `resolver` are the settings of `[resolver]`, but that it listens on loopback."""

    def __init__(self, resolver: ResolverConfig, *entities: Entity, dns_config: DnsConfig | None = None) -> None:
        named = dns_config or DnsConfig()
        self.config = msgspec.structs.replace(serving(resolver, named), listen=("127.0.0.1:0",))
        self.upstreams = Upstreams(
            [parse_upstream(text) for text in resolver.upstreams],
            {zone: [parse_upstream(text) for text in servers] for zone, servers in resolver.zones.items()},
            timeout=float(resolver.timeout),
            tls=None,
        )
        self.resolver = Resolver(resolver, self.upstreams)
        secrets = secrets_of(self.config)
        fast = fast_path(self.config, secrets, self.resolver.networks, resolver.prefetch, resolver.client_rate)
        self.view = ZoneView(
            self.config,
            presence=fast.presence if fast is not None else _nobody,
            local=local_records(resolver, named, (NODE,)),
            cluster_key=resolver.cluster_key,
        )
        self.view.apply(put(MARATHON, AGENT, *entities))
        self.responder = Responder(self.view, self.config, None, secrets, fast, self.resolver)
        self.responder.take_over()
        self.server = DnsServer(self.config, self.responder)

    def servers_of(self, name: bytes) -> tuple[str, list[str]]:
        """The zone whose upstreams a folded wire name is asked of, with a dot at its end, and these."""
        zone = self.upstreams.route(name)
        labels = [each.label for each in self.upstreams.status() if each.zone == zone]
        return zone if zone == "." else f"{zone}.", labels

    async def udp(self, name: str, rtype: str = "A", **edns: Any) -> dns.message.Message:
        """The answer by UDP."""
        async with asyncio.timeout(20):
            return dns.message.from_wire(await udp(self.server.addresses[0], packet(name, rtype, **edns)))

    async def tcp(self, *names: str, rtype: str = "A") -> list[dns.message.Message]:
        """The answers to one question after the other on one connection."""
        found = []
        async with asyncio.timeout(20), connected(self.server.addresses[0]) as (reader, writer):
            for name in names:
                writer.write(framed(packet(name, rtype)))
                found.append(dns.message.from_wire(await read_one(reader)))
        return found


def _nobody(tag: str) -> Presence | None:
    return None


@asynccontextmanager
async def node_resolver(
    *entities: Entity,
    upstreams: Sequence[str] = (),
    zones: Mapping[str, Sequence[str]] | None = None,
    dns_config: DnsConfig | None = None,
    **resolver: Any,
) -> AsyncIterator[NodeResolver]:
    """One that serves; native workers answer unless `workers` is 0."""
    config = ResolverConfig(
        upstreams=tuple(upstreams), zones={zone: tuple(each) for zone, each in (zones or {}).items()}, **resolver
    )
    node = NodeResolver(config, *entities, dns_config=dns_config)
    await node.server.start()
    try:
        yield node
    finally:
        await node.server.close()
        await node.resolver.close()
        await node.upstreams.close()
        node.server.forget()
