"""The leader's shards: taken over, fenced, written now and then, and never beside another leader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from lb7.autoscale.history import History
from lb7.autoscale.state import PAGES, SHARDS, Intent, Record, decode, digest, page_key, shard_of
from lb7.autoscale.state_store import GAP, LOOK_EVERY, SOON, WRITE_EVERY, Deposed, StateStore, read_all
from mesos_dns.coordinate import CoordinatorLost
from tests.fakes.memory_coordinator import Memory, MemoryCoordinator
from tests.fakes.virtual_time import run

KEY = ("app", "mesos", "marathon-1", "/web")
NUMBER = shard_of(digest(KEY))


class Leader:
    """A store and what it keeps of one app."""

    def __init__(self, coordinator: MemoryCoordinator, name: str = "one") -> None:
        self.record = Record(KEY)
        self.store = StateStore(coordinator, name, lambda number: [self.record] if number == NUMBER else [])

    def intend(self, after: int) -> None:
        self.record = Record(KEY, History(), Intent(1, after, 5.0, "up"))

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[asyncio.Task[None]]:
        """Write in the background."""
        task = asyncio.create_task(self.store.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def stored(memory: Memory) -> Record | None:
    shard, _ = decode(memory.values[page_key(NUMBER)].value, NUMBER)
    return shard.apps[0] if shard.apps else None


def test_taking_over_reads_and_fences_all() -> None:
    async def main() -> None:
        memory = Memory()
        old, new = Leader(memory.client()), Leader(memory.client(), "two")
        assert await old.store.take_over() == []
        old.intend(5)
        await old.store.secure(NUMBER)
        assert await new.store.take_over() == [old.record]
        assert sorted(memory.values) == [page_key(number) for number in (*range(SHARDS, PAGES), *range(SHARDS))]
        old.intend(6)
        with pytest.raises(Deposed):
            await old.store.secure(NUMBER)
        assert stored(memory) == Record(KEY, History(), Intent(1, 5, 5.0, "up"))
        async with old.writing() as task:
            with pytest.raises(Deposed):
                await task
        assert await read_all(memory.client()) == ("two", [Record(KEY, History(), Intent(1, 5, 5.0, "up"))])

    run(main())


def test_what_moves_on_is_written_now_and_then_and_an_intent_at_once() -> None:
    async def main() -> None:
        memory = Memory()
        leader = Leader(memory.client())
        await leader.store.take_over()
        async with leader.writing():
            for _ in range(60):
                leader.store.touch(NUMBER)
                await asyncio.sleep(1.0)
            assert 8 <= leader.store.writes <= 2 * (60 / WRITE_EVERY + 1), "of two pages"
            leader.intend(7)
            leader.store.touch(NUMBER, urgent=True)
            await asyncio.sleep(SOON + LOOK_EVERY)
            assert stored(memory) == leader.record
            leader.intend(8)
            await leader.store.secure(NUMBER)
            assert stored(memory) == leader.record

    run(main())


def test_many_that_secure_one_shard_are_few_writes() -> None:
    async def main() -> None:
        memory = Memory()
        leader = Leader(memory.client())
        await leader.store.take_over()
        leader.intend(3)
        await asyncio.gather(*(leader.store.secure(NUMBER) for _ in range(50)))
        assert leader.store.writes <= 2
        assert stored(memory) == leader.record
        began = asyncio.get_running_loop().time()
        for number in range(10):
            leader.intend(number)
            await leader.store.secure(NUMBER)
        assert asyncio.get_running_loop().time() - began >= 10 * GAP

    run(main())


def test_a_lost_answer_is_looked_up() -> None:
    async def main() -> None:
        memory = Memory()
        coordinator = memory.client()
        leader = Leader(coordinator)
        await leader.store.take_over()
        leader.intend(3)
        coordinator.lose_answers = 1
        with pytest.raises(CoordinatorLost):
            await leader.store.secure(NUMBER)
        leader.intend(4)
        await leader.store.secure(NUMBER)
        assert stored(memory) == leader.record
        coordinator.refuse = 1
        with pytest.raises(CoordinatorLost):
            await leader.store.secure(NUMBER)
        await leader.store.flush()
        assert stored(memory) == leader.record

    run(main())


def test_what_the_coordinator_lost_is_stored_again() -> None:
    async def main() -> None:
        memory = Memory()
        leader = Leader(memory.client())
        await leader.store.take_over()
        del memory.values[page_key(NUMBER)]
        leader.intend(4)
        await leader.store.secure(NUMBER)
        assert stored(memory) == leader.record

    run(main())


def test_a_coordinator_that_is_away_is_waited_for() -> None:
    async def main() -> None:
        memory = Memory()
        leader = Leader(memory.client())
        await leader.store.take_over()
        async with leader.writing() as task:
            memory.lost = True
            leader.intend(4)
            leader.store.touch(NUMBER, urgent=True)
            await asyncio.sleep(20)
            memory.lost = False
            await asyncio.sleep(3)
            assert stored(memory) == leader.record
            assert not task.done()
        memory.lost = True
        with pytest.raises(CoordinatorLost):
            await Leader(memory.client()).store.take_over()

    run(main())


def test_one_that_writes_without_end_deposes() -> None:
    async def main() -> None:
        memory = Memory()
        coordinator = memory.client()
        coordinator.before_put = lambda key: memory.write(key, b"{}")
        with pytest.raises(Deposed):
            await Leader(coordinator).store.take_over()

    run(main())
