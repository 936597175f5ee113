"""Forwarding against small name servers of the test's own on loopback."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import pytest

from mesos_dns.forward import Forwarder
from mesos_dns.respond import Forward, Responder
from tests.fakes.questions import packet, responder_of

Answering = Callable[[bytes, str], list[bytes]]
"""(question, transport) → the packets to send back."""


def found(question: bytes, address: str = "192.0.2.7", count: int = 1) -> bytes:
    """A right reply."""
    query = dns.message.from_wire(question)
    reply = dns.message.make_response(query, recursion_available=True)
    addresses = [address, *(f"192.0.2.{n + 100}" for n in range(count - 1))]
    reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", *addresses))
    return reply.to_wire(max_size=65535)


class Upstream:
    """A name server on a free port that answers as it is told; `seen` has what it was asked."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self.seen: list[tuple[str, bytes]] = []
        self.peers: set[int] = set()
        self.address = ("127.0.0.1", 0)

    def answer(self, question: bytes, transport: str) -> list[bytes]:
        self.seen.append((transport, question))
        return self._answering(question, transport)

    @property
    def names(self) -> list[str]:
        return [dns.message.from_wire(question).question[0].name.to_text() for _, question in self.seen]


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._upstream.peers.add(addr[1])
        for reply in self._upstream.answer(data, "udp"):
            self._transport.sendto(reply, addr)


@asynccontextmanager
async def upstream(answering: Answering) -> AsyncIterator[Upstream]:
    """An Upstream that serves UDP and TCP on one port."""
    made = Upstream(answering)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = struct.unpack(">H", await reader.readexactly(2))[0]
            for reply in made.answer(await reader.readexactly(size), "tcp"):
                writer.write(struct.pack(">H", len(reply)) + reply)
            await writer.drain()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    loop = asyncio.get_running_loop()
    for _ in range(20):  # a port that is free by TCP may be somebody's by UDP
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        made.address = server.sockets[0].getsockname()
        try:
            udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(made), local_addr=made.address)
            break
        except OSError:
            server.close()
            await server.wait_closed()
    else:
        pytest.fail("no port is free by both UDP and TCP")
    try:
        yield made
    finally:
        udp.close()
        server.close()
        await server.wait_closed()


def silent(question: bytes, transport: str) -> list[bytes]:
    return []


def right(question: bytes, transport: str) -> list[bytes]:
    return [found(question)]


async def resolve(
    query: bytes,
    *upstreams: tuple[str, int],
    transport: str = "udp",
    timeout: float = 5.0,
    clients: int = 10,
    during: Callable[[Forwarder, Responder], Awaitable[None]] | None = None,
) -> tuple[bytes | None, Responder]:
    responder = responder_of(forward=tuple(f"{host}:{port}" for host, port in upstreams))
    decision = responder.respond(query, transport)
    assert isinstance(decision, Forward)
    forwarder = Forwarder(responder, timeout, clients)
    if during is not None:
        await during(forwarder, responder)
    return await forwarder.resolve(query, decision, transport), responder


def read(reply: bytes | None) -> dns.message.Message:
    assert reply is not None
    return dns.message.from_wire(reply, ignore_trailing=False)


def address_of(reply: bytes | None) -> str:
    return read(reply).answer[0][0].to_text()


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_question_goes_on_but_for_its_id_and_options(transport: str) -> None:
    query = packet(
        "wWw.Example.net",
        payload=4000,
        ednsflags=0x8000,
        options=[dns.edns.GenericOption(dns.edns.OptionType.make(65001), b"abc")],
    )
    async with upstream(right) as server:
        reply, responder = await resolve(query, server.address, transport=transport)
    ((used, asked),) = server.seen
    assert used == transport
    assert asked[2:] == query[2:-9] + b"\0\0"  # options are between two neighbours (RFC 6891 §6.2.6)
    assert reply is not None
    assert reply[:2] == query[:2]
    assert reply[12 : 12 + 21] == query[12 : 12 + 21]
    assert read(reply).flags & dns.flags.RA
    assert address_of(reply) == "192.0.2.7"
    assert responder.counters.forwarded == {"sent": 1, "answered": 1}


@pytest.mark.asyncio
async def test_recursion_not_desired_goes_on_too() -> None:
    query = bytearray(packet("www.example.net"))
    query[2] &= ~1
    async with upstream(right) as server:
        await resolve(bytes(query), server.address)
    assert not server.seen[0][1][2] & 1


