"""The listening sockets of DNS by TCP and TLS: they take connections in, and hold what these have in common.

TCP connections are opened by the loop and ask for their place themselves. TLS ones get theirs before
the handshake: whoever connects and says nothing holds one, counted like any other, and only as long as
an idle connection may.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any

from mesos_dns.config import DnsConfig
from mesos_dns.connections import Connections, packed_client
from mesos_dns.respond import Beyond, Responder
from mesos_dns.tcp import Shared, TcpConnection
from mesos_dns.tls import server_context

log = logging.getLogger(__name__)

_BACKLOG = 1024
"""Connections that the kernel holds for us. asyncio accepts as many at once, so it bounds that, too."""
_ACCEPTED = 16
"""TLS connections accepted per turn of the loop: a handshake is up to a millisecond of work, and many come at once
when a server returns that everybody waits for."""
_HANDSHAKE = 10.0
"""Seconds for a handshake at most, when `tcp_idle` is longer."""
_GOODBYE = 1.0
"""Seconds for a client to answer our close_notify."""
_OUT_OF_FILES = 1.0
"""Seconds without accepting after the process or the machine ran out of files."""


class Streams:
    """TCP and TLS of one DNS server. `listen_tcp` and `listen_tls` any number of times, then `close`."""

    def __init__(self, config: DnsConfig, responder: Responder, beyond: Beyond) -> None:
        self.connections = Connections(config, responder.counters)
        self._config = config
        self._shared = Shared(self.connections, responder, beyond)
        self._tell_idle(responder)
        self._tcp: list[asyncio.Server] = []
        self._tls: list[_TlsListener] = []
        self._context: ssl.SSLContext | None = None

    @property
    def tls_addresses(self) -> list[tuple[str, int]]:
        """The bound (host, port) pairs of DNS over TLS."""
        return [listener.address for listener in self._tls]

    def swap(self, config: DnsConfig, responder: Responder, beyond: Beyond) -> None:
        """Answer with these from the next question on; connections stay, as far as the new limits let them."""
        self._config = config
        self._shared.responder, self._shared.beyond = responder, beyond
        self.connections.limit(config)
        self._tell_idle(responder)

    async def renew(self, config: DnsConfig) -> None:
        """Read the certificate that a configuration names, for connections to come.

        Raises OSError when it can't be used; the old one is then kept.
        """
        if config.tls_listen:
            self._context = await asyncio.to_thread(server_context, config.cert_file, config.key_file, ["dot"])

    async def listen_tcp(self, udp: socket.socket) -> None:
        """Accept TCP connections at the address of a UDP socket. Raises OSError."""
        sock = _bound(udp.family, udp.getsockname())
        try:
            server = await self._shared.loop.create_server(self._connection, sock=sock, backlog=_BACKLOG)
        except OSError:
            sock.close()
            raise
        self._tcp.append(server)

    async def listen_tls(self, host: str, port: int) -> None:
        """Accept TLS connections (RFC 7858 §3.1); `renew` comes before. Raises OSError."""
        sock = _bound(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))
        self._tls.append(_TlsListener(sock, self))

    async def close(self) -> None:
        """Take no more connections and end those there are; nothing of ours runs when this returns."""
        for server in self._tcp:
            server.close()
        for listener in self._tls:
            listener.close()
        await self.connections.close()
        for server in self._tcp:
            await server.wait_closed()
        self._tcp, self._tls = [], []

    def accepted(self, sock: socket.socket, peer: tuple[Any, ...]) -> None:
        """A TLS client connected: give it a place and begin the handshake, or close."""
        connection = TcpConnection(self._shared, "tls", packed_client(peer))
        if self._context is None or not self.connections.joined(connection):
            sock.close()
            return
        connection.handshake = self._shared.loop.create_task(self._secure(connection, sock, self._context))
        connection.handshake.add_done_callback(lambda task: self._secured(connection, sock, task))

    async def _secure(self, connection: TcpConnection, sock: socket.socket, context: ssl.SSLContext) -> None:
        await self._shared.loop.connect_accepted_socket(
            lambda: connection,
            sock,
            ssl=context,
            ssl_handshake_timeout=min(_HANDSHAKE, float(self._config.tcp_idle)),
            ssl_shutdown_timeout=_GOODBYE,
        )

    def _secured(self, connection: TcpConnection, sock: socket.socket, task: asyncio.Task[None]) -> None:
        fault = None if task.cancelled() else task.exception()
        if fault is None and not task.cancelled():
            return
        if fault is not None and not isinstance(fault, OSError):
            log.error("a TLS handshake failed by a fault of ours", exc_info=fault)
        sock.close()
        connection.not_secured()

    def _tell_idle(self, responder: Responder) -> None:
        """Let answers tell the idle time as it is now (RFC 7828 §3.4), which depends on who is connected."""
        responder.replies.idle = lambda: self.connections.idle

    def _connection(self) -> asyncio.BufferedProtocol:
        return TcpConnection(self._shared)


class _TlsListener:
    """One listening socket whose connections are accepted here, before the loop knows of them."""

    def __init__(self, sock: socket.socket, streams: Streams) -> None:
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self._socket = sock
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        sock.listen(_BACKLOG)
        self._watch()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        else:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _watch(self) -> None:
        self._timer = None
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED):
            try:
                sock, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # it was gone before we came
                continue
            except OSError as error:  # no files: the socket stays readable, so look away for a while
                log.error("can't accept TLS connections for %g s: %s", _OUT_OF_FILES, error)
                self._loop.remove_reader(self._socket.fileno())
                self._timer = self._loop.call_later(_OUT_OF_FILES, self._watch)
                return
            sock.setblocking(False)
            self._streams.accepted(sock, peer)


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    """A TCP socket at an address. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
