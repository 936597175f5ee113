"""Backends, clients and a proxy between them, all on 127.x addresses of this machine, for the tests of lb4's proxy."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import pytest
import uvloop
from blockbuster import blockbuster_ctx

from lb4.proxy import Proxy
from lb4.proxy_limits import Limits
from lb4.services import BackendKey, BackendStats, Destination, Kind, Operation, ServiceKey, Settings
from tests.ports import free_ports

both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
"""A test that is run on asyncio's loop and on uvloop's: it has a parameter `loop` for `run`."""

Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

_numbers = itertools.count(1)


def run(loop: str, story: Coroutine[Any, Any, None]) -> None:
    """Run to the end, within a minute; no blocking call of lb4 and no task that is left is tolerated."""

    async def whole() -> None:
        async with asyncio.timeout(60):
            await story
        assert asyncio.all_tasks() == {asyncio.current_task()}

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner, blockbuster_ctx(scanned_modules=["lb4"]):
        runner.run(whole())


def vip(protocol: str = "tcp", address: str = "") -> ServiceKey:
    """A service on an address that no other test of this process has."""
    number = next(_numbers)
    host = address or f"127.{64 + os.getpid() % 64}.{number // 250}.{1 + number % 250}"
    return ServiceKey(protocol, host, free_ports(1)[0])


def nobody(address: str = "127.0.0.1") -> BackendKey:
    """A backend that refuses."""
    return BackendKey(address, vip("tcp", address).port)


@contextlib.asynccontextmanager
async def proxied(limits: Limits | None = None) -> AsyncIterator[Proxy]:
    """An open proxy."""
    proxy = Proxy(limits=limits)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()


async def serve(
    proxy: Proxy, key: ServiceKey, backends: dict[BackendKey, Destination] | list[BackendKey], **settings: Any
) -> None:
    """Add a service with its backends; none may fail."""
    given = backends if isinstance(backends, dict) else dict.fromkeys(backends, Destination())
    operations = [Operation(Kind.ADD_SERVICE, key, Settings(**settings))]
    operations += [Operation(Kind.ADD_DESTINATION, key, None, backend, how) for backend, how in given.items()]
    assert await proxy.apply(operations) == []


async def change(
    proxy: Proxy, kind: Kind, key: ServiceKey, backend: BackendKey, how: Destination | None = None
) -> None:
    """Change one destination."""
    assert await proxy.apply([Operation(kind, key, None, backend, how)]) == []


async def counts(proxy: Proxy, key: ServiceKey, backend: BackendKey) -> BackendStats:
    """A destination's counts."""
    return (await proxy.stats([key]))[key].backends[backend]


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that comes with no event of its own; the test's limit bounds it."""
    while not true():
        await asyncio.sleep(0.005)


class Backend:
    """A TCP server; `talks` counts its connections, `open` those that are not over."""

    def __init__(self, talk: Talk | None = None) -> None:
        self.talks = 0
        self.open = 0
        self.peers: list[str] = []
        self.resets = 0
        self.key = BackendKey("", 0)
        self._talk = talk or self.say_name
        self._tasks: set[asyncio.Task[Any] | None] = set()

    async def say_name(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say which port this is, then echo."""
        writer.write(f"{self.key.port}\n".encode())
        await echo(reader, writer)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self._tasks.add(asyncio.current_task())
        self.talks += 1
        self.open += 1
        self.peers.append(writer.get_extra_info("peername")[0])
        try:
            await self._talk(reader, writer)
        except ConnectionError:
            self.resets += 1
        except asyncio.CancelledError:
            pass  # `ended`
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ended(self) -> None:
        """Wait until all connections are over, and end those that are not."""
        for task in self._tasks:
            if task is not None and not task.done():
                task.cancel()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back all that comes."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def backends(
    number: int = 1, talk: Talk | None = None, address: str = "127.0.0.1"
) -> AsyncIterator[list[Backend]]:
    """So many servers."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for _ in range(number):
            backend = Backend(talk)
            server = await asyncio.start_server(backend.take, address, 0, backlog=2048)
            stack.push_async_callback(backend.ended)
            stack.callback(server.close)
            backend.key = BackendKey(address, server.sockets[0].getsockname()[1])
            found.append(backend)
        yield found


@contextlib.asynccontextmanager
async def connected(
    key: ServiceKey, source: str | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's connection to a service."""
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(key.address, key.port, local_addr=local)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def who(key: ServiceKey, source: str | None = None) -> int:
    """The port of the backend that a new connection gets; the connection is over then."""
    async with connected(key, source) as (reader, writer):
        port = int(await reader.readline())
        writer.write_eof()
        assert await reader.read() == b""
        return port


async def spread(key: ServiceKey, number: int) -> Counter[int]:
    """How many of so many connections, one after the other, each backend got."""
    return Counter([await who(key) for _ in range(number)])


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection off (RST)."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Datagrams(asyncio.DatagramProtocol):
    """A UDP socket: what came, with where from. `named`: it answers with its port and what came."""

    def __init__(self, *, named: bool = False) -> None:
        self.came: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.key = BackendKey("", 0)
        self._named = named
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.key = BackendKey(*transport.get_extra_info("sockname")[:2])

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.came.put_nowait((data, addr[:2]))
        if self._named and self._transport is not None:
            self._transport.sendto(f"{self.key.port} ".encode() + data, addr)

    def error_received(self, exc: Exception) -> None:
        self.came.put_nowait((type(exc).__name__.encode(), None))

    def send(self, data: bytes) -> None:
        """Send to the address it is connected to."""
        assert self._transport is not None
        self._transport.sendto(data)

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()


def _same(socket_of: Datagrams) -> Datagrams:
    return socket_of


@contextlib.asynccontextmanager
async def named_udp(number: int, address: str = "127.0.0.1") -> AsyncIterator[list[Datagrams]]:
    """UDP servers that answer with their port and what they got."""
    loop, found = asyncio.get_running_loop(), []
    for _ in range(number):
        server = Datagrams(named=True)
        await loop.create_datagram_endpoint(functools.partial(_same, server), (address, 0))
        found.append(server)
    try:
        yield found
    finally:
        for server in found:
            server.close()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def udp_client(key: ServiceKey) -> AsyncIterator[Datagrams]:
    """A UDP client: connected, so it hears only what comes from the service's address and port."""
    client = Datagrams()
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: client, remote_addr=(key.address, key.port))
    try:
        yield client
    finally:
        client.close()
        await asyncio.sleep(0)


async def ask(client: Datagrams, data: bytes = b"?") -> int:
    """The port of the server that answers a datagram."""
    client.send(data)
    said, came_from = await client.came.get()
    assert came_from is not None, said
    port, _, rest = said.partition(b" ")
    assert rest == data
    return int(port)
