"""One follower of /v1/watch: what it is sent, when, and why that ends.

A session sends from its own place in the journal. A follower that is slow is waited for (the socket's
buffer is bounded), until what it needs is no longer in the journal: then it is cut, comes back and
compares digests. Whoever needs the whole, or a part of it, waits for a turn (watch_whole), with heartbeats.
While the whole is told, every change that comes meanwhile goes out before the next slice is made, so that nothing
is ever told that is older than what was told before.

A ping says how much was sent before it, and its pong brings that back: what lies between is still on the way, and may
keep the next pong waiting. The host of a follower that is merely slow is thus not taken for silent (hearing).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from mesos_dns.hearing import SILENT
from mesos_dns.watch import Standing, Watch
from mesos_dns.watch_whole import Place
from mesos_dns.watch_wire import (
    ALL_BUCKETS,
    MOST_ENTITIES,
    SLICE_OCTETS,
    WireError,
    decode_answer,
    slice_message,
    synced_message,
    wait_message,
)

BEAT = 1.0
"""Seconds between two heartbeats."""

SILENCE = 10.0
"""Seconds after which a follower that says nothing, not even a pong, is cut."""

STALL = 10.0
"""Seconds that a follower may take for what is in the socket's buffer."""

BULK = 1 << 16
"""Octets on the way from which on signs of life may be late. Nobody waits for room in the buffers for less, and a line
of 256 kbit/s brings it in time."""

WAITED = 1.0
"""Seconds that sending takes at least when the buffers were full."""

PATIENCE = 30.0
"""Seconds within which a follower must say what it has."""

TURN = 30.0
"""Seconds for which a follower has its turn to be told the whole; one with a slow line goes on without."""

WORK = 0.002
"""Seconds after which encoding gives the loop a turn: other followers do the same work meanwhile."""


