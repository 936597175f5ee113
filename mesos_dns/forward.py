"""Plain forwarding of other names: one exchange with an upstream, and the order they are tried in.

A forwarded question keeps what the client sent except its id and its EDNS options, which are between
the client and us (cookies, keepalive, padding: RFC 6891 §6.2.6). Every exchange has a random id and a
random source port, and a reply counts only when address, id and question match (RFC 5452). The client's
transport is kept, as mesos-dns does: a client that got TC asks again by TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections import Counter

from mesos_dns.edns import opt_record
from mesos_dns.message import SERVFAIL, Query, question_end
from mesos_dns.respond import Forward, Responder


class Forwarder:
    """Asks upstreams for the responder. `timeout`: seconds per exchange; `clients`: in flight at most."""

    def __init__(self, responder: Responder, timeout: float, clients: int) -> None:
        self._responder = responder
        self._timeout = timeout
        self._clients = clients
        self._in_flight = 0

    @property
    def counters(self) -> Counter[str]:
        """sent, answered, failed (by reason)."""
        return self._responder.counters.forwarded

    async def resolve(self, packet: bytes, forward: Forward, transport: str) -> bytes | None:
        """The reply for the client (SERVFAIL when no upstream answered); None when there are too
        many questions in flight, for which silence is kinder than an error."""
        if self._in_flight >= self._clients:
            self.counters["overload"] += 1
            return None
        self._in_flight += 1
        try:
            question = _without_options(packet, forward.query)
            for address in forward.upstreams:
                reply = await self._ask(question, address, transport)
                if reply is not None:
                    self.counters["answered"] += 1
                    return self._fit(packet[:2] + reply[2:], forward, transport)
        finally:
            self._in_flight -= 1
        return self._responder.failure(forward.query, SERVFAIL, transport, forward.client)

    async def _ask(self, packet: bytes, address: tuple[str, int], transport: str) -> bytes | None:
        ident = secrets.token_bytes(2)
        exchange = exchange_udp if transport == "udp" else _exchange_tcp
        try:
            async with asyncio.timeout(self._timeout):
                return await exchange(ident + packet[2:], address)
        except TimeoutError:
            self.counters["timeout"] += 1
        except (OSError, asyncio.IncompleteReadError):
            self.counters["unreachable"] += 1
        return None

    def _fit(self, reply: bytes, forward: Forward, transport: str) -> bytes:
        """A reply larger than the client takes becomes an empty one with TC."""
        if transport != "udp" or len(reply) <= max(forward.query.payload, 512):
            return reply
        end = question_end(reply)
        return reply[:2] + bytes([reply[2] | 2]) + reply[3:4] + b"\0\1\0\0\0\0\0\0" + reply[12:end]


def _without_options(packet: bytes, query: Query) -> bytes:
    """The question for an upstream: the client's flags, its question, its EDNS payload and DO, nothing else."""
    opt = opt_record(min(query.payload, 0xFFFF), dnssec_ok=query.dnssec_ok) if query.edns else b""
    return packet[:4] + b"\0\1\0\0\0\0\0" + bytes([bool(opt)]) + query.question + opt


def _matches(reply: bytes, question: bytes) -> bool:
    end = question_end(reply) if len(reply) >= 12 and reply[4:6] == b"\0\1" else 0
    return (
        bool(end)
        and reply[:2] == question[:2]
        and bool(reply[2] & 0x80)
        and (reply[12:end].lower() == question[12 : question_end(question)].lower())
    )


class _Exchange(asyncio.DatagramProtocol):
    """Waits on a connected socket for the one datagram that matches."""

    def __init__(self, question: bytes) -> None:
        self._question = question
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Anything that does not match is somebody else's word."""
        if not self.reply.done() and _matches(data, self._question):
            self.reply.set_result(data)

    def error_received(self, exc: Exception) -> None:
        """ICMP unreachable."""
        if not self.reply.done():
            self.reply.set_exception(exc)


async def exchange_udp(packet: bytes, address: tuple[str, int]) -> bytes:
    """The one reply that matches, to a packet sent from a random port. Raises OSError; waits without limit."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Exchange(packet), remote_addr=address)
    try:
        transport.sendto(packet)
        return await protocol.reply
    finally:
        transport.close()


async def _exchange_tcp(packet: bytes, address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        sock = writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.write(len(packet).to_bytes(2, "big") + packet)
        await writer.drain()
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            reply = await reader.readexactly(size)
            if _matches(reply, packet):
                return reply
    finally:
        writer.close()
