"""Servers that allocate the addresses of VIPs: each with what is wanted at it, its catalog and its allocator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

from lb4.addresses import AddressRange, address_range, network_range, parsed
from lb4.allocations import Entry, decode, encode, shard_key
from lb4.allocator import Allocator
from mesos_dns.catalog import Catalog
from mesos_dns.coordinate import Coordinator
from mesos_dns.model import VipAddress
from mesos_dns.publish import CatalogPublisher
from tests.fakes.memory_coordinator import Memory
from tests.zookeeper_clients import until

V4 = network_range("11.0.0.0/8", 4)
V6 = network_range("fd01:c::/64", 6)
TINY = address_range("11.0.0.0", "11.0.0.1")
NOW = 1_700_000_000


class Server:
    """One server: what is wanted at it, its catalog, its allocator."""

    def __init__(
        self, coordinator: Coordinator, ranges: Iterable[AddressRange] = (V4, V6), catalog: Catalog | None = None
    ) -> None:
        self.wanted: dict[str, frozenset[int]] = {}
        self.reserved: frozenset[str] = frozenset()
        self.complete = True
        self.now = float(NOW)
        self.catalog = catalog or Catalog()
        self.allocator = Allocator(
            coordinator,
            ranges,
            CatalogPublisher(self.catalog, "vips"),
            lambda: self.wanted,
            lambda: self.reserved,
            complete=lambda: self.complete,
            clock=lambda: self.now,
        )

    def want(self, *names: str, versions: Iterable[int] = (4,)) -> None:
        """Use more names."""
        self.wanted |= dict.fromkeys(names, frozenset(versions))
        self.allocator.changed()

    def drop(self, *names: str) -> None:
        """Use names no more."""
        for name in names:
            del self.wanted[name]
        self.allocator.changed()

    @property
    def told(self) -> dict[str, str]:
        """The IPv4 addresses that it tells."""
        return {entity.name: entity.address for entity in self.entities()}

    def entities(self) -> list[VipAddress]:
        """All that it tells."""
        return [entity for entity in self.catalog.entities("vip_address") if isinstance(entity, VipAddress)]

    async def tells(self, *names: str) -> None:
        """Wait until it tells exactly these names."""
        await until(lambda: set(self.told) == set(names))

    async def tells_all(self, names: Iterable[str]) -> None:
        """Wait until it tells these names."""
        await until(lambda: set(names) <= set(self.told))

    async def settled(self) -> None:
        """Wait until its catalog has been told all that is known."""
        await until(lambda: self.catalog.sources["vips"].synced)


@contextlib.asynccontextmanager
async def running(*servers: Server) -> AsyncIterator[None]:
    """Run servers until the end of the context."""
    tasks = []
    try:
        for server in servers:
            tasks.append(asyncio.create_task(server.allocator.run()))
            await asyncio.sleep(0)
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_of(servers: Iterable[Server], condition: Callable[[Server], object]) -> None:
    """Wait until a condition holds for every server."""
    await until(lambda: all(condition(server) for server in servers))


def stored(memory: Memory) -> dict[str, str]:
    """address → name of all shards."""
    found: dict[str, str] = {}
    for number in range(64):
        if (value := memory.values.get(shard_key(number))) is not None:
            found |= {entry.address: entry.name for entry in decode(value.value, number).values()}
    return found


def entry(address: str, name: str, used: int = NOW) -> Entry:
    version, number = parsed(address)
    return Entry(address, name, used, version, number)


def store(memory: Memory, *entries: Entry) -> None:
    """Have entries stored, each in a shard of its own."""
    for new in entries:
        memory.write(shard_key(new.shard), encode([new]))
