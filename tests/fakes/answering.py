"""An HTTP server that answers each path as it is told to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asked(NamedTuple):
    """One request: its method, its path with the query as it was sent, its headers, its body."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Answering:
    """Serves `answers` by path: bytes are a 200 of JSON; None hangs. Use as an async context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.answers: dict[str, bytes | Handler | None] = {}
        self.asked: list[Asked] = []
        self.url = ""
        self.port = 0
        self._tls = tls
        self._host = host
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Answering:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http{'s' if self._tls else ''}://{self._host}:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def count(self, path: str) -> int:
        """How often a path was asked."""
        return sum(asked.target.partition("?")[0] == path for asked in self.asked)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append(Asked(request.method, request.raw_path, dict(request.headers), body))
        answer = self.answers.get(request.path, _not_found)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        assert answer is not None
        return await answer(request)


async def _not_found(request: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="no such path")


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Handler:
    """A handler that answers so; names of headers have _ for -."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, body=body, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    return handle


HOSTILE: dict[str, Handler] = {
    "html": answer(body=b"<html><body>Sign in</body></html>", Content_Type="text/html"),
    "redirect": answer(302, Location="http://127.0.0.1:1/elsewhere"),
    "gzip": answer(body=b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
    "huge": answer(body=b" " * ((1 << 20) + 1)),
    "empty": answer(),
    "nested": answer(body=b"[" * 100_000),
    "not UTF-8": answer(body=b'"\xff\xfe'),
    "created": answer(201, b"1"),
    "login": answer(401, b"who are you?"),
    "broken": answer(500, b"\x00oops"),
}
"""Answers that are never a metric, whoever gives them: none of them may be believed."""
