"""The operator event stream of a simulated master: RecordIO records to every subscriber.

An event is encoded once; subscribers share the bytes. A subscriber's snapshot is taken in one turn
of the loop, and what happens from then on waits in its queue until the snapshot is through.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from aiohttp import web

from agent.demo import documents, v1
from agent.demo.body import Body
from agent.demo.cluster import Cluster, Event
from agent.demo.faults import Faults

log = logging.getLogger(__name__)

HEARTBEAT = v1.encode({"type": "HEARTBEAT"})
MAX_WAITING = 256 * 1024 * 1024  # bytes; the real master has no such limit and can run out of memory


def record(data: bytes) -> bytes:
    """RecordIO: the length in decimal, a newline, the data."""
    return b"%d\n%s" % (len(data), data)


class Subscriber:
    """One open stream: the records that wait for it."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self.closed = False

    def put(self, data: bytes) -> None:
        """Queue a record's bytes; a reader that is too far behind is cut off."""
        if self._size + len(data) > MAX_WAITING:
            log.warning("subscriber cut off: waiting_bytes=%d", self._size)
            self.abort()
            return
        self._waiting.append(data)
        self._size += len(data)
        self._wake.set()

    def close(self) -> None:
        """End the stream after what waits, with the last chunk (the oldest of too many subscribers)."""
        self.closed = True
        self._wake.set()

    def abort(self) -> None:
        """Cut the connection, as when the master dies."""
        self.close()
        self._waiting.clear()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def next(self) -> bytes | None:
        """The next record, or None at the end."""
        while not self._waiting:
            if self.closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        data = self._waiting.popleft()
        self._size -= len(data)
        return data


class EventStream:
    """The subscribers of one master. `heartbeat` in seconds; more than `limit` closes the oldest."""

    def __init__(self, cluster: Cluster, faults: Faults, *, heartbeat: float = 15.0, limit: int = 1000) -> None:
        self.heartbeat = heartbeat
        self.limit = limit
        self.events_sent = 0
        self._cluster = cluster
        self._faults = faults
        self._subscribers: list[Subscriber] = []
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """Open streams."""
        return len(self._subscribers)

    async def until(self, count: int) -> None:
        """Wait until exactly so many streams are open."""
        while len(self._subscribers) != count:
            self._changed.clear()
            await self._changed.wait()

    def publish(self, event: Event) -> None:
        """Send an event of the cluster to all."""
        if self._subscribers:
            self.send(v1.encode(event))

    def send(self, data: bytes) -> None:
        """Send a record as it is to all; for tests also one that no master would send."""
        self.events_sent += 1
        if self._faults.silent:
            return
        if self._faults.garble:
            self._faults.garble = False
            data = b"\x00{" * (len(data) // 2) + data[len(data) // 2 * 2 :]
        framed = record(data)
        for subscriber in tuple(self._subscribers):
            subscriber.put(framed)

    def abort(self) -> None:
        """Cut all streams at once."""
        for subscriber in tuple(self._subscribers):
            subscriber.abort()
        self._subscribers.clear()

    async def serve(self, request: web.Request, response: web.StreamResponse) -> None:
        """One subscription from SUBSCRIBED to its end."""
        response.enable_chunked_encoding()
        await response.prepare(request)
        subscriber = Subscriber(request)
        await documents.prepare_v1(self._cluster)
        snapshot = documents.subscribed(None if self._faults.empty else self._cluster, self.heartbeat)
        self._subscribers.append(subscriber)
        self._changed.set()
        if len(self._subscribers) > self.limit:
            self._subscribers.pop(0).close()
        beat = asyncio.create_task(self._beat(subscriber))
        try:
            if await self._send_snapshot(response, snapshot):
                await self._send_events(request, response, subscriber)
            elif request.transport is not None:
                request.transport.close()
        finally:
            beat.cancel()
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)
            self._changed.set()

    async def _beat(self, subscriber: Subscriber) -> None:
        beat = record(HEARTBEAT)
        while True:
            if not self._faults.silent:
                subscriber.put(beat)
            await asyncio.sleep(self.heartbeat)

    async def _send_snapshot(self, response: web.StreamResponse, snapshot: Body) -> bool:
        """False when the stream is to end with it."""
        faults = self._faults
        if faults.rewrites_bodies:
            sent = faults.body(snapshot.whole())
            length = len(sent) if faults.wrong else snapshot.length
            await self._write(response, b"%d\n%s" % (length, sent))
            return faults.wrong
        await self._write(response, b"%d\n" % snapshot.length)
        for piece in snapshot.pieces():
            await self._write(response, piece)
        return True

    async def _send_events(self, request: web.Request, response: web.StreamResponse, subscriber: Subscriber) -> None:
        while (data := await subscriber.next()) is not None:
            cut = self._faults.cut_after
            if cut is not None:
                self._faults.cut_after = None
                await self._write(response, data[:cut])
                if request.transport is not None:
                    request.transport.close()
                return
            await self._write(response, data)

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        for piece in self._faults.split(data):
            await response.write(piece)
            await self._faults.breathe()
