"""The DNS sockets, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import dns.message
import dns.rcode
import pytest
import uvloop

from mesos_dns.config import DnsConfig, Duration
from mesos_dns.model import Entity
from mesos_dns.respond import Responder
from mesos_dns.server import DnsServer
from tests.fakes.questions import answers, packet, responder_of, task

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end on one kind of loop; what is left running then fails the test."""

    def factory() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = (
            uvloop.new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
        )
        return loop

    def go(story: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(60):
                await story
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(whole())

    return go


@asynccontextmanager
async def serving(
    *entities: Entity, listen: tuple[str, ...] = ("127.0.0.1:0",), **config: Any
) -> AsyncIterator[tuple[DnsServer, Responder]]:
    """A server over a small cluster."""
    responder = responder_of(*(entities or (task(),)), **config)
    settings: dict[str, Any] = {
        name: Duration(value) if name in ("tcp_idle", "forward_timeout") else value for name, value in config.items()
    }
    server = DnsServer(DnsConfig(listen=listen, **settings), responder)
    await server.start()
    try:
        yield server, responder
    finally:
        await server.close()


async def udp(address: tuple[str, int], query: bytes) -> bytes:
    """One question and its answer; a connected socket hears only the address it asked."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        await loop.sock_sendall(sock, query)
        return await loop.sock_recv(sock, 65535)


def framed(query: bytes) -> bytes:
    return len(query).to_bytes(2, "big") + query


async def read_one(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


@asynccontextmanager
async def connected(
    address: tuple[str, int], **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address, **options)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


WEB = packet("web.marathon.mesos")


def right(reply: bytes, query: bytes = WEB) -> bool:
    return reply[:2] == query[:2] and answers(dns.message.from_wire(reply, ignore_trailing=False)) == ["9.0.0.1"]


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp_and_tcp_on_one_port(run: Run, host: str) -> None:
    async def story() -> None:
        listen = f"[{host}]:0" if ":" in host else f"{host}:0"
        async with serving(listen=(listen,)) as (server, responder):
            (address,) = server.addresses
            assert address[0] == host
            assert address[1] > 0
            assert right(await udp(address, WEB))
            async with connected(address) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))
            assert responder.counters.queries == {("udp", "A"): 1, ("tcp", "A"): 1}

    run(story())


@pytest.mark.parametrize(
    ("listen", "asked"),
    [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.5"), (":0", "127.7.7.7"), ("[::]:0", "::1")],
)
def test_a_wildcard_answers_from_the_address_that_was_asked(run: Run, listen: str, asked: str) -> None:
    async def story() -> None:
        async with serving(listen=(listen,)) as (server, _):
            port = server.addresses[0][1]
            assert right(await udp((asked, port), WEB))
            async with connected((asked, port)) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))

    run(story())


def test_several_addresses(run: Run, free_port: int) -> None:
    async def story() -> None:
        listen = (f"127.0.0.1:{free_port}", f"127.0.0.2:{free_port}", "[::1]:0")
        async with serving(listen=listen) as (server, _):
            assert [address[0] for address in server.addresses] == ["127.0.0.1", "127.0.0.2", "::1"]
            for address in server.addresses:
                assert right(await udp(address, WEB))

    run(story())


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_an_address_that_is_taken(run: Run, kind: socket.SocketKind, free_port: int) -> None:
    port = free_port

    async def story() -> None:
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", port))
            if kind == socket.SOCK_STREAM:
                other.listen()
            with pytest.raises(OSError, match=rf"\[dns\] listen: can't bind '127\.0\.0\.1:{port}'") as raised:
                async with serving(listen=("127.0.0.2:0", f"127.0.0.1:{port}")):
                    pass
            assert raised.value.errno
        # Nothing stayed bound.
        async with serving(listen=(f"127.0.0.1:{port}",)) as (server, _):
            assert right(await udp(server.addresses[0], WEB))

    run(story())


def test_an_address_that_we_do_not_have(run: Run) -> None:
    async def story() -> None:
        with pytest.raises(OSError, match=r"\[dns\] listen: can't bind '192\.0\.2\.1:5353'"):
            async with serving(listen=("192.0.2.1:5353",)):
                pass

    run(story())


def test_close_lets_go_of_everything(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, _):
            address = server.addresses[0]
            async with connected(address) as (reader, writer):
                writer.write(framed(WEB))
                await read_one(reader)
                await server.close()
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            assert server.addresses == []
        # At once, at the same address: a reload of the configuration does this.
        async with serving(listen=(f"127.0.0.1:{address[1]}",)) as (again, _):
            assert right(await udp(again.addresses[0], WEB))

    run(story())


def test_close_ends_what_waits_for_upstreams(run: Run) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, socket.create_server(("127.0.0.1", 0)) as deaf:
            silent.bind(("127.0.0.1", 0))
            loop = asyncio.get_running_loop()
            silent.setblocking(False)
            forward = (f"127.0.0.1:{silent.getsockname()[1]}", f"127.0.0.1:{deaf.getsockname()[1]}")
            async with serving(forward=forward, forward_timeout=30) as (server, _):
                client = asyncio.create_task(udp(server.addresses[0], packet("www.example.net")))
                await loop.sock_recv(silent, 512)
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)

    run(story())


def test_another_responder_on_the_same_sockets(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, old):
            async with connected(server.addresses[0]) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))
                new = responder_of(task(4))
                server.swap(new.view.config, new)
                writer.write(framed(WEB))
                assert answers(dns.message.from_wire(await read_one(reader))) == ["9.0.0.5"]
            assert answers(dns.message.from_wire(await udp(server.addresses[0], WEB))) == ["9.0.0.5"]
            assert old.counters.queries == {("tcp", "A"): 1}

    run(story())


# --- UDP ------------------------------------------------------------------------------------------


def test_a_burst_is_answered_whole(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, _):
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                sock.connect(server.addresses[0])
                for number in range(200):  # more than one batch
                    sock.send(number.to_bytes(2, "big") + WEB[2:])
                seen = {int.from_bytes((await loop.sock_recv(sock, 512))[:2], "big") for _ in range(200)}
            assert seen == set(range(200))

    run(story())


def test_what_is_dropped_stops_nothing(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, responder):
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(server.addresses[0])
                for junk in (b"", b"x", b"\xff" * 500, b"\x12\x34\x81" + bytes(50), bytes(8000)):
                    sock.send(junk)
                sock.send(WEB)
                reply = b""
                while reply[:2] != WEB[:2]:
                    reply = await loop.sock_recv(sock, 512)
                assert right(reply)
            assert responder.counters.dropped == 4

    run(story())


def test_a_client_that_is_gone_stops_nothing(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, _):
            for _ in range(5):  # each answer meets a closed port, which comes back as an ICMP error
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.connect(server.addresses[0])
                    sock.send(WEB)
                assert right(await udp(server.addresses[0], WEB))

    run(story())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_fault_in_one_answer_costs_only_that(
    run: Run, transport: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Responder.respond

    def faulty(self: Responder, query: bytes, by: str) -> Any:
        if b"\3bad" in query:
            raise RuntimeError("a fault of ours")
        return real(self, query, by)

    monkeypatch.setattr(Responder, "respond", faulty)

    async def story() -> None:
        async with serving() as (server, _):
            address = server.addresses[0]
            if transport == "udp":
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.setblocking(False)
                    sock.connect(address)
                    sock.send(packet("bad.mesos"))
                    reply = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 512), 10)
            else:
                async with connected(address) as (reader, writer):
                    writer.write(framed(packet("bad.mesos")))
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    reply = await reader.readexactly(size)
            assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL
            assert right(await udp(address, WEB))

    with caplog.at_level(logging.ERROR):
        run(story())
    assert "could not answer a packet" in caplog.text


# --- TCP ------------------------------------------------------------------------------------------


def test_pipelined_questions(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, responder):
            async with connected(server.addresses[0]) as (reader, writer):
                queries = [number.to_bytes(2, "big") + WEB[2:] for number in range(500)]
                writer.write(b"".join(map(framed, queries)))
                for query in queries:
                    assert right(await read_one(reader), query)
            assert responder.counters.tcp_connections == 1

    run(story())


def test_a_question_byte_by_byte(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, _), connected(server.addresses[0]) as (reader, writer):
            for byte in framed(WEB) + framed(WEB)[:7]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert right(await read_one(reader))
            writer.write(framed(WEB)[7:])
            assert right(await read_one(reader))

    run(story())


def test_a_client_that_half_closes_gets_its_answers(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, _), connected(server.addresses[0]) as (reader, writer):
            writer.write(framed(WEB) * 3)
            writer.write_eof()
            for _ in range(3):
                assert right(await read_one(reader))

    run(story())


def test_what_is_no_query_closes_the_connection(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, responder), connected(server.addresses[0]) as (reader, writer):
            writer.write(framed(b"\0" * 5))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            assert responder.counters.dropped == 1

    run(story())


def test_an_idle_connection_is_closed(run: Run) -> None:
    async def story() -> None:
        async with serving(tcp_idle=0.05) as (server, _), connected(server.addresses[0]) as (reader, writer):
            writer.write(framed(WEB))
            assert right(await read_one(reader))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""

    run(story())


def test_a_byte_now_and_then_keeps_no_connection(run: Run) -> None:
    async def story() -> None:
        async with serving(tcp_idle=0.1) as (server, responder), connected(server.addresses[0]) as (reader, writer):
            closed = asyncio.create_task(reader.read())
            with contextlib.suppress(ConnectionError):
                while not closed.done():  # the server ends it; the whole story has a limit
                    writer.write(b"\0" if not responder.counters.queries else b"")
                    await asyncio.sleep(0.01)
            await asyncio.gather(closed, return_exceptions=True)
            assert not responder.counters.queries

    run(story())


def test_too_many_connections(run: Run) -> None:
    async def story() -> None:
        async with serving(tcp_clients=2) as (server, responder):
            address = server.addresses[0]
            async with connected(address) as (one, write_one), connected(address) as (two, write_two):
                for reader, writer in ((one, write_one), (two, write_two)):
                    writer.write(framed(WEB))
                    assert right(await read_one(reader))
                async with connected(address) as (three, _):
                    with contextlib.suppress(ConnectionError):
                        assert await three.read() == b""
                write_one.write(framed(WEB))
                assert right(await read_one(one))
            assert responder.counters.tcp_refused == 1
            reply = b""
            while not reply:  # a place is free once the server has seen the others go
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    async with connected(address) as (reader, writer):
                        writer.write(framed(WEB))
                        reply = await read_one(reader)
            assert right(reply)

    run(story())


def test_a_client_that_does_not_read_is_not_read_from(run: Run) -> None:
    # 64 KB of questions used to make all their answers at once: 2,000 times 16 KB here.
    async def story() -> None:
        serve = serving(*(task(number) for number in range(1000)))
        async with serve as (server, responder), connected(server.addresses[0], limit=4096) as (reader, writer):
            sent = 4000
            writer.write(framed(WEB) * sent)
            asked = -1
            while asked != responder.counters.queries["tcp", "A"]:  # until it stands still
                asked = responder.counters.queries["tcp", "A"]
                await asyncio.sleep(0.1)
            assert 0 < asked < sent // 2
            for _ in range(sent):
                assert len(await read_one(reader)) > 16000
            assert responder.counters.queries["tcp", "A"] == sent

    run(story())


def test_a_client_that_never_reads_is_closed(run: Run) -> None:
    async def story() -> None:
        serve = serving(*(task(number) for number in range(1000)), tcp_idle=0.1)
        async with serve as (server, _), connected(server.addresses[0], limit=4096) as (_, writer):
            with contextlib.suppress(ConnectionError):
                while not writer.is_closing():
                    writer.write(framed(WEB) * 100)
                    await writer.drain()

    run(story())


def test_forwarded_questions_over_one_connection(run: Run) -> None:
    async def story() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                question = await read_one(reader)
                await opened.wait()
                writer.write(framed(question[:2] + b"\x81\x80" + question[4:]))
                await writer.drain()
            writer.close()

        opened = asyncio.Event()
        upstream = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
        async with upstream:
            port = upstream.sockets[0].getsockname()[1]
            serve = serving(forward=(f"127.0.0.1:{port}",), tcp_idle=0.2, forward_timeout=30)
            async with serve as (server, responder), connected(server.addresses[0]) as (reader, writer):
                queries = [n.to_bytes(2, "big") + packet("www.example.net")[2:] for n in range(100)]
                writer.write(b"".join(map(framed, queries)))
                # 64 wait for the upstream; the others are not even read. Waiting is not being idle.
                while responder.counters.forwarded["sent"] < 64:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)
                assert responder.counters.forwarded["sent"] == 64
                opened.set()
                ids = {(await read_one(reader))[:2] for _ in queries}
                assert ids == {query[:2] for query in queries}

    run(story())
