"""UDP through the proxy: a client's datagrams go to one backend for as long as it is not silent for too long.

    UdpService(socket of the virtual address) ─▶ Flow of each client (connected socket to its backend)

- Replies leave by the service's socket, so they come from the virtual address and port.
- A flow moves when its backend says that nobody listens there (ICMP, seen as ECONNREFUSED), and at the next datagram
  after its backend was taken away; a weight of 0 leaves it alone, as in IPVS.
- A datagram that can't be sent at once is lost, as it would be in a router; it is counted.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Any, TypeAlias

from lb4.pick import Lease, Target
from lb4.proxy_limits import Ages, Limits
from lb4.proxy_pair import SCARCE
from lb4.proxy_poll import IN, Poller
from lb4.proxy_service import ProxiedService, bind, family_of
from lb4.services import ServiceKey, Settings
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

Client: TypeAlias = tuple[Any, ...]
"""A socket address: (host, port), by IPv6 with flow and scope."""

_BATCH = 64
"""Datagrams of a service taken per event, and of a flow a quarter of them: others have their turn in between."""
_RECEIVE_BUFFER = 1 << 20
"""What the kernel keeps for a service while others have their turn; it is cut to net.core.rmem_max."""
_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


@dataclass(slots=True)
class UdpCounters:
    """What happened since the start, of all services."""

    flows: int = 0  # clients that got a backend
    refused: int = 0  # answers that nobody listens at a backend
    lost: int = 0  # datagrams for which there was no backend, no file or no room
    idle: int = 0  # forgotten after having been silent
    displaced: int = 0  # forgotten for a new one: all places were taken


class Udp:
    """What all UDP services of a proxy have in common."""

    def __init__(self, poller: Poller, limits: Limits, *, freebind: bool = False) -> None:
        self.poller = poller
        self.freebind = freebind
        self.loop = asyncio.get_running_loop()
        self.counters = UdpCounters()
        self.seldom = Seldom(log, 60)
        self.flows: Ages[Flow] = Ages(limits.udp_idle, self._expired)
        self._most = limits.flows_at_most

    def make_room(self) -> None:
        """Before a new flow: when all places are taken, the one that was silent longest goes."""
        if len(self.flows) >= self._most and (oldest := self.flows.oldest()) is not None:
            self.counters.displaced += 1
            oldest.abort()

    def close(self) -> None:
        """Stop the timer, when all flows are gone."""
        self.flows.close()

    def _expired(self, flow: Flow) -> None:
        self.counters.idle += 1
        flow.abort()


class UdpService(ProxiedService):
    """One UDP service: its socket, its balance, its flows and its totals; a flow is a connection, and inactive, as in
    IPVS. Raises OSError when it can't be bound."""

    def __init__(self, udp: Udp, key: ServiceKey, settings: Settings, start: int = 0) -> None:
        super().__init__(key, settings, start)
        self.udp = udp
        self.flows: dict[Client, Flow] = {}
        self.socket = self._bound(key)

    def _bound(self, key: ServiceKey) -> socket.socket:
        sock = socket.socket(family_of(key), _KIND)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            bind(sock, key, freebind=self.udp.freebind)
            self.udp.poller.watch(sock, IN, self)
        except OSError:
            sock.close()
            raise
        return sock

    def changed(self) -> None:
        """Backends are others, or have other weights: seen by the next datagram."""

    def ready(self, events: int) -> None:
        """Clients sent something."""
        poller, counters, view = self.udp.poller, self.udp.counters, self.udp.poller.view
        for _ in range(_BATCH):
            try:
                size, client = self.socket.recvfrom_into(view)
            except BlockingIOError:
                return
            except OSError:
                continue  # an answer of ours could not be delivered
            self.in_packets += 1
            self.in_bytes += size
            flow = self.flows.get(client)
            if flow is None:
                self.udp.make_room()
                flow = Flow(self, client)
                if not flow.connect():
                    counters.lost += 1
                    continue
            flow.send(view[:size], poller.now)

    def abort(self) -> None:
        """Called when a datagram failed by an error of ours: it was taken, so go on with the next."""

    def close(self) -> None:
        """No more datagrams; the flows are still to be ended."""
        self.udp.poller.close(self.socket)