class _Over(Exception):
    """The session has come to its end; `reason` is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Pipe(Protocol):
    """How messages get to the follower."""

    async def send(self, message: bytes) -> None:
        """A message, or several, one a line. Raises ConnectionError."""

    async def beat(self, status: Callable[[], bytes], changed: bool, mark: bytes) -> None:
        """A sign of life, with the status where that is due; what answers it brings `mark` back. Raises
        ConnectionError."""


class Follower:
    """One session: `tell` until it is over. `answers`: the follower can be asked what it has, and must show life.
    `host`: its address."""

    def __init__(self, watch: Watch, pipe: Pipe, *, answers: bool, host: str = "") -> None:
        self._watch = watch
        self._pipe = pipe
        self._answers = answers
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._over = ""
        self._heard = self._loop.time()
        self._sent = 0
        self._pinged = 0
        self._taken = 0
        self._whole_sent: int | None = None
        self._answer: list[bytes | None] = []
        self._position = 0
        self._standing = Standing(0.0, 0.0)
        self._beat_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False

    def wake(self) -> None:
        """See watch.Session."""
        self._moved.set()

    def dismiss(self) -> None:
        """See watch.Session."""
        self.end("dismissed")

    def end(self, reason: str) -> None:
        """The session is to end as soon as it can."""
        self._over = self._over or reason
        self._moved.set()

    def heard(self, mark: bytes = b"") -> None:
        """The follower has shown life; `mark`: what its pong brought back, whatever that is."""
        self._heard = self._loop.time()
        if mark.isdigit() and len(mark) < 20:
            self._taken = max(self._taken, min(int(mark), self._pinged))
        if not self._host:
            return
        hearing = self._watch.hearing
        if self._whole_sent is not None and self._taken >= self._whole_sent:
            hearing.in_sync(self._host)
        hearing.heard(self._host, SILENCE if self._is_behind else SILENT)

    @property
    def _is_behind(self) -> bool:
        """True while so much may be on the way that signs of life are late."""
        return self._sent - self._taken >= BULK

    def said(self, text: str) -> None:
        """The follower has said something. Only its first word means something."""
        self.heard()
        if self._answer:
            return
        try:
            self._answer.append(decode_answer(text))
        except WireError:
            self.end("malformed")
        self._moved.set()

    async def tell(self, since: str) -> str:
        """Tell all from `since` on, and what comes; the reason why that ended."""
        self._set_timer()
        try:
            await self._begin(since)
            self._whole_sent = self._sent
            if self._host:
                await self._beat()  # its answer says that the whole has been taken
            while True:
                self._moved.clear()
                await self._catch_up()
                await self._pause()
        except _Over as over:
            return over.reason
        except ConnectionError:
            return "gone"
        except TimeoutError:
            return "stalled"
        finally:
            self._watch.told(self)
            if self._timer is not None:
                self._timer.cancel()

    async def _begin(self, since: str) -> None:
        watch, counters = self._watch, self._watch.counters
        resumed = watch.resumes(since)
        self._position = watch.journal.head if resumed is None else resumed
        self._standing = watch.standing()
        await self._send(watch.hello(self._position, resume=resumed is not None, standing=self._standing))
        if resumed is not None:
            counters.began["resume"] += 1
            return
        digests = await self._asked() if self._answers else None
        counters.began["full" if digests is None else "digests"] += 1
        if digests is None or watch.digests.differing(digests):
            await self._await_turn()
        # From here to the listing of the places the journal and the digests are of one moment.
        self._position = watch.journal.head
        await self._tell_buckets(ALL_BUCKETS if digests is None else watch.digests.differing(digests))
        watch.told(self)

    async def _asked(self) -> bytes | None:
        """The digests that the follower sends, None when it wants all."""
        deadline = self._loop.time() + PATIENCE
        while not self._answer:
            self._moved.clear()
            if self._loop.time() > deadline:
                raise _Over("silent")
            await self._pause()
        return self._answer[0]

    async def _await_turn(self) -> None:
        """Wait until this follower may be told the whole; it hears meanwhile that it waits."""
        self._waits = True
        while not self._watch.turns.granted(self):
            self._moved.clear()
            await self._pause()
        self._waits = False

    async def _tell_buckets(self, buckets: frozenset[int]) -> None:
        """Everything in these buckets, in slices."""
        whole = self._watch.whole
        places = whole.places(buckets)
        until = self._loop.time() + TURN
        at = 0
        while at < len(places):
            await self._level()
            if whole.part(places[at]) is None:
                await self._tell_large(places[at])
                at += 1
            else:
                at = await self._tell_slice(places, at)
            await asyncio.sleep(0)
            if self._loop.time() > until:
                self._watch.told(self)
        await self._level()
        await self._send(synced_message(self._v, buckets))

    async def _tell_slice(self, places: list[Place], at: int) -> int:
        """A slice that begins at one of the places; where the next one begins."""
        whole = self._watch.whole
        kind = places[at][0]
        told: list[bytes] = []
        numbers: list[int] = []
        count = size = 0
        began = self._loop.time()
        while at < len(places) and places[at][0] == kind and self._loop.time() - began < WORK:
            part = whole.part(places[at])
            if part is None or (told and (count + part[0] > MOST_ENTITIES or size + len(part[1]) > SLICE_OCTETS)):
                break
            if part[0]:
                told.append(part[1])
                numbers.append(places[at][1])
                count += part[0]
                size += len(part[1])
            at += 1
        if told:
            await self._send(slice_message(self._v, kind, told, numbers))
        return at

    async def _tell_large(self, place: Place) -> None:
        """What is too much for one slice, in several; each is of the moment when it is told."""
        kind, bucket = place
        portions = self._watch.whole.portions(place)
        while (portion := next(portions, None)) is not None:
            await self._send(slice_message(self._v, kind, portion, (bucket,)))
            await asyncio.sleep(0)
            await self._level()

    async def _level(self) -> None:
        """Send all that has happened until now: what is read next is neither behind nor ahead of what was told."""
        while True:
            await self._catch_up()
            self._watch.catalog.flush()
            if self._position == self._watch.journal.head:
                return

    @property
    def _v(self) -> str:
        return f"{self._watch.epoch}.{self._position}"

    async def _catch_up(self) -> None:
        """Send what the journal has behind this follower's place."""
        journal = self._watch.journal
        self._check()
        while self._position < journal.head:
            found = journal.behind(self._position)
            if found is None:
                raise _Over("slow")
            messages, last = found
            await self._send(messages, last - self._position)
            self._position = last
            self._check()
            if self._beat_due:
                await self._beat()
        if self._beat_due:
            await self._beat()

    async def _pause(self) -> None:
        """Wait for something to do; a heartbeat when that is due."""
        await self._moved.wait()
        self._check()
        if self._beat_due:
            await self._beat()

    def _set_timer(self) -> None:
        """One timer for a heartbeat, however often something else wakes the session before."""
        self._beat_due = False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(BEAT, self._time_to_beat)

    def _time_to_beat(self) -> None:
        self._beat_due = True
        self._moved.set()

    async def _beat(self) -> None:
        self._set_timer()
        if self._answers and self._loop.time() - self._heard > SILENCE:
            raise _Over("silent")
        standing = self._watch.standing()
        changed = _differs(standing, self._standing)
        if changed:
            self._standing = standing
        self._pinged = self._sent
        async with asyncio.timeout(STALL):
            await self._pipe.beat(
                lambda: self._watch.status(self._position, standing), changed, str(self._sent).encode()
            )
        if self._waits:
            await self._send(wait_message(self._v, self._watch.turns.waiting))

    async def _send(self, message: bytes, count: int = 1) -> None:
        """Send so many messages, one a line."""
        counters = self._watch.counters
        counters.messages += count
        counters.octets += len(message)
        self._sent += len(message)
        if self._host and self._is_behind:
            self._watch.hearing.excuse(self._host, SILENCE)
        began = self._loop.time()
        async with asyncio.timeout(STALL):
            await self._pipe.send(message)
        if self._loop.time() - began >= WAITED:
            # The buffers were full, and room came: the follower's kernel has just acknowledged octets. What finds
            # room at once proves nothing.
            self.heard()

    def _check(self) -> None:
        if self._over:
            raise _Over(self._over)


def _differs(now: Standing, told: Standing) -> bool:
    """True when a follower must hear of it: while the server is stale, `as_of` says all."""
    if (now.stale > 0) != (told.stale > 0) or now.via != told.via or now.sources.keys() != told.sources.keys():
        return True
    if any(_moved(since, told.sources[name]) for name, since in now.sources.items()):
        return True
    return now.stale > 0 and abs(now.as_of - told.as_of) >= 1


def _moved(since: float | None, told: float | None) -> bool:
    """True when it is another moment since which a source has been lost, or it is no longer or only now lost."""
    return abs(since - told) >= 1 if since is not None and told is not None else since is not told
