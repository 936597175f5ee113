"""The deciders' state in the coordinator, read and written by the one that leads.

1. Who begins to lead reads every page and writes it again. That gives it another version, so that whatever an earlier
   leader still writes is refused: it is fenced off.
2. A write names the version that was written last. Refused, or without an answer, the page is read: its `term` says
   whether it is as this leader wrote it. If another wrote it, this one leads no more: Deposed.
3. All that changed on a page is one write. An intent is stored before anything else is done (`secure`), an outcome
   soon, what only moves on now and then. Intents that come close together wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from lb7.autoscale.state import PAGES, SHARDS, Page, Record, decode, encode, page_key, together
from mesos_dns.coordinate import ABSENT, Coordinator, CoordinatorLost, VersionConflict
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

WRITE_EVERY = 10.0
"""Seconds between two writes of a page on which things only moved on."""

SOON = 1.0
"""Seconds until an outcome is written. One that is not is found by looking, as an intent's."""

GAP = 0.25
"""Seconds between two writes of a page for intents: of a thousand apps that change at one time most share a write."""

LOOK_EVERY = 0.25
RETRY = 1.0
SAID_AGAIN = 300.0
TOGETHER = 4
"""Pages that are read or written at the same time."""

TRIES = 5

T = TypeVar("T")


class Deposed(Exception):
    """Another process writes what only the leader writes."""


class _Kept:
    """One page as this leader knows it: `changed` counts changes, `written` up to which of them is stored."""

    def __init__(self) -> None:
        self.version = ABSENT
        self.is_sure = True  # whether `version` is what there is
        self.lock = asyncio.Lock()
        self.changed = 0
        self.written = 0
        self.written_at = 0.0
        self.due = 0.0


