"""The configuration of the resolver, and what it says of the DNS server that the resolver is."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec
from msgspec import Meta

from mesos_dns.config import DnsConfig, Duration, Listen

PRIVATE = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
"""Loopback, private, shared (RFC 6598) and link-local addresses."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Seconds31 = Annotated[int, Meta(ge=0, le=2147483647)]


class ResolverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[resolver]`: the resolver that this node's programs ask; the cluster's names are as `[dns]` says."""

    listen: Annotated[tuple[Listen, ...], Meta(min_length=1, description="addresses for UDP and TCP")] = (
        "198.51.100.1:53",
        "198.51.100.2:53",
        "198.51.100.3:53",
    )
    device: Annotated[
        str,
        Meta(
            max_length=15,
            description="dummy device that gets the addresses of `listen` (`lo` where there can be none); "
            "empty: they are there already",
        ),
    ] = "pharos-dns"
    upstreams: Annotated[
        tuple[str, ...],
        Meta(
            description="servers for all other names: IP[:PORT] (UDP, TCP where needed), tcp://IP[:PORT], "
            "tls://IP[:PORT][#NAME]; empty: the name servers of resolv.conf"
        ),
    ] = ()
    upstream_ca_file: Annotated[
        str, Meta(description="PEM file of the authorities of tls:// servers; empty: the system's")
    ] = ""
    zones: Annotated[
        dict[str, tuple[str, ...]], Meta(description="zone → its servers, as `upstreams`; the longest suffix wins")
    ] = {}
    allow: Annotated[
        tuple[str, ...],
        Meta(max_length=64, description="addresses and networks that are answered; others are refused"),
    ] = PRIVATE
    timeout: Annotated[Duration, Meta(description="time for one question, over all its servers")] = Duration(5)
    clients: Annotated[int, Meta(ge=1, description="questions to upstreams in flight at most")] = 1024
    client_questions: Annotated[int, Meta(ge=1, description="of them for one client at most")] = 256
    client_rate: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="UDP questions a second of one client that are not ready and have to be looked up; "
            "more are dropped; 0: no limit",
        ),
    ] = 2000
    cache_size: Annotated[int, Meta(ge=0, le=10_000_000, description="answers that are kept at most; 0: none")] = 10_000
    min_ttl: Annotated[Seconds31, Meta(description="seconds that an answer is kept at least")] = 0
    max_ttl: Annotated[Seconds31, Meta(description="seconds that an answer is kept at most")] = 86400
    negative_ttl: Annotated[Seconds31, Meta(description="seconds that absence is kept at most (RFC 2308)")] = 3600
    failure_ttl: Annotated[
        int, Meta(ge=1, le=300, description="seconds that a failure is kept (RFC 9520); more, up to 60, while it lasts")
    ] = 5
    prefetch: Annotated[bool, Meta(description="renew what is asked for in the last tenth of its time")] = True
    stale_max: Annotated[
        Duration, Meta(description="how long past its time an answer is given while no server answers (RFC 8767)")
    ] = Duration(86400)
    rotate: Annotated[bool, Meta(description="give the records of a set in another order each time")] = True
    workers: Annotated[
        int, Meta(ge=0, le=64, description="native processes that answer UDP; 0: answer in the process itself")
    ] = 1
    answer_memory: Annotated[int, Meta(ge=4, le=65536, description="MiB for answers that are ready, at most")] = 64
    rate_limit: Annotated[
        int, Meta(ge=0, le=1_000_000, description="equal UDP answers a second for one client network; 0: no limit")
    ] = 0
    tcp_clients: Annotated[int, Meta(ge=1, description="TCP connections at most")] = 1000
    tcp_clients_per_address: Annotated[int, Meta(ge=1, description="TCP connections of one client")] = 100
    tcp_idle: Annotated[Duration, Meta(description="idle time after which a TCP connection is closed")] = Duration(10)
    query_log: Annotated[int, Meta(ge=0, le=1_000_000_000, description="log one question in so many; 0: none")] = 0
    node_addresses: Annotated[
        tuple[str, ...], Meta(description="this node's addresses, for thisnode; empty: found out")
    ] = ()
    public_addresses: Annotated[
        tuple[str, ...], Meta(description="addresses that the world reaches this node by, for public.thisnode")
    ] = ()
    components: Annotated[
        dict[str, str], Meta(description="name below component.DIRECTORY → the name that it stands for")
    ] = {}
    cluster_key: Annotated[
        str, Meta(description="the cluster's public key in zbase32: KEY.dcos.directory is served as DIRECTORY, too")
    ] = ""
    resolv_conf: Annotated[
        str, Meta(description="file that is kept pointing to `listen`, as /etc/resolv.conf; empty: none")
    ] = ""


def serving(resolver: ResolverConfig, dns: DnsConfig | None) -> DnsConfig:
    """The DNS server that the resolver is: the names of `[dns]`, the sockets and limits of `[resolver]`."""
    return msgspec.structs.replace(
        dns or DnsConfig(),
        listen=resolver.listen,
        forward=(),
        zones=dict.fromkeys(resolver.zones, ()),
        recursion=True,
        tls_listen=(),
        workers=resolver.workers,
        answer_memory=resolver.answer_memory,
        rotate=resolver.rotate,
        rate_limit=resolver.rate_limit,
        tcp_clients=resolver.tcp_clients,
        tcp_clients_per_address=resolver.tcp_clients_per_address,
        tcp_idle=resolver.tcp_idle,
        query_log=resolver.query_log,
        transfer=(),
        notify=(),
    )
