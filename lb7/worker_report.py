"""What a worker tells its parent: counters once a second, the access log in batches, and faults."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, cast

from lb7._balance import Cluster, grown_of
from lb7.channel import Channel
from lb7.wire import Counters, Counts, Down, Fault, Log, Value, encode
from lb7.worker_counters import Increments, add

MOST_CLUSTERS = 500
"""Clusters in one block of counters."""
MOST_RECORDS = 125
"""Records of the access log in one turn of four a second, whatever there is to tell: the parent writes them all."""
MOST_KEPT = 1000
"""Records that wait; of more, the newest are lost and counted."""
MOST_FAULTS = 100
"""Faults that wait, by what they are of."""
_LONGEST, _LONGEST_KEY = 2000, 300
"""Characters of one fault."""
FIGURES = frozenset({"open", "connections", "requests_open", "active", "waiting", "idle", "tunnels", "pooled"})
"""Counters' neighbours that go up and down."""


class Counting(Hashable, Protocol):
    """An edge or a front."""

    def counts(self) -> Mapping[str, Value]:
        """Counters by stable words, and figures that go up and down (`FIGURES`)."""


class Reports:
    """See the module. What can't be sent yet waits, within limits."""

    def __init__(self) -> None:
        self.lost = 0
        self._increments = Increments()
        self._records: deque[dict[str, Any]] = deque()
        self._faults: dict[str, str] = {}
        self._busy: dict[str, tuple[int, int]] = {}

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
        await self._send_clusters(channel, clusters)
        self._increments.keep({*edges, *(front for _, front in fronts)})

    async def _send_clusters(self, channel: Channel[Down], clusters: list[Cluster]) -> None:
        """There may be two of one name, of which one is gone but for its last requests."""
        busy: dict[str, tuple[int, int]] = {}
        for start in range(0, len(clusters), MOST_CLUSTERS):
            counted, with_requests = grown_of(clusters, start, start + MOST_CLUSTERS)
            for cluster in with_requests:
                active, waiting = busy.get(cluster.name, (0, 0))
                busy[cluster.name] = active + cluster.active, waiting + cluster.waiting
            if counted:
                await channel.send(encode(Counters(clusters=counted)))
            await asyncio.sleep(0)
        await self._send_figures(channel, busy)

    async def _send_figures(self, channel: Channel[Down], busy: dict[str, tuple[int, int]]) -> None:
        """Tell how many requests clusters have, of those where it is another number than was last told."""
        changed = [name for name, figures in busy.items() if self._busy.get(name) != figures]
        changed += [name for name in self._busy if name not in busy]
        self._busy = busy
        for start in range(0, len(changed), MOST_CLUSTERS):
            figures: dict[str, dict[str, int | float]] = {}
            for name in changed[start : start + MOST_CLUSTERS]:
                active, waiting = busy.get(name, (0, 0))
                figures[name] = {"active": active, "waiting": waiting}
            await channel.send(encode(Counters(clusters_now=figures)))


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
