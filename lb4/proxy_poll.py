"""One epoll for all sockets of the proxy: the event loop sees a single file, which is ready when any of them is.

Why not the loop's transports: they cost as much CPU, hide a reset and an error of accept(), and keep what they have
read. Here a ready socket costs one call, and what is read goes out of one shared buffer at once.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
import traceback
from typing import Protocol

from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

IN, OUT = select.EPOLLIN, select.EPOLLOUT
ERROR, HANGUP = select.EPOLLERR, select.EPOLLHUP
"""Told whether they are asked for or not: a reset, and the end of both directions (what came before is still there)."""
BUFFER = 262_144
"""Octets read at a time: a fifth less CPU per octet than with a quarter of it. A datagram is never longer."""
FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
"""IPFREEBIND and IPV6FREEBIND: an address that is local only by a route, or not yet."""

_EVENTS = 128
"""Sockets served before the rest of the process has its turn: some milliseconds when each has a full buffer."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: close() sends RST and forgets what was not sent."""


class Watched(Protocol):
    """Whom a socket belongs to. An event may come for nothing."""

    def ready(self, events: int) -> None:
        """Something can be done; what is left will be told again."""

    def abort(self) -> None:
        """End it at once."""


class Poller:
    """See the module. `now` is the loop's time of the last turn, `turns` their number; `view` is the shared buffer,
    empty between two calls."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._closing: list[socket.socket] = []
        self._turning = False
        self.turns = 0
        self._seldom = Seldom(log, 60)
        self.now = self._loop.time()
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self._loop.add_reader(self._epoll.fileno(), self._turn)

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, sock: socket.socket, events: int, whose: Watched) -> None:
        """Tell of these events of a socket. Raises OSError (ENOSPC: the user watches too many)."""
        number = sock.fileno()
        self._epoll.register(number, events)
        self._watched[number] = whose

    def change(self, sock: socket.socket, events: int) -> None:
        """Tell of these from now on."""
        self._epoll.modify(sock.fileno(), events)

    def unwatch(self, sock: socket.socket) -> None:
        """Tell no more of a socket."""
        del self._watched[sock.fileno()]
        self._epoll.unregister(sock.fileno())

    def close(self, sock: socket.socket, *, reset: bool = False) -> None:
        """Close a socket, whether watched or not; with a RST if it is TCP's and `reset`."""
        if reset:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                pass
        if self._watched.pop(sock.fileno(), None) is not None and self._turning:
            # Its number must not be another socket's while events of this turn are still to be told.
            self._closing.append(sock)
        else:
            sock.close()

    def end(self) -> None:
        """Let go of the epoll; all sockets must have been closed."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _turn(self) -> None:
        self.now = self._loop.time()
        self.turns += 1
        self._turning = True
        try:
            for number, events in self._epoll.poll(0, _EVENTS):
                watched = self._watched.get(number)
                if watched is not None:
                    self._tell(watched, events)
        finally:
            self._turning = False
            for sock in self._closing:
                sock.close()
            self._closing.clear()

    def _tell(self, watched: Watched, events: int) -> None:
        try:
            watched.ready(events)
        except Exception:
            self._seldom("a connection is ended for an error of ours %s", traceback.format_exc())
            watched.abort()
