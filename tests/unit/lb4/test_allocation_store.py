"""The store: pictures and reads, one write for each shard, conflicts, lost answers, damage, and lost data."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lb4.addresses import network_range, parsed
from lb4.allocation_store import AllocationStore
from lb4.allocations import SHARDS, Entry, encode, shard_key
from lb4.allotment import Change, Changes
from mesos_dns.coordinate import ABSENT, CoordinatorLost, Versioned
from tests.fakes.memory_coordinator import Memory, MemoryCoordinator

pytestmark = pytest.mark.asyncio

NOW = 1_700_000_000
RANGE = network_range("11.0.0.0/8", 4)


def entry(address: str, name: str, used: int = NOW) -> Entry:
    version, number = parsed(address)
    return Entry(address, name, used, version, number)


class Stored:
    """A store on a coordinator in memory; `told` is what it said of changes."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self.client: MemoryCoordinator = self.memory.client()
        self.told: list[tuple[set[str], bool]] = []
        self.store = AllocationStore(self.client, {4: RANGE}, self._hear)
        self.store.distrust()

    def _hear(self, names: set[str], *, ours: bool) -> None:
        self.told.append((names, ours))

    async def add(self, *entries: Entry, acts: bool = True) -> bool:
        """Write entries to addresses that are free."""
        changes: Changes = {}
        for new in entries:
            changes.setdefault(new.shard, {})[new.address] = Change(None, new)
        return await self.store.write(changes, {}, NOW, lambda: acts)

    def show(self) -> None:
        """Let the watch show what is stored."""
        self.store.picture = {key: found.value for key, found in self.memory.values.items()}


async def test_what_is_written_can_be_read_by_another() -> None:
    one = Stored()
    await one.store.read()
    assert one.client.gets == SHARDS
    entries = [entry("11.0.0.1", "a"), entry("11.0.0.65", "b"), entry("11.0.0.2", "c")]
    assert await one.add(*entries)
    assert one.memory.puts == ["vips/01", "vips/02"]
    assert [told for told in one.told if told[0]] == [({"a", "b"}, True), ({"c"}, True)]
    other = Stored(one.memory)
    await other.store.read()
    assert set(other.store.book) == set(entries)
    assert sorted((sorted(names), ours) for names, ours in other.told) == [(["a", "b"], False), (["c"], False)]
    assert one.store.counters.writes == 2


async def test_a_picture_is_what_others_take() -> None:
    one, other = Stored(), Stored()
    await one.store.read()
    await one.add(entry("11.0.0.1", "a"))
    one.show()
    other.store.picture = one.store.picture
    await other.store.take_picture()
    assert other.store.book.owner("11.0.0.1") == "a"
    assert other.client.gets == 0
    assert other.told == [({"a"}, False)]
    await other.store.take_picture()
    assert len(other.told) == 1


async def test_what_a_picture_still_shows_is_no_news() -> None:
    one = Stored()
    old, new = encode([entry("11.0.0.1", "a")]), encode([entry("11.0.0.1", "b")])
    one.memory.write("vips/01", new)
    one.store.picture = {"vips/01": old}
    await one.store.take_picture()
    assert one.store.book.owner("11.0.0.1") == "a"
    one.store.distrust()
    await one.store.read()
    one.store.picture = {"vips/01": old, "vips/02": encode([entry("11.0.0.2", "c")])}
    await one.store.take_picture()
    assert [one.store.book.owner(f"11.0.0.{n}") for n in (1, 2)] == ["b", "c"]
    one.store.picture = {"vips/01": new}
    await one.store.take_picture()
    one.store.picture = {"vips/01": old}
    await one.store.take_picture()
    assert [one.store.book.owner(f"11.0.0.{n}") for n in (1, 2)] == ["a", "c"]


async def test_only_what_a_watch_shows_to_be_different_is_read_again() -> None:
    one = Stored()
    await one.store.read()
    one.client.gets = 0
    await one.store.read()
    await one.add(entry("11.0.0.1", "a"))
    await one.store.read()
    assert one.client.gets == 0
    one.store.picture = {}  # older than our write
    await one.store.read()
    await one.store.read()
    assert one.client.gets == 1
    one.memory.write("vips/05", encode([entry("11.0.0.5", "b")]))
    one.memory.write("vips/elsewhere", b"?")
    one.show()
    await one.store.read()
    assert one.client.gets == 2
    assert one.store.book.owner("11.0.0.5") == "b"


async def test_a_watch_that_shows_again_what_was_before_is_news() -> None:
    one = Stored()
    one.store.picture = {}
    await one.store.read()
    await one.add(entry("11.0.0.1", "a"))
    for _ in range(2):
        one.show()
        await one.store.read()
        one.client.gets = 0
        one.memory.values.clear()  # all is lost, and then all is lost again
        one.show()
        await one.store.read()
        assert one.client.gets == 1
        assert await one.store.write({}, {}, NOW, lambda: True)
        assert list(one.memory.values) == ["vips/01"]


async def test_what_is_lost_before_a_watch_showed_it_is_news() -> None:
    one = Stored()
    one.store.picture = {}
    await one.store.read()
    await one.add(entry("11.0.0.1", "a"))
    one.memory.values.clear()
    one.client.gets = 0
    await one.store.read()
    assert one.client.gets == 1
    assert one.store.book.shards[1].version == ABSENT