class Flow:
    """One client of a service and the backend it has."""

    __slots__ = ("_client", "_due", "_lease", "_poller", "_service", "_socket", "_target")

    def __init__(self, service: UdpService, client: Client) -> None:
        self._service = service
        self._client = client
        self._poller = service.udp.poller
        self._socket: socket.socket | None = None
        self._target: Target | None = None
        self._lease: Lease | None = None
        self._due = 0.0

    def connect(self, but: Target | None = None) -> bool:
        """Get a backend, another one than `but` if there is any; False: there is none, and the flow is not kept."""
        service, balance, udp = self._service, self._service.balance, self._service.udp
        lease = self._lease or balance.lease(self._client[0], udp.loop.time())
        self._lease = lease
        target = balance.choose(self._client[0], (but,) if but is not None else (), lease)
        sock = self._connected(target) if target is not None else None
        if target is None or sock is None:
            self.abort()
            return False
        self._socket, self._target = sock, target
        target.opened(self)
        service.connections += 1
        service.flows[self._client] = self
        udp.counters.flows += 1
        self._due = udp.flows.used(self, udp.loop.time())
        return True

    def _connected(self, target: Target) -> socket.socket | None:
        udp = self._service.udp
        sock = None
        try:
            sock = socket.socket(target.family, _KIND)
            sock.connect(target.address)
            self._poller.watch(sock, IN, self)
        except OSError as error:
            scarce = "no files or memory left" if error.errno in SCARCE else "no way to a backend"
            udp.seldom(
                "datagrams are lost, %s service=%s backend=%s error=%s",
                scarce,
                self._service.balance.key,
                target.key,
                error,
            )
            if sock is not None:
                sock.close()
            return None
        return sock

    def send(self, datagram: memoryview, now: float) -> None:
        """Send a client's datagram to its backend; if that refused the one before, to another."""
        if now >= self._due:
            self._due = self._service.udp.flows.used(self, now)
        if self._sent(datagram):
            return
        if not (self._moved() and self._sent(datagram)):
            self._service.udp.counters.lost += 1

    def _sent(self, datagram: memoryview) -> bool:
        """False: the backend has said that it is not there. The datagram did not go out then."""
        if self._socket is None:
            return False
        try:
            self._socket.send(datagram)
        except ConnectionRefusedError:
            return False
        except OSError:
            self._service.udp.counters.lost += 1
        return True

    def ready(self, events: int) -> None:
        """The backend sent something."""
        service, view = self._service, self._poller.view
        now = self._poller.now
        if now >= self._due:
            self._due = service.udp.flows.used(self, now)
        for _ in range(_BATCH // 4):
            if self._socket is None:
                return
            try:
                size = self._socket.recv_into(view)
            except BlockingIOError:
                return
            except OSError as error:
                if isinstance(error, ConnectionRefusedError):
                    self._moved()
                return
            service.out_packets += 1
            service.out_bytes += size
            try:
                service.socket.sendto(view[:size], self._client)
            except OSError:
                service.udp.counters.lost += 1

    def _moved(self) -> bool:
        """Change to another backend, if there is another one that can be had."""
        self._service.udp.counters.refused += 1
        refused, balance = self._target, self._service.balance
        if any(target.usable and target is not refused for target in balance.targets.values()):
            self._leave()
            return self.connect(refused)
        return True

    def _leave(self) -> None:
        if self._socket is not None:
            self._poller.close(self._socket)
            self._socket = None
        if self._target is not None:
            self._target.closed(self, established=False)
            self._target = None

    def forsake(self) -> None:
        """The backend was taken away: the client's next datagram begins anew."""
        self.abort()

    def abort(self) -> None:
        """Forget the client."""
        self._leave()
        udp = self._service.udp
        udp.flows.discard(self)
        if self._service.flows.get(self._client) is self:
            del self._service.flows[self._client]
        if self._lease is not None:
            self._service.balance.release(self._lease, udp.loop.time())
            self._lease = None
