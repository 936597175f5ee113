"""Suspects: what servers say, what all make of it, and what the catalog gets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import pytest

from agent import reachability
from agent.coordinators import StateDirCoordinator
from agent.reachability import ReachabilitySource, Statement, merged, read_statement
from mesos_dns.catalog import Catalog
from mesos_dns.hearing import SILENT, Hearing
from mesos_dns.model import Put, Suspect
from mesos_dns.publish import CatalogPublisher

NODES = tuple(f"10.0.0.{number}" for number in range(1, 11))


def test_one_server_suspects_and_none_hears() -> None:
    assert merged([Statement(("10.0.0.1",)), Statement()], NODES) == {"10.0.0.1"}
    assert merged([Statement(("10.0.0.1",)), Statement((), ("10.0.0.1",))], NODES) == frozenset()


def test_only_nodes_are_suspect() -> None:
    assert merged([Statement(("192.0.2.1",))], NODES) == frozenset()
    assert merged([Statement(("10.0.0.1",))], ()) == frozenset()


@pytest.mark.parametrize(("count", "suspect"), [(1, 1), (3, 3), (4, 0), (10, 0)])
def test_more_than_three_in_ten_are_the_observers_fault(count: int, suspect: int) -> None:
    assert len(merged([Statement(NODES[:count])], NODES)) == suspect


def test_one_node_of_few_may_be_suspect_but_not_the_only_one() -> None:
    assert merged([Statement(NODES[:1])], NODES[:2]) == {"10.0.0.1"}
    assert merged([Statement(NODES[:2])], NODES[:3]) == frozenset()
    assert merged([Statement(NODES[:1])], NODES[:1]) == frozenset()


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b'{"suspects":[1]}', b'{"suspects":["x"]}', b'{"alive":["010.0.0.1"]}', b"[" * 100_000],
)
def test_what_is_no_statement(value: bytes) -> None:
    assert read_statement(value) is None


def test_a_statement() -> None:
    assert read_statement(b'{"suspects":["10.0.0.1"],"newer":1}') == Statement(("10.0.0.1",))


class Server:
    """A server's hearing by a clock of its own, and what it publishes."""

    def __init__(self, folder: Path | None, nodes: Collection[str] = NODES) -> None:
        self.now = 0.0
        self.hearing = Hearing(lambda: self.now)
        self.catalog = Catalog()
        self.coordinator = StateDirCoordinator(folder, poll=0.02) if folder is not None else None
        publisher = CatalogPublisher(self.catalog, "reachability")
        self.listed = 0

        def listed() -> Collection[str]:
            self.listed += 1
            return nodes

        self.source = ReachabilitySource(publisher, self.hearing, listed, self.coordinator)

    def enter(self, *addresses: str) -> None:
        """Followers connect from there, and are told everything."""
        for address in addresses:
            self.hearing.enter(address)
            self.hearing.in_sync(address)

    def pass_time(self, *heard: str) -> None:
        """So much that who said nothing is silent, without a stall; these are heard all the time."""
        for _ in range(10):
            self.now += SILENT / 5
            for address in heard:
                self.hearing.heard(address)
            self.hearing.look()

    def published(self) -> set[str]:
        """Addresses."""
        return {entity.address for entity in self.catalog.entities("reachability") if isinstance(entity, Suspect)}


