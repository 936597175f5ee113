"""One connection to a leading Marathon: its event stream, and the reads that events ask for.

The stream is opened first, then everything is read, then what events touched meanwhile: no change is lost. Events only
say what to read again; when many things are touched everything is read instead. From time to time everything is
compared, and the leader's name: a stream can stay open, with a newline now and then, long after its leader is none.

A leader that suddenly tells of no apps, or of no tasks, is asked again before that is believed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from mesos_dns.config import MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import Health
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.marathon_book import MarathonBook
from mesos_dns.sources.marathon_calls import EVENTS, Documents, MarathonCalls, is_addressable
from mesos_dns.sources.marathon_client import EVENT_STREAM, Answer, MarathonClient, MarathonError
from mesos_dns.sources.marathon_events import Touched, known_type, touched_by
from mesos_dns.sources.marathon_read import BadApp, ReadApp
from mesos_dns.sources.marathon_reads import Reads
from mesos_dns.sources.marathon_stream import EventReader, ServerEvent
from mesos_dns.sources.pace import Pace

log = logging.getLogger(__name__)

SETTLE = 2.0
"""Seconds that a whole document waits for the first answers about new host names."""

SPACING, SPACING_MOST = 1.0, 30.0
"""Seconds between whole documents that events ask for: twice as long as the last one took, within these bounds."""


class Timing:
    """Seconds that tests make shorter.

    check: between looks at who leads; confirm: before a leader that tells of nothing is asked again, `confirmations`
    times.
    """

    def __init__(self, check: float = 10.0, confirm: float = 3.0, confirmations: int = 2) -> None:
        self.check = check
        self.confirm = confirm
        self.confirmations = confirmations


class MarathonSession:
    """`run` until that ends in MarathonError. `synced` is called after each whole document with who was followed."""

    def __init__(
        self,
        client: MarathonClient,
        config: MarathonConfig,
        book: MarathonBook,
        hosts: Hosts,
        counters: SourceCounters,
        complain: Complaints,
        synced: Callable[[MarathonCalls], None],
        *,
        framework_id: str = "",
        timing: Timing | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self._client = client
        self._config = config
        self._book = book
        self._hosts = hosts
        self._counters = counters
        self._complain = complain
        self._synced = synced
        self._expected = framework_id
        self._timing = timing or Timing()
        self._dice = dice or random.Random()
        self._calls: MarathonCalls | None = None
        self._reads = Reads(self._read_again)
        self._wanted = asyncio.Event()
        self._newer: set[str] = set()
        self._took = 0.0

    @property
    def calls(self) -> MarathonCalls:
        """Who is followed. Only after the beginning."""
        if self._calls is None:
            raise RuntimeError("the session has not begun")
        return self._calls

    async def run(self, base: str) -> None:
        """Follow the leader that the Marathon at `base` leads to. Ends only by raising MarathonError."""
        try:
            async with self._client.request(base, EVENTS, accept=EVENT_STREAM) as stream:
                if stream.content_type != EVENT_STREAM:
                    raise MarathonError("document", f"{stream.base}/v2/events: {stream.content_type}, no events", 200)
                self._counters.connects += 1
                self._calls = MarathonCalls(self._client, stream.base, self._config, self._health)
                await _first(self._events(stream), self._follow(), self._reads.broken)
        finally:
            await self._reads.close()

    # --- events ------------------------------------------------------------------------------------

    async def _events(self, stream: Answer) -> None:
        """Read the stream for as long as it says anything."""
        reader = EventReader()
        silence = float(self._config.silence) or None
        while True:
            try:
                async with asyncio.timeout(silence):
                    data = await stream.chunk()
            except TimeoutError:
                raise MarathonError("silence", f"{stream.base}/v2/events said nothing for {silence:g} s") from None
            if not data:
                raise MarathonError("connect", f"{stream.base} ended the event stream")
            for event in reader.feed(data):
                self._heard(event)

    def _heard(self, event: ServerEvent) -> None:
        self._counters.events[known_type(event)] += 1
        self._counters.last_event_at = time.time()
        try:
            touched = touched_by(event)
        except ValueError as error:
            self._counters.malformed += 1
            self._complain(f"an event of Marathon can't be read, everything is read again: {error}")
            touched = Touched(everything=True)
        if event.too_large:
            self._counters.malformed += 1
            self._complain(f"an event {event.type or '?'} of Marathon is too large, everything is read again")
        self._touch(touched)

    def _touch(self, touched: Touched) -> None:
        """Have read again what an event touched."""
        if touched.everything or touched.pods_all:
            self._wanted.set()
            return
        names = touched.apps | touched.pods | touched.runs
        if touched.deployments and self._calls is not None:
            for deployment in touched.deployments:
                names.update(self._book.deploying(self._calls.framework_id, deployment))
        for name in names:
            if is_addressable(name):
                self._reads.want(name)
            else:
                self._wanted.set()
        if self._calls is not None and len(self._reads) > self._many(self._calls.framework_id):
            self._wanted.set()

    def _many(self, framework_id: str) -> int:
        """How many single reads cost more than reading everything."""
        return max(200, len(self._book.apps(framework_id)) // 4)

    # --- reads -------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Learn who this is, read everything, then look after what has to be looked after."""
        calls = self.calls
        await calls.begin()
        if self._expected and calls.framework_id != self._expected:
            raise MarathonError(
                "document", f"{calls.base} is framework {calls.framework_id}, expected {self._expected}", 200
            )
        self._book.put_framework(calls.framework_id, calls.name)
        await self._everything()
        self._reads.start()
        await _first(self._compare(), self._check_leader())

    async def _compare(self) -> None:
        """Read everything when that is wanted, and from time to time."""
        resync = float(self._config.resync)
        loop = asyncio.get_running_loop()
        while True:
            earliest = loop.time() + min(SPACING_MOST, max(SPACING, 2 * self._took))
            try:
                async with asyncio.timeout(self._dice.uniform(0.75, 1.25) * resync if resync else None):
                    await self._wanted.wait()
            except TimeoutError:
                log.debug("comparing everything marathon=%s", self.calls.base)
            else:
                await asyncio.sleep(max(0.0, earliest - loop.time()))
            await self._everything()

    async def _check_leader(self) -> None:
        """Ask now and then who leads; a connection on which nobody answers twice is dead."""
        failed = False
        while True:
            await asyncio.sleep(self._dice.uniform(0.75, 1.25) * self._timing.check)
            try:
                await self.calls.check_leader()
                failed = False
            except MarathonError as error:
                if failed or error.kind not in ("connect", "stall"):
                    raise
                failed = True

    async def _everything(self) -> None:
        """Make whole documents the truth, but for what was read alone meanwhile."""
        calls = self.calls
        began = time.perf_counter()
        self._wanted.clear()
        self._reads.forget()
        found = await self._believable(calls)
        reads, names, pace = (*found.apps, *found.pods), set[str](), Pace()
        for read in reads:
            self._note(read)
            names.update([overlay.host for overlay in read.overlays if overlay.host])
            await pace.turn()
        for app_id, why in found.bad:
            self._skip(app_id, why)
        await self._hosts.settle(names, SETTLE)
        kept = {app_id for app_id, _ in found.bad}
        if "" in kept:  # it could be any of them
            kept.update(self._book.apps(calls.framework_id))
        await self._book.replace(calls.framework_id, reads, kept, self._newer)
        self._took = time.perf_counter() - began
        self._counters.syncs += 1
        self._counters.sync_seconds += self._took
        self._counters.last_sync_at = time.time()
        self._synced(calls)

    async def _believable(self, calls: MarathonCalls) -> Documents:
        """Whole documents; such that tell of nothing any more only when they do so again and again.

        Where it is not known beforehand which framework this is, it may be another one than before: what that one
        said counts, too.
        """
        book = self._book
        frameworks = {calls.framework_id} if self._expected else {calls.framework_id, *book.frameworks()}
        for _ in range(self._timing.confirmations):
            self._newer.clear()
            found = await calls.everything()
            nothing = not (found.apps or found.pods or found.bad) and any(map(book.apps, frameworks))
            idle = found.task_count() == 0 and any(map(book.task_count, frameworks))
            if not nothing and not idle:
                return found
            what = "apps" if nothing else "tasks"
            log.warning("a Marathon tells of no %s any more; it is asked again marathon=%s", what, calls.base)
            self._counters.errors["empty"] += 1
            await asyncio.sleep(self._timing.confirm)
            await calls.check_leader()
        self._newer.clear()
        return await calls.everything()

    async def _read_again(self, name: str) -> bool:
        """Read one app or pod alone; False when there is nothing to be had. Raises MarathonError."""
        calls, book = self.calls, self._book
        known = book.app(calls.framework_id, name)
        self._counters.reads += 1
        try:
            if known is not None and known.kind == "pod":
                read = await calls.pod(name)
            else:
                read = await calls.app(name)
                if read is None and known is None and calls.with_pods:
                    read = await calls.pod(name)
        except BadApp as error:
            self._skip(error.id or name, str(error))
            return False
        except MarathonError as error:
            if error.status != 403:
                raise
            self._hidden(name, known is not None)
            return False
        self._newer.add(name)
        if read is not None:
            self._note(read)
            book.put(read)
        elif known is not None:
            book.gone(calls.framework_id, name)
        return read is not None or known is not None

    def _health(self, task_id: str) -> Health | None:
        return self._book.health(self.calls.framework_id, task_id)

    def _note(self, read: ReadApp) -> None:
        """Count and log what had to be left out of an app."""
        for task_id, why in read.bad_tasks:
            self._counters.malformed += 1
            self._counters.skipped_entities += 1
            self._complain(f"a malformed task is skipped app={read.app.id} task={task_id or '?'}: {why}")
        if read.lost:
            self._counters.skipped_fields += len(read.lost)
            self._complain(f"a part of an app is malformed and left out app={read.app.id} {'; '.join(read.lost[:8])}")

    def _hidden(self, name: str, known: bool) -> None:
        """Count and log an app that our login may not see; whether it is any more, the next whole document tells."""
        self._counters.skipped_entities += 1
        self._complain(f"an app that our login may not see is skipped app={name}")
        if known:
            self._wanted.set()

    def _skip(self, app_id: str, why: str) -> None:
        """Count and log an app that can't be read; what was known of it stays."""
        self._counters.malformed += 1
        self._counters.skipped_entities += 1
        self._complain(f"a malformed app is skipped, what was known of it stays app={app_id or '?'}: {why}")


async def _first(*works: Coroutine[Any, Any, None] | asyncio.Future[None]) -> None:
    """Do all until the first ends, as it does; the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
