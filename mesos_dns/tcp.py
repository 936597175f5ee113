"""One client of the DNS server by TCP or TLS: many questions, answered as they become ready (RFC 7766, RFC 7858).

A client that does not read its answers, or has too many questions with our upstreams, is not read
from until that changes. What one client can make us keep is bounded: a question in part, a buffer of
questions, a buffer of answers. How long it may be silent is in `connections`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from mesos_dns.connections import Connections, packed_client
from mesos_dns.respond import Beyond, Forward, Responder
from mesos_dns.transfer import Transfer, Transfers

MAX_QUESTION = 4096
"""Octets of a question at most, as over UDP: one question with every option there is stays far below."""
_READ = 16384
"""Octets read at a time. What is not answered at once is kept, so this bounds that as well."""
_WRITE = 65536
"""Octets of answers per write: then the transport says whether the client still reads."""
_MOST_UNREAD = 1 << 20
"""Octets of answers that may wait for a client to read: those of forwarded questions come when they come."""
_QUEUE = 64
"""Unanswered questions per connection before we stop reading from it."""


class Shared:
    """What the connections of one server have in common; set anew, it holds for all from the next question on."""

    def __init__(self, connections: Connections, responder: Responder, beyond: Beyond) -> None:
        self.connections = connections
        self.responder = responder
        self.beyond = beyond
        self.loop = asyncio.get_running_loop()
        # Octets are read and taken out in one go, so one buffer does for all connections.
        self.buffer = memoryview(bytearray(_READ))


class TcpConnection(asyncio.BufferedProtocol):
    """See the module. Questions are answered out of order where that is sooner (RFC 7766 §6.2.1.1).

    By TCP it asks for its place once it is open; by TLS it has it before the handshake, see `streams`.
    """

    __slots__ = (
        "_blocked",
        "_counted",
        "_eof",
        "_gone",
        "_paused",
        "_rest",
        "_room",
        "_shared",
        "_transport",
        "_waiting",
        "carrier",
        "client",
        "handshake",
        "last",
    )

    def __init__(self, shared: Shared, carrier: str = "tcp", client: bytes = b"") -> None:
        self.carrier = carrier  # "tcp" or "tls", as the counters say it
        self.client = client
        self.last = 0.0
        self.handshake: asyncio.Task[None] | None = None
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._waiting: set[asyncio.Task[None]] | None = None  # most connections never have any
        self._room: asyncio.Future[None] | None = None  # done when a blocked client reads again
        self._blocked = self._paused = self._eof = self._gone = self._counted = False

    @property
    def busy(self) -> bool:
        """True while a question waits for its answer; that is not being idle (RFC 7766 §6.2.3)."""
        return bool(self._waiting)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client in; one too many is closed at once."""
        self._transport = cast(asyncio.Transport, transport)  # what create_server makes; uvloop's is no subclass
        if self.carrier == "tls":
            self.handshake = None
            self._transport.set_read_buffer_limits(_READ)  # type: ignore[attr-defined]  # of TLS transports alone
            return
        peer = transport.get_extra_info("peername")
        self.client = packed_client(peer) if peer else b""
        if not peer or not self._shared.connections.joined(self):
            self._counted = True
            self._shared.connections.ending(self)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client, once nothing of ours works for it any more."""
        self._gone = True
        for task in self._waiting or ():
            task.cancel()
        if not self._waiting:
            self._shared.connections.lost(self)

    def end(self, reason: str) -> None:
        """Close at once, whatever is under way. A TLS client that is merely idle is told (close_notify)."""
        self._count(reason)
        self._shared.connections.ending(self)
        if self.handshake is not None:
            self.handshake.cancel()
        elif self._transport is not None:
            polite = reason == "idle" and self.carrier == "tls" and not self._transport.get_write_buffer_size()
            (self._transport.close if polite else self._transport.abort)()

    def not_secured(self) -> None:
        """The handshake failed: no TLS, no cipher in common, too slow, or ended by us."""
        self.handshake = None
        self._count("handshake")
        self._shared.connections.lost(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next octets go."""
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Answer every question that is complete now."""
        self._take(self._rest + self._shared.buffer[:nbytes])

    def eof_received(self) -> bool:
        """The client asks no more; it still gets its answers (TLS can't be half closed)."""
        self._eof = self.carrier != "tls"
        return self._eof and self._owes()

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more questions from it."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._blocked = False
        if self._room is not None:
            self._room.set_result(None)
            self._room = None
        self._take(self._rest)

    def _take(self, data: bytes) -> None:
        """Answer the questions in `data` until there is no whole one or the client has to read first."""
        transport, shared = self._transport, self._shared
        if transport is None or transport.is_closing():
            return
        at, out = 0, bytearray()
        while not self._held() and (packet := _question(data, at)) is not None:
            at += 2 + len(packet)
            reply = shared.responder.decide(packet, self.carrier, self.client)
            if isinstance(reply, bytes):
                out += len(reply).to_bytes(2, "big") + reply
            elif reply is not None:
                if isinstance(reply, Forward):
                    self._later(self._forwarded(packet, reply))
                else:
                    self._later(self._transferred(reply, shared.responder.transfers))
            else:
                self._finish(out, "no_question")
                return
            if len(out) >= _WRITE:
                transport.write(bytes(out))
                out.clear()
        self._rest = data[at:]
        if at:
            shared.connections.asked(self)
        if not self._held() and _announced(self._rest) > MAX_QUESTION:
            self._finish(out, "question_size")
            return
        if out:
            transport.write(bytes(out))
        self._settle(transport)

    def _settle(self, transport: asyncio.Transport) -> None:
        """Read on, or not; close when all is said."""
        if transport.is_closing():
            return
        if self._eof:
            if not self._owes():
                transport.close()
        elif self._held() != self._paused:
            self._paused = not self._paused
            (transport.pause_reading if self._paused else transport.resume_reading)()

    def _held(self) -> bool:
        return self._blocked or (self._waiting is not None and len(self._waiting) >= _QUEUE)

    def _owes(self) -> bool:
        """True while a question that was read whole has no answer."""
        return bool(self._waiting) or (self._held() and _question(self._rest, 0) is not None)

    def _finish(self, out: bytearray, reason: str) -> None:
        """Close after what was answered; a client that does not take it is idle before long."""
        self._count(reason)
        if self._transport is not None:
            self._transport.write(bytes(out))
            self._transport.close()

    def _count(self, reason: str) -> None:
        if not self._counted:
            self._counted = True
            self._shared.responder.counters.tcp_closed[reason] += 1

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._shared.loop.create_task(work)
        if self._waiting is None:
            self._waiting = set()
        self._waiting.add(task)
        task.add_done_callback(self._ended)

    async def _forwarded(self, packet: bytes, forward: Forward) -> None:
        reply = await self._shared.beyond.resolve(packet, forward, self.carrier)
        transport = self._transport
        if reply is None or transport is None or transport.is_closing():
            return
        transport.write(len(reply).to_bytes(2, "big") + reply)
        self._shared.connections.asked(self)
        if transport.get_write_buffer_size() > _MOST_UNREAD:
            self.end("unread")

    async def _transferred(self, transfer: Transfer, transfers: Transfers) -> None:
        if await transfers.send(transfer, self._send):
            self._shared.connections.asked(self)
        else:
            self.end("transfer")

    async def _send(self, message: bytes) -> None:
        """Send a message; returns when the client takes more."""
        if self._transport is not None:
            self._transport.write(len(message).to_bytes(2, "big") + message)
        while self._blocked:
            if self._room is None:
                self._room = self._shared.loop.create_future()
            await asyncio.shield(self._room)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._waiting is not None:
            self._waiting.discard(task)
        if self._gone:
            if not self._waiting:
                self._shared.connections.lost(self)
        elif self._paused or self._eof:
            self._take(self._rest)


def _announced(data: bytes) -> int:
    """How many octets the question that begins here has, 0 while that is not known."""
    return data[0] << 8 | data[1] if len(data) >= 2 else 0


def _question(data: bytes, at: int) -> bytes | None:
    """The question at an offset; None when it is not there to its end."""
    start = at + 2
    if start > len(data):
        return None
    end = start + (data[at] << 8 | data[at + 1])
    return data[start:end] if end <= len(data) else None