@contextlib.asynccontextmanager
async def running(*servers: Server) -> AsyncIterator[None]:
    """While they run."""
    tasks = [asyncio.create_task(server.source.run()) for server in servers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for server in servers:
            if server.coordinator is not None:
                server.coordinator.close()


async def until(condition: Callable[[], bool]) -> None:
    """A minute at most."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_a_server_alone_believes_itself() -> None:
    server = Server(None)
    server.enter("10.0.0.1")
    async with running(server):
        server.pass_time()
        await until(lambda: server.published() == {"10.0.0.1"})
        server.hearing.heard("10.0.0.1")
        await until(lambda: not server.published())


@pytest.mark.asyncio
async def test_servers_tell_each_other(tmp_path: Path) -> None:
    one, other = Server(tmp_path), Server(tmp_path)
    one.enter(*NODES)
    async with running(one, other):
        one.pass_time(*NODES[2:])
        await until(lambda: one.published() == other.published() == {"10.0.0.1", "10.0.0.2"})
        other.hearing.enter("10.0.0.2")  # it has gone over to the other server, which is telling it everything
        await until(lambda: one.published() == other.published() == {"10.0.0.1"})


@pytest.mark.asyncio
async def test_what_a_dead_server_said_is_forgotten(tmp_path: Path) -> None:
    one, other = Server(tmp_path), Server(tmp_path)
    one.enter("10.0.0.1")
    async with running(other):
        async with running(one):
            one.pass_time()
            await until(lambda: other.published() == {"10.0.0.1"})
        await until(lambda: not other.published())


@pytest.mark.parametrize(
    ("followers", "silent", "told"), [(1, 1, 1), (2, 1, 1), (2, 2, 0), (7, 2, 2), (7, 3, 0), (10, 3, 3), (10, 10, 0)]
)
def test_a_server_that_hears_nothing_of_most_of_its_followers_suspects_nobody(
    followers: int, silent: int, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(None)
    server.enter(*NODES[:followers])
    server.pass_time(*NODES[silent:followers])
    assert server.source.statement().suspects == NODES[:told]
    server.source.statement()
    assert len(caplog.messages) == (0 if told else 1)
    assert "too many followers are silent" in caplog.text or told


def test_a_server_that_suspects_nobody_says_whom_it_hears() -> None:
    server = Server(None)
    server.enter(*NODES)
    server.pass_time(NODES[9])
    server.source._others = {"other": Statement((NODES[9], NODES[8]))}
    assert server.source.statement() == Statement((), (NODES[9],))


def restored(server: Server, address: str) -> None:
    """An earlier process, or the source before a reload, suspected this one."""
    server.catalog.publish("reachability", Put(Suspect(address)))


def counted_looks(server: Server, monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Released with each look at who is silent."""
    looks, look = asyncio.Semaphore(0), server.hearing.look

    def counted() -> frozenset[str]:
        looks.release()
        return look()

    monkeypatch.setattr(server.hearing, "look", counted)
    return looks


@pytest.mark.asyncio
async def test_what_was_suspected_before_is_replaced_by_the_first_look() -> None:
    server = Server(None)
    restored(server, "10.0.0.9")
    restored(server, "10.0.0.1")
    server.enter("10.0.0.1")
    server.pass_time()
    seen: list[set[str]] = []
    server.catalog.listen(lambda delta: seen.append(server.published()), replay=False)
    async with running(server):
        await until(lambda: server.catalog.sources["reachability"].synced)
        server.catalog.flush()
        assert seen == [{"10.0.0.1"}]


@pytest.mark.asyncio
async def test_what_was_restored_later_is_replaced_too() -> None:
    server = Server(None)
    restored(server, "10.0.0.9")  # the source was made before
    async with running(server):
        await until(lambda: not server.published())


@pytest.mark.asyncio
async def test_what_was_suspected_before_stays_until_the_others_were_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(reachability, "PICTURE_WAIT", 1000.0)
    one, other = Server(tmp_path), Server(tmp_path)
    restored(other, "10.0.0.1")
    restored(other, "10.0.0.2")
    one.enter("10.0.0.1")
    looks = counted_looks(other, monkeypatch)
    assert other.coordinator is not None
    pictured, watch = asyncio.Event(), other.coordinator.watch

    async def late(prefix: str) -> AsyncIterator[dict[str, bytes]]:
        await pictured.wait()
        async for values in watch(prefix):
            yield values

    monkeypatch.setattr(other.coordinator, "watch", late)
    async with running(one, other):
        one.pass_time()
        await until(lambda: one.published() == {"10.0.0.1"})
        async with asyncio.timeout(60):
            for _ in range(10):
                await looks.acquire()
        assert other.published() == {"10.0.0.1", "10.0.0.2"}
        seen: list[set[str]] = []
        other.catalog.listen(lambda delta: seen.append(other.published()), replay=False)
        pictured.set()
        await until(lambda: other.published() == {"10.0.0.1"})
        other.catalog.flush()
        assert seen == [{"10.0.0.1"}]


@pytest.mark.asyncio
async def test_a_coordinator_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(reachability, "PICTURE_WAIT", 0.05)
    server = Server(tmp_path)
    restored(server, "10.0.0.1")
    assert server.coordinator is not None

    async def never(prefix: str) -> AsyncIterator[dict[str, bytes]]:
        await asyncio.Event().wait()
        yield {}

    monkeypatch.setattr(server.coordinator, "watch", never)
    async with running(server):
        await until(lambda: not server.published())


@pytest.mark.asyncio
async def test_the_nodes_are_listed_only_while_somebody_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "LOOK_EVERY", 0.01)
    server = Server(None)
    server.enter("10.0.0.1")
    looks = counted_looks(server, monkeypatch)
    async with running(server):
        async with asyncio.timeout(60):
            for _ in range(10):
                await looks.acquire()
        assert server.listed == 0
        server.pass_time()
        await until(lambda: server.published() == {"10.0.0.1"})
        assert server.listed
