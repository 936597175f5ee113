"""A simulated Mesos master: the operator API and the old endpoints over HTTP, as recorded from a real one.

Whether it leads, and who does, it asks its `Quorum`. Answers of a non-leader, missing headers, bad
bodies and credentials are those of the recordings: status, headers and text.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from aiohttp import web

from agent.demo import documents, v0, v1
from agent.demo.body import Body
from agent.demo.cluster import Cluster
from agent.demo.documents import MasterFacts
from agent.demo.faults import Faults
from agent.demo.stream import EventStream

log = logging.getLogger(__name__)

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
MAX_BODY = 1024 * 1024
RECOVERING = "Master has not finished recovery"
NO_LEADER = "No leader elected"
EMPTY_STATE = b'{"slaves":[],"frameworks":[],"completed_frameworks":[],"orphan_tasks":[]}'


class Quorum(Protocol):
    """Who leads."""

    @property
    def leader(self) -> Master | None:
        """The leading master, if any."""
        ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Master:
    """One master process. `start` binds it; `url` is then where it listens.

    `credentials` (user, password) turn on basic authentication for reads and writes alike.
    """

    def __init__(
        self,
        cluster: Cluster,
        quorum: Quorum,
        faults: Faults,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        heartbeat: float = 15.0,
        max_subscribers: int = 1000,
        credentials: tuple[str, str] | None = None,
        extra: Handler | None = None,
    ) -> None:
        self.cluster = cluster
        self.faults = faults
        self.stream = EventStream(cluster, faults, heartbeat=heartbeat, limit=max_subscribers)
        self.requests: dict[str, int] = {}
        self._quorum = quorum
        self._host = host
        self._port = port
        self._credentials = credentials
        self._extra = extra
        self._id = str(uuid.uuid4())
        self._start_time = time.time()
        self._runner: web.AppRunner | None = None
        self._open: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "/health": self._health,
            "/version": self._version,
            "/redirect": self._redirect,
        }
        self._documents: dict[str, Callable[[], Awaitable[Body]]] = {
            "/state": self._state,
            "/state-summary": lambda: documents.summary(self.cluster, self.facts),
            "/frameworks": lambda: documents.frameworks(self.cluster),
            "/slaves": lambda: documents.agents(self.cluster),
            "/tasks": lambda: documents.tasks(self.cluster),
        }

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """http://host:port."""
        return f"http://{self.address}"

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._runner is not None

    @property
    def facts(self) -> MasterFacts:
        """What it says of itself."""
        return MasterFacts(self._id, self._host, self._port, self._start_time)

    @property
    def leads(self) -> bool:
        """Whether it is the leading master."""
        return self._quorum.leader is self

    async def start(self) -> None:
        """Listen; after a stop, at the same address as before."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port, reuse_address=True).start()
        self._port = runner.addresses[0][1]
        self._runner = runner
        self.cluster.listeners.append(self._publish)

    async def stop(self) -> None:
        """Cut all streams and stop listening, as when the process is killed."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        self.cluster.listeners.remove(self._publish)
        self.stream.abort()
        await runner.cleanup()

    def _publish(self, event: dict[str, object]) -> None:
        if self.leads:
            self.stream.publish(event)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.requests[path] = self.requests.get(path, 0) + 1
        if self._extra is not None and path.startswith("/simulate/"):
            return await self._extra(request)
        if self.faults.stall:
            await asyncio.Event().wait()
        refusal = self._unavailable()
        if refusal is not None:
            return refusal
        path = path.removeprefix("/master") if path != "/master" else path
        if path in self._open:
            return await self._open[path](request)
        if path == "/api/v1":
            return await self._api(request)
        if path not in self._documents:
            return _text(404, "404 Not Found.")
        refusal = self._unauthorized(request, "readonly") or self._elsewhere(path)
        if refusal is not None:
            return refusal
        return await self._send(request, await self._documents[path]())

    def _unavailable(self) -> web.Response | None:
        fault = self.faults.unavailable
        if fault == "json":
            return web.Response(status=503, body=EMPTY_STATE, content_type=JSON)
        if fault:
            return _text(503, NO_LEADER if fault == "no-leader" else RECOVERING)
        return None

    def _unauthorized(self, request: web.Request, realm: str) -> web.Response | None:
        if self._credentials is None or _allowed(request.headers.get("Authorization", ""), self._credentials):
            return None
        response = _text(401, "401 Unauthorized.")
        response.headers["WWW-Authenticate"] = f'Basic realm="mesos-master-{realm}"'
        return response

    def _elsewhere(self, path: str) -> web.Response | None:
        """A redirect to the leader: scheme-relative, with /master before the path, as Mesos writes it."""
        leader = self._quorum.leader
        if leader is self:
            return None
        if leader is None:
            return _text(503, NO_LEADER)
        where = f"//{leader.address}" + (f"/master{path}" if path else "")
        return web.Response(status=307, headers={"Location": where})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        return web.Response(body=v1.encode(dict(sorted(v0.BUILD.items()))), content_type=JSON)

    async def _redirect(self, request: web.Request) -> web.Response:
        leader = self._quorum.leader
        if leader is None:
            return _text(503, NO_LEADER)
        return web.Response(status=307, headers={"Location": f"//{leader.address}"})

    async def _state(self) -> Body:
        return await documents.state(None if self.faults.empty else self.cluster, self.facts)

    async def _api(self, request: web.Request) -> web.StreamResponse:
        refusal = self._unauthorized(request, "readwrite") or self._elsewhere("/api/v1")
        if refusal is not None:
            return refusal
        if request.method != "POST":
            text = f"405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{request.method}'."
            response = _text(405, text)
            response.headers["Allow"] = "POST"
            return response
        kind, refusal = await _call(request)
        if refusal is not None:
            return refusal
        if kind == "SUBSCRIBE":
            stream = web.StreamResponse(headers={"Content-Type": self.faults.content_type or JSON})
            await self.stream.serve(request, stream)
            return stream
        await documents.prepare_v1(self.cluster)
        if self.faults.empty and kind == "GET_STATE":
            body = Body()
            body.text(b'{"type":"GET_STATE","get_state":')
            documents.state_v1(None, body)
            body.text(b"}")
        else:
            known = documents.call(self.cluster, self.facts, kind)
            if known is None:
                return _text(501, "")
            body = known
        return await self._send(request, body)

    async def _send(self, request: web.Request, body: Body) -> web.StreamResponse:
        if self.faults.rewrites_bodies:
            return web.Response(body=self.faults.body(body.whole()), content_type=self.faults.content_type or JSON)
        response = web.StreamResponse(headers={"Content-Type": self.faults.content_type or JSON})
        response.content_length = body.length
        await response.prepare(request)
        for whole in body.pieces():
            for piece in self.faults.split(whole):
                await response.write(piece)
                await self.faults.breathe()
            await asyncio.sleep(0)
        return response


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/plain", charset="utf-8")


