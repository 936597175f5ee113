"""One TCP connection through the proxy: a client's connection, its backend's, and what goes from one to the other.

- Back-pressure: what one side does not take at once is kept, one buffer of it, and its other side is not read until
  that has gone. Nothing else is kept, so a pair holds two buffers at most.
- A side's end (FIN) goes to the other after all that it sent; a reset is passed on as a reset, and what the side had
  sent before it is passed on first as far as it was received.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from lb4.pick import Lease, Target
from lb4.proxy_poll import ERROR, HANGUP, IN, OUT

if TYPE_CHECKING:
    from lb4.proxy_tcp import Listener, Tcp

KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})
"""What the whole process lacks; ENOSPC is epoll's, of /proc/sys/fs/epoll/max_user_watches."""


class Pair:
    """A client's connection and that to its backend, which it may still be looking for."""

    __slots__ = (
        "_backend",
        "_client",
        "_due",
        "_lease",
        "_listener",
        "_target",
        "_tried",
        "broken",
        "halved",
        "peer",
    )

    def __init__(self, listener: Listener, sock: socket.socket, peer: str) -> None:
        tcp = listener.tcp
        tcp.open += 1
        self._listener = listener
        self._client: Side | None = Side(self, tcp, sock)
        self._backend: Side | None = None
        self._target: Target | None = None
        self._tried: list[Target] = []
        self._lease: Lease | None = listener.balance.lease(peer, tcp.poller.now)
        self._due = 0.0
        self.peer = peer
        self.broken = False  # one side takes no more, and what it sent before is still to be read
        self.halved = False  # one side was told that the other sends no more

    def dial(self) -> None:
        """Begin to connect to a backend, if one is left to try."""
        listener = self._listener
        tcp, balance = listener.tcp, listener.balance
        while len(self._tried) < tcp.limits.attempts:
            target = balance.choose(self.peer, self._tried, self._lease)
            if target is None:
                break
            if self._tried:
                tcp.counters.retried += 1
            self._tried.append(target)
            self._target = target
            target.opened(self)
            try:
                if self._connect(target):
                    return
            except OSError as error:
                if error.errno in SCARCE:
                    listener.rest(error)
                    break
            self._untarget()
        tcp.counters.failed += 1
        self.abort()

    def _connect(self, target: Target) -> bool:
        """False: it was refused at once."""
        tcp = self._listener.tcp
        sock = socket.socket(target.family, KIND)
        side = self._backend = Side(self, tcp, sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(target.address)
        if code == 0:
            self._established(target)
        elif code == errno.EINPROGRESS:
            side.watch(OUT)
            tcp.dialling.used(self, tcp.loop.time())
        else:
            return False
        return True

    def connected(self, side: Side) -> None:
        """Connecting has ended, well or not."""
        self._listener.tcp.dialling.discard(self)
        target = self._target
        if side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or target is None:
            self._redial()
        else:
            self._established(target)

    def not_answered(self) -> None:
        """Connecting took too long."""
        self._redial()

    def _redial(self) -> None:
        self._untarget()
        self.dial()

    def _untarget(self) -> None:
        """Leave a backend to which no connection could be made."""
        self._listener.tcp.dialling.discard(self)
        if self._backend is not None:
            self._backend.close(reset=True)
            self._backend = None
        if self._target is not None:
            self._target.closed(self, established=False)
            self._target = None

    def _established(self, target: Target) -> None:
        client, backend, tcp = self._client, self._backend, self._listener.tcp
        if client is None or backend is None:
            return
        client.other, backend.other = backend, client
        client.inward = True
        target.established()
        self._due = tcp.idle.used(self, tcp.loop.time())
        try:
            client.watch(IN)
            backend.watch(IN)
        except OSError as error:  # /proc/sys/fs/epoll/max_user_watches
            self._listener.rest(error)
            tcp.counters.failed += 1
            self.abort()
            return
        client.begin()

    def read(self, size: int, *, inward: bool) -> None:
        """Octets came from the client (`inward`) or from the backend."""
        listener = self._listener
        if inward:
            listener.in_bytes += size
            listener.in_packets += 1
        else:
            listener.out_bytes += size
            listener.out_packets += 1
        if listener.tcp.poller.now >= self._due:
            self._used()

    def _used(self) -> None:
        tcp = self._listener.tcp
        self._due = (tcp.half_closed if self.halved else tcp.idle).used(self, tcp.poller.now)

    def finished(self) -> None:
        """The end of one side's octets was passed on to the other."""
        if self.halved:
            self._end(reset=False)
        else:
            self._listener.tcp.idle.discard(self)
            self.halved = True
            self._used()

    def forsake(self) -> None:
        """The backend was taken away."""
        if self._client is not None and self._client.other is None:
            self._redial()
        else:
            self._listener.tcp.counters.forsaken += 1
            self.abort()

    def abort(self) -> None:
        """Reset both connections."""
        self._end(reset=True)

    def _end(self, *, reset: bool) -> None:
        client, backend = self._client, self._backend
        if client is None:
            return
        self._client = self._backend = None  # so that nothing holds its holder, and no collection is needed
        listener = self._listener
        tcp = listener.tcp
        established = client.other is not None
        for ages in (tcp.idle, tcp.half_closed, tcp.dialling):
            ages.discard(self)
        client.close(reset=reset)
        if backend is not None:
            backend.close(reset=reset)
        if self._target is not None:
            self._target.closed(self, established=established)
        if self._lease is not None:
            listener.balance.release(self._lease, tcp.loop.time())
        tcp.freed()


class Side:
    """One of the two connections of a pair: reads from its own socket, and writes to it what the other side read."""

    __slots__ = ("_events", "_pair", "_tcp", "_unsent", "_watched", "ended", "inward", "other", "sock")

    def __init__(self, pair: Pair, tcp: Tcp, sock: socket.socket) -> None:
        self.sock = sock
        self.other: Side | None = None  # once both are connected
        self.inward = False
        self.ended = False  # it sends no more
        self._pair = pair
        self._tcp = tcp
        self._events = 0
        self._watched = False
        self._unsent: memoryview | None = None

    def watch(self, events: int) -> None:
        """Be told of these events from now on. Raises OSError the first time."""
        if not self._watched:
            if events:
                self._tcp.poller.watch(self.sock, events, self)
                self._watched = True
        elif events != self._events:
            self._tcp.poller.change(self.sock, events)
        self._events = events

    def ready(self, events: int) -> None:
        """Read or write, as much as goes at once."""
        if self.other is None:
            self._pair.connected(self)
            return
        if events & OUT and self._unsent is not None:
            self._flush(self.other)
        if self._events & IN:
            if events & (IN | ERROR | HANGUP) and self.other is not None:
                self._read(self.other)
        elif events & ERROR:
            self._pair.abort()
        elif events & HANGUP and self._watched and not self._events:
            # Both ends were said, and the other side is slow to take what came before. It would be told for ever.
            self._tcp.poller.unwatch(self.sock)
            self._watched = False

    def begin(self) -> None:
        """Both are connected just now. What a client says first is mostly there by then."""
        if self.other is not None:
            self._read(self.other)

    def _read(self, other: Side) -> None:
        view = self._tcp.buffer
        try:
            size = self.sock.recv_into(view)
        except BlockingIOError:
            return
        except OSError:
            self._pair.abort()
            return
        if not size:
            self._end(other)
            return
        self._pair.read(size, inward=self.inward)
        try:
            sent = other.sock.send(view[:size])
        except BlockingIOError:
            sent = 0
        except OSError:
            # It is reset, but what it sent before may still be there (a server's answer before it hung up).
            self._pair.broken = True
            self.watch(self._events & ~IN)
            if other.ended:
                self._pair.abort()
            return
        if sent < size:
            other.keep(view[sent:size])
            self.watch(self._events & ~IN)

    def keep(self, octets: memoryview) -> None:
        """Keep what the socket does not take now."""
        self._unsent = memoryview(bytes(octets))
        self._tcp.keep(len(octets))
        self.watch(self._events | OUT)

    def _flush(self, other: Side) -> None:
        unsent = self._unsent
        if unsent is None:
            return
        try:
            sent = self.sock.send(unsent)
        except BlockingIOError:
            return
        except OSError:
            if self.ended:
                self._pair.abort()
                return
            self._pair.broken = True
            self._forget()
            self.watch(self._events & ~OUT)
            return
        self._tcp.keep(-sent)
        if sent < len(unsent):
            self._unsent = unsent[sent:]
            return
        self._unsent = None
        self.watch(self._events & ~OUT)
        if other.ended:
            self._finish()
        else:
            other.watch(other._events | IN)

    def _forget(self) -> None:
        """What was kept can't be sent any more."""
        if self._unsent is not None:
            self._tcp.keep(-len(self._unsent))
            self._unsent = None

    def _end(self, other: Side) -> None:
        """All was read; pass the end on after what is still to be sent."""
        if self._pair.broken:
            self._pair.abort()
            return
        self.ended = True
        if other._unsent is not None:
            self.watch(self._events & ~IN)
        elif self._pair.halved:
            self._pair.finished()  # closing says it to both
        else:
            self.watch(self._events & ~IN)
            other._finish()

    def _finish(self) -> None:
        if not self._pair.halved:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._pair.abort()
                return
        self._pair.finished()

    def abort(self) -> None:
        """End the pair."""
        self._pair.abort()

    def close(self, *, reset: bool) -> None:
        """Let go of the socket."""
        self.other = None
        self._events = 0
        self._forget()
        self._watched = False
        self._tcp.poller.close(self.sock, reset=reset)
