"""`[resolver]` as the DNS server that it is."""

from __future__ import annotations

from mesos_dns.config import DnsConfig
from mesos_dns.resolver.config import ResolverConfig, serving


def test_names_are_those_of_dns_and_sockets_the_resolvers() -> None:
    dns = DnsConfig(
        domain="prod",
        ttl=7,
        listen=("10.0.0.1:53",),
        forward=("10.0.0.9",),
        tls_listen=(":853",),
        transfer=("10.0.0.8",),
    )
    made = serving(ResolverConfig(listen=("127.0.0.1:0",), workers=3, zones={"corp.example": ("10.0.0.2",)}), dns)
    assert (made.domain, made.ttl, made.listen, made.workers) == ("prod", 7, ("127.0.0.1:0",), 3)
    assert (made.forward, made.zones, made.tls_listen, made.transfer) == ((), {"corp.example": ()}, (), ())
    assert made.recursion


def test_without_dns_the_names_are_the_usual_ones() -> None:
    made = serving(ResolverConfig(), None)
    assert (made.domain, made.directory) == (DnsConfig().domain, DnsConfig().directory)
    assert made.listen == ("198.51.100.1:53", "198.51.100.2:53", "198.51.100.3:53")
