"""Which clients the resolver answers, by their addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from mesos_dns.config import host_port
from mesos_dns.resolver.config import Network

_REMEMBERED = 512
"""Clients whose verdict is kept."""
_MAPPED = bytes(10) + b"\xff\xff"


class Allowed:
    """Networks as text, and the addresses that are listened on: a program here may ask from one of them.

    Raises ValueError that names what is no network.
    """

    def __init__(self, networks: Iterable[str], listen: Iterable[str]) -> None:
        self.networks: list[Network] = [ipaddress.ip_network(text, strict=False) for text in networks]
        self._known: dict[bytes, bool] = {}
        for text in listen:
            try:
                self.networks.append(ipaddress.ip_network(host_port(text, 53)[0]))
            except ValueError:  # a name
                continue

    def __contains__(self, client: bytes) -> bool:
        """Whether a packed address is answered; b"" (this process) is. IPv4 may be mapped into IPv6."""
        known = self._known.get(client)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[client] = self._holds(client)
        return known

    def _holds(self, client: bytes) -> bool:
        if not client:
            return True
        address = ipaddress.ip_address(client[12:] if client[:12] == _MAPPED and len(client) == 16 else client)
        return any(address in network for network in self.networks)
