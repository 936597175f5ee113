"""A netlink socket that several threads use in turns.

    line = Line()
    with line.alone():
        line.put(NetlinkSocket(NETLINK_GENERIC))
    with line.turn() as kernel:
        kernel.request(...)

Whoever has let go of it lets those go first that wait already. So a thread with much to ask does it in several turns,
and another waits for one of them. (A plain lock may go to the same thread again and again.)
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator

from lb4.netlink import NetlinkSocket


class Line:
    """See the module. Without a socket at first."""

    def __init__(self) -> None:
        self._next = threading.Lock()
        self._lock = threading.Lock()
        self._kernel: NetlinkSocket | None = None

    @property
    def sent(self) -> int:
        """Messages sent by the socket that is there now."""
        return self._kernel.sent if self._kernel is not None else 0

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else has a turn meanwhile."""
        with self._next:  # the one that is next waits here with it, and so keeps off who was just there
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def turn(self) -> Iterator[NetlinkSocket]:
        """The socket, for this thread alone. Raises OSError: ENOTCONN when there is none."""
        with self.alone():
            if self._kernel is None:
                raise OSError(errno.ENOTCONN, "IPVS is not open")
            yield self._kernel

    def put(self, kernel: NetlinkSocket | None) -> None:
        """Use this socket from now on, and close the one before. To be called while alone."""
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = kernel