class StateStore:
    """See the module: of one term. `records` gives what is to be on a page now."""

    def __init__(self, coordinator: Coordinator, decider: str, records: Callable[[int], Iterable[Record]]) -> None:
        self.writes = 0
        self._coordinator = coordinator
        self._decider = decider
        self._term = secrets.token_hex(8)
        self._records = records
        self._pages = [_Kept() for _ in range(PAGES)]
        self._deposed = asyncio.Event()
        self._reason = ""
        self._seldom = Seldom(log, SAID_AGAIN)

    async def take_over(self) -> list[Record]:
        """Fence off who led before; all that is stored. Raises CoordinatorLost, Deposed."""
        found = await _all(self._take)
        now = asyncio.get_running_loop().time()
        for number, page in enumerate(self._pages):  # their writes are spread over the time between two
            page.due = now + WRITE_EVERY * (number + 1) / PAGES
        return together(record for records in found for record in records)

    def touch(self, number: int, *, urgent: bool = False) -> None:
        """Something of a shard changed; `urgent`: its state is to be written soon."""
        kept, shown = self._pages[number], self._pages[number + SHARDS]
        kept.changed += 1
        shown.changed += 1
        if urgent:
            kept.due = min(kept.due, asyncio.get_running_loop().time() + SOON)

    async def secure(self, number: int) -> None:
        """Return when a shard's state as it is now is stored. Raises CoordinatorLost, Deposed."""
        self._pages[number].changed += 1
        await self._write(number, GAP)

    async def flush(self) -> None:
        """Write all that is not stored. Raises CoordinatorLost, Deposed."""
        await _all(self._write)

    async def run(self) -> None:
        """Write what is due until cancelled. Raises Deposed."""
        loop = asyncio.get_running_loop()
        while not self._deposed.is_set():
            try:
                for number, kept in enumerate(self._pages):
                    if kept.changed > kept.written and loop.time() >= kept.due:
                        await self._write(number)
            except CoordinatorLost as error:
                self._seldom("what is decided can't be stored, so nothing is changed reason=%s", error)
                await asyncio.sleep(RETRY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._deposed.wait()
        raise Deposed(self._reason)

    async def _take(self, number: int) -> tuple[Record, ...]:
        """Read one page and make it this leader's."""
        for _ in range(TRIES):
            found = await self._coordinator.get(page_key(number))
            page = read_page(found.value, number) if found is not None else Page()
            value = encode(self._decider, self._term, page.apps)
            version = found.version if found is not None else ABSENT
            with contextlib.suppress(VersionConflict):
                self._pages[number].version = await self._coordinator.put_if(page_key(number), value, version)
                return page.apps
        raise Deposed(f"others go on writing {page_key(number)}")

    async def _write(self, number: int, gap: float = 0.0) -> None:
        """Store a page as it is now, so many seconds after it was stored before."""
        kept = self._pages[number]
        async with kept.lock:
            if kept.changed > kept.written:
                await asyncio.sleep(max(0.0, kept.written_at + gap - asyncio.get_running_loop().time()) if gap else 0.0)
            for _ in range(TRIES):
                if self._deposed.is_set():
                    raise Deposed(self._reason)
                if kept.written >= kept.changed:
                    return
                if not kept.is_sure:
                    await self._look(number)
                if await self._put(number):
                    return
        self._depose(f"others go on writing {page_key(number)}")

    async def _put(self, number: int) -> bool:
        """One write; False when the version is another."""
        kept, changed = self._pages[number], self._pages[number].changed
        value = encode(self._decider, self._term, self._records(number))
        kept.is_sure = False  # until there is an answer
        try:
            kept.version = await self._coordinator.put_if(page_key(number), value, kept.version)
        except VersionConflict:
            return False
        kept.is_sure, kept.written = True, changed
        kept.written_at = asyncio.get_running_loop().time()
        kept.due = kept.written_at + WRITE_EVERY
        self.writes += 1
        return True

    async def _look(self, number: int) -> None:
        """Find out what version a page has. Raises Deposed when it is another leader's."""
        kept = self._pages[number]
        found = await self._coordinator.get(page_key(number))
        if found is not None and read_page(found.value, number).term != self._term:
            self._depose(f"{page_key(number)} was written by another")
        # One that is gone was lost by the coordinator, and is stored again.
        kept.version = found.version if found is not None else ABSENT
        kept.is_sure = True

    def _depose(self, why: str) -> None:
        self._reason = why
        self._deposed.set()
        raise Deposed(why)


def read_page(value: bytes, number: int) -> Page:
    """A page; what of it can't be read is told and left out."""
    try:
        page, lost = decode(value, number)
    except ValueError as error:
        log.warning("stored scaling can't be read and begins anew key=%s reason=%s", page_key(number), error)
        return Page()
    if lost:
        log.warning("stored scaling of apps can't be read and begins anew key=%s apps=%d", page_key(number), lost)
    return page


async def read_all(coordinator: Coordinator) -> tuple[str, list[Record]]:
    """The identity of the decider that wrote last, as far as pages tell, and all records. Raises CoordinatorLost."""

    async def read(number: int) -> Page:
        found = await coordinator.get(page_key(number))
        return read_page(found.value, number) if found is not None else Page()

    pages = await _all(read)
    decider = next((page.decider for page in pages if page.decider), "")
    return decider, together(record for page in pages for record in page.apps)


async def read_decider(coordinator: Coordinator) -> str:
    """The identity of who decides, as `read_all` tells it; "" where nobody has. Raises CoordinatorLost."""
    found = await coordinator.get(page_key(0))  # who begins to lead writes all pages
    return read_page(found.value, 0).decider if found is not None else ""


async def _all(work: Callable[[int], Awaitable[T]]) -> list[T]:
    """Do something with all pages to its end, some at a time; then raise what the first that failed raised."""
    gate = asyncio.Semaphore(TOGETHER)

    async def gated(number: int) -> T:
        async with gate:
            return await work(number)

    found: list[T] = []
    for result in await asyncio.gather(*map(gated, range(PAGES)), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
