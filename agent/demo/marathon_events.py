"""Marathon's event stream: server-sent events to every subscriber, with keep-alives."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from aiohttp import web

from agent.demo import v1
from agent.demo.marathon_apps import stamp
from agent.demo.marathon_faults import MarathonFaults

Json = dict[str, Any]
MAX_WAITING = 100_000  # events
KEEP_ALIVE = b"\r\n"


class _Reader:
    """One subscriber: the events that wait for it."""

    def __init__(self, types: frozenset[str]) -> None:
        self.types = types
        self.waiting: deque[bytes] = deque()
        self.wake = asyncio.Event()
        self.closed = False
        self.abandoned = False

    def wants(self, kind: str) -> bool:
        """Whether events of this type go to it."""
        return not self.abandoned and (not self.types or kind in self.types)


class EventBus:
    """The subscribers of /v2/events. `keep_alive` in seconds; of `faults` those that concern streams."""

    def __init__(self, *, keep_alive: float = 5.0, faults: MarathonFaults | None = None) -> None:
        self.keep_alive = keep_alive
        self.faults = faults or MarathonFaults()
        self._readers: set[_Reader] = set()

    @property
    def count(self) -> int:
        """Open streams."""
        return len(self._readers)

    def publish(self, kind: str, now: float, **facts: Any) -> None:
        """Send an event; it is encoded once, and only when somebody listens."""
        if self.faults.silent or self.faults.mute:
            return
        readers = [reader for reader in self._readers if reader.wants(kind)]
        if not readers:
            return
        event = v1.encode({**facts, "eventType": kind, "timestamp": stamp(now)})
        self._send(b"event: %s\r\ndata: %s\r\n\r\n" % (kind.encode(), event), readers)

    def send(self, data: bytes) -> None:
        """Send any bytes to all, also such that no Marathon would."""
        self._send(data, list(self._readers))

    def _send(self, data: bytes, readers: list[_Reader]) -> None:
        for reader in readers:
            if len(reader.waiting) >= MAX_WAITING:
                reader.closed = True
            else:
                reader.waiting.append(data)
            reader.wake.set()

    def abandon(self) -> None:
        """Streams that are open now stay open, and get keep-alives only from now on."""
        for reader in self._readers:
            reader.abandoned = True

    def close(self) -> None:
        """End all streams."""
        for reader in self._readers:
            reader.closed = True
            reader.wake.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One subscriber until it leaves."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        await response.write(KEEP_ALIVE)
        reader = _Reader(frozenset(request.query.getall("event_type", [])))
        self._readers.add(reader)
        self.publish("event_stream_attached", time.time(), remoteAddress=request.remote or "")
        try:
            while not reader.closed:
                await self._wait(reader)
                if self.faults.silent:
                    reader.waiting.clear()
                    continue
                if not reader.waiting:
                    await response.write(KEEP_ALIVE)
                while reader.waiting:
                    await response.write(reader.waiting.popleft())
        finally:
            self._readers.discard(reader)
        return response

    async def _wait(self, reader: _Reader) -> None:
        reader.wake.clear()
        if reader.waiting or reader.closed:
            return
        try:
            async with asyncio.timeout(self.keep_alive):
                await reader.wake.wait()
        except TimeoutError:
            pass
