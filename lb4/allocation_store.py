"""The book of VIPs' addresses and the coordinator that it is stored in, by shards and compare-and-set:

1. What a watch shows is a hint for one who writes: a shard that it shows to be different is read again, and
   a write names the version that was read. Others take what it newly shows, and read all now and then.
2. What was known of a shard that is gone (the coordinator lost its data) is written again.
3. All that is to be written to one shard is one write, however many names it is for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from lb4.addresses import AddressRange
from lb4.allocations import SHARDS, Book, Shard, encode, read_shard, shard_key, unread
from lb4.allotment import Change, Changes, Wanted, applied
from mesos_dns.coordinate import ABSENT, Coordinator, VersionConflict
from mesos_dns.sources.counters import Complaints

log = logging.getLogger(__name__)

TOGETHER = 4
"""Shards that are read or written at the same time."""

T = TypeVar("T")


class StoreCounters:
    """One store's totals since the process started."""

    def __init__(self) -> None:
        self.writes = 0
        self.conflicts = 0
        self.damaged = 0


class Told(Protocol):
    """Who hears what has changed in the book."""

    def __call__(self, names: set[str], *, ours: bool) -> None:
        """The addresses of these names are others now, by a write of our own or of another."""


class AllocationStore:
    """See the module. One task at a time may call what changes the book (`take_picture`, `read`, `write`).

    `picture` is the last that a watch of PREFIX showed: key → value; None before the first.
    """

    def __init__(self, coordinator: Coordinator, ranges: Mapping[int, AddressRange], changed: Told) -> None:
        self.book = Book(ranges)
        self.counters = StoreCounters()
        self.picture: Mapping[str, bytes] | None = None
        self._coordinator = coordinator
        self._changed = changed
        self._checked: dict[int, bytes | None] = {}  # what the watch showed of a shard when it was last read
        self._shown: list[bytes | None] = [None] * SHARDS  # what the watch showed when a picture was taken
        self._preparing = asyncio.Lock()
        self._complain = Complaints(log)

    def __repr__(self) -> str:
        return f"<AllocationStore entries={len(self.book)} damaged={sorted(self.damaged)}>"

    @property
    def damaged(self) -> dict[str, str]:
        """The keys of shards that can't be read, each with the reason."""
        return {shard_key(n): shard.damage for n, shard in enumerate(self.book.shards) if shard.damage}

    async def take_picture(self) -> None:
        """Let the book be what the last picture shows, where that is another than the one taken before shows."""
        picture = self.picture or {}
        for number in range(SHARDS):
            value, shard = picture.get(shard_key(number)), self.book.shards[number]
            is_news = value != self._shown[number]
            self._shown[number] = value
            if is_news and value != shard.value:
                self._put(number, read_shard(shard, number, value, ABSENT if value is None else None))
                await asyncio.sleep(0)

    def distrust(self) -> None:
        """Have everything be read again before it is written."""
        for number, shard in enumerate(self.book.shards):
            self.book.shards[number] = unread(shard)

    async def read(self) -> None:
        """Read the shards whose version is not known, or of which the watch shows something else.

        Raises CoordinatorLost.
        """
        picture, stale = self.picture, []
        for number, shard in enumerate(self.book.shards):
            shown = picture.get(shard_key(number)) if picture is not None else shard.value
            if shown == shard.value:
                self._checked.pop(number, None)  # what differs from now on is news
            if shard.version is None or (shown != shard.value and self._checked.get(number, b"") != shown):
                stale.append((number, shown))
        gate = asyncio.Semaphore(TOGETHER)

        async def read(number: int, shown: bytes | None) -> None:
            async with gate:
                found = await self._coordinator.get(shard_key(number))
            value, version = (found.value, found.version) if found is not None else (None, ABSENT)
            self._put(number, read_shard(self.book.shards[number], number, value, version))
            self._checked[number] = shown

        await _all([read(number, shown) for number, shown in stale])

    async def write(self, changes: Changes, wanted: Wanted, now: int, may_act: Callable[[], bool]) -> bool:
        """Write the changed shards, and those that are gone; False when not all could be written as decided.

        `may_act` is asked before each write. Raises CoordinatorLost: what was not written is as it was.
        """
        gate = asyncio.Semaphore(TOGETHER)
        gone = {number for number, shard in enumerate(self.book.shards) if shard.value is None and shard.entries}

        async def write(number: int) -> bool:
            async with gate:
                return may_act() and await self._write_shard(number, changes.get(number, {}), wanted, now)

        return all(await _all([write(number) for number in sorted(gone | changes.keys())]))

    async def _write_shard(self, number: int, changes: Mapping[str, Change], wanted: Wanted, now: int) -> bool:
        shard = self.book.shards[number]
        if shard.version is None or shard.damage:
            return False
        async with self._preparing:  # one in a turn of the loop
            entries, skipped = applied(shard, changes, wanted, now)
            value = encode(entries.values())
            await asyncio.sleep(0)
        try:
            version = await self._coordinator.put_if(shard_key(number), value, shard.version)
        except VersionConflict:
            self.counters.conflicts += 1
            self.book.shards[number] = unread(shard)
            return False
        except BaseException:
            self.book.shards[number] = unread(shard)  # it may have been written
            raise
        self.counters.writes += 1
        self._checked.pop(number, None)
        self._put(number, Shard(value, version, entries), ours=True)
        return not skipped

    def _put(self, number: int, shard: Shard, *, ours: bool = False) -> None:
        if shard.damage and shard.damage != self.book.shards[number].damage:
            self.counters.damaged += 1
            self._complain(
                "stored addresses of VIPs can't be read, they are left as they are "
                f"key={shard_key(number)} reason={shard.damage}"
            )
        if names := self.book.replace(number, shard):
            self._changed(names, ours=ours)


async def _all(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all of them to their end; then raise what the first that failed raised."""
    done = await asyncio.gather(*works, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return cast("list[T]", done)
