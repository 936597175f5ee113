"""aiohttp's resolver on top of Hosts: last known addresses hold while the names can't be resolved."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from mesos_dns.hosts import Hosts


class KnownHosts(AbstractResolver):
    """`limit`: seconds that the first look-up of a name may take. The hosts stay the caller's."""

    def __init__(self, hosts: Hosts, limit: float) -> None:
        self._hosts = hosts
        self._limit = limit

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See AbstractResolver. Raises OSError when nothing is known."""
        await self._hosts.settle([host], self._limit)
        addresses = self._hosts.lookup(host)
        if not addresses:
            raise OSError(f"the host name {host} can't be resolved")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """See AbstractResolver."""
