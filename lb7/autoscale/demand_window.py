"""What one edge counted over the last seconds, app by app: pure, from the blocks that it tells.

A port's entries are kept where it changed; between two of them it was as it was. Figures that go up and down are kept
as their sums over time, so that a mean is two look-ups. A counter that goes back (its edge had forgotten the port)
begins anew, and so does everything with another epoch: no rate is ever below 0.

Times are the edge's own steady clock, so that a late block is no peak.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

import msgspec

from lb7._balance import LATENCY_BOUNDS
from lb7.demand_shapes import DemandBlock, DemandRow
from mesos_dns.model import Key

LEAST = 1.0
"""Seconds that have to be known before there is a rate."""
TICKS = 60
"""Blocks that a window keeps about: with a longer one, not all."""
MOST_PORTS, MOST_TEXT = 200_000, 128 << 20
"""Of one edge: ports, and characters of their names and of what they are of."""

BUCKETS = len(LATENCY_BOUNDS) + 1
_COUNTS = struct.Struct(f"={3 + BUCKETS}Q")
"""Requests, answers, errors, and the histogram of latencies: an entry as octets takes a tenth of the memory."""


class Sums(msgspec.Struct):
    """An app's traffic: `requests` a second, `concurrency` and `queue` as means; answers, errors and latencies (by
    bucket) as numbers of them in the window. `held`: requests that wait for the app to wake, now."""

    requests: float = 0.0
    concurrency: float = 0.0
    queue: float = 0.0
    answers: int = 0
    errors: int = 0
    latency: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)
    held: int = 0

    def add(self, other: Sums) -> None:
        """Add another port's, or another edge's."""
        self.requests += other.requests
        self.concurrency += other.concurrency
        self.queue += other.queue
        self.answers += other.answers
        self.errors += other.errors
        self.latency = [a + b for a, b in zip(self.latency, other.latency, strict=True)]
        self.held += other.held


class _Entry(NamedTuple):
    """A port at a time, until the next. The last two: the figures before them, times how long they were so since the
    port is known; a figure counts for the time that led to it, from the block before on."""

    at: float
    counts: bytes
    active: int
    queued: int
    active_seconds: float
    queued_seconds: float

    def seconds(self, at: float) -> tuple[float, float]:
        """The sums over time at a time, not before this entry's."""
        since = at - self.at
        return self.active_seconds + self.active * since, self.queued_seconds + self.queued * since


class _Port:
    """What is known of one port."""

    __slots__ = ("app", "entries", "held", "keys", "text")

    def __init__(self) -> None:
        self.entries: deque[_Entry] = deque()
        self.keys: tuple[Key, ...] = ()
        self.app = ""
        self.held = self.text = 0


