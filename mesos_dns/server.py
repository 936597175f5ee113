"""The DNS sockets: UDP drained in batches, TCP with pipelining and limits. Everything else is decided elsewhere.

On a wildcard address every UDP answer leaves from the address that the question came to
(IP_PKTINFO): a client drops answers from another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from typing import cast

from mesos_dns.config import DnsConfig, host_port
from mesos_dns.forward import Forwarder
from mesos_dns.respond import Forward, Responder

log = logging.getLogger(__name__)

_BATCH = 64
"""Datagrams answered per readiness event: enough to amortise the wake-up, short enough to be fair."""
_RECEIVE_BUFFER = 4 << 20
_MAX_QUERY = 4096
_TCP_QUEUE = 64
"""Unanswered questions per TCP connection before we stop reading from it."""
_TCP_WRITE = 65536
"""Bytes of answers per write: then the transport says whether the client still reads."""
_ANCILLARY = 128
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50


class DnsServer:
    """Serves every address of `[dns] listen`, UDP and TCP. `start` binds, `close` lets go."""

    def __init__(self, config: DnsConfig, responder: Responder) -> None:
        self._config = config
        self._responder = responder
        self._forwarder = Forwarder(responder, float(config.forward_timeout), config.forward_clients)
        self._udp: list[_UdpListener] = []
        self._tcp: list[asyncio.Server] = []
        self._connections: set[_TcpConnection] = set()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The bound (host, port) pairs, ports filled in where 0 was asked for."""
        return [listener.address for listener in self._udp]

    async def start(self) -> None:
        """Bind everything. Raises OSError naming the address; nothing stays bound then."""
        try:
            for text in self._config.listen:
                host, port = host_port(text, 53)
                await self._listen(host, port)
        except OSError as error:
            await self.close()
            raise OSError(error.errno, f"[dns] listen: can't bind {text!r}: {error.strerror}") from error

    def swap(self, config: DnsConfig, responder: Responder) -> None:
        """Answer with another responder from the next packet on; the sockets stay as they are."""
        self._config, self._responder = config, responder
        self._forwarder = Forwarder(responder, float(config.forward_timeout), config.forward_clients)
        for listener in self._udp:
            listener.swap(responder, self._forwarder)
        for connection in self._connections:
            connection.swap(responder, self._forwarder)

    async def close(self) -> None:
        """Stop serving; open TCP connections are closed, and nothing of ours runs when this returns."""
        for server in self._tcp:
            server.close()
        ending: list[asyncio.Future[None]] = []
        for listener in self._udp:
            ending += listener.close()
        for connection in list(self._connections):
            ending += connection.abort()
        await asyncio.gather(*ending, return_exceptions=True)
        for server in self._tcp:
            await server.wait_closed()
        self._udp, self._tcp = [], []

    async def _listen(self, host: str, port: int) -> None:
        for attempt in range(8):
            listener = _UdpListener(host, port, self._responder, self._forwarder)
            self._udp.append(listener)
            try:
                await self._listen_tcp(listener.socket)
            except OSError:
                # With port 0 the kernel chose a UDP port whose TCP twin may be taken: choose again.
                if port or attempt == 7:
                    raise
                self._udp.pop().close()
                continue
            listener.open()
            return

    async def _listen_tcp(self, udp: socket.socket) -> None:
        """Accept connections at the address of a UDP socket."""
        tcp = socket.socket(udp.family, socket.SOCK_STREAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if udp.family == socket.AF_INET6:
                tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tcp.bind(udp.getsockname())
            server = await asyncio.get_running_loop().create_server(self._connection, sock=tcp, backlog=512)
        except OSError:
            tcp.close()
            raise
        self._tcp.append(server)

    def _connection(self) -> asyncio.Protocol:
        return _TcpConnection(self._config, self._responder, self._forwarder, self._connections)


class _UdpListener:
    """One UDP socket on the event loop."""

    def __init__(self, host: str, port: int, responder: Responder, forwarder: Forwarder) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self._responder = responder
        self._forwarder = forwarder
        self._pktinfo = host in ("0.0.0.0", "::")  # noqa: S104 - recognising the wildcard
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            self.socket.setblocking(False)
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            if family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if self._pktinfo:
                level, option = (
                    (socket.IPPROTO_IP, _IP_PKTINFO)
                    if family == socket.AF_INET
                    else (socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO)
                )
                self.socket.setsockopt(level, option, 1)
            self.socket.bind((host, port))
        except OSError:
            self.socket.close()
            raise
        self.address: tuple[str, int] = self.socket.getsockname()[:2]

    def swap(self, responder: Responder, forwarder: Forwarder) -> None:
        """Answer with these from the next packet on."""
        self._responder, self._forwarder = responder, forwarder

    def open(self) -> None:
        """Begin to answer."""
        asyncio.get_running_loop().add_reader(self.socket.fileno(), self._drain_info if self._pktinfo else self._drain)

    def close(self) -> list[asyncio.Task[None]]:
        """Stop answering; the tasks that are still ending."""
        if self.socket.fileno() >= 0:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self.socket.fileno())
            self.socket.close()
        for task in self._tasks:
            task.cancel()
        return list(self._tasks)

    def _drain(self) -> None:
        receive, send, responder = self.socket.recvfrom, self.socket.sendto, self._responder
        for _ in range(_BATCH):
            try:
                packet, client = receive(_MAX_QUERY)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # a previous answer's ICMP error is reported here
                continue
            reply = _decide(responder, packet, "udp")
            if isinstance(reply, bytes):
                with contextlib.suppress(OSError):
                    send(reply, client)
            elif reply is not None:
                self._later(packet, reply, lambda data, to=client: self.socket.sendto(data, to))  # type: ignore[misc]

    def _drain_info(self) -> None:
        for _ in range(_BATCH):
            try:
                packet, ancillary, _, client = self.socket.recvmsg(_MAX_QUERY, _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue
            source = [
                (level, kind, _source(kind, data))
                for level, kind, data in ancillary
                if kind in (_IP_PKTINFO, _IPV6_PKTINFO)
            ]
            reply = _decide(self._responder, packet, "udp")
            if isinstance(reply, bytes):
                with contextlib.suppress(OSError):
                    self.socket.sendmsg([reply], source, 0, client)
            elif reply is not None:
                self._later(
                    packet,
                    reply,
                    lambda data, info=source, to=client: self.socket.sendmsg([data], info, 0, to),  # type: ignore[misc]
                )

    def _later(self, packet: bytes, forward: Forward, send: Callable[[bytes], object]) -> None:
        async def run() -> None:
            reply = await self._forwarder.resolve(packet, forward, "udp")
            if reply is not None and self.socket.fileno() >= 0:
                with contextlib.suppress(OSError):
                    send(reply)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _decide(responder: Responder, packet: bytes, transport: str) -> bytes | Forward | None:
    try:
        return responder.respond(packet, transport)
    except Exception:
        # A fault in answering one packet must never stop the others; its client need not wait for a time-out.
        log.exception("could not answer a packet packet=%s", packet[:512].hex())
        return responder.fault(packet)


def _source(kind: int, data: bytes) -> bytes:
    """The packet info to send with: the address of ours that was asked, any interface."""
    if kind == _IP_PKTINFO:
        return struct.pack("=I4s4s", 0, data[4:8], b"\0\0\0\0")
    return data[:16] + struct.pack("=I", 0)


class _TcpConnection(asyncio.Protocol):
    """One TCP client: many questions, answered as they become ready (RFC 7766 §6.2.1.1).

    A client that does not read its answers, or has too many questions with our upstreams, is not
    read from until that changes. One that completes no question for `tcp_idle` is closed.
    """

    def __init__(
        self, config: DnsConfig, responder: Responder, forwarder: Forwarder, connections: set[_TcpConnection]
    ) -> None:
        self._limit = config.tcp_clients
        self._idle = float(config.tcp_idle)
        self._responder = responder
        self._forwarder = forwarder
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._buffer = bytearray()
        self._waiting: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = self._loop.time()
        self._blocked = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client; one too many is closed at once."""
        self._transport = cast(asyncio.Transport, transport)  # what create_server makes; uvloop's is no subclass
        counters = self._responder.counters
        if len(self._connections) >= self._limit:
            counters.tcp_refused += 1
            self.abort()
            return
        counters.tcp_connections += 1
        self._connections.add(self)
        self._timer = self._loop.call_later(self._idle, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._waiting:
            task.cancel()
        if not self._gone.done():
            self._gone.set_result(None)

    def swap(self, responder: Responder, forwarder: Forwarder) -> None:
        """Answer with these from the next question on."""
        self._responder, self._forwarder = responder, forwarder

    def abort(self) -> list[asyncio.Future[None]]:
        """Close without waiting for the client; what then ends."""
        if self._transport is not None:
            self._transport.abort()
        return [self._gone, *self._waiting]

    def data_received(self, data: bytes) -> None:
        """Answer every question that is complete now."""
        self._buffer += data
        self._answer()

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more questions from it."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._blocked = False
        self._answer()

    def _answer(self) -> None:
        """Answer from the buffer until it has no whole question or the client has to read first."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        out = bytearray()
        while not self._held() and (packet := self._next()) is not None:
            reply = _decide(self._responder, packet, "tcp")
            if reply is None:
                self.abort()
                return
            if isinstance(reply, bytes):
                out += len(reply).to_bytes(2, "big") + reply
            else:
                self._later(packet, reply)
            if len(out) >= _TCP_WRITE:
                transport.write(bytes(out))
                out.clear()
        if out:
            transport.write(bytes(out))
        if self._held() != self._paused and not transport.is_closing():
            self._paused = not self._paused
            (transport.pause_reading if self._paused else transport.resume_reading)()

    def _held(self) -> bool:
        return self._blocked or len(self._waiting) >= _TCP_QUEUE

    def _next(self) -> bytes | None:
        """Take the first question out of the buffer; None when there is no whole one."""
        buffer = self._buffer
        end = 2 + (buffer[0] << 8 | buffer[1]) if len(buffer) >= 2 else 0
        if not end or len(buffer) < end:
            return None
        packet = bytes(buffer[2:end])
        del buffer[:end]
        self._last = self._loop.time()
        return packet

    def _later(self, packet: bytes, forward: Forward) -> None:
        async def run() -> None:
            reply = await self._forwarder.resolve(packet, forward, "tcp")
            if reply is not None and self._transport is not None and not self._transport.is_closing():
                self._transport.write(len(reply).to_bytes(2, "big") + reply)
                self._last = self._loop.time()

        task = self._loop.create_task(run())
        self._waiting.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._waiting.discard(task)
        if self._paused:
            self._answer()

    def _check_idle(self) -> None:
        """Close when no question was completed for the idle time and no answer is under way
        (RFC 7766 §6.2.3); a byte now and then keeps no connection."""
        left = self._idle if self._waiting else self._last + self._idle - self._loop.time()
        if left <= 0:
            self.abort()
        else:
            self._timer = self._loop.call_later(left, self._check_idle)
