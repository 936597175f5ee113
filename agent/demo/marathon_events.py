"""Marathon's event stream: server-sent events to every subscriber, with keep-alives."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from aiohttp import web

from agent.demo import v1
from agent.demo.marathon_apps import stamp

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


class EventBus:
    """The subscribers of /v2/events. `keep_alive` in seconds."""

    def __init__(self, *, keep_alive: float = 5.0) -> None:
        self.keep_alive = keep_alive
        self._readers: set[_Reader] = set()

    @property
    def count(self) -> int:
        """Open streams."""
        return len(self._readers)

    def publish(self, kind: str, now: float, **facts: Any) -> None:
        """Send an event; it is encoded once, and only when somebody listens."""
        readers = [reader for reader in self._readers if not reader.types or kind in reader.types]
        if not readers:
            return
        event = v1.encode({**facts, "eventType": kind, "timestamp": stamp(now)})
        data = b"event: %s\r\ndata: %s\r\n\r\n" % (kind.encode(), event)
        for reader in readers:
            if len(reader.waiting) >= MAX_WAITING:
                reader.closed = True
            else:
                reader.waiting.append(data)
            reader.wake.set()

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
