"""What a worker tells its parent: counters, that requests begin to be held, the access log, and faults.

Counters go once a second, the access log in batches, what is held at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from lb7._balance import Cluster, grown_of
from lb7.channel import Channel
from lb7.wire import Counters, Counts, Down, Fault, Held, Log, Value, encode
from lb7.worker_counters import Increments, add

MOST_CLUSTERS = 500
"""Clusters in one block of counters."""
MOST_RECORDS = 125
"""Records of the access log in one turn of four a second, whatever there is to tell: the parent writes them all."""
MOST_KEPT = 1000
"""Records that wait; of more, the newest are lost and counted."""
MOST_FAULTS = 100
"""Faults that wait, by what they are of."""
HELD_PAUSE = 0.1
"""Seconds between two messages of clusters whose requests begin to be held."""
_LONGEST, _LONGEST_KEY = 2000, 300
"""Characters of one fault."""
FIGURES = frozenset({"open", "connections", "requests_open", "active", "waiting", "idle", "tunnels", "pooled"})
"""Counters' neighbours that go up and down."""


class Counting(Hashable, Protocol):
    """An edge or a front."""

    def counts(self) -> Mapping[str, Value]:
        """Counters by stable words, and figures that go up and down (`FIGURES`)."""


class Figures(NamedTuple):
    """Requests of a cluster now: all, those that wait for a server with room, and those that are held."""

    active: int = 0
    waiting: int = 0
    held: int = 0


class Reports:
    """See the module. What can't be sent yet waits, within limits."""

    def __init__(self) -> None:
        self.lost = 0
        self._increments = Increments()
        self._records: deque[dict[str, Any]] = deque()
        self._faults: dict[str, str] = {}
        self._busy: dict[str, Figures] = {}
        self._telling_figures = asyncio.Lock()
        self._held: dict[str, None] = {}
        self._some_held = asyncio.Event()

    def log(self, record: dict[str, Any]) -> None:
        """A record of the access log."""
        if len(self._records) >= MOST_KEPT:
            self.lost += 1
        else:
            self._records.append(record)

    def fault(self, key: str, text: str) -> None:
        """Something went wrong; of one thing the last is told."""
        key = _unicode(key[:_LONGEST_KEY])
        if key in self._faults or len(self._faults) < MOST_FAULTS:
            self._faults[key] = _unicode(text[:_LONGEST])

    def held(self, cluster: str) -> None:
        """Requests for it begin to be held."""
        self._held[cluster] = None
        self._some_held.set()

    async def keep_telling_held(
        self, channel: Channel[Down], named: Callable[[Collection[str]], Iterable[Cluster]]
    ) -> None:
        """Tell at once of clusters whose requests begin to be held, all of one turn together; `named` has the clusters.
        Raises ChannelError."""
        while True:
            await self._some_held.wait()
            await asyncio.sleep(0)
            names, self._held = self._held, {}
            self._some_held.clear()
            async with self._telling_figures:
                figures = _figures_of(named(names))
                await self._send_figures(channel, list(figures), figures)
                self._busy |= figures
            told = tuple(names)
            for start in range(0, len(told), MOST_CLUSTERS):
                await channel.send(encode(Held(told[start : start + MOST_CLUSTERS])))
            await asyncio.sleep(HELD_PAUSE)

    async def send_rest(self, channel: Channel[Down]) -> None:
        """Tell faults that wait, and some of the records: never more than that at once, however fast they come. Raises
        ChannelError."""
        faults, self._faults = self._faults, {}
        for key, text in faults.items():
            await channel.send(encode(Fault(key, text)))
        if self._records or self.lost:
            batch = [self._records.popleft() for _ in range(min(len(self._records), MOST_RECORDS))]
            lost, self.lost = self.lost, 0
            await channel.send(encode(Log(batch, lost)))

    async def send_last(self, channel: Channel[Down]) -> None:
        """Tell all that waits now. Raises ChannelError."""
        for _ in range(MOST_KEPT // MOST_RECORDS + 1):
            await self.send_rest(channel)

    async def send_counters(
        self,
        channel: Channel[Down],
        edges: Sequence[Counting],
        fronts: Sequence[tuple[str, Counting]],
        clusters: list[Cluster],
    ) -> None:
        """Tell what is new of all these; what is not among them any more has told its last. Raises ChannelError."""
        worker: Counts = {}
        now: Counts = {}
        listeners: dict[str, Counts] = {}
        for edge in edges:
            counts, figures = _parted(edge.counts())
            add(worker, self._increments.since(edge, counts))
            add(now, figures)
        for name, front in fronts:
            counts, _ = _parted(front.counts())
            if grown := self._increments.since(front, counts):
                add(listeners.setdefault(name, {}), grown)
        await channel.send(encode(Counters(worker, listeners, now=cast("dict[str, int | float]", now))))
        async with self._telling_figures:
            await self._send_clusters(channel, clusters)
        self._increments.keep({*edges, *(front for _, front in fronts)})

    async def _send_clusters(self, channel: Channel[Down], clusters: list[Cluster]) -> None:
        """There may be two of one name, of which one is gone but for its last requests."""
        busy: list[Cluster] = []
        for start in range(0, len(clusters), MOST_CLUSTERS):
            counted, with_requests = grown_of(clusters, start, start + MOST_CLUSTERS)
            busy += with_requests
            if counted:
                await channel.send(encode(Counters(clusters=counted)))
            await asyncio.sleep(0)
        figures = _figures_of(busy)
        changed = [name for name, of_now in figures.items() if self._busy.get(name) != of_now]
        changed += [name for name in self._busy if name not in figures]
        self._busy = figures
        await self._send_figures(channel, changed, figures)

    async def _send_figures(self, channel: Channel[Down], names: list[str], figures: dict[str, Figures]) -> None:
        """Tell how many requests these clusters have."""
        for start in range(0, len(names), MOST_CLUSTERS):
            told: dict[str, dict[str, int | float]] = {}
            for name in names[start : start + MOST_CLUSTERS]:
                told[name] = {**figures.get(name, Figures())._asdict()}
            await channel.send(encode(Counters(clusters_now=told)))


def _figures_of(clusters: Iterable[Cluster]) -> dict[str, Figures]:
    """By name, which several may have."""
    figures: dict[str, Figures] = {}
    for cluster in clusters:
        active, waiting, held = figures.get(cluster.name, Figures())
        waits = cluster.waiting - cluster.held
        figures[cluster.name] = Figures(active + cluster.active, waiting + waits, held + cluster.held)
    return figures


def _parted(counts: Mapping[str, Value]) -> tuple[Counts, dict[str, int | float]]:
    """Counters, and figures that go up and down."""
    counted: Counts = {}
    figures: dict[str, int | float] = {}
    for name, value in counts.items():
        if name in FIGURES and not isinstance(value, list):
            figures[name] = value
        else:
            counted[name] = value
    return counted, figures


def _unicode(text: str) -> str:
    """Text that can be told, whatever it is of."""
    return text.encode("utf-8", "backslashreplace").decode()


class FaultLog(logging.Handler):
    """Sends what parts of the worker log, as faults: it has no log of its own."""

    def __init__(self, reports: Reports) -> None:
        super().__init__(logging.WARNING)
        self._reports = reports

    def emit(self, record: logging.LogRecord) -> None:
        self._reports.fault(f"log {record.name} {record.lineno}", self.format(record))
