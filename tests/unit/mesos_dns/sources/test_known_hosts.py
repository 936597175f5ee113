"""aiohttp's resolver over Hosts: what was known once is good until something better is."""

from __future__ import annotations

import socket

import pytest

from mesos_dns.hosts import Hosts
from mesos_dns.sources.known_hosts import KnownHosts

pytestmark = pytest.mark.asyncio


async def test_every_address_of_a_name_in_its_family() -> None:
    async def resolve(name: str) -> tuple[str, ...]:
        return ("10.0.0.1", "fd00::1") if name == "server.example.com" else ()

    hosts = Hosts(resolve=resolve)
    resolver = KnownHosts(hosts, 1.0)
    found = await resolver.resolve("server.example.com", 8123)
    assert [(r["host"], r["port"], r["family"], r["hostname"]) for r in found] == [
        ("10.0.0.1", 8123, socket.AF_INET, "server.example.com"),
        ("fd00::1", 8123, socket.AF_INET6, "server.example.com"),
    ]
    await resolver.close()
    await hosts.close()


async def test_a_name_that_is_not_known_is_an_error() -> None:
    async def nobody(name: str) -> tuple[str, ...]:
        raise OSError("no name server answers")

    hosts = Hosts(resolve=nobody)
    with pytest.raises(OSError, match=r"server\.example\.com can't be resolved"):
        await KnownHosts(hosts, 1.0).resolve("server.example.com")
    await hosts.close()
