"""A server of a task, in a thread of the test: it echoes requests and WebSockets, sends large answers, has a page.

    with echoing_site() as site:
        site.port, site.results

Paths: /echo, /large/OCTETS (with a length), /chunks/COUNT (without), /ws (echoes), /page (a page that uses all this and
POSTs what it saw to /result), /result.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

from aiohttp import WSMsgType, web

PATIENCE = 60.0
BLOCK = bytes(range(256)) * 256

_PAGE = """<!doctype html><title>page</title><script>
async function socket(address) {
  const found = [];
  await new Promise((done, fail) => {
    const ws = new WebSocket(address);
    ws.binaryType = "arraybuffer";
    ws.onopen = () => { ws.send("hello"); ws.send(new Uint8Array(70000).fill(7)); };
    ws.onmessage = (event) => {
      found.push(typeof event.data === "string" ? event.data : "binary " + event.data.byteLength);
      if (found.length == 2) ws.close(1000, "enough");
    };
    ws.onclose = (event) => { found.push("closed " + event.code); done(); };
    ws.onerror = () => fail(new Error("socket"));
  });
  return found;
}
async function all() {
  const result = {};
  try {
    result.socket = await socket((location.protocol == "https:" ? "wss://" : "ws://") + location.host + "/ws");
    const posted = await fetch("/echo", {method: "POST", body: "x".repeat(100000)});
    result.posted = (await posted.json()).length;
    const parts = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map((n) => fetch("/chunks/" + n)));
    result.chunks = (await Promise.all(parts.map((part) => part.arrayBuffer()))).map((part) => part.byteLength);
    result.head = (await fetch("/large/12345", {method: "HEAD"})).headers.get("content-length");
  } catch (error) { result.error = String(error); }
  await fetch("/result", {method: "POST", body: JSON.stringify(result)});
}
all();
</script>"""


class EchoingSite:
    """See the module. `results`: what pages have posted, and by which scheme they were had."""

    def __init__(self) -> None:
        self.port = 0
        self.results: queue.Queue[dict[str, Any]] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="backend")
        self._runner: web.AppRunner | None = None

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._wait(self._open())

    def close(self) -> None:
        """End."""
        if self._runner is not None:
            self._wait(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _wait(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _open(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.route("*", "/echo", _echo),
                web.get("/large/{octets}", _large),
                web.get("/chunks/{count}", _chunks),
                web.get("/ws", _socket),
                web.get("/page", _page),
                web.post("/result", self._result),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def _result(self, request: web.Request) -> web.Response:
        self.results.put({"by": request.headers.get("X-Forwarded-Proto"), **await request.json()})
        return web.Response(status=204)


@contextlib.contextmanager
def echoing_site() -> Iterator[EchoingSite]:
    """A site that listens."""
    site = EchoingSite()
    site.start()
    try:
        yield site
    finally:
        site.close()


async def _echo(request: web.Request) -> web.Response:
    try:
        body = await request.read()
    except ConnectionError:  # the client is gone: nobody will read what is said
        return web.Response(status=400)
    said = {"method": request.method, "path": request.path_qs, "length": len(body), "hash": digest(body)}
    return web.json_response(said | {"headers": {key.lower(): value for key, value in request.headers.items()}})


def digest(octets: bytes) -> str:
    """What stands for a body."""
    return hashlib.sha256(octets).hexdigest()


def large(octets: int) -> bytes:
    """The body of /large/OCTETS."""
    return (BLOCK * (octets // len(BLOCK) + 1))[:octets]


async def _large(request: web.Request) -> web.Response:
    return web.Response(body=large(int(request.match_info["octets"])), content_type="application/octet-stream")


async def _chunks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        for _ in range(int(request.match_info["count"])):
            await response.write(BLOCK)
    return response


async def _socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=16 << 20)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def _page(request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html")
