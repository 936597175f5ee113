"""TCP through the proxy: accept, pick a backend, connect, copy both ways until both have said all or one breaks off.

    Tcp ─▶ Listener of each service ─▶ Pair(client Side ⇄ backend Side)         all sockets: one Poller

- A listener refuses connections (the kernel answers ECONNREFUSED) while no backend has a weight. When all that have
  one are full, or refuse, a client sees its connection accepted and then reset: that is known only afterwards.
- Backends see connections of this node, not the client's address.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from dataclasses import dataclass

from lb4.proxy_limits import Ages, Limits
from lb4.proxy_pair import KIND, SCARCE, Pair
from lb4.proxy_poll import IN, Poller
from lb4.proxy_service import ProxiedService, bind, family_of
from lb4.services import ServiceKey, Settings
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

_BACKLOG = 4096
_ACCEPTS = 32
"""Connections accepted per event: the copying of others must not wait for long."""
_KEPT, _SMALL = 64 << 20, 8192
"""Once so many octets wait for those who read slowly, so few are read at a time: a pair then keeps no more."""
_REST = 0.5
"""Seconds without accepting after the process ran out of files or memory."""


@dataclass(slots=True)
class TcpCounters:
    """What happened since the start, of all services."""

    accepted: int = 0
    retried: int = 0  # a backend refused or did not answer, and another was asked
    failed: int = 0  # no backend took the connection
    idle: int = 0  # ended after having been idle for too long
    forsaken: int = 0  # ended because their backend or service was taken away
    held: int = 0  # accepting stopped for a while: all places were taken
    scarce: int = 0  # accepting stopped for a while: no files or memory left


class Tcp:
    """What all TCP services of a proxy have in common."""

    def __init__(self, poller: Poller, limits: Limits, *, freebind: bool = False) -> None:
        self.poller = poller
        self.limits = limits
        self.freebind = freebind
        self.loop = asyncio.get_running_loop()
        self.counters = TcpCounters()
        self.seldom = Seldom(log, 60)
        self.open = 0
        self.kept = 0
        self.buffer = poller.view
        self._small = poller.view[:_SMALL]
        self.idle: Ages[Pair] = Ages(limits.idle, self._expired)
        self.half_closed: Ages[Pair] = Ages(limits.half_closed, self._expired)
        self.dialling: Ages[Pair] = Ages(limits.connect, Pair.not_answered)
        self._most = limits.connections_at_most
        self._room = self._most - max(1, self._most // 16)  # not at every place that becomes free
        self._held: set[Listener] = set()

    def keep(self, octets: int) -> None:
        """So many octets more (or fewer) wait for those who read slowly."""
        self.kept += octets
        self.buffer = self.poller.view if self.kept < _KEPT else self._small

    def full(self, listener: Listener) -> bool:
        """True when there is no place for another connection; the listener is told when there is."""
        if self.open < self._most:
            return False
        self.counters.held += 1
        self.seldom("no more connections are taken for a while open=%d", self.open)
        self._held.add(listener)
        return True

    def freed(self) -> None:
        """A connection is gone."""
        self.open -= 1
        if self._held and self.open <= self._room:
            held, self._held = self._held, set()
            for listener in held:
                listener.listen()

    def close(self) -> None:
        """Stop the timers, when all connections are gone."""
        for ages in (self.idle, self.half_closed, self.dialling):
            ages.close()

    def forget(self, listener: Listener) -> None:
        """A listener is closed."""
        self._held.discard(listener)

    def _expired(self, pair: Pair) -> None:
        self.counters.idle += 1
        pair.abort()


class Listener(ProxiedService):
    """One TCP service: its socket, its balance and its totals; a packet is what was read at once. Raises OSError when
    its address can't be bound."""

    def __init__(self, tcp: Tcp, key: ServiceKey, settings: Settings, start: int = 0) -> None:
        super().__init__(key, settings, start)
        self.tcp = tcp
        self._listening = False
        self._resting: asyncio.TimerHandle | None = None
        self._socket = self._bound(key)

    def _bound(self, key: ServiceKey) -> socket.socket:
        sock = socket.socket(family_of(key), KIND)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
            bind(sock, key, freebind=self.tcp.freebind)
            # Two sockets can be bound to one address (SO_REUSEADDR) as long as neither listens: see now, not later.
            sock.listen(_BACKLOG)
            sock.shutdown(socket.SHUT_RD)
        except OSError:
            sock.close()
            raise
        return sock

    def changed(self) -> None:
        """Backends are others, or have other weights: listen, or refuse. Raises OSError (the port was lost)."""
        weighted = self.balance.weighted
        if weighted and not self._listening:
            self._socket.listen(_BACKLOG)
            self.tcp.poller.watch(self._socket, 0, self)
            self._listening = True
            self.listen()
        elif self._listening and not weighted:
            self._listening = False
            self.tcp.poller.unwatch(self._socket)  # one that does not listen is ever ready
            self._socket.shutdown(socket.SHUT_RD)  # Linux: back to a bound socket; who waits for us is reset

    def listen(self) -> None:
        """Accept, if the socket listens and nothing speaks against it (any more)."""
        if self._listening and self._resting is None:
            self.tcp.poller.change(self._socket, IN)

    def ready(self, events: int) -> None:
        """Clients wait."""
        if not self._listening:
            return
        for _ in range(_ACCEPTS):
            if self.tcp.full(self):
                self.tcp.poller.change(self._socket, 0)
                return
            try:
                sock, peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in SCARCE:
                    self.rest(error)
                    return
                continue  # that client is gone already
            sock.setblocking(False)
            self.tcp.counters.accepted += 1
            self.connections += 1
            Pair(self, sock, peer[0]).dial()

    def rest(self, error: OSError) -> None:
        """Nothing is left for another connection: the rest of the process needs some, too."""
        self.tcp.counters.scarce += 1
        self.tcp.seldom("no connection can be taken for a moment service=%s error=%s", self.balance.key, error)
        if self._resting is None and self._listening:
            self._resting = self.tcp.loop.call_later(_REST, self._rested)
            self.tcp.poller.change(self._socket, 0)

    def _rested(self) -> None:
        self._resting = None
        self.listen()

    def abort(self) -> None:
        """Called when accepting failed by an error of ours: go on in a moment."""
        self.rest(OSError(errno.EIO, "internal error"))

    def close(self) -> None:
        """No more connections; those that are open are not touched."""
        self._listening = False
        self.tcp.forget(self)
        if self._resting is not None:
            self._resting.cancel()
        self.tcp.poller.close(self._socket)