@pytest.mark.asyncio
async def test_ids_and_ports_differ() -> None:
    # RFC 5452 §9: both are random for each question.
    async with upstream(right) as server:
        for _ in range(8):
            await resolve(packet("www.example.net"), server.address)
    assert len({asked[:2] for _, asked in server.seen}) > 4
    assert len(server.peers) > 4


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_upstreams_are_tried_in_order(transport: str) -> None:
    async with upstream(silent) as first, upstream(right) as second, upstream(right) as third:
        reply, responder = await resolve(
            packet("www.example.net"), *(s.address for s in (first, second, third)), transport=transport, timeout=0.2
        )
    assert address_of(reply) == "192.0.2.7"
    assert [len(server.seen) for server in (first, second, third)] == [1, 1, 0]
    assert responder.counters.forwarded == {"sent": 1, "timeout": 1, "answered": 1}


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_servfail_when_nobody_answers(transport: str, free_port: int) -> None:
    async with upstream(silent) as server:
        reply, responder = await resolve(
            packet("www.example.net", payload=1232),
            server.address,
            ("127.0.0.1", free_port),
            transport=transport,
            timeout=0.2,
        )
    message = read(reply)
    assert dns.rcode.to_text(message.rcode()) == "SERVFAIL"
    assert message.edns == 0
    assert responder.counters.forwarded == {"sent": 1, "timeout": 1, "unreachable": 1}


def _wrong(question: bytes) -> list[bytes]:
    """Replies that are not to this question."""
    other = bytes([question[0] ^ 1, *question[1:]])
    elsewhere = dns.message.from_wire(packet("www.example.org"))
    elsewhere.id = int.from_bytes(question[:2], "big")
    return [
        b"",
        question[:11],
        question,  # our own question echoed: QR is not set
        found(other, "192.0.2.66"),
        found(elsewhere.to_wire(), "192.0.2.66"),
        found(question, "192.0.2.66")[:20],
        question[:2] + b"\x81\x80\0\0\0\0\0\0\0\0",
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_replies_to_something_else_are_ignored(transport: str) -> None:
    async with upstream(lambda question, _: [*_wrong(question), found(question)]) as server:
        reply, _ = await resolve(packet("www.example.net"), server.address, transport=transport)
    assert address_of(reply) == "192.0.2.7"
    async with upstream(lambda question, _: _wrong(question)) as server:
        reply, _ = await resolve(packet("www.example.net"), server.address, transport=transport, timeout=0.2)
    assert dns.rcode.to_text(read(reply).rcode()) == "SERVFAIL"


@pytest.mark.asyncio
async def test_a_reply_from_another_address_is_ignored() -> None:
    loop = asyncio.get_running_loop()
    spoofed: asyncio.Future[None] = loop.create_future()

    class Spoofer(_Udp):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            other.sendto(found(data, "192.0.2.66"), addr)
            spoofed.set_result(None)
            self._transport.sendto(found(data), addr)

    other, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    server, _ = await loop.create_datagram_endpoint(lambda: Spoofer(Upstream(right)), local_addr=("127.0.0.1", 0))
    try:
        reply, _ = await resolve(packet("www.example.net"), server.get_extra_info("sockname"))
    finally:
        other.close()
        server.close()
    assert spoofed.done()
    assert address_of(reply) == "192.0.2.7"


@pytest.mark.asyncio
@pytest.mark.parametrize(("payload", "cut"), [(None, True), (512, True), (1232, False)])
async def test_a_reply_that_the_client_cannot_take_is_truncated(payload: int | None, cut: bool) -> None:
    query = packet("www.example.net", payload=payload)
    async with upstream(lambda question, _: [found(question, count=40)]) as server:
        reply, _ = await resolve(query, server.address)
        whole, _ = await resolve(query, server.address, transport="tcp")
    message = read(reply)
    assert bool(message.flags & dns.flags.TC) is cut
    assert len(message.answer) == (0 if cut else 1)
    assert message.flags & dns.flags.RA
    assert len(read(whole).answer[0]) == 40


@pytest.mark.asyncio
async def test_an_error_of_the_upstream_is_passed_on() -> None:
    def refuse(question: bytes, transport: str) -> list[bytes]:
        reply = dns.message.make_response(dns.message.from_wire(question))
        reply.set_rcode(dns.rcode.NXDOMAIN)
        return [reply.to_wire()]

    async with upstream(refuse) as server:
        reply, _ = await resolve(packet("www.example.net"), server.address)
    assert read(reply).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.asyncio
async def test_too_many_questions_in_flight_are_dropped() -> None:
    held: list[asyncio.Task[bytes | None]] = []

    async def fill(forwarder: Forwarder, responder: Responder) -> None:
        query = packet("slow.example.net")
        decision = responder.respond(query, "udp")
        assert isinstance(decision, Forward)
        held.extend(asyncio.create_task(forwarder.resolve(query, decision, "udp")) for _ in range(2))
        while len(server.seen) < 2:
            await asyncio.sleep(0)

    async with upstream(silent) as server:
        reply, responder = await resolve(packet("www.example.net"), server.address, clients=2, timeout=30, during=fill)
        assert reply is None
        assert responder.counters.forwarded["overload"] == 1
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        # Their places are free again.
        assert "www.example.net." not in server.names


@pytest.mark.asyncio
async def test_a_tcp_upstream_that_hangs_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.write(b"\0\x40partial")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reply, responder = await resolve(packet("www.example.net"), server.sockets[0].getsockname(), transport="tcp")
    assert dns.rcode.to_text(read(reply).rcode()) == "SERVFAIL"
    assert responder.counters.forwarded["unreachable"] == 1
