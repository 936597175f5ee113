"""An edge between raw clients and scripted backends, all on loopback and on uvloop, for the stories of its proxy."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import uvloop
from blockbuster import blockbuster_ctx

from lb7._balance import Cluster
from lb7._lookup import Table
from lb7._proxy import Edge, Front
from lb7._streams import poll_of
from lb7._tcp import TcpFront
from lb7.settings import Settings
from lb7.sockets import BACKLOG, Place, bind
from lb7.table import Cluster as ClusterSpec
from lb7.table import HostRules, RouteRule
from lb7.table import Server as ServerSpec
from tests.fakes.scripted_backend import Backend, read_body

PATIENCE = 60.0
HOST = "app.example"
NAME = "/app:10000"

Story: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def told(story: Story) -> Callable[[], None]:
    """A test that runs this on uvloop: no blocking call of lb7, and nothing that the loop caught, is tolerated."""

    def test() -> None:
        caught: list[dict[str, Any]] = []

        async def whole() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: caught.append(context))
            async with asyncio.timeout(PATIENCE):
                await story()

        with (
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            blockbuster_ctx(scanned_modules=["lb7"]),
        ):
            runner.run(whole())
        if caught:
            raise AssertionError(f"the loop caught {caught}")

    test.__name__, test.__doc__, test.__module__ = story.__name__, story.__doc__, story.__module__
    return test


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; the story's time is the limit."""
    while not condition():
        await asyncio.sleep(0.005)


class Answer(msgspec.Struct):
    """An answer as a client saw it; `body` without the frames of chunks."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    def fields(self, name: str) -> list[bytes]:
        lines = [line.partition(b":") for line in self.head.split(b"\r\n")[1:]]
        return [value.strip() for key, _, value in lines if key.lower() == name.lower().encode()]


class Client:
    """One connection to the edge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        """Each piece by itself, so that it is likely to be read by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.01 if len(pieces) > 1 else 0)

    async def answer(self, head_only: bool = False) -> Answer:
        """The next answer. Raises EOFError when it is cut."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if head_only or status < 200 or status in (204, 304):
            return Answer(head, b"")
        if re.search(rb"\r\n(content-length|transfer-encoding):", head.lower()):
            return Answer(head, await read_body(self.reader, head))
        return Answer(head, await self.reader.read())

    async def ask(self, path: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """Send a request of HTTP/1.1, and read its answer; those before it, with 1xx, are left out."""
        await self.send(request(path, *fields, method=method, body=body))
        answer = await self.answer(method == "HEAD")
        while answer.status < 200:
            answer = await self.answer(method == "HEAD")
        return answer

    async def rest(self) -> bytes:
        """Everything up to the end, however that comes."""
        octets = b""
        with contextlib.suppress(OSError):
            while piece := await self.reader.read(65536):
                octets += piece
        return octets

    def close(self) -> None:
        self.writer.close()


def request(path: str = "/", *fields: str, method: str = "GET", body: bytes = b"", host: str = HOST) -> bytes:
    """A request of HTTP/1.1."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Edged:
    """An edge with one front and one cluster; see `edged`."""

    def __init__(self, settings: Settings, spec: ClusterSpec, by: Any, tls: bool) -> None:
        self.log: list[dict[str, Any]] = []
        self.settings = settings
        self.edge = Edge(settings, self.log.append)
        self.cluster = Cluster(spec, settings, time.monotonic())
        self.table = Table("http", exact_host=by == "host_port", exact_path=settings.compat)
        self.rules(HOST, HostRules(routes=(RouteRule(cluster=NAME),)))
        self.front: Front = self.edge.front("http", self.table, by, tls, 80)
        self.port = 0
        self.clients: list[Client] = []

    def rules(self, host: str, rules: HostRules) -> None:
        self.table.put(host, rules, {NAME: self.cluster})

    async def client(self) -> Client:
        made = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22))
        self.clients.append(made)
        return made

    async def ask(self, path: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        client = await self.client()
        answer = await client.ask(path, *fields, method=method, body=body)
        client.close()
        return answer

    async def raw(self, *pieces: bytes) -> bytes:
        """All that comes back for these octets until the edge closes."""
        client = await self.client()
        with contextlib.suppress(OSError):
            await client.send(*pieces)
        return await client.rest()

    def counted(self, name: str) -> Any:
        """A counter of the cluster, else of the front, else of the edge; 0: there is none."""
        for counts in (self.cluster.counts_dict(), self.front.counts(), self.edge.counts()):
            if name in counts:
                return counts[name]
        return 0

    def close(self) -> None:
        for client in self.clients:
            client.writer.transport.abort()


def spec_of(backends: Sequence[Backend | int], **values: Any) -> ClusterSpec:
    """A cluster of these backends, or of ports."""
    ports = [one if isinstance(one, int) else one.port for one in backends]
    servers = tuple(ServerSpec(f"127.0.0.1:{port}", "127.0.0.1", port, cookie=f"c{port}") for port in ports)
    return ClusterSpec(NAME, "/app", 10000, servers, **values)


async def listen(
    front: Front | TcpFront, host: str = "127.0.0.1", ssl: Any = None, *, dual: bool = False
) -> tuple[Any, int]:
    """Listen as a worker does: what closes it, and the port. Raises OSError."""
    sock = bind(Place(host, 0, dual))
    port = sock.getsockname()[1]
    loop = asyncio.get_running_loop()
    if ssl is None:
        return poll_of(loop).listen(sock, front, BACKLOG), port
    return await loop.create_server(front, sock=sock, ssl=ssl), port


@contextlib.asynccontextmanager
async def edged(
    *backends: Backend | int,
    by: str = "host",
    ssl: Any = None,
    cluster: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Edged]:
    """An edge that listens, with these servers and settings; its time passes. At its end nothing may be left open."""
    made = Edged(Settings(**settings), spec_of(backends, **(cluster or {})), by, ssl is not None)
    server, made.port = await listen(made.front, ssl=ssl)
    clock = asyncio.create_task(_tick(made.edge))
    try:
        yield made
    finally:
        server.close()
        made.close()
        made.edge.drain()
        await until(lambda: made.edge.connections == 0)
        assert made.edge.requests == 0
        assert made.cluster.active == 0
        assert made.cluster.waiting == 0
        assert [one.active for one in made.cluster.servers] == [0] * len(made.cluster.servers)
        await until(lambda: made.edge.counts()["pooled"] == 0)
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)


async def _tick(edge: Edge) -> None:
    while True:
        edge.tick()
        await asyncio.sleep(0.02)
