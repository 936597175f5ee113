"""The real HTTP servers behind the demo's tasks: one listener per task port, all in this process."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.demo import v1

log = logging.getLogger(__name__)

MAX_HEAD = 16 * 1024
IDLE = 75.0
TRIES = 50


@dataclass(slots=True, eq=False)
class TaskServer:
    """The listeners of one task. `healthy` is what GET /health says (200 or 503)."""

    host: str
    ports: tuple[int, ...]
    task_id: str = ""
    healthy: bool = True
    requests: int = 0
    listeners: list[asyncio.Server] = field(default_factory=list)
    connections: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: answers every request with who answers it, until the client is done."""
        self.connections.add(writer)
        try:
            while await self._answer(port, reader, writer):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the client left or sent no HTTP
        finally:
            self.connections.discard(writer)
            writer.close()

    async def _answer(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(IDLE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.split("\r\n")
        method, path, version = request_line.split(" ")
        fields = dict(_field(line) for line in lines if ":" in line)
        length = int(fields.get("content-length", "0"))
        if length:
            await reader.readexactly(min(length, 1024 * 1024))
        check = path == "/health"
        self.requests += not check
        body = v1.encode(
            {"task": self.task_id, "host": self.host, "port": port, "path": path, "requests": self.requests}
        )
        status = "503 Service Unavailable" if check and not self.healthy else "200 OK"
        keep = version == "HTTP/1.1" and fields.get("connection", "").lower() != "close"
        answer = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        ).encode()
        writer.write(answer if method == "HEAD" else answer + body)
        await writer.drain()
        return keep

    async def close(self) -> None:
        """Stop listening and close what is open."""
        for listener in self.listeners:
            listener.close()
        for writer in tuple(self.connections):
            writer.close()


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


class TaskServers:
    """Starts and stops the servers of tasks, by task id."""

    def __init__(self) -> None:
        self.by_task: dict[str, TaskServer] = {}

    async def open(self, address: str, candidates: Iterable[int], count: int) -> TaskServer:
        """A server on `count` ports of the address: the first of the candidates that are free.

        Raises OSError when there are not enough among the first 50.
        """
        server = TaskServer(address, ())
        ports: list[int] = []
        for port in itertools.islice(candidates, TRIES if count else 0):
            try:
                listener = await asyncio.start_server(
                    lambda reader, writer, port=port: server.serve(port, reader, writer),  # type: ignore[misc]
                    address,
                    port,
                    limit=MAX_HEAD,
                )
            except OSError:
                continue  # somebody else has it
            server.listeners.append(listener)
            ports.append(port)
            if len(ports) == count:
                break
        if len(ports) < count:
            await server.close()
            raise OSError(f"{count} free ports wanted on {address}, found {ports}")
        server.ports = tuple(ports)
        return server

    def name(self, server: TaskServer, task_id: str) -> None:
        """Give the server its task."""
        server.task_id = task_id
        self.by_task[task_id] = server

    async def stop(self, task_id: str) -> None:
        """Stop a task's server, if it has one."""
        server = self.by_task.pop(task_id, None)
        if server is not None:
            await server.close()

    async def close(self) -> None:
        """Stop all."""
        for task_id in tuple(self.by_task):
            await self.stop(task_id)
