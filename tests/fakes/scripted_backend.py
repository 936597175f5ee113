"""A server of HTTP/1.x that does exactly what a test says, octet by octet, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec

from tests.ports import free_ports

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Heard(msgspec.Struct):
    """A request as it came. `connection`: the how-manieth connection, from 1; `body` without the frames of chunks."""

    head: bytes
    body: bytes
    connection: int

    @property
    def line(self) -> bytes:
        """The request line."""
        return self.head.partition(b"\r\n")[0]

    def fields(self, name: str) -> list[bytes]:
        """Values of the fields of this name."""
        lines = [line.partition(b":") for line in self.head.split(b"\r\n")[1:]]
        return [value.strip() for key, _, value in lines if key.lower() == name.lower().encode()]


class Connection:
    """A connection that the backend accepted; scripts write to it what they like."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader, self.writer, self.number = reader, writer, number
        self.ended = False

    async def send(self, *pieces: bytes) -> None:
        """Each piece by itself, so that a peer is likely to read them one by one."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.01 if len(pieces) > 1 else 0)

    def close(self) -> None:
        """An orderly end."""
        self.ended = True
        self.writer.close()

    def reset(self) -> None:
        """An end by RST."""
        self.ended = True
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script: TypeAlias = Callable[[Connection, Heard], Awaitable[None]]
"""Answers one request; one that closes the connection ends its service."""


def sends(*pieces: bytes) -> Script:
    """A script that sends these, whatever was asked."""

    async def script(connection: Connection, heard: Heard) -> None:
        await connection.send(*pieces)

    return script


class Backend:
    """Listens on a port of 127.0.0.1. Scripts are found by path, "" is for all others; without: 200 and "ok".

    `early`: scripts of a path that are called before the body is read.
    """

    def __init__(self, scripts: Mapping[str, Script] | None = None, early: Mapping[str, Script] | None = None) -> None:
        self.scripts = dict(scripts or {})
        self.early = dict(early or {})
        self.heard: list[Heard] = []
        self.accepted = 0
        self.open: set[Connection] = set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> None:
        self.port = port or self.port or free_ports(1)[0]
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Close all, and listen no more; it may be started again on the same port."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.open):
            connection.writer.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def paths(self) -> list[str]:
        """Of all requests, in order."""
        return [heard.line.split(b" ")[1].decode() for heard in self.heard]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = Connection(reader, writer, self.accepted)
        self.open.add(connection)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            while not connection.ended:
                await self._one(connection)
        except (OSError, EOFError, RuntimeError, asyncio.CancelledError):
            pass  # RuntimeError is what uvloop says of writing to a connection that has ended
        finally:
            self.open.discard(connection)
            if task is not None:
                self._tasks.discard(task)
            writer.close()

    async def _one(self, connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        heard = Heard(head, b"", connection.number)
        if path in self.early:
            self.heard.append(heard)
            await self.early[path](connection, heard)
            return
        heard.body = await read_body(connection.reader, head)
        self.heard.append(heard)
        script = self.scripts.get(path) or self.scripts.get("") or sends(OK)
        await script(connection, heard)


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The body of a message with this head. Raises EOFError when it is cut."""
    length = re.search(rb"\r\ncontent-length: *(\d+)", head.lower())
    if length:
        return await reader.readexactly(int(length[1]))
    if b"\r\ntransfer-encoding:" not in head.lower():
        return b""
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return body


@contextlib.asynccontextmanager
async def backend(
    scripts: Mapping[str, Script] | None = None, early: Mapping[str, Script] | None = None
) -> AsyncIterator[Backend]:
    """A backend that listens."""
    made = Backend(scripts, early)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
