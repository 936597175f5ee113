"""The shards of the deciders' state in the coordinator, read and written by the one that leads.

1. Who begins to lead reads every shard and writes it again. That gives it another version, so that whatever an earlier
   leader still writes is refused: it is fenced off.
2. A write names the version that was written last. Refused, or without an answer, the shard is read: its `term` says
   whether it is as this leader wrote it. If another wrote it, this one leads no more: Deposed.
3. All that changed in a shard is one write. What only moves on is written now and then, an intent before anything else
   is done: `secure`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable

from lb7.autoscale.state import SHARDS, Record, Shard, decode, encode, shard_key
from mesos_dns.coordinate import ABSENT, Coordinator, CoordinatorLost, VersionConflict
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

WRITE_EVERY = 10.0
"""Seconds between two writes of a shard in which only histories moved."""

RETRY = 1.0
SAID_AGAIN = 300.0
TOGETHER = 4
"""Shards that are read or written at the same time."""

TRIES = 5


class Deposed(Exception):
    """Another process writes what only the leader writes."""


class _Kept:
    """One shard as this leader knows it: `changed` counts changes, `written` up to which of them is stored."""

    def __init__(self) -> None:
        self.version = ABSENT
        self.is_sure = True  # whether `version` is what there is
        self.lock = asyncio.Lock()
        self.changed = 0
        self.written = 0
        self.is_urgent = False
        self.due = 0.0


class StateStore:
    """See the module: of one term. `records` gives what is to be in a shard now."""

    def __init__(self, coordinator: Coordinator, decider: str, records: Callable[[int], Iterable[Record]]) -> None:
        self.writes = 0
        self._coordinator = coordinator
        self._decider = decider
        self._term = secrets.token_hex(8)
        self._records = records
        self._shards = [_Kept() for _ in range(SHARDS)]
        self._deposed = ""
        self._wake = asyncio.Event()
        self._seldom = Seldom(log, SAID_AGAIN)

    async def take_over(self) -> list[Record]:
        """Fence off who led before; all that is stored. Raises CoordinatorLost, Deposed."""
        gate = asyncio.Semaphore(TOGETHER)

        async def take(number: int) -> tuple[Record, ...]:
            async with gate:
                return await self._take(number)

        found = await asyncio.gather(*(take(number) for number in range(SHARDS)), return_exceptions=True)
        for failed in found:
            if isinstance(failed, BaseException):
                raise failed
        now = asyncio.get_running_loop().time()
        for number, shard in enumerate(self._shards):  # their writes are spread over the time between two
            shard.due = now + WRITE_EVERY * (number + 1) / SHARDS
        return [record for records in found if isinstance(records, tuple) for record in records]

    def touch(self, number: int, *, urgent: bool = False) -> None:
        """Something in a shard changed; `urgent`: it is to be written at once."""
        shard = self._shards[number]
        shard.changed += 1
        if urgent:
            shard.is_urgent = True
            self._wake.set()

    async def secure(self, number: int) -> None:
        """Return when all that is in a shard now is stored. Raises CoordinatorLost, Deposed."""
        self._shards[number].changed += 1
        await self._write(number)

    async def flush(self) -> None:
        """Write all that is not stored. Raises CoordinatorLost, Deposed."""
        for number in range(SHARDS):
            await self._write(number)

    async def run(self) -> None:
        """Write what is due until cancelled. Raises Deposed."""
        loop = asyncio.get_running_loop()
        while True:
            if self._deposed:
                raise Deposed(self._deposed)
            self._wake.clear()
            try:
                for number, shard in enumerate(self._shards):
                    if shard.is_urgent or (shard.changed > shard.written and loop.time() >= shard.due):
                        await self._write(number)
            except CoordinatorLost as error:
                self._seldom("what is decided can't be stored, so nothing is changed reason=%s", error)
                await asyncio.sleep(RETRY)
                continue
            try:
                async with asyncio.timeout(WRITE_EVERY / SHARDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _take(self, number: int) -> tuple[Record, ...]:
        """Read one shard and make it this leader's."""
        kept = self._shards[number]
        for _ in range(TRIES):
            found = await self._coordinator.get(shard_key(number))
            shard = read_shard(found.value, number) if found is not None else Shard()
            value = encode(self._decider, self._term, shard.apps)
            version = found.version if found is not None else ABSENT
            try:
                kept.version = await self._coordinator.put_if(shard_key(number), value, version)
            except VersionConflict:
                continue
            return shard.apps
        raise Deposed(f"others go on writing {shard_key(number)}")

    async def _write(self, number: int) -> None:
        kept = self._shards[number]
        async with kept.lock:
            for _ in range(TRIES):
                if self._deposed:
                    raise Deposed(self._deposed)
                if kept.written >= kept.changed:
                    kept.is_urgent = False
                    return
                if not kept.is_sure:
                    await self._look(number)
                if await self._put(number):
                    return
        self._depose(f"others go on writing {shard_key(number)}")

    async def _put(self, number: int) -> bool:
        """One write; False when the version is another."""
        kept, changed = self._shards[number], self._shards[number].changed
        value = encode(self._decider, self._term, self._records(number))
        kept.is_urgent, kept.is_sure = False, False  # until there is an answer
        try:
            kept.version = await self._coordinator.put_if(shard_key(number), value, kept.version)
        except VersionConflict:
            return False
        except CoordinatorLost:
            kept.is_urgent = True
            raise
        kept.is_sure, kept.written = True, changed
        kept.due = asyncio.get_running_loop().time() + WRITE_EVERY
        self.writes += 1
        return True

    async def _look(self, number: int) -> None:
        """Find out what version a shard has. Raises Deposed when it is another leader's."""
        kept = self._shards[number]
        found = await self._coordinator.get(shard_key(number))
        if found is not None and read_shard(found.value, number).term != self._term:
            self._depose(f"{shard_key(number)} was written by another")
        # One that is gone was lost by the coordinator, and is stored again.
        kept.version = found.version if found is not None else ABSENT
        kept.is_sure = True

    def _depose(self, why: str) -> None:
        self._deposed = why
        self._wake.set()
        raise Deposed(why)


def read_shard(value: bytes, number: int) -> Shard:
    """A shard; what of it can't be read is told and left out."""
    try:
        shard, lost = decode(value, number)
    except ValueError as error:
        log.warning("stored scaling can't be read and begins anew key=%s reason=%s", shard_key(number), error)
        return Shard()
    if lost:
        log.warning("stored scaling of apps can't be read and begins anew key=%s apps=%d", shard_key(number), lost)
    return shard


async def read_all(coordinator: Coordinator) -> tuple[str, list[Record]]:
    """The identity of the decider that wrote last, as far as shards tell, and all records. Raises CoordinatorLost."""
    gate = asyncio.Semaphore(TOGETHER)

    async def read(number: int) -> Shard:
        async with gate:
            found = await coordinator.get(shard_key(number))
        return read_shard(found.value, number) if found is not None else Shard()

    shards = await asyncio.gather(*(read(number) for number in range(SHARDS)))
    deciders = [shard.decider for shard in shards if shard.decider]
    return deciders[0] if deciders else "", [record for shard in shards for record in shard.apps]