async def test_what_was_only_old_once_is_news_when_it_comes_back() -> None:
    one = Stored()
    old, new = encode([entry("11.0.0.1", "a")]), encode([entry("11.0.0.1", "b")])
    one.memory.write("vips/01", new)
    await one.store.read()
    one.store.picture = {"vips/01": old}
    await one.store.read()
    one.show()
    await one.store.read()
    assert one.store.book.owner("11.0.0.1") == "b"
    one.memory.write("vips/01", old)
    one.show()
    await one.store.read()
    assert one.store.book.owner("11.0.0.1") == "a"


async def test_a_conflict_is_found_and_settled_by_reading_again() -> None:
    one, other = Stored(), None
    other = Stored(one.memory)
    for stored in (one, other):
        await stored.store.read()
    assert await one.add(entry("11.0.0.1", "a"))
    assert not await other.add(entry("11.0.0.1", "b"), entry("11.0.0.2", "b"))
    assert other.store.counters.conflicts == 1
    assert other.store.book.owner("11.0.0.2") == "b"  # the other shard's write was fine
    other.client.gets = 0
    await other.store.read()
    assert other.client.gets == 1
    assert other.store.book.owner("11.0.0.1") == "a"
    assert not await other.add(entry("11.0.0.1", "b"), entry("11.0.0.65", "c"))  # what was free is not
    assert other.store.book.owner("11.0.0.1") == "a"
    assert other.store.book.owner("11.0.0.65") == "c"


async def test_an_answer_that_is_lost_leaves_open_what_is_stored() -> None:
    one = Stored()
    await one.store.read()
    one.client.lose_answers = 1
    with pytest.raises(CoordinatorLost):
        await one.add(entry("11.0.0.1", "a"), entry("11.0.0.2", "b"))
    assert one.store.book.owner("11.0.0.1") == ""
    assert one.store.book.owner("11.0.0.2") == "b"
    assert not await one.add(entry("11.0.0.1", "c"))  # its version is not known
    await one.store.read()
    assert one.store.book.owner("11.0.0.1") == "a"


async def test_nothing_is_written_by_one_who_may_not_act() -> None:
    one = Stored()
    await one.store.read()
    assert not await one.add(entry("11.0.0.1", "a"), acts=False)
    assert one.memory.puts == []


async def test_while_nobody_is_there_what_is_known_stays() -> None:
    one = Stored()
    await one.store.read()
    await one.add(entry("11.0.0.1", "a"))
    one.memory.lost = True
    one.store.distrust()
    with pytest.raises(CoordinatorLost):
        await one.store.read()
    assert one.store.book.owner("11.0.0.1") == "a"
    assert "entries=1" in repr(one.store)


async def test_a_damaged_shard_is_said_once_and_never_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    one = Stored()
    one.memory.write("vips/01", b'{"format":9,"addresses":[]}')
    one.memory.write("vips/02", encode([entry("11.0.0.2", "b")]))
    await one.store.read()
    one.store.distrust()
    await one.store.read()
    assert one.store.damaged == {"vips/01": "format 9, expected 1"}
    assert one.store.counters.damaged == 1
    (said,) = caplog.messages
    assert "key=vips/01 reason=format 9, expected 1" in said
    assert one.store.book.owner("11.0.0.2") == "b"
    assert not await one.add(entry("11.0.0.1", "a"))
    assert one.memory.values["vips/01"] == Versioned(b'{"format":9,"addresses":[]}', 0)
    one.memory.write("vips/01", encode([entry("11.0.0.1", "c")]))
    one.show()
    await one.store.read()
    assert one.store.damaged == {}
    assert await one.add(entry("11.0.0.65", "a"))


async def test_what_the_coordinator_lost_is_stored_again() -> None:
    one = Stored()
    await one.store.read()
    await one.add(entry("11.0.0.1", "a"), entry("11.0.0.2", "b"))
    before = {key: found.value for key, found in one.memory.values.items()}
    one.memory.values.clear()
    one.show()
    await one.store.take_picture()
    assert one.store.book.owner("11.0.0.1") == "a"
    one.store.distrust()
    await one.store.read()
    assert await one.add(entry("11.0.0.3", "c"))
    assert {key: one.memory.values[key].value for key in before} == before
    assert shard_key(3) in one.memory.values


async def test_one_shard_is_one_write_however_many_are_in_it() -> None:
    one = Stored()
    await one.store.read()
    assert await one.add(*(entry(f"11.0.{n}.1", f"n{n}") for n in range(250)))
    assert one.memory.puts == ["vips/01"]


async def test_a_cancelled_write_leaves_open_what_is_stored() -> None:
    one = Stored()
    await one.store.read()
    began = asyncio.Event()

    async def never(key: str, value: bytes, version: int) -> int:
        began.set()
        await asyncio.Event().wait()
        return 0

    one.client.put_if = never  # type: ignore[method-assign]
    task = asyncio.create_task(one.add(entry("11.0.0.1", "a")))
    await asyncio.wait_for(began.wait(), 60)
    task.cancel()
    await asyncio.wait([task])
    assert one.store.book.shards[1].version is None
    assert one.store.book.shards[2].version == ABSENT
