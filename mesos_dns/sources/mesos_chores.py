"""What is done beside the stream while one master leads: leadership, schedulers, re-reads, deadlines.

Wishes are debounced: several events that ask for the same read within a moment cause one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.mesos_book import Book
from mesos_dns.sources.mesos_calls import Calls
from mesos_dns.sources.mesos_client import MasterError
from mesos_dns.sources.mesos_ledger import Ledger, Want

log = logging.getLogger(__name__)

DELAY = {Want.SCHEDULERS: 0.3, Want.AGENTS: 1.0, Want.EVERYTHING: 1.0}
RETRY = 10.0
TICK = 1.0
"""Seconds between looks at the holds' deadlines."""


class Chores:
    """The chores of one connection. `resync`: seconds between full comparisons, 0 for none."""

    def __init__(
        self, calls: Calls, ledger: Ledger, book: Book, counters: SourceCounters, resync: float, dice: random.Random
    ) -> None:
        self._calls = calls
        self._ledger = ledger
        self._book = book
        self._counters = counters
        self._resync = resync
        self._dice = dice
        self._due: dict[Want, float] = {}
        self._failing: dict[Want, str] = {}
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()

    def want(self, want: Want) -> None:
        """Ask for reads, soon."""
        if not want:
            return
        now = asyncio.get_running_loop().time()
        for each in want:
            self._due.setdefault(each, now + DELAY[each])
        self._wake.set()

    def synced(self) -> None:
        """The snapshot was applied: from now on comparisons make sense."""
        self._ready.set()

    async def run(self, lead: Callable[[tuple[str, int]], None]) -> None:
        """Until cancelled. Failures are counted and tried again later. `lead` is told whom the master names."""
        leader = await self._calls.leader()
        async with self._ledger.lock:
            lead(leader)
        await self._ready.wait()
        loop = asyncio.get_running_loop()
        self._due.setdefault(Want.SCHEDULERS, loop.time())
        resync_at = self._next_resync(loop.time())
        while True:
            now = loop.time()
            if now >= resync_at:
                self._due[Want.EVERYTHING] = now
                resync_at = self._next_resync(now)
            for want in [want for want, at in self._due.items() if at <= now]:
                del self._due[want]
                await self._do(want)
            await self._expire()
            await self._sleep(resync_at)

    def _next_resync(self, now: float) -> float:
        return now + self._resync * self._dice.uniform(0.8, 1.2) if self._resync else float("inf")

    async def _sleep(self, resync_at: float) -> None:
        loop = asyncio.get_running_loop()
        until = min([resync_at, *self._due.values()])
        if len(self._ledger.holds) or self._ledger.holds.next_deadline() is not None:
            until = min(until, loop.time() + TICK)
        self._wake.clear()
        try:
            async with asyncio.timeout_at(None if until == float("inf") else until):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _expire(self) -> None:
        if self._ledger.holds.next_deadline() is not None:
            async with self._ledger.lock:
                want = await self._ledger.expire()
            self.want(want)

    async def _do(self, want: Want) -> None:
        try:
            if want is Want.SCHEDULERS:
                found = await self._calls.schedulers()
                async with self._ledger.lock:
                    self._book.schedulers(found)
            elif want is Want.AGENTS:
                self.want(await self._calls.agents())
            else:
                self.want(await self._calls.everything())
            self._failing.pop(want, None)
        except MasterError as error:
            self._counters.errors["schedulers" if want is Want.SCHEDULERS else error.kind] += 1
            # A master without such a document is asked again and again: once is enough for the log.
            level = logging.DEBUG if self._failing.get(want) == str(error) else logging.WARNING
            self._failing[want] = str(error)
            log.log(level, "a read beside the event stream failed what=%s error=%s", want.name, error)
            self._due.setdefault(want, asyncio.get_running_loop().time() + RETRY * self._dice.uniform(0.8, 1.2))
