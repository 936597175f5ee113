"""/v1/watch: who may follow, over a WebSocket or as lines of JSON (protocol: watch_wire, sessions: watch_session)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import WSCloseCode, WSMsgType, web

from mesos_dns.api_context import ApiContext
from mesos_dns.model import canonical_address
from mesos_dns.watch import Watch
from mesos_dns.watch_session import Follower
from mesos_dns.watch_wire import MAX_ANSWER

LINES = "application/x-ndjson"
_SILENT = ("silent", "stalled")


class _Frames:
    """Messages in text frames; pings as signs of life."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        await self._socket.send_frame(message, WSMsgType.TEXT)

    async def beat(self, status: Callable[[], bytes], changed: bool, mark: bytes) -> None:
        if changed:
            await self.send(status())
        await self._socket.ping(mark)


class _Lines:
    """A message a line."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response

    async def send(self, message: bytes) -> None:
        await self._response.write(message + b"\n")

    async def beat(self, status: Callable[[], bytes], changed: bool, mark: bytes) -> None:
        await self.send(status())


def handler(context: ApiContext) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler of GET /v1/watch."""

    async def watched(request: web.Request) -> web.StreamResponse:
        watch = _admit(context, request)
        await watch.start()
        since = request.query.get("since", "")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await _frames(request, watch, since)
        return await _lines(request, watch, since)

    return watched


def _admit(context: ApiContext, request: web.Request) -> Watch:
    """The watch, if this client may follow it now. Raises HTTPException."""
    watch = context.watch
    if watch is None:
        raise web.HTTPServiceUnavailable(text="503: this process has no followers")
    reason, text = "", ""
    if "Origin" in request.headers:
        # A page in somebody's browser could open a WebSocket to here: nothing else keeps it from that.
        watch.counters.refused["origin"] += 1
        raise web.HTTPForbidden(text="403: not for pages of other origins")
    if context.draining:
        reason, text = "draining", "503: the server ends"
    elif not watch.known():
        reason, text = "unknown", "503: nobody has said yet what runs in the cluster"
    elif watch.counters.now >= watch.most_followers:
        reason, text = "limit", "503: as many followers as there may be"
    if reason:
        watch.counters.refused[reason] += 1
        raise web.HTTPServiceUnavailable(text=text, headers={"Retry-After": "1"})
    return watch


async def _frames(request: web.Request, watch: Watch, since: str) -> web.StreamResponse:
    socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=MAX_ANSWER, timeout=1.0)
    await socket.prepare(request)
    host = canonical_address(request.remote or "")
    follower = Follower(watch, _Frames(socket), answers=True, host=host)
    watch.hearing.enter(host)
    reason = "gone"
    reading = asyncio.get_running_loop().create_task(_read(socket, follower), name="read follower")
    try:
        reason = await _told(request, watch, follower, since)
    finally:
        reading.cancel()
        watch.hearing.leave(host, silent=reason in _SILENT)
        await asyncio.gather(reading, return_exceptions=True)
    if reason == "dismissed":
        await socket.close(code=WSCloseCode.GOING_AWAY)
    return socket


async def _lines(request: web.Request, watch: Watch, since: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": LINES, "Cache-Control": "no-store"})
    await response.prepare(request)
    follower = Follower(watch, _Lines(response), answers=False)
    if await _told(request, watch, follower, since) == "dismissed":
        response.force_close()
        await response.write_eof()
    return response


async def _told(request: web.Request, watch: Watch, follower: Follower, since: str) -> str:
    """Run a session; unless it ends politely the connection is cut: what is in its buffer goes nowhere."""
    reason = "ended"
    watch.enter(follower)
    try:
        reason = await follower.tell(since)
    finally:
        watch.leave(follower, reason)
        if reason != "dismissed" and request.transport is not None:
            request.transport.abort()
    return reason


async def _read(socket: web.WebSocketResponse, follower: Follower) -> None:
    """Hear what the follower says, until it has gone."""
    reason = "gone"
    try:
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                follower.said(message.data)
            elif message.type is WSMsgType.PONG:
                follower.heard(bytes(message.data))
            elif message.type is WSMsgType.PING:
                follower.heard()
                await socket.pong(message.data)
            else:
                if message.type in (WSMsgType.ERROR, WSMsgType.BINARY):
                    reason = "malformed"
                return
    except ConnectionError:
        pass
    finally:
        follower.end(reason)
