"""Clients that take their time: however many there are, others are served, and theirs ends.

Heads that come octet by octet, bodies that stop, answers that nobody reads, connections that say nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.fakes.echoing_site import EchoingSite, echoing_site
from tests.fakes.running_edge import HOST, RunningEdge, running_edge

SITE = "web.example"
EACH = 100
"""Slow clients of each kind."""
FILES = 2000
PATIENCE = 100.0
MOST_GROWTH = 96 << 10
"""KiB that the worker may grow by for 500 such clients."""
GET = f"GET /echo HTTP/1.1\r\nHost: {SITE}\r\n\r\n".encode()


@pytest.fixture(scope="module")
def site() -> Iterator[EchoingSite]:
    """A site, and room for many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < FILES:
        pytest.skip(f"needs {FILES} open files, and the hard limit (ulimit -Hn) is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    with echoing_site() as made:
        yield made
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def edge(site: EchoingSite, tmp_path: Path) -> Iterator[RunningEdge]:
    """An edge of one worker that waits for 2 s at most."""
    times = dict.fromkeys(("request_timeout", "client_timeout", "keep_alive_timeout"), "2s")
    with running_edge(tmp_path, {SITE: [site.port]}, workers=1, **times) as made:
        yield made


class Client:
    """One connection; its kernel keeps few octets for it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def rest(self) -> bytes:
        """All that comes until the connection ends, however it does."""
        octets = b""
        with contextlib.suppress(OSError):
            while piece := await self.reader.read(65536):
                octets += piece
        return octets

    async def get(self) -> int:
        """The status of a request; the connection stays."""
        self.writer.write(GET)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self.reader.readexactly(int(length.partition(b":")[2]))
        return int(head.split(b" ")[1])


@contextlib.asynccontextmanager
async def connected(edge: RunningEdge) -> AsyncIterator[Client]:
    """A client of the edge."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    await asyncio.get_running_loop().sock_connect(sock, (HOST, edge.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=65536)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


class Crowd:
    """Slow clients together. `begun`: how many are slow now or were; `ended`: the edge has ended all of them."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = asyncio.Event()


Kind = Callable[[RunningEdge, Crowd], Coroutine[Any, Any, None]]


async def slow_head(edge: RunningEdge, crowd: Crowd) -> None:
    """Its head comes octet by octet, each long before a time-out, and never ends."""
    async with connected(edge) as client:
        client.writer.write(b"GET /echo HTTP/1.1\r\nHost: web.example\r\nX-Slow: ")
        crowd.begun += 1
        ended = asyncio.create_task(client.rest())
        with contextlib.suppress(OSError):
            while not ended.done():
                client.writer.write(b"x")
                await asyncio.sleep(0.2)
        assert (await ended).startswith(b"HTTP/1.1 408 ")


async def slow_body(edge: RunningEdge, crowd: Crowd) -> None:
    """Half of its body comes."""
    async with connected(edge) as client:
        client.writer.write(f"POST /echo HTTP/1.1\r\nHost: {SITE}\r\nContent-Length: 20000\r\n\r\n".encode())
        client.writer.write(b"x" * 10_000)
        crowd.begun += 1
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


async def reads_nothing(edge: RunningEdge, crowd: Crowd) -> None:
    """It asks for 64 MiB, and leaves them there; so it does not see that the edge has ended its connection."""
    async with connected(edge) as client:
        cast(asyncio.Transport, client.writer.transport).pause_reading()
        client.writer.write(f"GET /chunks/1000 HTTP/1.1\r\nHost: {SITE}\r\n\r\n".encode())
        crowd.begun += 1
        await crowd.ended.wait()


async def says_nothing(edge: RunningEdge, crowd: Crowd) -> None:
    """It connects."""
    async with connected(edge) as client:
        crowd.begun += 1
        assert await client.rest() == b""


async def idles(edge: RunningEdge, crowd: Crowd) -> None:
    """It has its answer, and keeps its connection."""
    async with connected(edge) as client:
        assert await client.get() == 200
        crowd.begun += 1
        assert await client.rest() == b""


def resident(pid: int) -> int:
    """KiB of memory that a process has."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


def timeouts(metrics: dict[str, float], kind: str) -> float:
    """Time-outs of this kind on the HTTP listener."""
    return metrics.get(f'pharos_l7_timeouts_total{{kind="{kind}",listener="http"}}', 0.0)


async def until(holds: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():
            await asyncio.sleep(0.1)


@pytest.mark.asyncio
@pytest.mark.may_block("nothing of ours runs here, only clients, and so many that checking each call is slow")
async def test_500_slow_clients(edge: RunningEdge) -> None:
    kinds: list[Kind] = [slow_head, slow_body, reads_nothing, says_nothing, idles]
    wanted = {"request": 2 * EACH, "client": 2 * EACH, "keep_alive": EACH}
    (worker,) = await asyncio.to_thread(edge.workers)
    before = most = resident(worker)
    served = 0
    crowd = Crowd()

    async def all_ended() -> bool:
        """Meanwhile others are served."""
        nonlocal most, served
        async with connected(edge) as client:
            assert await client.get() == 200
            assert await client.get() == 200
        served += crowd.begun == EACH * len(kinds)
        most = max(most, resident(worker))
        metrics = await asyncio.to_thread(edge.metrics)
        open_now = metrics["pharos_l7_open_connections"]
        return open_now == 0 and {kind: timeouts(metrics, kind) for kind in wanted} == wanted

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as slow:
        for _ in range(EACH):
            for kind in kinds:
                slow.create_task(kind(edge, crowd))
        await until(all_ended)
        crowd.ended.set()
    assert served > 0
    assert most - before < MOST_GROWTH
    assert await asyncio.to_thread(edge.workers) == [worker]


@pytest.mark.asyncio
@pytest.mark.may_block("nothing of ours runs here, only clients, and so many that checking each call is slow")
async def test_more_connections_than_there_may_be(site: EchoingSite, tmp_path: Path) -> None:
    """Idle ones give way to new ones; where all are busy, a new one is told so."""
    most = 50
    with running_edge(tmp_path, {SITE: [site.port]}, workers=1, max_connections=most) as edge:
        async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
            idle = [await stack.enter_async_context(connected(edge)) for _ in range(most)]
            for client in idle:
                assert await client.get() == 200
            busy = [await stack.enter_async_context(connected(edge)) for _ in range(most)]
            for client in busy:
                client.writer.write(f"POST /echo HTTP/1.1\r\nHost: {SITE}\r\nContent-Length: 9\r\n\r\n".encode())
            for client in idle:
                assert await client.rest() == b""
            late = await stack.enter_async_context(connected(edge))
            assert (await late.rest()).startswith(b"HTTP/1.1 503 ")
            for client in busy:
                client.writer.write(b"something")
                assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

            async def counted() -> bool:
                metrics = await asyncio.to_thread(edge.metrics)
                away = metrics.get('pharos_l7_refused_connections_total{listener="http",reason="max_connections"}')
                return (metrics["pharos_l7_idle_gave_way_total"], away) == (most, 1)

            await until(counted)
