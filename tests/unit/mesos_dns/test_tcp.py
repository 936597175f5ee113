"""DNS over TCP, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest

from mesos_dns import tcp
from mesos_dns.config import DnsConfig, Duration
from mesos_dns.edns import KEEPALIVE
from mesos_dns.respond import Responder
from mesos_dns.tcp import MAX_QUESTION
from tests.fakes.dns_serving import WEB, Run, connected, faulty, framed, read_one, right, serving
from tests.fakes.questions import packet, task


@asynccontextmanager
async def upstream(answer: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[str]:
    """A server of other names; its address."""
    talks: set[asyncio.Task[Any] | None] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            question = await read_one(reader)
            writer.write(framed(question[:2] + b"\x81\x80" + (await answer(question))[4:]))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*filter(None, talks), return_exceptions=True)


def test_pipelined_questions(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, responder):
            async with connected(server.addresses[0]) as (reader, writer):
                queries = [number.to_bytes(2, "big") + WEB[2:] for number in range(500)]
                writer.write(b"".join(map(framed, queries)))
                for query in queries:
                    assert right(await read_one(reader), query)
            assert responder.counters.tcp_connections == {"tcp": 1}

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
        async with serving(tcp_idle=0.5) as (server, responder), connected(server.addresses[0]) as (reader, writer):
            writer.write(framed(WEB))
            assert right(await read_one(reader))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            assert responder.counters.tcp_closed == {"idle": 1}

    run(story())


def test_a_byte_now_and_then_keeps_no_connection(run: Run) -> None:
    async def story() -> None:
        async with serving(tcp_idle=0.1) as (server, responder), connected(server.addresses[0]) as (reader, writer):
            closed = asyncio.create_task(reader.read())
            with contextlib.suppress(ConnectionError):
                while not closed.done():  # the server ends it; the whole story has a limit
                    writer.write(b"\x0f")  # of a question of 3,855 octets
                    await asyncio.sleep(0.01)
            await asyncio.gather(closed, return_exceptions=True)
            assert responder.counters.tcp_closed == {"idle": 1}
            assert not responder.counters.queries

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
        async with serve as (server, responder), connected(server.addresses[0], limit=4096) as (_, writer):
            with contextlib.suppress(ConnectionError):
                while not writer.is_closing():
                    writer.write(framed(WEB) * 100)
                    await writer.drain()
            assert responder.counters.tcp_closed == {"idle": 1}

    run(story())


def test_forwarded_questions_over_one_connection(run: Run) -> None:
    async def story() -> None:
        opened = asyncio.Event()

        async def answer(question: bytes) -> bytes:
            await opened.wait()
            return question

        async with upstream(answer) as forward:
            serve = serving(forward=(forward,), tcp_idle=0.2, forward_timeout=30)
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


def test_a_fault_in_one_answer_costs_only_that(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Responder, "respond", faulty(Responder.respond))

    async def story() -> None:
        async with serving() as (server, _), connected(server.addresses[0]) as (reader, writer):
            writer.write(framed(packet("bad.mesos")))
            assert dns.message.from_wire(await read_one(reader)).rcode() == dns.rcode.SERVFAIL
            writer.write(framed(WEB))
            assert right(await read_one(reader))

    with caplog.at_level(logging.ERROR):
        run(story())
    assert "could not answer a packet" in caplog.text


def test_a_client_over_its_limit_is_closed_at_once(run: Run) -> None:
    async def story() -> None:
        async with serving(tcp_clients_per_address=2) as (server, responder):
            address = server.addresses[0]
            async with connected(address) as (one, write_one), connected(address) as (two, write_two):
                for reader, writer in ((one, write_one), (two, write_two)):
                    writer.write(framed(WEB))
                    assert right(await read_one(reader))
                async with connected(address) as (three, _):
                    with contextlib.suppress(ConnectionError):
                        assert await three.read() == b""
                async with connected(address, local_addr=("127.0.0.2", 0)) as (reader, writer):
                    writer.write(framed(WEB))
                    assert right(await read_one(reader))
                write_one.write(framed(WEB))
                assert right(await read_one(one))
            assert responder.counters.tcp_refused == {"client": 1}
            reply = b""
            while not reply:  # a place is free once the server has seen the others go
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    async with connected(address) as (reader, writer):
                        writer.write(framed(WEB))
                        reply = await read_one(reader)
            assert right(reply)

    run(story())


def test_the_connection_that_is_idle_longest_gives_way(run: Run) -> None:
    async def story() -> None:
        async with serving(tcp_clients=2) as (server, responder):
            address = server.addresses[0]
            async with connected(address) as (one, write_one), connected(address) as (two, write_two):
                for reader, writer in ((one, write_one), (two, write_two), (one, write_one)):
                    writer.write(framed(WEB))
                    assert right(await read_one(reader))
                async with connected(address) as (three, write_three):
                    write_three.write(framed(WEB))
                    assert right(await read_one(three))
                    with contextlib.suppress(ConnectionError):
                        assert await two.read() == b""
                write_one.write(framed(WEB))
                assert right(await read_one(one))
            assert not responder.counters.tcp_refused
            assert responder.counters.tcp_closed == {"displaced": 1}

    run(story())


def test_a_question_that_is_too_long_to_be_one(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, responder), connected(server.addresses[0]) as (reader, writer):
            writer.write(framed(WEB) * 3 + (MAX_QUESTION + 1).to_bytes(2, "big") + WEB)
            for _ in range(3):
                assert right(await read_one(reader))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            assert responder.counters.tcp_closed == {"question_size": 1}

    run(story())


def test_a_connection_that_is_gone_before_it_is_looked_at(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, responder):
            for _ in range(20):
                with socket.create_connection(server.addresses[0]) as sock:  # the loop does not turn meanwhile
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with connected(server.addresses[0]) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))
            while +responder.counters.tcp_open:
                await asyncio.sleep(0.01)

    run(story())


def test_answers_that_are_ready_do_not_wait_for_forwarded_ones(run: Run) -> None:
    async def story() -> None:
        opened = asyncio.Event()

        async def answer(question: bytes) -> bytes:
            await opened.wait()
            return question

        async with upstream(answer) as forward, serving(forward=(forward,)) as (server, _):
            async with connected(server.addresses[0]) as (reader, writer):
                slow = b"\0\7" + packet("www.example.net")[2:]
                writer.write(framed(slow) + framed(WEB))
                assert right(await read_one(reader))
                opened.set()
                assert (await read_one(reader))[:2] == b"\0\7"

    run(story())


def test_a_client_that_half_closes_gets_forwarded_answers(run: Run) -> None:
    async def story() -> None:
        opened = asyncio.Event()

        async def answer(question: bytes) -> bytes:
            await opened.wait()
            return question

        async with upstream(answer) as forward, serving(forward=(forward,)) as (server, responder):
            async with connected(server.addresses[0]) as (reader, writer):
                queries = [n.to_bytes(2, "big") + packet("www.example.net")[2:] for n in range(80)]
                writer.write(b"".join(map(framed, queries)))
                writer.write_eof()
                while responder.counters.forwarded["sent"] < 64:
                    await asyncio.sleep(0.01)
                opened.set()
                assert {(await read_one(reader))[:2] for _ in queries} == {query[:2] for query in queries}
                assert await reader.read() == b""
            assert not responder.counters.tcp_closed  # the client ended it

    run(story())


def test_forwarded_answers_that_nobody_reads_are_not_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "_MOST_UNREAD", 200_000)  # the kernel keeps a few megabytes, too

    async def answer(question: bytes) -> bytes:
        return question + bytes(65000)

    async def story() -> None:
        async with upstream(answer) as forward, serving(forward=(forward,), forward_timeout=30) as (server, responder):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(server.addresses[0])
                sock.sendall(framed(packet("www.example.net")) * 64)
                while not responder.counters.tcp_closed:
                    await asyncio.sleep(0.01)
            assert responder.counters.tcp_closed == {"unread": 1}

    run(story())


def test_the_idle_time_that_is_told_is_the_one_that_holds(run: Run) -> None:
    async def story() -> None:
        async with serving(tcp_clients=2, tcp_idle=10) as (server, _), contextlib.AsyncExitStack() as stack:
            query = packet(
                "web.marathon.mesos",
                payload=1232,
                options=[dns.edns.GenericOption(dns.edns.OptionType.make(KEEPALIVE), b"")],
            )
            for expected in (100, 25):  # units of 100 ms; less from the second of two places on
                reader, writer = await stack.enter_async_context(connected(server.addresses[0]))
                writer.write(framed(query))
                (option,) = dns.message.from_wire(await read_one(reader)).options
                assert option.to_wire() == expected.to_bytes(2, "big")

    run(story())


def test_lower_limits_hold_from_a_swap_on(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, responder):
            async with connected(server.addresses[0]) as (reader, writer):
                writer.write(framed(WEB))
                assert right(await read_one(reader))
                server.swap(DnsConfig(tcp_idle=Duration(0.1)), responder)
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            assert responder.counters.tcp_closed == {"idle": 1}

    run(story())
