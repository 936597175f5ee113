"""Connections on an epoll of their own: whole octets in order, ends in order, and no files for more of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import random
import resource
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterator

import msgspec
import pytest

from lb7._balance import Cluster
from lb7._streams import Peer, Poll, poll_of
from lb7._tcp import TcpFront
from lb7.settings import Settings
from lb7.sockets import BACKLOG, Place, bind
from tests.fakes.edged import edged, listen, request, spec_of, told, until
from tests.fakes.scripted_backend import backend

LENGTH = 6 << 20


def front_to(port: int) -> TcpFront:
    """What joins clients to that port."""
    settings = Settings()
    return TcpFront(settings, "port:9", Cluster(spec_of([port], mode="tcp"), settings, 0.0))


@contextlib.asynccontextmanager
async def joined(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that is joined to that port; in the end nothing is left of it."""
    front = front_to(port)
    made, listened = await listen(front)
    reader, writer = await asyncio.open_connection("127.0.0.1", listened, limit=1024)
    try:
        yield reader, writer
    finally:
        writer.close()
        made.close()
        await until(lambda: front.open == 0)


async def poured(writer: asyncio.StreamWriter, octets: bytes, chance: random.Random) -> None:
    """Written in pieces of any length, a rest from time to time, and then the end."""
    at = 0
    while at < len(octets):
        length = chance.choice((1, 100, 10_000, 300_000, 1 << 20))
        writer.write(octets[at : at + length])
        at += length
        if chance.random() < 0.1:
            await asyncio.sleep(0.001)
        await writer.drain()
    writer.write_eof()


async def taken(reader: asyncio.StreamReader, chance: random.Random) -> bytes:
    """All that comes, now faster than it comes, now slower."""
    octets = bytearray()
    while piece := await reader.read(chance.choice((1, 1000, 100_000, 1 << 20))):
        octets += piece
        if chance.random() < 0.02:
            await asyncio.sleep(0.005)
    return bytes(octets)


@pytest.mark.parametrize("seed", range(3))
def test_octets_arrive_whole_and_in_order_however_they_are_read(seed: int) -> None:
    @told
    async def story() -> None:
        chance = random.Random(seed)
        there, back = chance.randbytes(LENGTH), chance.randbytes(LENGTH)
        came: list[bytes] = []

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            _, octets = await asyncio.gather(poured(writer, back, chance), taken(reader, chance))
            came.append(octets)
            writer.close()

        async with (
            await asyncio.start_server(server, "127.0.0.1", 0, limit=1024) as serving,
            joined(serving.sockets[0].getsockname()[1]) as (reader, writer),
        ):
            _, octets = await asyncio.gather(poured(writer, there, chance), taken(reader, chance))
            assert octets == back
            await until(lambda: came)
            assert came == [there]

    story()


@told
async def test_what_was_written_before_the_end_arrives() -> None:
    octets = random.Random(1).randbytes(LENGTH)

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(octets)
        writer.close()

    async with (
        await asyncio.start_server(server, "127.0.0.1", 0) as serving,
        joined(serving.sockets[0].getsockname()[1]) as (reader, _),
    ):
        await asyncio.sleep(0.1)  # it has ended, and most is still here
        assert await reader.read(-1) == octets


@told
async def test_a_connection_that_nobody_reads_is_held_by_its_poll() -> None:
    """Its client is held off, its listener is gone, and nobody else knows of it."""
    reading = asyncio.Event()
    came = 0

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        await reading.wait()
        while piece := await reader.read(1 << 20):
            came += len(piece)
        writer.close()

    async with await asyncio.start_server(server, "127.0.0.1", 0, limit=1024) as serving:
        made, port = await listen(front_to(serving.sockets[0].getsockname()[1]))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes(32 << 20))
        made.close()
        del made
        for _ in range(20):
            await asyncio.sleep(0.01)
            gc.collect()
        reading.set()
        await writer.drain()
        writer.close()
        await until(lambda: came == 32 << 20)


