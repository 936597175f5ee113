"""Exchanges with an upstream by UDP, each with a socket of its own, a random id, and the one reply that matches.

The socket is connected, so that the kernel picks a random port and lets only this upstream's packets through
(RFC 5452 §9.2). Packets that are no reply to us are counted and we wait on; too many of them look like somebody
who guesses, and then the question has to be asked by TCP.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import select
import socket
import ssl
from collections import deque

from mesos_dns.resolver.address import UpstreamAddress
from mesos_dns.resolver.question import Question
from mesos_dns.resolver.tally import Tally

MOST_MISMATCHES = 8
"""Packets that are no reply to us, in one exchange or on one connection, before it is given up."""
_RECEIVE = 4096
"""Octets of a reply at most; we ask for less (question.PAYLOAD)."""
_RESEND = 0.4
"""Seconds after which the question is sent again for the first time."""
_RESEND_NEXT = 1.5
"""Seconds from the first time on after which it is sent for the third time; then after twice as long, and so on."""
_TICK = 0.001
"""Seconds by which a loop may call too early."""
_BATCH = 256
"""Sockets that are read in one round of the loop."""
_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EADDRNOTAVAIL, errno.EAGAIN}


class Broken(Exception):
    """An exchange that has no reply: `reason` is one of timeout, unreachable, tls, mismatch, local."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


def broken_by(error: OSError) -> Broken:
    """What an error of a socket means. "local": what this machine lacks (sockets, memory); no fault of the upstream."""
    if isinstance(error, TimeoutError):
        return Broken("timeout")
    if isinstance(error, ssl.SSLError):
        return Broken("tls", str(error))
    return Broken("local" if error.errno in _OURS else "unreachable", str(error))


class Exchanges:
    """Exchanges with one upstream.

    The loop knows of one reader, an epoll with all their sockets, and of one timer until they are late: both for each
    question would cost more than the rest of it. They are there while somebody waits, and for up to 0.4 s after.
    """

    def __init__(self, address: UpstreamAddress, tally: Tally) -> None:
        self._family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._to = (address.host, address.port)
        self._tally = tally
        self._waiting: dict[int, _Exchange] = {}
        self._punctual: deque[_Exchange] = deque()
        """Those that were not late yet, and some that are over, the first to be late first."""
        self._epoll: select.epoll | None = None

    async def ask(self, question: Question, edns: bool, seconds: float) -> bytes:
        """The reply, within `seconds`; meanwhile the question is sent again, as it is, from the same port. Raises
        Broken."""
        try:
            sock = socket.socket(self._family, _DATAGRAM)
        except OSError as error:
            raise broken_by(error) from None
        fd = sock.fileno()
        exchange = _Exchange(sock, question, edns, seconds, self._tally)
        try:
            sock.connect(self._to)
            exchange.send()
            self._listen(fd, exchange)
            return await exchange.reply
        except OSError as error:
            raise broken_by(error) from None
        finally:
            self._waiting.pop(fd, None)
            sock.close()
            exchange.end()

    def _listen(self, fd: int, exchange: _Exchange) -> None:
        """Raises OSError."""
        loop = exchange.loop
        if self._epoll is None:
            epoll = select.epoll()
            loop.add_reader(epoll.fileno(), self._readable, epoll)
            loop.call_later(_RESEND, self._look, loop, epoll)
            self._epoll = epoll
        self._epoll.register(fd, select.EPOLLIN)  # closing the socket takes it out
        self._waiting[fd] = exchange
        if exchange.late_at < exchange.ends:
            self._punctual.append(exchange)
        else:
            exchange.timer = loop.call_at(exchange.ends, exchange.late)

    def _readable(self, epoll: select.epoll) -> None:
        for fd, _ in epoll.poll(0, _BATCH):
            if fd in self._waiting:
                self._waiting[fd].readable()

    def _look(self, loop: asyncio.AbstractEventLoop, epoll: select.epoll) -> None:
        """See to those that are late; close when there are none."""
        now, punctual = loop.time(), self._punctual
        while punctual and (punctual[0].reply.done() or punctual[0].late_at <= now + _TICK):
            punctual.popleft().late()
        if punctual or self._waiting:
            loop.call_at(punctual[0].late_at if punctual else now + _RESEND, self._look, loop, epoll)
            return
        loop.remove_reader(epoll.fileno())
        epoll.close()
        self._epoll = None


class _Exchange:
    """One question on a connected socket. `late_at`, `ends`: of the loop's clock."""

    __slots__ = (
        "_after",
        "_edns",
        "_ident",
        "_packet",
        "_question",
        "_sock",
        "_started",
        "_strays",
        "_tally",
        "ends",
        "late_at",
        "loop",
        "reply",
        "timer",
    )

    def __init__(self, sock: socket.socket, question: Question, edns: bool, seconds: float, tally: Tally) -> None:
        self.loop = asyncio.get_running_loop()
        self._started = now = self.loop.time()
        self.late_at, self.ends = now + _RESEND, now + seconds
        self.reply: asyncio.Future[bytes] = self.loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self._sock = sock
        self._question = question
        self._edns = edns
        self._tally = tally
        self._ident = secrets.token_bytes(2)
        self._packet = question.packet(self._ident, edns)
        self._after = _RESEND
        self._strays = 0

    def send(self) -> None:
        """Raises OSError."""
        self._tally.sent["udp"] += 1
        try:
            self._sock.send(self._packet)
        except BlockingIOError:  # no room: as good as lost on the way
            return

    def readable(self) -> None:
        """Everything that has come; an error is what the kernel was told by ICMP."""
        while not self.reply.done():
            try:
                packet = self._sock.recv(_RECEIVE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.reply.set_exception(error)
                return
            if self._question.is_answered_by(packet, self._ident, self._edns):
                self.reply.set_result(packet)
                return
            self._strays += 1
            self._tally.results["mismatch"] += 1
            if self._strays >= MOST_MISMATCHES:
                self.reply.set_exception(Broken("mismatch"))

    def late(self) -> None:
        """Send again, or give up."""
        if self.reply.done():
            return
        if self.loop.time() >= self.ends - _TICK:
            self.reply.set_exception(Broken("timeout"))
            return
        self._after = max(2 * self._after, _RESEND_NEXT)
        self.timer = self.loop.call_at(min(self._started + self._after, self.ends), self.late)
        self._tally.results["resent"] += 1
        try:
            self.send()
        except OSError as error:
            self.reply.set_exception(error)

    def end(self) -> None:
        """Nobody waits any more."""
        if self.timer is not None:
            self.timer.cancel()