class EdgeWindow:
    """See the module: `take` each block. `seconds` is the window's length.

    `edge` and `epoch` are those of the last block.
    """

    def __init__(self, seconds: float) -> None:
        self.edge = self.epoch = ""
        self._seconds = seconds
        self._ports: dict[str, _Port] = {}
        self._by_key: dict[Key, set[str]] = {}
        self._text = 0
        self._ticks: deque[float] = deque()
        self._time = 0.0
        self._base: float | None = None
        self._awaits_whole = True
        self._seen: set[str] | None = None

    def __repr__(self) -> str:
        return f"<EdgeWindow edge={self.edge!r} ports={len(self._ports)} blocks={len(self._ticks)}>"

    @property
    def known(self) -> bool:
        """Whether all ports of the edge have been told since it was connected to."""
        return not self._awaits_whole and self._seen is None

    @property
    def ready(self) -> bool:
        """Whether there are rates."""
        return self.known and self._base is not None

    def connected(self) -> None:
        """A connection begins: the next block has to be whole."""
        self._awaits_whole, self._seen = True, None

    def take(self, block: DemandBlock) -> list[Key]:
        """Take a block, or a part of one, in: keys of apps for which requests have begun to be held. Raises ValueError
        for what no edge tells."""
        if self._awaits_whole and not block.whole:
            raise ValueError("the first block is not whole")
        if block.epoch != self.epoch:
            self._begin_anew(block)
        if block.uptime < self._time:
            raise ValueError("time went back")
        self.edge, self._time = block.edge, block.uptime
        if block.whole and self._seen is None:
            self._awaits_whole, self._seen = False, set()
        woken: list[Key] = []
        for row in block.apps:
            woken += self._put(row, block.uptime)
            if self._seen is not None:
                self._seen.add(row.cluster_name)
        if len(self._ports) > MOST_PORTS or self._text > MOST_TEXT:
            raise ValueError(f"more than {MOST_PORTS} ports, or {MOST_TEXT} characters of names")
        for name in block.gone:
            self._drop(name)
        if not block.more:
            self._end_block(block)
        return woken

    def routed_as(self, key: Key) -> set[str]:
        """As which apps, or groups, the edge routes this app; none: not at all."""
        return {self._ports[name].app for name in self._by_key.get(key, ())}

    def sums(self, key: Key) -> Sums | None:
        """The traffic of an app; None: the edge does not route it. Rates are 0 unless `ready`."""
        names = self._by_key.get(key)
        if not names:
            return None
        whole = Sums()
        for name in names:
            whole.add(self._sums_of(self._ports[name]))
        return whole

    def held(self, key: Key) -> int:
        """Requests that wait for an app to wake."""
        return sum(self._ports[name].held for name in self._by_key.get(key, ()))

    def _begin_anew(self, block: DemandBlock) -> None:
        if not block.whole:
            raise ValueError("another epoch, and the block is not whole")
        self._ports.clear()
        self._by_key.clear()
        self._text = 0
        self._ticks.clear()
        self._base, self._time, self._seen = None, 0.0, None
        self.epoch = block.epoch

    def _put(self, row: DemandRow, at: float) -> list[Key]:
        port = self._ports.setdefault(row.cluster_name, _Port())
        keys = tuple(row.app_keys())
        if keys != port.keys or row.app != port.app:
            self._forget_keys(row.cluster_name, port)
            port.keys, port.app = keys, row.app
            port.text = len(row.cluster_name) + len(row.app) + sum(len(part) for key in keys for part in key)
            self._text += port.text
            for key in keys:
                self._by_key.setdefault(key, set()).add(row.cluster_name)
        begins = row.held > 0 and not port.held
        port.held = row.held
        self._append(port.entries, row, at)
        return list(keys) if begins else []

    def _append(self, entries: deque[_Entry], row: DemandRow, at: float) -> None:
        counts, queued = _counts_of(row), row.waiting + row.held
        if entries and _went_back(entries[-1].counts, counts):
            entries.clear()
        if not entries:
            entries.append(_Entry(at, counts, row.active, queued, 0.0, 0.0))
            return
        last = entries[-1]
        middle = max(last.at, self._ticks[-1]) if self._ticks else last.at
        active, waited = last.seconds(middle)
        active += row.active * (at - middle)
        waited += queued * (at - middle)
        if len(entries) > 1 and self._ticks and last.at > self._ticks[-2 if self._is_dense(at) else -1]:
            entries.pop()  # nobody asks how it was between two blocks that are kept
        entries.append(_Entry(at, counts, row.active, queued, active, waited))
        while len(entries) > 1 and self._base is not None and entries[1].at <= self._base:
            entries.popleft()

    def _drop(self, name: str) -> None:
        port = self._ports.pop(name, None)
        if port is not None:
            self._forget_keys(name, port)

    def _forget_keys(self, name: str, port: _Port) -> None:
        self._text -= port.text
        for key in port.keys:
            names = self._by_key[key]
            names.discard(name)
            if not names:
                del self._by_key[key]

    def _end_block(self, block: DemandBlock) -> None:
        if self._seen is not None:
            for name in self._ports.keys() - self._seen:
                self._drop(name)
            self._seen = None
        if block.urgent:
            return
        ticks, at = self._ticks, block.uptime
        if self._is_dense(at):
            ticks.pop()
        if not ticks or at > ticks[-1]:
            ticks.append(at)
        self._base = self._base_of(at)
        while self._base is not None and ticks[0] < self._base:
            ticks.popleft()

    def _is_dense(self, at: float) -> bool:
        """Whether the last block need not be kept once there is one at this time."""
        return len(self._ticks) > 2 and at - self._ticks[-2] < self._seconds / TICKS

    def _base_of(self, at: float) -> float | None:
        """The time that rates are counted from: the last block before the window, unless that was long before, for
        nothing was heard; None: too little is known."""
        start = at - self._seconds
        before = [tick for tick in self._ticks if tick <= start]
        if before and at - before[-1] <= 2 * self._seconds:
            return before[-1]
        first = next((tick for tick in self._ticks if tick > start), at)
        return first if at - first >= LEAST else None

    def _sums_of(self, port: _Port) -> Sums:
        base, entries = self._base, port.entries
        if base is None:
            return Sums(held=port.held)
        last = entries[-1]
        end = max(self._ticks[-1], last.at)
        elapsed = end - base
        while len(entries) > 1 and entries[1].at <= base:
            entries.popleft()
        first = entries[0]
        before = first.seconds(base) if first.at <= base else (first.active_seconds, first.queued_seconds)
        now = last.seconds(end)
        grown = [b - a for a, b in zip(_COUNTS.unpack(first.counts), _COUNTS.unpack(last.counts), strict=True)]
        return Sums(
            requests=grown[0] / elapsed,
            concurrency=max(0.0, now[0] - before[0]) / elapsed,
            queue=max(0.0, now[1] - before[1]) / elapsed,
            answers=grown[1],
            errors=grown[2],
            latency=grown[3:],
            held=port.held,
        )


def _counts_of(row: DemandRow) -> bytes:
    """The counters that readings are made of. Of HTTP an error is an answer of 500 or more, ours among them; of TCP a
    connection that no server got. Who went away got no answer, and is nobody's error."""
    latency = (*row.latency, *(0,) * (BUCKETS - len(row.latency)))
    if row.mode == "tcp":
        errors = row.unavailable + row.overflow + row.queue_timeouts + row.hold_timeouts
        return _COUNTS.pack(row.requests, row.requests, errors, *latency)
    errors = row.status[5] if len(row.status) > 5 else 0
    return _COUNTS.pack(row.requests, sum(row.status[1:]), errors, *latency)


def _went_back(before: bytes, after: bytes) -> bool:
    return before != after and any(b < a for a, b in zip(_COUNTS.unpack(before), _COUNTS.unpack(after), strict=True))
