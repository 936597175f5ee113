"""What stands before a simulated Marathon's API: who may ask, which instance leads, and what goes wrong.

Instances that stand by send readers of events to the leader (302) and pass everything else on to it, or pass on
events too, as `Election.standby` says. Without a leader they answer 503.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import aiohttp
from aiohttp import web

from agent.demo import v1
from agent.demo.marathon_faults import MarathonFaults

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NO_LEADER = "Could not determine the current leader"
LEADER = "X-Marathon-Leader"
_PASSED_ON = ("Accept", "Authorization", "Content-Type")


class Instance(Protocol):
    """One instance of a Marathon, as the others know it."""

    @property
    def url(self) -> str:
        """http(s)://host:port."""

    @property
    def place(self) -> str:
        """host:port."""


class Election:
    """Which of the instances leads; None: they are about to find out. `standby`: what the others do with a reader of
    events: "redirect" or "proxy"; "redirect-all": they send everybody away, as Marathon 0.5 did. `elsewhere`: redirects
    lead there instead, as behind a login page."""

    def __init__(self, standby: Literal["redirect", "proxy", "redirect-all"] = "redirect") -> None:
        self.leader: Instance | None = None
        self.standby = standby
        self.elsewhere = ""


class Gate:
    """The middleware of one instance. `credentials` are a user and a password, or a token alone."""

    def __init__(
        self,
        instance: Instance,
        election: Election,
        faults: MarathonFaults,
        credentials: tuple[str, str] | str | None = None,
    ) -> None:
        self.requests: list[str] = []
        self.faults = faults
        self._instance = instance
        self._election = election
        self._expected = _header(credentials)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give up what is being passed on."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def pass_or_refuse(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware itself."""
        self.requests.append(f"{request.method} {request.path}")
        faults = self.faults
        if faults.stall:
            await asyncio.Event().wait()
        if faults.slow:
            await asyncio.sleep(faults.slow)
        if self._expected and request.headers.get("Authorization") != self._expected:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="Mesosphere"'})
        if faults.status and request.path.startswith("/v2"):
            return web.Response(status=faults.status, text="<html>the gateway says no</html>")
        if request.path == faults.forbidden:
            return web.Response(status=403, body=v1.encode({"message": "Not Authorized to perform this action!"}))
        leader = self._election.leader
        if faults.unavailable or leader is None:
            return web.Response(status=503, text=NO_LEADER)
        if leader is not self._instance and request.path != "/ping":
            return await self._to_leader(request, leader)
        writes = request.method not in ("GET", "HEAD")
        if writes and faults.write_status:
            return web.Response(status=faults.write_status, text="<html>the gateway says no</html>")
        answer = await handler(request)
        if writes and faults.unanswered and request.transport is not None:
            request.transport.close()
        if writes and faults.mumbled:
            return web.Response(text="<html>done</html>")
        if isinstance(answer, web.Response):
            answer.headers[LEADER] = leader.url
            return await self._spoilt(request, answer)
        return answer

    async def _spoilt(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """The answer as faults leave it."""
        faults = self.faults
        if answer.status != 200 or request.method != "GET" or not request.path.startswith(("/v2/apps", "/v2/pods")):
            return answer
        body = answer.body
        if not isinstance(body, bytes):
            return answer
        if faults.truncate:
            return await _cut(request, answer, body)
        if request.path == "/v2/apps" or not faults.empty:
            answer.body = faults.body(body) if request.path != "/v2/pods::status" or faults.garble else body
        elif request.path.startswith("/v2/apps/"):
            return web.Response(
                status=404, body=v1.encode({"message": "App does not exist"}), content_type="application/json"
            )
        return answer

    async def _to_leader(self, request: web.Request, leader: Instance) -> web.StreamResponse:
        """What an instance that stands by does."""
        election = self._election
        away = election.standby == "redirect-all" or (election.standby == "redirect" and request.path == "/v2/events")
        if away or election.elsewhere:
            where = election.elsewhere or leader.url
            raise web.HTTPFound(where + request.path_qs)
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=False)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        try:
            async with self._session.request(
                request.method,
                leader.url + request.path_qs,
                headers=headers,
                data=await request.read() or None,
                allow_redirects=False,
            ) as answer:
                passed = web.StreamResponse(status=answer.status)
                for name in ("Content-Type", "Content-Length", LEADER):
                    if name in answer.headers:
                        passed.headers[name] = answer.headers[name]
                await passed.prepare(request)
                if request.method != "HEAD":
                    async for piece in answer.content.iter_any():
                        await passed.write(piece)
                return passed
        except aiohttp.ClientConnectionError:
            return web.Response(status=502, text="Connection to leader refused.")


async def _cut(request: web.Request, answer: web.Response, body: bytes) -> web.StreamResponse:
    """The first half of a body that is announced whole, then the end of the connection."""
    cut = web.StreamResponse(headers={"Content-Type": answer.content_type, "Content-Length": str(len(body))})
    await cut.prepare(request)
    with contextlib.suppress(ConnectionError):
        await cut.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return cut


def _header(credentials: tuple[str, str] | str | None) -> str:
    """The Authorization header that is expected; "": anybody may ask."""
    if credentials is None:
        return ""
    if isinstance(credentials, str):
        return f"token={credentials}"
    return "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
