"""Kept connections by TCP and TLS: pipelining, ends, silence, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trustme

from mesos_dns.resolver import stream
from mesos_dns.resolver.address import UpstreamAddress
from mesos_dns.resolver.exchange import Broken
from mesos_dns.resolver.question import Question
from mesos_dns.resolver.stream import Streams
from mesos_dns.resolver.tally import Tally
from tests.fakes.upstreams import (
    CLOSE,
    Step,
    UpstreamServer,
    address_in,
    found,
    right,
    silent,
    until,
    upstream,
    wire_question,
)

pytestmark = pytest.mark.asyncio

ASKED = Question(wire_question("www.example"))


@asynccontextmanager
async def streams(address: UpstreamAddress, tls: ssl.SSLContext | None = None) -> AsyncIterator[Streams]:
    made = Streams(address, tls, Tally())
    try:
        yield made
    finally:
        await made.close()


def number(question: bytes) -> int:
    """n of the name q<n>.example."""
    return int(question[14 : 13 + question[12]])


def asked(count: int) -> Question:
    return Question(wire_question(f"q{count}.example"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_one_connection_is_kept(host: str) -> None:
    async with upstream(right, host) as server, streams(server.address("tcp")) as client:
        for _ in range(3):
            assert address_in(await client.ask(ASKED, True, 5.0)) == "192.0.2.7"
        assert (server.accepted, client.open) == (1, 1)


async def test_replies_come_in_any_order() -> None:
    def answering(question: bytes, _: str) -> Sequence[Step]:
        n = number(question)
        return [(50 - n) * 0.002, found(question, f"192.0.2.{n}")]

    async with upstream(answering) as server, streams(server.address("tcp")) as client:
        packets = await asyncio.gather(*(client.ask(asked(n), True, 10.0) for n in range(50)))
        assert [address_in(packet) for packet in packets] == [f"192.0.2.{n}" for n in range(50)]
        assert server.accepted == 1
        assert len({question[:2] for _, question in server.seen}) == 50


async def test_a_reply_in_pieces() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        reply = found(question)
        for octet in len(reply).to_bytes(2, "big") + reply:
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = UpstreamAddress("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
    async with streams(address) as client:
        assert address_in(await client.ask(ASKED, True, 5.0)) == "192.0.2.7"
    server.close()
    await server.wait_closed()


async def test_a_full_connection_gets_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PIPELINED", 5)
    monkeypatch.setattr(stream, "CONNECTIONS", 2)
    async with upstream(silent) as server, streams(server.address("tcp")) as client:
        asking = [asyncio.create_task(client.ask(asked(n), True, 30.0)) for n in range(10)]
        await until(lambda: len(server.seen) == 10)
        assert server.accepted == 2
        with pytest.raises(Broken) as caught:
            await client.ask(asked(10), True, 30.0)
        assert caught.value.reason == "local"
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def abandon(client: Streams, server: UpstreamServer, numbers: Sequence[int]) -> None:
    """Ask, and go away before there is a reply."""
    before = len(server.seen)
    asking = [asyncio.create_task(client.ask(asked(n), True, 30.0)) for n in numbers]
    await until(lambda: len(server.seen) == before + len(numbers))
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


def even_alone(question: bytes, _: str) -> Sequence[Step]:
    """Answers with even numbers, and silence for odd ones."""
    return [] if number(question) % 2 else [found(question)]


async def test_who_is_gone_gives_up_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PIPELINED", 3)
    monkeypatch.setattr(stream, "CONNECTIONS", 1)
    async with upstream(even_alone) as server, streams(server.address("tcp")) as client:
        for _ in range(4):
            await abandon(client, server, [1, 3, 5])
            assert address_in(await client.ask(asked(2), True, 5.0)) == "192.0.2.7"
        assert server.accepted == 1


async def test_who_timed_out_gives_up_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PIPELINED", 1)
    monkeypatch.setattr(stream, "CONNECTIONS", 1)
    async with upstream(even_alone) as server, streams(server.address("tcp")) as client:
        with pytest.raises(Broken) as caught:
            await client.ask(asked(1), True, 0.05)
        assert caught.value.reason == "timeout"
        assert address_in(await client.ask(asked(2), True, 5.0)) == "192.0.2.7"
        assert server.accepted == 1


async def test_a_late_reply_is_nobody_elses_and_no_lie() -> None:
    kept: list[bytes] = []

    def answering(question: bytes, _: str) -> Sequence[Step]:
        if number(question):
            kept.append(found(question, "192.0.2.66"))
            return []
        return [*kept, found(question)]

    async with upstream(answering) as server:
        tally = Tally()
        client = Streams(server.address("tcp"), None, tally)
        await abandon(client, server, range(1, 21))
        assert address_in(await client.ask(asked(0), True, 5.0)) == "192.0.2.7"
        assert tally.results == {}
        await client.close()


async def test_too_many_that_are_gone_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_LEFT", 5)
    async with upstream(even_alone) as server, streams(server.address("tcp")) as client:
        await abandon(client, server, [1, 3, 5, 7])
        await client.ask(asked(2), True, 5.0)
        assert server.accepted == 1
        await abandon(client, server, [9])
        await until(lambda: not client.open and not server.open, 5.0)  # long before it has been idle
        await client.ask(asked(2), True, 5.0)
        assert server.accepted == 2


async def test_who_still_waits_there_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_LEFT", 2)

    def answering(question: bytes, _: str) -> Sequence[Step]:
        return [] if number(question) else [0.3, found(question)]

    async with upstream(answering) as server, streams(server.address("tcp")) as client:
        patient = asyncio.create_task(client.ask(asked(0), True, 30.0))
        await until(lambda: server.seen)
        await abandon(client, server, [1, 2])
        assert server.accepted == 1
        other = asyncio.create_task(client.ask(asked(3), True, 30.0))
        await until(lambda: server.accepted == 2)
        assert address_in(await patient) == "192.0.2.7"
        assert [number(question) for _, question in server.seen].count(0) == 1
        await until(lambda: client.open == 1, 5.0)  # long before it has been idle
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


async def test_where_nothing_is_heard_nobody_else_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_UNHEARD", 0.05)
    monkeypatch.setattr(stream, "CONNECTIONS", 2)

    def answering(question: bytes, _: str) -> Sequence[Step]:
        return [found(question)] if number(question) else [0.5, found(question)]

    async with upstream(answering) as server, streams(server.address("tcp")) as client:
        slow = asyncio.create_task(client.ask(asked(0), True, 30.0))
        await until(lambda: server.seen)
        await asyncio.sleep(0.1)
        for n in range(1, 4):
            await client.ask(asked(n), True, 5.0)
        assert server.accepted == 2
        assert address_in(await slow) == "192.0.2.7"
        await client.ask(asked(4), True, 5.0)
        assert server.accepted == 2


async def test_when_all_are_silent_they_are_asked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_UNHEARD", 0.01)
    monkeypatch.setattr(stream, "CONNECTIONS", 1)
    async with upstream(even_alone) as server, streams(server.address("tcp")) as client:
        slow = asyncio.create_task(client.ask(asked(1), True, 30.0))
        await until(lambda: server.seen)
        await asyncio.sleep(0.05)
        assert address_in(await client.ask(asked(2), True, 5.0)) == "192.0.2.7"
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


def unacknowledged_limits(port: int) -> list[int]:
    """TCP_USER_TIMEOUT of this process' sockets that are connected to a port."""
    limits = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            each = socket.socket(fileno=int(fd))
            try:
                if each.family == socket.AF_INET and each.getpeername()[1] == port:
                    limits.append(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
            finally:
                each.detach()
    return limits


async def test_the_kernel_ends_what_is_not_acknowledged() -> None:
    async with upstream() as server, streams(server.address("tcp")) as client:
        await client.ask(ASKED, True, 5.0)
        assert await asyncio.to_thread(unacknowledged_limits, server.port) == [2500]


async def test_a_connection_that_ends_is_tried_once_more() -> None:
    ends = [[CLOSE]]

    def answering(question: bytes, _: str) -> Sequence[Step]:
        return ends.pop() if ends else [found(question)]

    async with upstream(answering) as server, streams(server.address("tcp")) as client:
        assert address_in(await client.ask(ASKED, True, 5.0)) == "192.0.2.7"
        assert server.accepted == 2


async def test_many_questions_survive_the_end_of_their_connection() -> None:
    def answering(question: bytes, _: str) -> Sequence[Step]:
        return [found(question)] if server.accepted > 1 else [CLOSE]

    async with upstream(answering) as server:
        async with streams(server.address("tcp")) as client:
            packets = await asyncio.gather(*(client.ask(asked(n), True, 5.0) for n in range(20)))
            assert {address_in(packet) for packet in packets} == {"192.0.2.7"}
            assert server.accepted == 2


async def test_one_that_always_ends_is_unreachable() -> None:
    async with upstream(lambda question, _: [found(question)[:10], CLOSE]) as server:
        async with streams(server.address("tcp")) as client:
            with pytest.raises(Broken) as caught:
                await client.ask(ASKED, True, 5.0)
            assert caught.value.reason == "unreachable"
            assert server.accepted == 2
            await until(lambda: not client.open)


async def test_a_closed_port(free_port: int) -> None:
    async with streams(UpstreamAddress("tcp", "127.0.0.1", free_port)) as client:
        with pytest.raises(Broken) as caught:
            await client.ask(ASKED, True, 5.0)
        assert caught.value.reason == "unreachable"
        assert client.open == 0


async def test_silence_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_SILENCE", 0.0)
    async with upstream(silent) as server, streams(server.address("tcp")) as client:
        with pytest.raises(Broken) as caught:
            await client.ask(ASKED, True, 0.05)
        assert caught.value.reason == "timeout"
        await until(lambda: server.accepted == 1 and not server.open)
        assert client.open == 0


async def test_an_id_is_not_used_again_before_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    idents = iter([7, 7, 8])
    monkeypatch.setattr("mesos_dns.resolver.stream.secrets.randbelow", lambda _: next(idents))
    async with upstream(lambda question, _: [found(question)] if number(question) else []) as server:
        async with streams(server.address("tcp")) as client:
            given_up = asyncio.create_task(client.ask(asked(0), True, 5.0))
            await until(lambda: server.seen)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            await client.ask(asked(1), True, 5.0)
            assert [question[:2] for _, question in server.seen] == [b"\0\7", b"\0\x08"]
            assert server.accepted == 1


async def test_who_says_too_much_that_is_no_reply_is_closed() -> None:
    def answering(question: bytes, _: str) -> Sequence[Step]:
        good = found(question)
        return [b"", b"\0", good[:2] + b"\0" + good[3:], good.replace(b"www", b"wwx"), *[good[:5]] * 10, good]

    async with upstream(answering) as server, streams(server.address("tcp")) as client:
        with pytest.raises(Broken) as caught:
            await client.ask(ASKED, True, 5.0)
        assert caught.value.reason == "unreachable"
        await until(lambda: not server.open)


async def test_an_idle_connection_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE", 0.05)
    async with upstream() as server, streams(server.address("tcp")) as client:
        await client.ask(ASKED, True, 5.0)
        await until(lambda: not server.open and not client.open)
        await client.ask(ASKED, True, 5.0)
        assert server.accepted == 2


async def test_a_connection_that_is_used_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE", 1.0)
    loop = asyncio.get_running_loop()
    async with upstream() as server, streams(server.address("tcp")) as client:
        until_idle = loop.time() + 1.5 * stream.IDLE
        while loop.time() < until_idle:
            await client.ask(ASKED, True, 5.0)
            await asyncio.sleep(0.02)
        assert server.accepted == 1


async def test_a_busy_connection_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE", 0.02)
    async with upstream(lambda question, _: [0.2, found(question)]) as server:
        async with streams(server.address("tcp")) as client:
            await client.ask(ASKED, True, 5.0)
            assert server.accepted == 1


async def test_closing_while_it_opens() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        context = ssl.create_default_context()
        client = Streams(UpstreamAddress("tls", "127.0.0.1", deaf.getsockname()[1]), context, Tally())
        asking = asyncio.create_task(client.ask(ASKED, True, 30.0))
        await until(lambda: client.open)
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(Broken) as caught:
            await asking
        assert caught.value.reason == "local"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def over_tls(authority: trustme.CA, *names: str) -> AsyncIterator[tuple[UpstreamServer, ssl.SSLContext]]:
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    await asyncio.to_thread(lambda: authority.issue_cert(*names).configure_cert(serving))
    authority.configure_trust(asking)
    async with upstream(right, tls=serving) as server:
        yield server, asking


@pytest.mark.parametrize(("certificate", "name"), [("dns.example", "dns.example"), ("127.0.0.1", "")])
async def test_tls_with_the_right_certificate(authority: trustme.CA, certificate: str, name: str) -> None:
    async with over_tls(authority, certificate) as (server, context):
        async with streams(server.address("tls", name), context) as client:
            for _ in range(3):
                assert address_in(await client.ask(ASKED, True, 5.0)) == "192.0.2.7"
            assert [transport for transport, _ in server.seen] == ["tls"] * 3
            assert server.accepted == 1


@pytest.mark.parametrize(("certificate", "name"), [("dns.example", "other.example"), ("dns.example", "")])
async def test_tls_with_a_wrong_certificate(authority: trustme.CA, certificate: str, name: str) -> None:
    async with over_tls(authority, certificate) as (server, context):
        async with streams(server.address("tls", name), context) as client:
            with pytest.raises(Broken) as caught:
                await client.ask(ASKED, True, 5.0)
            assert caught.value.reason == "tls"
            assert "certificate" in str(caught.value)
        assert not server.seen
