"""kazoo's thread handler with connections of our making: short time-outs, our TLS, and a way to drop one."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from typing import Any, TypeAlias

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped
from kazoo.handlers.threading import SequentialThreadingHandler

Address: TypeAlias = tuple[str, int]


class Threads(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """See the module. `limit`: seconds for one TCP connection; `names`: (address, port) → host name for TLS.

    `granted` are the seconds of the session's life without a sign from us, as the last server that
    took us in said; 0 before the first. `refused_since` is when servers last began to accept our
    connections without taking us in (monotonic), 0 when they do.

    A server that did not take us in, or fell silent, is left alone for a while: one that is stopped
    still accepts connections, and each try costs time that the session may not have.
    """

    def __init__(self, limit: float, names: dict[Address, str]) -> None:
        super().__init__()
        self.limit = limit
        self.names = names
        self.tls: ssl.SSLContext | None = None
        self.granted = 0.0
        self._socket: socket.socket | None = None
        self._address: Address = ("", 0)
        self._taken_in = True
        self.refused_since = 0.0
        self._silent: dict[Address, float] = {}

    def create_connection(self, address: tuple[Any, ...], *_: Any, **__: Any) -> socket.socket:
        """Connect (on kazoo's thread). Raises OSError.

        kazoo's own waits for a whole session time, which an unreachable server would use up.
        """
        if not self._taken_in:
            self._avoid(self._address)
        self._taken_in = True
        if self._avoided(address[:2]):
            raise OSError(f"{address[0]}:{address[1]} was silent a moment ago")
        self._address, self._taken_in = address[:2], False
        raw = socket.create_connection(address[:2], self.limit)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = raw
        self.refused_since = self.refused_since or time.monotonic()
        if self.tls is None:
            return raw
        try:
            secure = self.tls.wrap_socket(raw, server_hostname=self.names.get(address[:2], address[0]))
        except BaseException:
            raw.close()
            raise
        self._socket = secure
        return secure

    def create_socket_pair(self) -> tuple[socket.socket, socket.socket]:
        """The pipe that wakes kazoo's thread; whoever has a request writes a byte, which must not block."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        return reader, writer

    def drop(self) -> None:
        """End the present connection, which is silent (any thread); kazoo then tries the next server."""
        sock = self._socket
        self._avoid(self._address)
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _avoid(self, address: Address) -> None:
        self._silent[address] = time.monotonic() + 2 * self.limit * len(self.names)

    def _avoided(self, address: Address) -> bool:
        """True for a server that was silent lately, unless all were."""
        now = time.monotonic()
        silent = {known for known, until in list(self._silent.items()) if until > now}
        return address in silent and not silent >= set(self.names)

    def learn_timeout(self, client: KazooClient) -> None:
        """Note what session time the servers grant: they cut what is asked, and kazoo keeps it to itself."""
        connection = client._connection
        connect = connection._connect

        def connect_and_learn(host: str, hostip: str, port: int) -> tuple[float, float]:
            read_timeout, connect_timeout = connect(host, hostip, port)
            self._taken_in, self.refused_since = True, 0.0
            self.granted = read_timeout * 1.5 / 1000  # kazoo reads for two thirds of the session's time, in ms
            return read_timeout, connect_timeout

        connection._connect = connect_and_learn


def match_answers(client: KazooClient) -> None:
    """Have no answer be taken for another request's, as kazoo's connections may.

    They number their requests from 1 each, and a server tells a session's changes apart by those numbers
    alone: one that was asked for over the last connection and is made late would be the answer to the one
    with its number on this connection. So each connection starts at a number of its own. And where a
    server leaves out an answer (a session that has moved) the connection is over, not the client.
    """
    connection = client._connection
    connect, read = connection._connect, connection._read_response

    def connect_with_new_numbers(host: str, hostip: str, port: int) -> Any:
        connection._xid = random.randrange(1 << 30)
        return connect(host, hostip, port)

    def read_or_drop(header: Any, buffer: Any, offset: int) -> Any:
        try:
            return read(header, buffer, offset)
        except RuntimeError as error:
            raise ConnectionDropped(str(error)) from error

    connection._connect, connection._read_response = connect_with_new_numbers, read_or_drop
