"""When drained tasks leave the catalog: whoever told of them, also from before a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from agent import drain_expiry
from agent.drain_expiry import SLACK, DrainExpiry
from mesos_dns.catalog import Catalog
from mesos_dns.model import Draining, Drop, Framework, Put, Sync

pytestmark = pytest.mark.asyncio


class World:
    """A catalog of two sources, and a clock that is the test's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.catalog = Catalog()
        for source in ("relay", "draining"):
            self.catalog.register(source)
        self.expiry = DrainExpiry(self.catalog, lambda: self.now)

    def put(self, source: str, task: str, until: float) -> None:
        self.catalog.publish(source, Put(Draining("F", task, until)))
        self.catalog.flush()

    async def at(self, now: float) -> list[str]:
        """What is drained at a time."""
        self.now = now
        await self.expiry.look()
        self.catalog.flush()
        return self.drained()

    def drained(self) -> list[str]:
        return sorted(key[-1] for source in self.catalog.sources for key in self.catalog.said(source))


async def test_what_is_over_goes_and_of_another_server_later() -> None:
    world = World()
    world.expiry.follow()
    world.put("draining", "own", 1010.0)
    world.put("relay", "told", 1010.0)
    world.put("draining", "later", 1020.0)
    assert len(world.expiry) == 3
    assert await world.at(1009.9) == ["later", "own", "told"]
    assert await world.at(1010.0) == ["later", "told"]
    assert await world.at(1019.0) == ["later", "told"]
    assert await world.at(1020.0) == ["told"]
    assert await world.at(1010.0 + SLACK) == []
    assert len(world.expiry) == 0


async def test_what_is_taken_back_or_put_off() -> None:
    world = World()
    world.expiry.follow()
    world.put("draining", "a", 1010.0)
    world.put("draining", "b", 1010.0)
    world.put("draining", "a", 1030.0)
    world.catalog.publish("draining", Drop(("draining", "mesos", "F", "b")))
    world.catalog.publish("draining", Put(Framework("F", "marathon")))
    world.catalog.flush()
    assert len(world.expiry) == 1
    assert await world.at(1010.0) == ["F", "a"]
    assert await world.at(1030.0) == ["F"]


async def test_another_source_may_say_that_it_goes_on() -> None:
    world = World()
    world.expiry.follow()
    world.put("draining", "a", 1010.0)
    world.put("relay", "a", 1020.0)
    world.put("draining", "a", 1010.5)
    assert await world.at(1011.0) == ["a"]
    assert world.catalog.said("draining") == {}
    assert await world.at(1019.0 + SLACK) == ["a"]
    assert await world.at(1020.0 + SLACK) == []


async def test_what_was_there_before_counts_too_and_nothing_is_heard_after_the_end() -> None:
    world = World()
    world.put("relay", "a", 10.0)
    world.expiry.follow()
    world.catalog.flush()
    assert await world.at(1000.0) == []
    world.expiry.close()
    world.put("relay", "a", 10.0)
    assert await world.at(1000.0) == ["a"]


async def test_many_go_in_several_turns_of_the_loop() -> None:
    world = World()
    world.expiry.follow()
    count = 2 * drain_expiry.SLICE + 1
    world.catalog.publish("draining", Sync(tuple([Draining("F", str(number), 1010.0) for number in range(count)])))
    world.catalog.flush()
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    await asyncio.sleep(0)
    assert await world.at(1010.0) == []
    turning.cancel()
    assert turns


@contextlib.asynccontextmanager
async def running(expiry: DrainExpiry) -> AsyncIterator[None]:
    task = asyncio.create_task(expiry.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_it_waits_for_what_comes_and_for_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.expiry.follow()
    async with running(world.expiry):
        await asyncio.sleep(0)
        world.put("draining", "now", 1000.0)
        await until(lambda: not world.drained())
        world.put("draining", "soon", 1000.05)
        monkeypatch.setattr(drain_expiry, "LONGEST_WAIT", 0.01)
        world.put("draining", "late", 5000.0)
        world.now = 1000.06
        await until(lambda: world.drained() == ["late"])
        world.now = 5000.0  # the clock was set
        await until(lambda: not world.drained())
