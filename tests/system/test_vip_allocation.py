"""Three servers allocate the addresses of VIPs over a real ZooKeeper: leaders end, and ZooKeeper does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from agent.zookeeper_coordinator import ZooKeeperCoordinator
from lb4 import allocator as module
from lb4.addresses import network_range
from lb4.allocations import SHARDS, decode, shard_key
from lb4.allocator import Allocator
from mesos_dns.catalog import Catalog
from mesos_dns.model import VipAddress
from mesos_dns.publish import CatalogPublisher
from mesos_dns.zookeeper import Session
from tests.coordinator_clients import line, process
from tests.system.ensemble import Ensemble, ensemble
from tests.zookeeper_clients import session, unique_path, until
from tests.zookeeper_faults import drop, end_session, lose_answers

pytestmark = pytest.mark.asyncio

RANGES = ("11.0.0.0/23", "fd01:c::/64")
"""The first is so narrow that names collide."""

BOTH = frozenset({4, 6})


class Server:
    """One server's allocator over a session of its own."""

    def __init__(self, opened: Session, root: str) -> None:
        self.session = opened
        self.coordinator = ZooKeeperCoordinator(opened, root)
        self.wanted: dict[str, frozenset[int]] = {}
        self.catalog = Catalog()
        ranges = [network_range(RANGES[0], 4), network_range(RANGES[1], 6)]
        self.allocator = Allocator(
            self.coordinator, ranges, CatalogPublisher(self.catalog, "vips"), lambda: self.wanted
        )

    @property
    def told(self) -> dict[str, VipAddress]:
        """What it tells, by name."""
        return {e.name: e for e in self.catalog.entities("vip_address") if isinstance(e, VipAddress)}

    def want(self, names: Iterable[str]) -> None:
        """Use more names."""
        self.wanted |= dict.fromkeys(names, BOTH)
        self.allocator.changed()


@contextlib.asynccontextmanager
async def server(servers: Ensemble, root: str, timeout: float = 2.0) -> AsyncIterator[Server]:
    """A server that runs until the end of the context."""
    async with session(servers, session_timeout=timeout) as opened:
        one = Server(opened, root)
        running = asyncio.create_task(one.allocator.run())
        try:
            yield one
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])
            await one.coordinator.close()


def names(count: int, start: int = 0) -> list[str]:
    return [f"svc-{number}.marathon" for number in range(start, start + count)]


async def agree(group: list[Server], count: int) -> None:
    """Wait until all tell the same `count` names; no address is there twice."""

    def same() -> bool:
        first = group[0].told
        return len(first) == count and all(one.told == first for one in group)

    await until(lambda: same() and all(e.address and e.address6 for e in group[0].told.values()), 60)
    for addresses in ([e.address for e in group[0].told.values()], [e.address6 for e in group[0].told.values()]):
        assert len(set(addresses)) == count


async def stored(one: Server) -> list[tuple[str, str]]:
    """(address, name) of all that is stored."""
    found = []
    for number in range(SHARDS):
        if (value := await one.coordinator.get(shard_key(number))) is not None:
            found += [(entry.address, entry.name) for entry in decode(value.value, number).values()]
    return found


async def test_leaders_end_and_others_go_on(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with contextlib.AsyncExitStack() as stack:
        group = [await stack.enter_async_context(server(zookeeper, root)) for _ in range(3)]
        for one in group:
            one.want(names(150))
        await agree(group, 150)
        before = dict(group[0].told)
        for round_ in range(1, 4):
            await until(lambda: sum(one.allocator.leading for one in group) == 1)
            (leader,) = [one for one in group if one.allocator.leading]
            for one in group:
                one.want(names(50, 100 + 50 * round_))
            match round_:
                case 1:
                    await end_session(zookeeper, leader.session)
                case 2:
                    await drop(leader.session)
                case _:
                    with lose_answers(leader.session, "set", 3):
                        await agree(group, 100 + 50 * round_ + 50)
            await agree(group, 150 + 50 * round_)
            assert before.items() <= group[0].told.items()
            before = dict(group[0].told)
        rows = await stored(group[0])
        assert sorted(rows) == sorted((a, e.name) for e in before.values() for a in (e.address, e.address6))


async def test_a_killed_leaders_work_is_gone_on_with(zookeeper: Ensemble) -> None:
    root = unique_path()
    program = (
        "import asyncio\nfrom tests.system.test_vip_allocation import Server, names\n"
        "from mesos_dns.zookeeper import Session\nfrom mesos_dns.zookeeper_target import Target, parse_hosts\n"
        "async def main():\n"
        f"    s = Session(Target(parse_hosts({zookeeper.hosts!r}), session_timeout=1.0))\n    s.start()\n"
        f"    one = Server(s, {root!r})\n    one.wanted = dict.fromkeys(names(300), frozenset({{4, 6}}))\n"
        "    run = asyncio.create_task(one.allocator.run())\n"
        "    while not one.allocator.store.counters.writes: await asyncio.sleep(0)\n"
        "    print('writing', flush=True)\n    await run\n"
        "asyncio.run(main())\n"
    )
    with process(program) as child:
        assert await line(child) == "writing"
        async with server(zookeeper, root) as one, server(zookeeper, root) as other:
            child.send_signal(signal.SIGKILL)
            for each in (one, other):
                each.want(names(300))
            await agree([one, other], 300)
            rows = await stored(one)
            assert len(rows) == len(set(rows)) == 600


async def test_zookeeper_ends_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE", 0.1)
    with ensemble(tmp_path) as zookeeper:
        async with contextlib.AsyncExitStack() as stack:
            group = [await stack.enter_async_context(server(zookeeper, "/pharos")) for _ in range(3)]
            for one in group:
                one.want(names(100))
            await agree(group, 100)
            before = dict(group[0].told)
            await asyncio.to_thread(zookeeper.servers[0].kill)
            for one in group:
                one.want(names(20, 100))
            await until(lambda: all(one.catalog.sources["vips"].stale for one in group))
            await until(lambda: all(len(one.allocator.without_address) == 20 for one in group))
            assert all(one.told == before for one in group)
            assert all(one.allocator.status["last_error"] for one in group)

            await asyncio.to_thread(zookeeper.servers[0].start)
            await asyncio.to_thread(zookeeper.wait)
            await agree(group, 120)
            assert before.items() <= group[0].told.items()
            await until(lambda: not any(one.catalog.sources["vips"].stale for one in group))

            # All of its data are lost: what was told is stored again.
            before = dict(group[0].told)
            await asyncio.to_thread(zookeeper.servers[0].kill)
            await asyncio.to_thread(zookeeper.servers[0].wipe)
            await asyncio.to_thread(zookeeper.servers[0].start)
            await asyncio.to_thread(zookeeper.wait)
            for one in group:
                one.want(names(20, 120))
            await agree(group, 140)
            assert before.items() <= group[0].told.items()
            assert len(await stored(group[0])) == 280
