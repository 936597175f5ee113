"""Read many things again and again in the background, so that those that fail delay no other.

An item is read as soon as it is wanted and every `interval` seconds from then on. One that failed is read again after
pauses that double (LONGEST_PAUSE at most), and from places of its own: however many servers hang, those that answer
are read in time. What is new comes before what failed. At most MOST_A_SECOND reads begin in a second; beyond that the
interval grows.

A value stays known while its server can't be asked (`Known` has both then, and the time of the value); an answer that
gives none takes it away. That something fails is logged once for each place and kind of failure, and that it no longer
does.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Generic, TypeVar

from lb7.autoscale.fetch import ReadError
from lb7.autoscale.samples import Reading

log = logging.getLogger(__name__)

SHORTEST_INTERVAL = 5.0
"""Seconds: nothing is read more often, whatever the decider's own interval."""
LONGEST_PAUSE = 30.0
"""Seconds before what failed is read again, at most: half of what a policy lets readings age, unless it says other."""
MOST_A_SECOND = 200.0

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

FRESH, GOOD, FAILED = range(3)
"""How an item's last read ended: there was none, well, badly."""


class Known(Generic[T]):
    """What is known of one item: its last `value` and when that came (seconds since 1970); why the last read failed
    ("": it did not), how many in a row did."""

    __slots__ = ("at", "due", "error", "failures", "state", "told", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self.at = 0.0
        self.error = ""
        self.failures = 0
        self.state = FRESH
        self.due = 0.0
        self.told: tuple[str, str] | None = None

    def usable(self, now: float, max_age: float) -> bool:
        """Whether the value still counts, though the last read may have failed."""
        return self.value is not None and (not self.error or now - self.at <= max_age)


class Poller(Generic[K, T]):
    """Keeps what `read` tells of each wanted item; it raises ReadError. `name` says in the log what is read.

    `at_once` reads run at a time, and as many of what is new or failed; `at_once_each` of them of one `place` (a server
    that several items have), so that one which begins to hang takes not all of these places. Beyond `most` items none
    is read. `reads` and `failures` (by kind) count.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[K], Awaitable[T]],
        *,
        interval: float,
        at_once: int,
        most: int,
        place: Callable[[K], Hashable] | None = None,
        at_once_each: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.reads = 0
        self.failures: Counter[str] = Counter()
        self._name = name
        self._read = read
        self._interval = max(interval, SHORTEST_INTERVAL)
        self._at_once = at_once
        self._most = most
        self._place = place
        self._at_once_each = at_once_each
        self._clock = clock
        self._items: dict[K, Known[T]] = {}
        self._too_many: frozenset[K] = frozenset()
        self._queues: tuple[list[tuple[float, int, K]], ...] = ([], [], [])
        self._count = itertools.count()
        self._tasks: dict[K, tuple[asyncio.Task[None], int]] = {}
        self._running = [0, 0, 0]
        self._running_at: Counter[tuple[bool, Hashable]] = Counter()
        self._told: Counter[tuple[str, str]] = Counter()
        self._wake = asyncio.Event()

    def want(self, items: Iterable[K]) -> None:
        """Read these from now on, and nothing else."""
        wanted = dict.fromkeys(items)
        if wanted.keys() == self._items.keys() and not self._too_many:
            return
        for item in [item for item in self._items if item not in wanted]:
            self._untell(self._items.pop(item))
            if item in self._tasks:
                self._tasks[item][0].cancel()
        new = [item for item in wanted if item not in self._items]
        room = self._most - len(self._items)
        for item in new[:room]:
            self._items[item] = Known()
            self._queue(item, self._items[item])
        self._complain(frozenset(new[room:]))
        self._wake.set()

    @property
    def wanted(self) -> int:
        """How many items are read."""
        return len(self._items)

    def known(self, item: K) -> Known[T] | None:
        """What is known of an item; None where it is not read."""
        return self._items.get(item)

    def missing(self, item: K) -> str:
        """Why nothing is known of an item."""
        if item in self._too_many:
            return f"not read: more than {self._most} {self._name} are asked for"
        known = self._items.get(item)
        return (known.error if known else "") or "not read yet"

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._begin()):
                        await self._wake.wait()
        finally:
            running = [task for task, _ in self._tasks.values()]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _begin(self) -> float | None:
        """Begin what is due and has a place; seconds until there is more to begin (None: it is for others to say)."""
        now = asyncio.get_running_loop().time()
        pauses = []
        for state in (GOOD, FRESH, FAILED):
            queue, waiting = self._queues[state], []
            while queue and self._places(state) > 0:
                if queue[0][0] > now:
                    pauses.append(queue[0][0] - now)
                    break
                entry = heapq.heappop(queue)
                due, _, item = entry
                known = self._items.get(item)
                if known is None or known.due != due or known.state != state or item in self._tasks:
                    continue  # of another time
                if self._crowded(state, item):
                    waiting.append(entry)
                else:
                    self._start(item, known)
            for entry in waiting:
                heapq.heappush(queue, entry)
        return min(pauses, default=None)

    def _places(self, state: int) -> int:
        taken = self._running[GOOD] if state == GOOD else self._running[FRESH] + self._running[FAILED]
        return self._at_once - taken

    def _crowded(self, state: int, item: K) -> bool:
        """Whether an item's place has all the reads that it may have."""
        return self._place is not None and self._running_at[state == GOOD, self._place(item)] >= self._at_once_each

    def _count_running(self, state: int, item: K, change: int) -> None:
        self._running[state] += change
        if self._place is not None:
            key = (state == GOOD, self._place(item))
            self._running_at[key] += change
            if not self._running_at[key]:
                del self._running_at[key]

    def _start(self, item: K, known: Known[T]) -> None:
        task = asyncio.get_running_loop().create_task(self._attempt(item, known), name=f"read {self._name}")
        self._tasks[item] = (task, known.state)
        self._count_running(known.state, item, 1)
        task.add_done_callback(lambda done: self._ended(item, done))

    def _ended(self, item: K, task: asyncio.Task[None]) -> None:
        _, state = self._tasks.pop(item)
        self._count_running(state, item, -1)
        known = self._items.get(item)
        if known is not None:  # perhaps another one: forgotten and wanted again meanwhile
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("what is read in the background failed what=%s", self._name, exc_info=error)
                self._failed(known, ReadError("internal", f"{type(error).__name__}: {error}", self._name))
            self._queue(item, known)
        self._wake.set()

    async def _attempt(self, item: K, known: Known[T]) -> None:
        self.reads += 1
        began = asyncio.get_running_loop().time()
        try:
            value = await self._read(item)
        except ReadError as error:
            if self._items.get(item) is known:
                self._failed(known, error)
            return
        if self._items.get(item) is not known:
            return
        known.value, known.at = value, self._clock()
        known.error, known.failures, known.state = "", 0, GOOD
        if (told := known.told) is not None and self._untell(known):
            log.info("can be read again what=%s place=%s", self._name, told[0])
        known.due = began + max(self._interval, len(self._items) / MOST_A_SECOND)

    def _failed(self, known: Known[T], error: ReadError) -> None:
        self.failures[error.kind] += 1
        if error.conclusive:
            known.value = None
        known.error, known.state = str(error), FAILED
        pause = min(self._interval * 2**known.failures, LONGEST_PAUSE) if known.failures < 8 else LONGEST_PAUSE
        known.failures += 1
        known.due = asyncio.get_running_loop().time() + max(self._interval, pause * random.uniform(0.8, 1.0))
        told = (error.place, error.kind)
        if known.told != told:
            self._untell(known)
            known.told = told
            self._told[told] += 1
            if self._told[told] == 1:
                log.warning("can't be read what=%s error=%s", self._name, error)

    def _untell(self, known: Known[T]) -> bool:
        """An item fails no longer in the way that it did; True where it was the last one."""
        if known.told is None:
            return False
        told, known.told = known.told, None
        self._told[told] -= 1
        if self._told[told]:
            return False
        del self._told[told]
        return True

    def _queue(self, item: K, known: Known[T]) -> None:
        heapq.heappush(self._queues[known.state], (known.due, next(self._count), item))

    def _complain(self, too_many: frozenset[K]) -> None:
        if too_many and not self._too_many:
            log.error("too many are asked for; the others are not read what=%s most=%d", self._name, self._most)
        self._too_many = too_many


def latest(poller: Poller[K, Reading], item: K, now: float, max_age: float) -> Reading:
    """The last reading of an item; one with `error` where there is none that counts. `max_age`: seconds that a reading
    counts for while its server can't be asked."""
    known = poller.known(item)
    if known is None or known.value is None or not known.usable(now, max_age):
        return Reading(error=poller.missing(item))
    return known.value
