"""An edge's `[api]` for a decider: it tells of its demand what the test says, and of routes, or misbehaves.

async with TellingEdge("e1") as edge:
    edge.rows["/a:1"] = row(requests=10)
    edge.uptime = 5.0
    edge.tell()                 # a block to whoever follows
    edge.misbehave = answer     # what is answered instead
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import web

from lb7.demand_shapes import LINES, PATH, DemandBlock, DemandRow

KEY = ("app", "mesos", "F1", "/a")


def row(name: str = "/a:1", *apps: str, **values: Any) -> DemandRow:
    """A port of these apps; of its own alone when none is named."""
    app = name.partition(":")[0]
    return DemandRow(
        cluster_name=name, keys=tuple(("mesos", "F1", each) for each in apps or (app,)), app=app, port=1, **values
    )


def block(n: int, *rows: DemandRow, uptime: float | None = None, **values: Any) -> DemandBlock:
    """A block of edge e1; its uptime is its number unless that is told."""
    given: dict[str, Any] = {"edge": "e1", "epoch": "x", "at": 1000.0 + n, "whole": n == 1} | values
    return DemandBlock(n=n, uptime=float(n) if uptime is None else uptime, apps=list(rows), **given)


class TellingEdge:
    """See the module. `asked` are the requests that came, by path with query; `tokens` what they showed."""

    def __init__(self, edge: str = "e1", epoch: str = "x") -> None:
        self.edge, self.epoch = edge, epoch
        self.rows: dict[str, DemandRow] = {}
        self.routes: list[dict[str, Any]] = []
        self.uptime = 1.0
        self.misbehave: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.url = ""
        self._followers: set[asyncio.Queue[bytes | None]] = set()

    async def __aenter__(self) -> TellingEdge:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        await self._runner.cleanup()

    @property
    def followers(self) -> int:
        return len(self._followers)

    def tell(self, *names: str, **values: Any) -> None:
        """A block with these ports (none: all)."""
        self.send(self._block([self.rows[name] for name in names or self.rows], **values))

    def send(self, line: bytes) -> None:
        """A line as it is."""
        for follower in self._followers:
            follower.put_nowait(line)

    def cut(self) -> None:
        """End all connections."""
        for follower in self._followers:
            follower.put_nowait(None)

    def _block(self, rows: list[DemandRow], **values: Any) -> bytes:
        told = DemandBlock(edge=self.edge, epoch=self.epoch, at=1000.0, uptime=self.uptime, n=1, apps=rows, **values)
        return msgspec.json.encode(told) + b"\n"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.misbehave is not None:
            return await self.misbehave(request)
        if request.path == PATH:
            return await self._follow(request)
        return web.json_response(self.routes)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": LINES})
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        queue.put_nowait(self._block(list(self.rows.values()), whole=True))
        self._followers.add(queue)
        try:
            while (line := await queue.get()) is not None:
                await response.write(line)
        finally:
            self._followers.discard(queue)
        return response
