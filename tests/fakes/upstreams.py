"""Upstream name servers of a test's own on loopback, that answer as they are told: late, wrongly, in pieces, never."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from mesos_dns.resolver.address import Transport, UpstreamAddress
from mesos_dns.wire import name_to_wire

CLOSE = "close"
"""A step that ends the connection."""
Step = bytes | float | str
"""A packet to send, seconds to wait before the next step, or CLOSE."""
Answering = Callable[[bytes, str], Sequence[Step]]
"""(question, transport) → what to do."""


def wire_question(name: str, qtype: int = 1) -> bytes:
    """Name, type and class IN in wire form."""
    return name_to_wire(name) + qtype.to_bytes(2, "big") + b"\0\1"


def found(question: bytes, address: str = "192.0.2.7", rcode: int = 0, *, tc: bool = False) -> bytes:
    """A reply: one address (none with an rcode), perhaps truncated."""
    query = dns.message.from_wire(question)
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    if tc:
        reply.flags |= dns.flags.TC
    elif not rcode:
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", address))
    return reply.to_wire(max_size=65535)


def address_in(packet: bytes) -> str:
    """The one address of an answer."""
    return str(dns.message.from_wire(packet).answer[0][0])


def right(question: bytes, transport: str) -> list[Step]:
    """The right answer at once."""
    return [found(question)]


def saying(address: str, delay: float = 0.0) -> Answering:
    """This address, perhaps late."""
    return lambda question, _: [delay, found(question, address)]


def failing(rcode: int, delay: float = 0.0) -> Answering:
    """This error, perhaps late."""
    return lambda question, _: [delay, found(question, rcode=rcode)]


def silent(question: bytes, transport: str) -> list[Step]:
    """Nothing, ever."""
    return []


class UpstreamServer:
    """A name server; `seen` has what it was asked, `peers` the clients' ports, `open` its connections now,
    `accepted` those it ever had."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.seen: list[tuple[str, bytes]] = []
        self.peers: set[int] = set()
        self.open = 0
        self.accepted = 0
        self.host, self.port = "", 0
        self.udp: asyncio.DatagramTransport | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def address(self, transport: Transport = "udp", name: str = "") -> UpstreamAddress:
        """What a client needs."""
        return UpstreamAddress(transport, self.host, self.port, name)

    @property
    def names(self) -> list[str]:
        """The names it was asked for."""
        return [dns.message.from_wire(question).question[0].name.to_text() for _, question in self.seen]

    def start(self, question: bytes, transport: str, send: Callable[[bytes], None], close: Callable[[], None]) -> None:
        """Answer one question, in a task of its own."""
        self.seen.append((transport, question))
        task = asyncio.get_running_loop().create_task(_walk(self.answering(question, transport), send, close))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def by_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        transport = "tls" if writer.get_extra_info("ssl_object") else "tcp"
        self.open += 1
        self.accepted += 1
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                question = await reader.readexactly(size)
                self.start(
                    question,
                    transport,
                    lambda packet: writer.write(len(packet).to_bytes(2, "big") + packet),
                    writer.transport.abort,
                )
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self.open -= 1
            writer.close()


async def _walk(steps: Sequence[Step], send: Callable[[bytes], None], close: Callable[[], None]) -> None:
    for step in steps:
        if isinstance(step, bytes):
            send(step)
        elif isinstance(step, str):
            close()
        elif step:
            await asyncio.sleep(step)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: UpstreamServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.peers.add(addr[1])
        self._server.start(data, "udp", lambda packet: self._transport.sendto(packet, addr), lambda: None)


@asynccontextmanager
async def upstream(
    answering: Answering = right, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[UpstreamServer]:
    """A server by UDP and TCP on one port, with `tls` by TLS instead of TCP."""
    made = UpstreamServer(answering)
    loop = asyncio.get_running_loop()
    for _ in range(20):  # a port that is free by TCP may be somebody's by UDP
        server = await asyncio.start_server(made.by_stream, host, 0, ssl=tls)
        made.host, made.port = server.sockets[0].getsockname()[:2]
        try:
            udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(made), local_addr=(host, made.port))
            break
        except OSError:
            server.close()
            await server.wait_closed()
    else:
        pytest.fail("no port is free by both UDP and TCP")
    made.udp = udp
    try:
        yield made
    finally:
        udp.close()
        server.close()
        for task in list(made.tasks):
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await server.wait_closed()
        async with asyncio.timeout(60):
            while made.open:
                await asyncio.sleep(0.005)


async def until(condition: Callable[[], object], limit: float = 60.0) -> None:
    """Wait until it holds; fails after `limit` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            while not condition():
                await asyncio.sleep(0.005)
    assert condition()


def sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except OSError:
            continue
    return count
