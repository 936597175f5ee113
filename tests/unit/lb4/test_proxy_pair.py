"""One TCP connection through the proxy: both ways, half closed, slow, reset, idle, forsaken."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from contextlib import AsyncExitStack

import pytest

from lb4.proxy_limits import Limits
from lb4.services import BackendKey, Destination, Kind, Operation
from tests.fakes.proxied import (
    backends,
    both_loops,
    change,
    connected,
    counts,
    proxied,
    reset,
    run,
    serve,
    until,
    vip,
)

BLOCK = os.urandom(1 << 20)


@both_loops
def test_fifty_megabytes_both_ways(loop: str) -> None:
    megabytes, sums = 50, {}

    async def send(writer: asyncio.StreamWriter, name: str) -> None:
        summed = hashlib.sha256()
        for number in range(megabytes):
            block = BLOCK[number:] + BLOCK[:number]
            summed.update(block)
            writer.write(block)
            await writer.drain()
        writer.write_eof()
        sums[name] = summed.digest()

    async def receive(reader: asyncio.StreamReader, name: str) -> None:
        summed = hashlib.sha256()
        while data := await reader.read(1 << 20):
            summed.update(data)
        sums[name] = summed.digest()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.gather(send(writer, "down sent"), receive(reader, "up came"))

    async def story() -> None:
        async with proxied() as proxy, backends(1, talk) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (reader, writer):
                await asyncio.gather(send(writer, "up sent"), receive(reader, "down came"))
            await until(lambda: proxy.tcp.open == 0 and len(sums) == 4)
            assert sums["up sent"] == sums["up came"]
            assert sums["down sent"] == sums["down came"]
            stats = (await proxy.stats())[key]
            assert stats.in_bytes == stats.out_bytes == megabytes << 20
            assert proxy.tcp.kept == 0

    run(loop, story())


@both_loops
@pytest.mark.parametrize("first", ["client", "backend"])
def test_half_closed(loop: str, first: str) -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if first == "client":
            asked = await reader.read()
            writer.write(asked + b" answered")
        else:
            writer.write(b"all is said")
            writer.write_eof()
            heard.append(await reader.read())

    async def story() -> None:
        async with proxied() as proxy, backends(1, talk) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (reader, writer):
                if first == "client":
                    writer.write(b"asked")
                    writer.write_eof()
                    assert await reader.read() == b"asked answered"
                else:
                    assert await reader.read() == b"all is said"
                    assert len(proxy.tcp.half_closed) == 1
                    writer.write(b"still heard")
                    writer.write_eof()
                    await until(lambda: heard == [b"still heard"])
            await until(lambda: proxy.tcp.open == 0)
            assert a.resets == 0

    run(loop, story())


@both_loops
def test_both_ends_are_said_while_one_side_is_slow(loop: str) -> None:
    """Nothing is lost, and nothing spins, when a socket has had both ends and its octets still wait for the other."""

    async def story() -> None:
        go, said = asyncio.Event(), asyncio.Event()
        came: list[int] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await said.wait()
            writer.write_eof()
            await go.wait()
            reader._transport.resume_reading()  # type: ignore[attr-defined]
            while data := await reader.read(1 << 20):
                came.append(len(data))

        async with proxied() as proxy, backends(1, talk) as (a,):
            key, turn, sent = vip(), asyncio.get_running_loop(), 0
            await serve(proxy, key, [a.key])
            with socket.socket() as client:
                client.setblocking(False)
                await turn.sock_connect(client, (key.address, key.port))
                while proxy.tcp.kept == 0:
                    await turn.sock_sendall(client, BLOCK[: 1 << 16])
                    sent += 1 << 16
                    await asyncio.sleep(0)
                await turn.sock_sendall(client, BLOCK[: 1 << 16])
                client.shutdown(socket.SHUT_WR)
                said.set()
                assert await turn.sock_recv(client, 100) == b""
                await until(lambda: len(proxy.tcp.half_closed) == 1)
                told = proxy.tcp.poller.turns
                for _ in range(100):
                    await asyncio.sleep(0)
                assert proxy.tcp.poller.turns - told < 10
                assert proxy.tcp.open == 1
                go.set()
                await until(lambda: proxy.tcp.open == 0)
            await until(lambda: sum(came) == sent + (1 << 16))
            assert a.resets == 0

    run(loop, story())


@both_loops
def test_a_slow_reader_stops_the_sender(loop: str) -> None:
    async def story() -> None:
        sent = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            for _ in range(64):
                writer.write(BLOCK)
                await writer.drain()
                sent += 1

        async with proxied() as proxy, backends(1, talk) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (reader, _):
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                await until(lambda: proxy.tcp.kept > 0)
                before = -1
                while before != sent:
                    before = sent
                    await asyncio.sleep(0.1)
                assert sent < 64  # kernel buffers are full, and nothing else takes it
                assert 0 < proxy.tcp.kept <= 1 << 18
                reader._transport.resume_reading()  # type: ignore[attr-defined]
                total = 0
                while data := await reader.read(1 << 20):
                    total += len(data)
                assert total == 64 << 20
            assert proxy.tcp.kept == 0

    run(loop, story())


@both_loops
def test_much_that_is_kept_makes_reads_small(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb4.proxy_tcp._KEPT", 1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(16):
            writer.write(BLOCK)
            await writer.drain()

    async def story() -> None:
        async with proxied() as proxy, backends(1, talk) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (slow, _):
                slow._transport.pause_reading()  # type: ignore[attr-defined]
                await until(lambda: proxy.tcp.kept > 0)
                first = proxy.tcp.kept
                assert len(proxy.tcp.buffer) == 8192
                async with connected(key) as (other, _):
                    other._transport.pause_reading()  # type: ignore[attr-defined]
                    await until(lambda: proxy.tcp.kept > first)
                    assert proxy.tcp.kept <= first + 8192
            await until(lambda: proxy.tcp.open == 0)
            assert proxy.tcp.kept == 0
            assert len(proxy.tcp.buffer) > 8192

    run(loop, story())


@both_loops
@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_reset_is_passed_on_as_one(loop: str, who: str) -> None:
    async def story() -> None:
        ended = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello\n")
            asked = await reader.readline()
            if who == "backend":
                reset(writer)
            try:
                while asked:
                    asked = await reader.readline()
                ended.set()
            except ConnectionResetError:
                ended.set()
                raise

        async with proxied() as proxy, backends(1, talk) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (reader, writer):
                await reader.readline()
                writer.write(b"go on\n")
                if who == "backend":
                    with pytest.raises(ConnectionResetError):
                        await reader.readline()
                else:
                    await until(lambda: a.talks == 1)
                    reset(writer)
                    await ended.wait()
                    await until(lambda: a.resets == 1)
            await until(lambda: proxy.tcp.open == 0)

    run(loop, story())


@both_loops
@pytest.mark.parametrize("first", ["client", "backend"])
def test_what_was_said_before_a_reset_arrives(loop: str, first: str) -> None:
    """A server that answers and closes before it has read all: its kernel sends a reset after the answer.

    The proxy sees the client's next octets first, which it can't pass on, or the answer.
    """

    async def story() -> None:
        async with proxied() as proxy:
            with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
                key = vip()
                await serve(proxy, key, [BackendKey(*server.getsockname())])
                client.setblocking(False)
                turn = asyncio.get_running_loop()
                await turn.sock_connect(client, (key.address, key.port))
                client.send(b"never read")
                await until(lambda: proxy.tcp.open == 1 and len(proxy.tcp.idle) == 1)
                backend = server.accept()[0]
                backend.setblocking(False)
                await until(lambda: readable(backend))
                if first == "client":
                    client.send(b"more")
                backend.send(b"too large")
                backend.close()
                if first == "backend":
                    client.send(b"more")
                assert await turn.sock_recv(client, 100) == b"too large"
                with pytest.raises(ConnectionResetError):
                    await turn.sock_recv(client, 100)
            assert proxy.tcp.open == 0

    run(loop, story())


def readable(sock: socket.socket) -> bool:
    """True when something has come."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@both_loops
