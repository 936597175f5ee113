"""What a service of the proxy is by any protocol: a bound socket, a balance, and totals."""

from __future__ import annotations

import socket

from lb4.pick import Balance
from lb4.proxy_poll import FREEBIND
from lb4.services import ServiceKey, ServiceStats, Settings


class ProxiedService:
    """Counts and balance of one service; what carries its connections counts in the totals."""

    def __init__(self, key: ServiceKey, settings: Settings, start: int) -> None:
        self.balance = Balance(key, settings, start)
        self.connections = self.in_packets = self.out_packets = self.in_bytes = self.out_bytes = 0

    @property
    def stats(self) -> ServiceStats:
        """Totals and those of backends."""
        return ServiceStats(
            self.connections,
            self.in_packets,
            self.out_packets,
            self.in_bytes,
            self.out_bytes,
            {key: target.stats for key, target in self.balance.targets.items()},
        )


def family_of(key: ServiceKey) -> socket.AddressFamily:
    """The family of a service's address."""
    return socket.AF_INET6 if ":" in key.address else socket.AF_INET


def bind(sock: socket.socket, key: ServiceKey, *, freebind: bool) -> None:
    """Bind a socket of the service's family to its address and port alone; `freebind`: also where that is local only by
    a route, or not yet. Raises OSError."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if freebind:
        sock.setsockopt(*FREEBIND[sock.family], 1)
    sock.bind((key.address, key.port))
