"""The kept connections to one upstream by TCP or TLS: many questions at once, replies in any order (RFC 7766, 7858).

One connection carries up to PIPELINED questions, each with an id of its own; then there is a second one. A question
that nobody waits for any more gives its place to others, and keeps its id until its reply has come, so that no id
stands for two questions. A connection closes when it was idle for a while, when it says too much that is no reply,
when too many ids are kept, and when an upstream has been silent on it for longer than a reply takes.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from typing import cast

from mesos_dns.resolver.address import UpstreamAddress
from mesos_dns.resolver.exchange import MOST_MISMATCHES, Broken, broken_by
from mesos_dns.resolver.question import Question
from mesos_dns.resolver.tally import Tally

IDLE = 10.0
"""Seconds without a question after which a connection is closed."""
PIPELINED = 200
"""Questions on one connection at most."""
MOST_LEFT = 4000
"""Ids of one connection at most that are kept for replies which nobody waits for any more."""
CONNECTIONS = 8
"""Connections to one upstream at most."""
_CONNECT = 3.0
"""Seconds to connect, with the handshake of TLS."""
_UNHEARD = 2.5
"""Seconds after which a connection on which nothing was heard gets no more questions, and is ended by the kernel when
the upstream's has not even acknowledged what was sent."""
_SILENCE = 1.0
"""Seconds: who gave up on a question after so long, with nothing heard since it was sent, ends the connection."""
_CLOSING = 1.0


class Ended(Exception):
    """The connection ended while a question waited on it."""


class _Waiting:
    """A question on a connection."""

    __slots__ = ("edns", "question", "reply", "sent")

    def __init__(self, question: Question, edns: bool, reply: asyncio.Future[bytes], sent: float) -> None:
        self.question = question
        self.edns = edns
        self.reply = reply
        self.sent = sent