def test_idle_connections_end(loop: str) -> None:
    async def story() -> None:
        async with proxied(Limits(idle=0.2)) as proxy, backends(1) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (reader, _):
                await reader.readline()
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            assert proxy.tcp.counters.idle == 1
            assert proxy.tcp.open == 0

    run(loop, story())


@both_loops
def test_half_closed_connections_have_less_time(loop: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.Event().wait()

    async def story() -> None:
        async with proxied(Limits(half_closed=0.2)) as proxy, backends(1, talk) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (reader, writer):
                writer.write_eof()
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            assert proxy.tcp.counters.idle == 1

    run(loop, story())


@both_loops
@pytest.mark.parametrize("what", ["destination", "service"])
def test_what_is_taken_away_is_reset(loop: str, what: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(2) as (a, b):
            key = vip()
            await serve(proxy, key, [a.key, b.key], scheduler="rr")
            async with connected(key) as (one, _), connected(key) as (two, two_writer):
                readers = {int(await one.readline()): (one, None), int(await two.readline()): (two, two_writer)}
                if what == "destination":
                    await change(proxy, Kind.DROP_DESTINATION, key, a.key)
                    assert proxy.tcp.counters.forsaken == 1
                    assert proxy.tcp.open == 1
                else:
                    assert await proxy.apply([Operation(Kind.DROP_SERVICE, key)]) == []
                    assert proxy.tcp.open == 0
                    with pytest.raises(ConnectionResetError):
                        await readers[b.key.port][0].read()
                with pytest.raises(ConnectionResetError):
                    await readers[a.key.port][0].read()

    run(loop, story())


@both_loops
def test_drain(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(2) as (a, b):
            key = vip()
            await serve(proxy, key, [a.key], scheduler="rr")
            async with connected(key) as (reader, writer):
                assert int(await reader.readline()) == a.key.port
                await change(proxy, Kind.ADD_DESTINATION, key, b.key, Destination())
                await change(proxy, Kind.SET_DESTINATION, key, a.key, Destination(0))
                for _ in range(3):
                    async with connected(key) as (other, _):
                        assert int(await other.readline()) == b.key.port
                writer.write(b"goes on\n")
                assert await reader.readline() == b"goes on\n"
                assert (await counts(proxy, key, a.key)).active == 1
            await until(lambda: proxy.tcp.open == 0)
            assert (await counts(proxy, key, a.key)).active == 0

    run(loop, story())


@both_loops
def test_who_waits_for_a_backend_that_is_taken_away_gets_another(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(1) as (a,), AsyncExitStack() as stack:
            # A listener whose queue is full: the kernel drops what else comes, as a machine that is gone would.
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(silent.getsockname())
            key, gone = vip(), BackendKey(*silent.getsockname())
            await serve(proxy, key, {gone: Destination(9), a.key: Destination(1)}, scheduler="fo")
            async with connected(key) as (reader, _):
                await until(lambda: len(proxy.tcp.dialling) == 1)
                assert (await counts(proxy, key, gone)).inactive == 1
                await change(proxy, Kind.DROP_DESTINATION, key, gone)
                assert int(await reader.readline()) == a.key.port
                assert len(proxy.tcp.dialling) == 0
                assert (await counts(proxy, key, a.key)).active == 1

    run(loop, story())