def _allowed(header: str, credentials: tuple[str, str]) -> bool:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(given, ":".join(credentials).encode())


async def _call(request: web.Request) -> tuple[str, web.Response | None]:
    """The type of a v1 call, or the refusal of a bad one."""
    if not request.headers.get("Content-Type"):
        return "", _text(400, "Expecting 'Content-Type' to be present")
    if request.content_type != JSON:
        return "", _text(415, f"Expecting 'Content-Type' of {JSON} or {PROTOBUF}")
    accept = request.headers.get("Accept", "*/*")
    if not any(kind in accept for kind in (JSON, "*/*", "application/*")):
        return "", _text(406, f"Expecting 'Accept' to allow '{PROTOBUF}' or '{JSON}'")
    try:
        call = msgspec.json.decode(await request.read(), type=dict[str, object])
    except msgspec.DecodeError:
        return "", _text(400, "Failed to parse body into JSON: syntax error at line 1 near: ")
    kind = call.get("type")
    if not isinstance(kind, str) or not kind.isascii() or not kind.replace("_", "").isalpha():
        return "", _text(400, "Failed to validate master::Call: Expecting 'type' to be present")
    if kind == "GET_METRICS" and "get_metrics" not in call:
        return "", _text(400, "Failed to validate master::Call: Expecting 'get_metrics' to be present")
    return kind, None