class Connection(asyncio.Protocol):
    """One connection, from when it is being opened on. `claims`: who waits for it to open, or has asked."""

    def __init__(self, tally: Tally, carrier: str) -> None:
        self.claims = 0
        self.usable = True
        self._loop = asyncio.get_running_loop()
        self._tally = tally
        self._carrier = carrier
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, _Waiting] = {}  # the first was sent first
        self._left: dict[int, _Waiting] = {}  # those that nobody waits for any more
        self._sent = 0.0
        self._rest = bytearray()
        self._strays = 0
        self._heard = self._loop.time()
        self._idle: asyncio.TimerHandle | None = None
        self.opening: asyncio.Task[Broken | None] | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()

    @property
    def has_room(self) -> bool:
        """True while it takes one more question."""
        return self.usable and self.claims < PIPELINED and len(self._left) < MOST_LEFT

    @property
    def silent(self) -> bool:
        """True while nothing comes although somebody has waited for so long that something should have."""
        first = next(iter(self._waiting.values()), None)
        return first is not None and self._heard <= first.sent <= self._loop.time() - _UNHEARD

    async def open(self, address: UpstreamAddress, tls: ssl.SSLContext | None) -> Broken | None:
        """Connect; returns what is wrong where that does not work (nobody may be waiting to be told)."""
        secured = tls if address.transport == "tls" else None
        try:
            async with asyncio.timeout(_CONNECT):
                await self._loop.create_connection(
                    lambda: self,
                    address.host,
                    address.port,
                    ssl=secured,
                    server_hostname=(address.name or address.host.partition("%")[0]) if secured else None,
                    ssl_handshake_timeout=_CONNECT if secured else None,
                    ssl_shutdown_timeout=_CLOSING if secured else None,
                )
        except OSError as error:
            self.end()
            return broken_by(error)
        except asyncio.CancelledError:  # by `close` alone, whose word is not for those who wait for us
            self.end()
            return Broken("local", "closed")
        self._idle = self._loop.call_later(IDLE, self._look)
        return None

    async def ask(self, question: Question, edns: bool) -> bytes:
        """The reply; waits without limit. Raises Ended."""
        if not self.usable or self._transport is None:
            raise Ended
        ident = secrets.randbelow(0x10000)
        while ident in self._waiting or ident in self._left:
            ident = secrets.randbelow(0x10000)
        self._sent = self._loop.time()
        waiting = _Waiting(question, edns, self._loop.create_future(), self._sent)
        self._waiting[ident] = waiting
        packet = question.packet(ident.to_bytes(2, "big"), edns)
        self._tally.sent[self._carrier] += 1
        self._transport.write(len(packet).to_bytes(2, "big") + packet)
        try:
            return await waiting.reply
        except asyncio.CancelledError:
            if self._waiting.pop(ident, None) is not None:
                self._left[ident] = waiting
            if self._loop.time() - waiting.sent >= _SILENCE and self._heard <= waiting.sent:
                self.end()
            raise
        finally:
            if len(self._left) >= MOST_LEFT and not self._waiting:
                self.end()

    def end(self) -> None:
        """Close at once; questions on it end."""
        self._over()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once it is open, for TLS after the handshake."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNHEARD * 1000))
        if not self.usable:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait."""
        self._over()

    def data_received(self, data: bytes) -> None:
        """Take the replies that are complete; what is kept is one in part."""
        self._rest += data
        at = 0
        while self.usable and len(self._rest) - at >= 2:
            end = at + 2 + int.from_bytes(self._rest[at : at + 2], "big")
            if end > len(self._rest):
                break
            self._take(bytes(self._rest[at + 2 : end]))
            at = end
        del self._rest[:at]

    def _take(self, packet: bytes) -> None:
        ident = int.from_bytes(packet[:2], "big")
        waiting = self._waiting.get(ident) or self._left.get(ident)
        if waiting is None or not waiting.question.is_answered_by(packet, packet[:2], waiting.edns):
            self._strays += 1
            self._tally.results["mismatch"] += 1
            if self._strays >= MOST_MISMATCHES:
                self.end()
            return
        self._heard = self._loop.time()
        if self._left.pop(ident, None) is None:
            del self._waiting[ident]
        if not waiting.reply.done():
            waiting.reply.set_result(packet)

    def _look(self) -> None:
        """Close when nobody waits and nobody asked for IDLE seconds."""
        due = self._loop.time() + IDLE if self.claims else max(self._heard, self._sent) + IDLE
        if due > self._loop.time():
            self._idle = self._loop.call_at(due, self._look)
            return
        self._over()
        if self._transport is not None:
            self._transport.close()

    def _over(self) -> None:
        """No question goes here any more, and those that are here end."""
        self.usable = False
        if self._idle is not None:
            self._idle.cancel()
        if not self.lost.done():
            self.lost.set_result(None)
        for waiting in self._waiting.values():
            if not waiting.reply.done():
                waiting.reply.set_exception(Ended())
        self._waiting.clear()
        self._left.clear()


class Streams:
    """The connections to one upstream (an address of `tcp` or `tls`, or that of a UDP upstream, for TCP)."""

    def __init__(self, address: UpstreamAddress, tls: ssl.SSLContext | None, tally: Tally) -> None:
        self._address = address
        self._tls = tls
        self._tally = tally
        self._connections: list[Connection] = []

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    async def ask(self, question: Question, edns: bool, seconds: float) -> bytes:
        """The reply, within `seconds`. Raises Broken.

        A question whose connection ends is asked once more, on another one: the upstream may have closed it just
        when we wrote (RFC 7766 §6.2.4).
        """
        try:
            async with asyncio.timeout(seconds):
                for _ in range(2):
                    try:
                        return await self._ask(question, edns)
                    except Ended:
                        continue
        except TimeoutError:
            raise Broken("timeout") from None
        raise Broken("unreachable", "the connection ended")

    async def close(self) -> None:
        """End all connections."""
        ending, self._connections = self._connections, []
        for connection in ending:
            if connection.opening is not None:
                connection.opening.cancel()
            connection.end()
        openings = [connection.opening for connection in ending if connection.opening is not None]
        await asyncio.gather(*openings, return_exceptions=True)

    async def _ask(self, question: Question, edns: bool) -> bytes:
        connection = self._pick()
        connection.claims += 1
        try:
            opening = connection.opening
            if opening is not None and (broken := await asyncio.shield(opening)):
                raise Broken(broken.reason, str(broken))
            return await connection.ask(question, edns)
        finally:
            connection.claims -= 1

    def _pick(self) -> Connection:
        """A connection with room, a new one if need be."""
        for connection in self._connections:
            if connection.has_room and not connection.silent:
                return connection
        if sum(connection.usable for connection in self._connections) >= CONNECTIONS:
            for connection in self._connections:
                if connection.has_room:
                    return connection
            raise Broken("local", f"{CONNECTIONS} connections to {self._address.label} are full")
        carrier = "tls" if self._address.transport == "tls" else "tcp"
        connection = Connection(self._tally, carrier)
        connection.opening = asyncio.get_running_loop().create_task(connection.open(self._address, self._tls))
        connection.lost.add_done_callback(lambda _: self._forget(connection))
        self._connections.append(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
