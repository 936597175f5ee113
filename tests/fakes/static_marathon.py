"""A Marathon that has the apps it was given: /v2/info, /v2/apps and an event stream, and no scheduler.

It serves recorded documents as they are. `python -m tests.fakes.static_marathon FILE` prints its URL and reads the
file again on SIGHUP, telling its followers that something changed.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

KEEP_ALIVE = 5.0
FRAMEWORK = "F-static"


class StaticMarathon:
    """Serves `apps` (those of a /v2/apps document) at `url` once started.

    An event stream gets a blank line after `keep_alive` seconds without an event. While `silent`, streams stay open and
    say nothing at all, and what happens meanwhile they never tell; while `refusing`, new ones get 503.
    """

    def __init__(self, apps: list[dict[str, Any]], host: str = "127.0.0.1", *, keep_alive: float = KEEP_ALIVE) -> None:
        self.apps = {app["id"]: app for app in apps}
        self.host = host
        self.url = ""
        self.keep_alive = keep_alive
        self.silent = False
        self.refusing = False
        self._streams: set[asyncio.Queue[str]] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/ping", self._ping),
                web.get("/v2/info", self._info),
                web.get("/v2/leader", self._leader),
                web.get("/v2/events", self._events),
                web.get("/v2/apps", self._apps),
                web.get("/v2/pods::status", self._pods),
                web.get(r"/v2/apps/{app:.+}", self._app),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0).start()
        self.url = f"http://{self.host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def change(self, app: dict[str, Any]) -> None:
        """This app is so now; followers are told."""
        self.apps[app["id"]] = app
        self.tell(app["id"])

    def remove(self, name: str) -> None:
        """This app is no more; followers are told."""
        del self.apps[name]
        self.tell(name)

    def tell(self, name: str) -> None:
        """Let followers know that something of this app changed."""
        if self.silent:
            return
        event = {
            "eventType": "api_post_event",
            "clientIp": "127.0.0.1",
            "uri": f"/v2/apps/{name}",
            "appDefinition": {"id": name},
        }
        for stream in self._streams:
            stream.put_nowait(f"event: api_post_event\ndata: {json.dumps(event)}\n\n")

    def cut(self) -> None:
        """End all event streams."""
        for stream in self._streams:
            stream.put_nowait("")

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="pong\n")

    async def _pods(self, request: web.Request) -> web.Response:
        return _json([])

    async def _info(self, request: web.Request) -> web.Response:
        return _json(
            {
                "name": "marathon",
                "version": "1.11.24",
                "elected": True,
                "leader": request.host,
                "frameworkId": FRAMEWORK,
            }
        )

    async def _leader(self, request: web.Request) -> web.Response:
        return _json({"leader": request.host})

    async def _apps(self, request: web.Request) -> web.Response:
        return _json({"apps": list(self.apps.values())})

    async def _app(self, request: web.Request) -> web.Response:
        name = "/" + request.match_info["app"].strip("/")
        if name not in self.apps:
            return web.json_response({"message": f"App '{name}' does not exist"}, status=404)
        return _json({"app": self.apps[name]})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.refusing:
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream: asyncio.Queue[str] = asyncio.Queue()
        self._streams.add(stream)
        try:
            await response.write(b'event: event_stream_attached\ndata: {"eventType":"event_stream_attached"}\n\n')
            while True:
                try:
                    async with asyncio.timeout(self.keep_alive):
                        text = await stream.get()
                except TimeoutError:
                    if self.silent:
                        continue
                    text = "\r\n"
                if not text:
                    break
                await response.write(text.encode())
        except ConnectionError:
            pass
        finally:
            self._streams.discard(stream)
        return response


def _json(value: object) -> web.Response:
    return web.Response(text=json.dumps(value), content_type="application/json")


def _read(path: Path) -> list[dict[str, Any]]:
    apps: list[dict[str, Any]] = json.loads(path.read_text())["apps"]
    return apps


async def main(path: Path) -> None:
    """Serve the file's apps until ended."""
    marathon = StaticMarathon(await asyncio.to_thread(_read, path))
    await marathon.start()

    def again() -> None:
        before, after = marathon.apps, {app["id"]: app for app in _read(path)}
        marathon.apps = after
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                marathon.tell(name)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again)
    print(marathon.url, flush=True)  # only now: whoever reads it may send the signal, which else ends the process
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
