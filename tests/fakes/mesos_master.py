"""A master whose every answer a test decides: a scripted stream, documents, errors, redirects.

No simulation of Mesos: for that see agent.demo. Here a test says byte by byte what comes.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.ports import free_ports

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def record(event: dict[str, Any] | bytes) -> bytes:
    """An event in its RecordIO frame."""
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return b"%d\n%b" % (len(data), data)


def agent(number: int, **more: Any) -> dict[str, Any]:
    """A v1 agent A<number> at 10.0.0.<number>."""
    info = {"id": {"value": f"A{number}"}, "hostname": f"10.0.0.{number}", "port": 5051}
    return {"agent_info": info, "active": True, "pid": f"slave(1)@10.0.0.{number}:5051", **more}


def framework(number: int, **more: Any) -> dict[str, Any]:
    """A v1 framework F<number>."""
    info = {"id": {"value": f"F{number}"}, "name": f"framework{number}", "hostname": "10.9.0.1"}
    return {"framework_info": info, "active": True, "connected": True, **more}


def task(number: int, on: int = 1, state: str = "TASK_RUNNING", of: int = 1, **more: Any) -> dict[str, Any]:
    """A v1 task t<number> on A<on> of F<of>, with one status at 9.0.0.<number> when it runs."""
    status = {
        "state": "TASK_RUNNING",
        "timestamp": 100.0 + number,
        "container_status": {"network_infos": [{"ip_addresses": [{"ip_address": f"9.0.0.{number}"}]}]},
    }
    return {
        "task_id": {"value": f"t{number}"},
        "framework_id": {"value": f"F{of}"},
        "agent_id": {"value": f"A{on}"},
        "name": f"app{number}",
        "state": state,
        "statuses": [status] if state == "TASK_RUNNING" else [],
        **more,
    }


def update(number: int, state: str, of: int = 1, on: int = 1, **status: Any) -> dict[str, Any]:
    """TASK_UPDATED of t<number>."""
    inner = {"task_id": {"value": f"t{number}"}, "agent_id": {"value": f"A{on}"}, "state": state, **status}
    return {
        "type": "TASK_UPDATED",
        "task_updated": {"framework_id": {"value": f"F{of}"}, "status": inner, "state": state},
    }


def state_of(
    tasks: list[Any], agents: list[Any], frameworks: list[Any] | None = None, recovered: list[int] | None = None
) -> dict[str, Any]:
    """v1's GetState."""
    infos = [agent(number)["agent_info"] for number in recovered or []]
    return {
        "get_tasks": {"tasks": tasks, "unreachable_tasks": [], "completed_tasks": []},
        "get_executors": {"executors": []},
        "get_frameworks": {"frameworks": [framework(1)] if frameworks is None else frameworks},
        "get_agents": {"agents": agents, "recovered_agents": infos},
    }


def subscribed(state: dict[str, Any], heartbeat: float = 15.0) -> dict[str, Any]:
    """SUBSCRIBED."""
    return {"type": "SUBSCRIBED", "subscribed": {"get_state": state, "heartbeat_interval_seconds": heartbeat}}


HEARTBEAT = {"type": "HEARTBEAT"}


class FakeMaster:
    """An HTTP server on 127.0.0.1. `calls` holds each v1 call's type and each GET's path, in order.

    Answers to SUBSCRIBE come from `stream` (bytes that are queued with `send`; `cut` ends it); `v1`
    maps other call types and `gets` paths to a handler or to a JSON value. `before` may answer first.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.calls: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.v1: dict[str, Any] = {}
        self.gets: dict[str, Any] = {}
        self.before: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None
        self.subscribers = asyncio.Semaphore(0)
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self.port = free_ports(1)[0]

    async def __aenter__(self) -> FakeMaster:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def place(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def send(self, *events: dict[str, Any] | bytes) -> None:
        """Queue events (framed) or raw bytes for the stream."""
        for event in events:
            self._queue.put_nowait(event if isinstance(event, bytes) else record(event))

    def cut(self) -> None:
        """End the stream behind what is queued."""
        self._queue.put_nowait(None)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kind = json.loads(body)["type"] if request.method == "POST" and request.path.endswith("/api/v1") else ""
        self.calls.append(kind or request.path)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(body)
        if self.before is not None and (answer := await self.before(request)) is not None:
            return answer
        found = self.v1.get(kind) if kind else self.gets.get(request.path)
        if callable(found):
            reply: web.StreamResponse = await found(request)
            return reply
        if found is not None:
            return web.json_response(found)
        if kind == "SUBSCRIBE":
            return await self._stream(request)
        return web.Response(status=404, text="no such thing")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.subscribers.release()
        while (data := await self._queue.get()) is not None:
            await response.write(data)
        return response
