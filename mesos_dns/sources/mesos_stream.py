"""One connection to a master's event stream: records in, ledger calls out, until it breaks.

The stream is dead when no record came for three of the heartbeat intervals that SUBSCRIBED named.
A record that is broken JSON is skipped and counted, except the snapshot itself: without it the
events after it mean nothing, so the connection is given up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mesos_dns.sources._split import SplitError
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.mesos_calls import State
from mesos_dns.sources.mesos_client import Answer, MasterError
from mesos_dns.sources.mesos_decode import event_type
from mesos_dns.sources.mesos_ledger import Ledger, Want
from mesos_dns.sources.mesos_read import PIECE, DocumentReader
from mesos_dns.sources.mesos_snapshot import Snapshot, V1Document
from mesos_dns.sources.pace import Pace
from mesos_dns.sources.recordio import FramingError, Part, RecordReader

DEFAULT_HEARTBEAT = 15.0
MISSED_HEARTBEATS = 3
MIN_HEARTBEAT, MAX_HEARTBEAT = 0.05, 300.0


class _Subscribed(msgspec.Struct):
    get_state: State
    heartbeat_interval_seconds: Any = None


class _SubscribedHead(msgspec.Struct):
    type: str
    subscribed: _Subscribed | None = None


class EventStream:
    """Reads one answer to SUBSCRIBE.

    `subscribed` is awaited with the collected snapshot and must apply it; `wanted` is called with
    what events make necessary to read again. `timeout`: seconds for the whole snapshot to arrive.
    """

    def __init__(
        self,
        answer: Answer,
        ledger: Ledger,
        counters: SourceCounters,
        subscribed: Callable[[Snapshot], Awaitable[None]],
        wanted: Callable[[Want], None],
        timeout: float,
    ) -> None:
        self._answer = answer
        self._ledger = ledger
        self._counters = counters
        self._subscribed = subscribed
        self._wanted = wanted
        self._timeout = timeout
        self._interval = DEFAULT_HEARTBEAT
        self._synced = False
        self._document: DocumentReader | None = None
        self._broken = ""
        self._pace = Pace()

    async def run(self) -> None:
        """Read until the stream ends; always ends in MasterError (or cancellation)."""
        reader, loop = RecordReader(), asyncio.get_running_loop()
        began = last = loop.time()
        try:
            while True:
                deadline = last + MISSED_HEARTBEATS * self._interval
                if not self._synced or reader.in_record:
                    deadline = min(loop.time() + MISSED_HEARTBEATS * self._interval, max(began, last) + self._timeout)
                data = await self._next(deadline)
                view = memoryview(data)
                for start in range(0, len(view), PIECE):
                    for part in reader.feed(bytes(view[start : start + PIECE])):
                        await self._part(part)
                        if part.last:
                            last = loop.time()
                    await self._pace.turn()
        except FramingError as error:
            raise MasterError("framing", f"{self._answer.base}: the event stream is broken: {error}") from None
        finally:
            if self._document is not None:
                self._ledger.end(self._document.document.snapshot)

    async def _next(self, deadline: float) -> bytes:
        try:
            async with asyncio.timeout_at(deadline):
                data = await self._answer.chunk()
        except TimeoutError:
            text = f"{self._answer.base}: silent for {MISSED_HEARTBEATS} heartbeats of {self._interval:g} s"
            raise MasterError("stall", text) from None
        if not data:
            raise MasterError("connect", f"{self._answer.base}: the master closed the event stream")
        return data

    async def _part(self, part: Part) -> None:
        if part.first and part.last and event_type(part.data) != "SUBSCRIBED":
            async with self._ledger.lock:
                if not self._synced and not event_type(part.data):
                    raise MasterError("document", f"{self._answer.base}: the first record is not valid JSON")
                self._wanted(self._ledger.event(part.data))
            return
        if part.first:
            self._document, self._broken = DocumentReader(V1Document(self._ledger.begin())), ""
        if self._document is None:
            return
        if not self._broken:
            try:
                await self._document.feed(part.data, self._pace)
            except SplitError as error:
                self._broken = str(error)
        if part.last:
            document, self._document = self._document, None
            try:
                await self._finish(document)
            finally:
                self._ledger.end(document.document.snapshot)

    async def _finish(self, document: DocumentReader) -> None:
        """A record that was read in pieces is complete."""
        try:
            if self._broken:
                raise SplitError(self._broken)
            head = document.finish(_SubscribedHead)
        except (SplitError, msgspec.DecodeError, UnicodeDecodeError) as error:
            if not self._synced:
                raise MasterError("document", f"{self._answer.base}: the snapshot is refused: {error}") from None
            self._counters.malformed += 1
            return
        if head.type != "SUBSCRIBED":
            async with self._ledger.lock:
                self._wanted(self._ledger.event(document.skeleton()))
            return
        if head.subscribed is None or (
            head.subscribed.get_state.get_tasks is None and document.document.snapshot.agents
        ):
            raise MasterError("document", f"{self._answer.base}: the snapshot has no state or no tasks")
        self._interval = heartbeat(head.subscribed.heartbeat_interval_seconds)
        self._counters.events["SUBSCRIBED"] += 1
        await self._subscribed(document.document.snapshot)
        self._synced = True
        self._pace.rested()


def heartbeat(seconds: object) -> float:
    """The heartbeat interval to go by: what the master names, within bounds, else 15 s."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        return DEFAULT_HEARTBEAT
    return min(max(seconds, MIN_HEARTBEAT), MAX_HEARTBEAT)