@told
async def test_a_listener_that_is_closed_accepts_nothing_though_its_socket_stays() -> None:
    async with backend() as server, edged(server) as edge:
        with bind(Place("127.0.0.1", 0)) as sock:
            poll = poll_of(asyncio.get_running_loop())
            poll.listen(sock.dup(), edge.front, BACKLOG).close()
            await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            accepted = edge.front.counts()["accepted"]
            writer.write(b"GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
            await asyncio.sleep(0.1)
            assert edge.front.counts()["accepted"] == accepted
            second = poll.listen(sock.dup(), edge.front, BACKLOG)
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            second.close()


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """As many files as there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@told
async def test_connections_wait_while_there_are_no_files() -> None:
    records: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logger, handler = logging.getLogger("pharos.l7"), Keeping()
    logger.addHandler(handler)
    try:
        async with backend() as server, edged(server) as edge:
            clients = []
            for _ in range(3):
                sock = socket.socket()
                sock.setblocking(False)
                clients.append(sock)
            first = await edge.client()  # it stays: a file that is closed is one for others
            assert (await first.ask()).status == 200
            with no_more_files():
                for sock in clients:
                    with contextlib.suppress(BlockingIOError):
                        sock.connect(("127.0.0.1", edge.port))
                await asyncio.sleep(0.35)
                assert edge.front.counts()["open"] == 1
            for sock in clients:
                await asyncio.get_running_loop().sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n")
                assert (await asyncio.get_running_loop().sock_recv(sock, 100)).startswith(b"HTTP/1.1 200 ")
                sock.close()
    finally:
        logger.removeHandler(handler)
    assert records == [f"lb7: connections have to wait: {os.strerror(errno.EMFILE)}"]


@told
async def test_no_connection_without_an_ip_address() -> None:
    settings = Settings(retries=0)
    async with edged(retries=0) as edge:
        spec = spec_of([1])
        named = msgspec.structs.replace(spec.servers[0], id="nowhere.example:1", address="nowhere.example")
        edge.cluster.change(msgspec.structs.replace(spec, servers=(named,)), 0.0)
        assert (await edge.ask()).status == 503
        assert edge.counted("connect_failures") == settings.retries + 1


@told
async def test_a_factory_that_fails_costs_one_connection() -> None:
    turn = 0

    async with backend() as server, edged(server) as edge:

        def factory() -> Peer:
            nonlocal turn
            turn += 1
            if turn == 1:
                raise RuntimeError("the first one")
            return edge.front()

        sock = bind(Place("127.0.0.1", 0))
        where = sock.getsockname()
        listening = poll_of(asyncio.get_running_loop()).listen(sock, factory, BACKLOG)
        logging.disable(logging.CRITICAL)
        try:
            reader, writer = await asyncio.open_connection(*where)
            assert await reader.read() == b""
            writer.close()
        finally:
            logging.disable(logging.NOTSET)
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        listening.close()


def test_one_poll_a_loop() -> None:
    async def found() -> tuple[Poll, Poll]:
        loop = asyncio.get_running_loop()
        return poll_of(loop), poll_of(loop)

    first, second = asyncio.run(found())
    other, _ = asyncio.run(found())
    assert first is second
    assert other is not first


def test_what_is_not_connected_is_given_up_in_silence() -> None:
    """Also by what was told of it already."""

    async def story() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            poll = poll_of(asyncio.get_running_loop())
            stream = poll.connect(Peer(), *silent.getsockname())
            assert stream.address == b"127.0.0.1"
            await asyncio.sleep(0.05)
        assert "fd=-1" in repr(stream)

    asyncio.run(story())


def refuses_more(sock: socket.socket, answer: bytes) -> None:
    """Read a little of what a client sends, answer, and end the connection: what was not read makes that a reset."""
    with sock, contextlib.suppress(OSError):
        while True:
            connection, _ = sock.accept()
            with connection:
                connection.recv(1000)
                time.sleep(0.1)  # all buffers of the way fill
                connection.sendall(answer)


@contextlib.contextmanager
def refusing(answer: bytes) -> Iterator[int]:
    """The port of a server that refuses more, with little room."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    port = sock.getsockname()[1]
    thread = threading.Thread(target=refuses_more, args=(sock, answer))
    thread.start()
    try:
        yield port
    finally:
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()


@told
async def test_an_early_answer_is_not_lost_by_what_can_no_more_be_sent() -> None:
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
    with refusing(answer) as port:
        async with edged(port) as edge:
            for _ in range(5):
                client = await edge.client()
                client.writer.write(request("/", method="POST", body=bytes(8 << 20)))
                assert (await client.answer()).status == 413
                client.writer.transport.abort()


@told
async def test_the_last_words_of_a_tcp_server_are_passed_on() -> None:
    with refusing(b"552 too much\r\n") as port:
        for _ in range(3):
            async with joined(port) as (reader, writer):
                writer.write(bytes(8 << 20))
                assert await reader.readline() == b"552 too much\r\n"
                writer.transport.abort()


@told
async def test_an_answer_that_comes_between_two_pieces_of_a_body() -> None:
    """Nothing waits to be sent; sending the second piece fails, and the answer is there already."""
    loop = asyncio.get_running_loop()
    with socket.socket() as serving:
        serving.bind(("127.0.0.1", 0))
        serving.listen()
        serving.setblocking(False)
        async with edged(serving.getsockname()[1]) as edge:
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.write(request("/", "Content-Length: 100000", method="POST") + bytes(100))
            server, _ = await loop.sock_accept(serving)
            await loop.sock_recv(server, 50)
            there = writer.get_extra_info("socket")
            # All of it while the loop does not turn, so that it is seen at once.
            assert os.write(there.fileno(), bytes(100)) == 100
            server.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            server.close()
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
            writer.close()


@told
async def test_a_client_goes_as_its_server_refuses_the_connection() -> None:
    """Both in one batch, the client first."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        front = front_to(silent.getsockname()[1])
        made, port = await listen(front)
        with socket.create_connection(("127.0.0.1", port)) as client:
            await until(lambda: front.counts().get("connect_failed"))
            await asyncio.sleep(1.1)  # until all servers are tried anew
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        front.tick()
        await until(lambda: front.open == 0)
        made.close()
    assert front.counts()["client_left"] == 1


def plain_streams(before: Collection[object] = ()) -> list[object]:
    """Those that have come since."""
    return [one for one in gc.get_objects() if type(one).__name__ == "PlainStream" and one not in before]


@told
async def test_a_queue_that_never_gets_empty_stays_small() -> None:
    loop, before = asyncio.get_running_loop(), plain_streams()
    with socket.socket() as serving, socket.socket() as client:
        serving.bind(("127.0.0.1", 0))
        serving.listen()
        serving.setblocking(False)
        made, port = await listen(front_to(serving.getsockname()[1]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        server, _ = await loop.sock_accept(serving)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await until(lambda: len(plain_streams(before)) == 2)
        both = plain_streams(before)
        while not (waiting := [one for one in both if "queued=0 " not in repr(one)]):
            server.send(bytes(1000))
            await asyncio.sleep(0)
        (stream,) = waiting
        for _ in range(20_000):
            server.send(bytes(8))
            await asyncio.sleep(0)
            if int(repr(stream).partition("queued=")[2].split()[0]) > 4000:
                client.recv(4000)
        assert int(repr(stream).partition("room=")[2].split()[0]) < 4000
        server.close()
        made.close()
    await until(lambda: all("fd=-1 " in repr(one) for one in both))
