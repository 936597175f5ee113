"""One check of one backend, against real servers of every temper."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from mesos_dns import probe as module
from mesos_dns.checked import BackendKey
from mesos_dns.model import VipCheck
from mesos_dns.probe import Outcome, Probed, Result, part, probe

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TCP = VipCheck(timeout=30.0)
HTTP = VipCheck("http", "/up", timeout=30.0)
SOON = 0.2
"""Seconds for a timeout that is waited for."""


@contextlib.asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[BackendKey]:
    """A server; all its connections are ended with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(handle, host, 0)
    try:
        address, port = server.sockets[0].getsockname()[:2]
        yield BackendKey(address, port)
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks))


def saying(answer: bytes) -> Handler:
    """Reads a request, says this, and closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return handler


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, and does nothing more."""
    await asyncio.Event().wait()


async def trickling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says a little again and again, and never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"A: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a reset once it is asked."""
    await reader.readuntil(b"\r\n\r\n")
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def result_of(backend: BackendKey, check: VipCheck, linger: float = 0.05) -> tuple[Result, str]:
    async with asyncio.timeout(60):
        outcome, connection = await probe(backend, check)
        if connection is not None:
            await part(connection, linger)
            assert connection.fileno() == -1
    assert outcome.seconds >= 0
    return outcome.result, outcome.detail


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("handler", "check", "result", "detail"),
    [
        (silent, TCP, Result.OK, ""),
        (saying(b"HTTP/1.1 200 OK\r\n\r\nbody"), HTTP, Result.OK, ""),
        (saying(b"HTTP/1.1 302 Found\r\n\r\n"), HTTP, Result.OK, ""),
        (saying(b"HTTP/1.1 500 Oh\r\n\r\n"), HTTP, Result.STATUS, "status 500"),
        (saying(b"HTTP/1.1 404 Oh\r\n\r\n"), HTTP, Result.STATUS, "status 404"),
        (saying(b"220 mail ready\r\n"), HTTP, Result.MALFORMED, "no HTTP/1: begins with b'220 mail ready\\r\\n'"),
        (saying(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000), HTTP, Result.MALFORMED, "a head of more than 65536 oc"),
        (saying(b""), HTTP, Result.CLOSED, "closed without an answer"),
        (saying(b"HTTP/1.1 200 OK\r\n"), HTTP, Result.CLOSED, "closed within the head"),
        (resetting, HTTP, Result.CLOSED, "Connection reset by peer"),
        (silent, VipCheck("http", timeout=SOON), Result.TIMEOUT, "no answer within 0.2s"),
        (trickling, VipCheck("http", timeout=SOON), Result.TIMEOUT, "no answer within 0.2s"),
    ],
)
async def test_results(handler: Handler, check: VipCheck, result: Result, detail: str) -> None:
    async with serving(handler) as backend:
        found, text = await result_of(backend, check)
    assert found is result
    assert text.startswith(detail)
    assert bool(text) == bool(detail)


@pytest.mark.asyncio
async def test_a_port_that_nobody_listens_on(free_port: int) -> None:
    for check in (TCP, HTTP):
        assert (await result_of(BackendKey("127.0.0.1", free_port), check))[0] is Result.REFUSED


@pytest.mark.asyncio
async def test_ipv6() -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").is_file():  # noqa: ASYNC240 - no file of a disk
        pytest.skip("needs IPv6 on loopback")
    asked = bytearray()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async with serving(handler, "::1") as backend:
        assert await result_of(backend, HTTP) == (Result.OK, "")
        assert asked.startswith(b"GET /up HTTP/1.1\r\nHost: [::1]:%d\r\n" % backend.port)


@pytest.mark.asyncio
@pytest.mark.parametrize("check", [TCP, HTTP])
async def test_the_backend_sees_an_end_and_no_reset(check: VipCheck) -> None:
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says much, and then waits for the other side's end."""
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
        try:
            await writer.drain()
            await reader.read()
            writer.close()
            await writer.wait_closed()
            ended.set_result(True)
        except ConnectionError:
            ended.set_result(False)

    async with serving(greeting) as backend:
        assert await result_of(backend, check, 30.0) == (Result.OK, "")
        async with asyncio.timeout(30):
            assert await ended


@pytest.mark.asyncio
async def test_a_result_does_not_wait_for_the_backends_end() -> None:
    ended = asyncio.Event()

    async def staying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await reader.read():
            ended.set()
        await asyncio.Event().wait()

    async with serving(staying) as backend, asyncio.timeout(30):
        outcome, connection = await probe(backend, TCP)
        assert outcome.result is Result.OK
        assert connection is not None
        assert not ended.is_set()
        await part(connection, 0.0)
        assert connection.fileno() == -1
        await ended.wait()


@pytest.mark.asyncio
async def test_what_fails_here_says_nothing_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_files(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", no_files)
    assert await probe(BackendKey("127.0.0.1", 1), TCP) == Probed(Outcome(Result.LOCAL, "Too many open files"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("number", "result"),
    [
        (errno.EADDRNOTAVAIL, Result.LOCAL),
        (errno.EPERM, Result.LOCAL),
        (errno.EHOSTUNREACH, Result.UNREACHABLE),
        (errno.ENETUNREACH, Result.UNREACHABLE),
        (errno.ETIMEDOUT, Result.TIMEOUT),
        (errno.ECONNRESET, Result.CLOSED),
    ],
)
async def test_errors_of_connect(number: int, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(sock: socket.socket, address: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
    outcome, connection = await probe(BackendKey("127.0.0.1", 1), TCP)
    assert outcome.result is result
    assert connection is None


@pytest.mark.asyncio
async def test_a_socket_that_met_itself_is_no_backend(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = BackendKey("127.0.0.1", free_port)
    make = module._socket

    def bound(to: BackendKey) -> socket.socket:
        """As the kernel may do it by chance: the port asked for is the one asked from."""
        sock = make(to)
        sock.bind(tuple(backend))
        return sock

    monkeypatch.setattr(module, "_socket", bound)
    assert await result_of(backend, TCP) == (Result.REFUSED, "connected to itself")


@pytest.mark.asyncio
async def test_a_check_that_is_cancelled_leaves_nothing_behind() -> None:
    reached, ended = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        if not await reader.read():
            ended.set()

    async with serving(handler) as backend, asyncio.timeout(30):
        task = asyncio.create_task(probe(backend, HTTP))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()


def test_on_uvloop_too(free_port: int) -> None:
    soon = VipCheck("http", timeout=SOON)

    async def story() -> None:
        for handler, check, expected in (
            (silent, TCP, Result.OK),
            (saying(b"HTTP/1.1 200 OK\r\n\r\n"), HTTP, Result.OK),
            (saying(b"HTTP/1.1 500 Oh\r\n\r\n"), HTTP, Result.STATUS),
            (resetting, HTTP, Result.CLOSED),
            (silent, soon, Result.TIMEOUT),
            (trickling, soon, Result.TIMEOUT),
        ):
            async with serving(handler) as backend:
                assert (await result_of(backend, check))[0] is expected
        assert (await result_of(BackendKey("127.0.0.1", free_port), TCP))[0] is Result.REFUSED
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
