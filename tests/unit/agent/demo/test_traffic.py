"""agent.demo.traffic: answers are counted for what they are, and connections are kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from agent.demo.traffic import Traffic

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class _Server:
    """Answers each request of a connection with the same octets; closes it where there are none."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.connections = self.requests = 0
        self.hosts: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, EOFError):
            while self.answer:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                self.hosts |= {line for line in head.decode().split("\r\n") if line.startswith("Host")}
                writer.write(self.answer)
        writer.close()


@contextlib.asynccontextmanager
async def _traffic(server: _Server) -> AsyncIterator[Traffic]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    traffic = Traffic(listening.sockets[0].getsockname()[1], "a.example")
    running = asyncio.create_task(traffic.run())
    try:
        yield traffic
    finally:
        running.cancel()
        await asyncio.wait([running])
        listening.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_it_asks_while_there_is_a_rate() -> None:
    server = _Server(OK)
    async with _traffic(server) as traffic:
        await asyncio.sleep(0.1)
        assert server.connections == 0
        traffic.rate = 200.0
        await _until(lambda: traffic.answered >= 50)
        traffic.rate = 0.0
        assert (traffic.failed, server.hosts) == (0, {"Host: a.example"})
        assert server.connections <= 16
        assert traffic.longest > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [BUSY, b"", b"nothing like HTTP\r\n\r\n"])
async def test_what_is_no_good_answer_has_failed(answer: bytes) -> None:
    async with _traffic(_Server(answer)) as traffic:
        traffic.rate = 100.0
        await _until(lambda: traffic.failed >= 5)
        assert traffic.answered == 0


@pytest.mark.asyncio
async def test_nobody_there_is_a_failure_too() -> None:
    async with _traffic(_Server(OK)) as traffic:
        traffic._port = 1
        traffic.rate = 100.0
        await _until(lambda: traffic.failed >= 5)
