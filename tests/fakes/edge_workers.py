"""The edge's worker processes in a test: real ones, small tables, a server behind them, and a client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from lb7.config import L7Config
from lb7.table import Cluster, HostRules, Listener, RouteRule, Server, TableDelta
from lb7.workers import Workers

PATIENCE = 60.0
"""Seconds that a condition may take to become true on a machine that has much else to do."""
HTTP = Listener("http", "http", ("127.0.0.1:0",))


async def until(holds: Callable[[], Any], what: str = "") -> None:
    """Wait until it holds."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"did not come true: {what or holds}") from None


def server_at(port: int) -> Server:
    return Server(f"127.0.0.1:{port}", "127.0.0.1", port)


def cluster_at(*ports: int, name: str = "/a:1", **values: Any) -> Cluster:
    return Cluster(name, name.partition(":")[0], 1, tuple(map(server_at, ports)), **values)


def route(cluster: str = "/a:1") -> HostRules:
    return HostRules(routes=(RouteRule(cluster=cluster),))


def table(*ports: int, host: str = "a.example", listener: Listener = HTTP) -> TableDelta:
    """One host on one listener, served by servers at these ports."""
    cluster = cluster_at(*ports)
    return TableDelta({listener.name: listener}, {(listener.table, host): route()}, {cluster.name: cluster})


@asynccontextmanager
async def backend(text: str = "hello", gate: asyncio.Event | None = None) -> AsyncIterator[int]:
    """A server that answers every request with a text, once the gate is open; its port."""
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            serving.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    if gate is not None:
                        await gate.wait()
                    writer.write(answer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def opened(
    *, ready: TableDelta | None = None, held: Callable[[str], None] = lambda cluster: None, **config: Any
) -> AsyncIterator[Workers]:
    """Workers of a configuration, two unless it says otherwise; ready with a table when one is given."""
    records: list[dict[str, Any]] = []
    workers = Workers(l7_config(**config), log=records.append, held=held)
    workers.records = records  # type: ignore[attr-defined]
    await workers.open()
    try:
        if ready is not None:
            workers.apply(ready)
            await settled(workers)
        yield workers
    finally:
        await workers.close()


def l7_config(**config: Any) -> L7Config:
    values: dict[str, Any] = {"http": (), "https": (), "app_id": (), "workers": 2}
    return L7Config(**(values | config))


async def settled(workers: Workers) -> None:
    """All workers have done all they were told."""
    await until(lambda: workers.settled, f"settled: {workers}")


def port_of(workers: Workers, listener: str = "http", number: int = 0) -> int:
    return int(workers.addresses[listener][number].rpartition(":")[2])


class Client:
    """A connection to the edge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def get(self, host: str = "a.example", path: str = "/") -> tuple[int, str]:
        """Status and body of the answer to one request."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        body = await self.reader.readexactly(int(length.partition(":")[2]))
        return int(head.split()[1]), body.decode()

    async def at_end(self) -> bool:
        """Whether the edge closes the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read() == b""

    def close(self) -> None:
        self.writer.close()


async def connect(port: int, address: str = "127.0.0.1", **options: Any) -> Client:
    async with asyncio.timeout(PATIENCE):
        return Client(*await asyncio.open_connection(address, port, **options))


async def get(port: int, host: str = "a.example", path: str = "/", **options: Any) -> tuple[int, str]:
    """One request on a connection of its own."""
    client = await connect(port, **options)
    try:
        async with asyncio.timeout(PATIENCE):
            return await client.get(host, path)
    finally:
        client.close()


async def refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        (await connect(port)).close()
    except ConnectionRefusedError:
        return True
    return False
