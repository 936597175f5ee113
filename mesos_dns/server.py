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
        """Stop serving; open TCP connections are closed."""
        for listener in self._udp:
            listener.close()
        for server in self._tcp:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        self._udp, self._tcp = [], []

    async def _listen(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        for attempt in range(8):
            listener = _UdpListener(host, port, self._responder, self._forwarder)
            self._udp.append(listener)
            try:
                family = listener.socket.family
                tcp = socket.socket(family, socket.SOCK_STREAM)
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    tcp.bind(listener.address)
                except OSError:
                    tcp.close()
                    raise
            except OSError:
                # With port 0 the kernel chose a UDP port whose TCP twin may be taken: choose again.
                if port or attempt == 7:
                    raise
                self._udp.pop().close()
                continue
            self._tcp.append(await loop.create_server(self._connection, sock=tcp, backlog=512))
            listener.open()
            return

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

    def close(self) -> None:
        """Stop answering."""
        if self.socket.fileno() >= 0:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self.socket.fileno())
            self.socket.close()
        for task in self._tasks:
            task.cancel()

    def _drain(self) -> None:
        receive, send, respond = self.socket.recvfrom, self.socket.sendto, self._responder.respond
        for _ in range(_BATCH):
            try:
                packet, client = receive(_MAX_QUERY)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # a previous answer's ICMP error is reported here
                continue
            reply = self._decide(respond, packet)
            if type(reply) is bytes:
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
            reply = self._decide(self._responder.respond, packet)
            if type(reply) is bytes:
                with contextlib.suppress(OSError):
                    self.socket.sendmsg([reply], source, 0, client)
            elif reply is not None:
                self._later(
                    packet,
                    reply,
                    lambda data, info=source, to=client: self.socket.sendmsg([data], info, 0, to),  # type: ignore[misc]
                )

    def _decide(self, respond: Callable[[bytes, str], bytes | Forward | None], packet: bytes) -> bytes | Forward | None:
        try:
            return respond(packet, "udp")
        except Exception:
            # A fault in answering one packet must never stop the others.
            log.exception("could not answer a packet packet=%s", packet[:512].hex())
            return None

    def _later(self, packet: bytes, forward: Forward | bytes, send: Callable[[bytes], object]) -> None:
        if isinstance(forward, bytes):
            return

        async def run() -> None:
            reply = await self._forwarder.resolve(packet, forward, "udp")
            if reply is not None and self.socket.fileno() >= 0:
                with contextlib.suppress(OSError):
                    send(reply)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _source(kind: int, data: bytes) -> bytes:
    """The packet info to send with: the address that was asked, any interface."""
    if kind == _IP_PKTINFO:
        _, _, destination = struct.unpack("=I4s4s", data[:12])
        return struct.pack("=I4s4s", 0, destination, b"\0\0\0\0")
    return data[:16] + struct.pack("=I", 0)


class _TcpConnection(asyncio.Protocol):
    """One TCP client: many questions, answered as they become ready (RFC 7766 §6.2.1.1)."""

    def __init__(
        self, config: DnsConfig, responder: Responder, forwarder: Forwarder, connections: set[_TcpConnection]
    ) -> None:
        self._config = config
        self._responder = responder
        self._forwarder = forwarder
        self._connections = connections
        self._buffer = bytearray()
        self._waiting: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client; one too many is closed at once."""
        self._transport = transport  # type: ignore[assignment]  # create_server makes stream transports
        counters = self._responder.counters
        if len(self._connections) >= self._config.tcp_clients:
            counters.tcp_refused += 1
            transport.abort()  # type: ignore[attr-defined]
            return
        counters.tcp_connections += 1
        self._connections.add(self)
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()
        for task in self._waiting:
            task.cancel()

    def swap(self, responder: Responder, forwarder: Forwarder) -> None:
        """Answer with these from the next question on."""
        self._responder, self._forwarder = responder, forwarder

    def abort(self) -> None:
        """Close without waiting."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer every complete question in the buffer with one write."""
        self._rest()
        self._buffer += data
        out: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= 2:
            size = self._buffer[at] << 8 | self._buffer[at + 1]
            if len(self._buffer) - at - 2 < size:
                break
            packet = bytes(self._buffer[at + 2 : at + 2 + size])
            at += 2 + size
            try:
                reply = self._responder.respond(packet, "tcp")
            except Exception:
                log.exception("could not answer a packet packet=%s", packet[:512].hex())
                reply = None
            if reply is None:
                self.abort()
                return
            if isinstance(reply, bytes):
                out += (len(reply).to_bytes(2, "big"), reply)
            else:
                self._later(packet, reply)
        del self._buffer[:at]
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more questions from it."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _later(self, packet: bytes, forward: Forward) -> None:
        if len(self._waiting) >= _TCP_QUEUE:
            self.abort()
            return

        async def run() -> None:
            reply = await self._forwarder.resolve(packet, forward, "tcp")
            if reply is not None and self._transport is not None and not self._transport.is_closing():
                self._transport.write(len(reply).to_bytes(2, "big") + reply)

        task = asyncio.get_running_loop().create_task(run())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    def _rest(self) -> None:
        """(Re)start the idle timer (RFC 7766 §6.2.3)."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(float(self._config.tcp_idle), self.abort)
