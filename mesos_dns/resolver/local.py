"""The names that a node's resolver gives itself: localhost, DC/OS' spartan, thisnode and component zones.

    localhost.  *.localhost.       127.0.0.1, ::1 (RFC 6761 §6.3)
    ready.spartan.                 127.0.0.1: who can look it up has a resolver
    ns.spartan.                    where the resolver listens, the first address of each family
    thisnode.DIRECTORY.            this node's addresses
    public.thisnode.DIRECTORY.     those that the world reaches it by
    NAME.component.DIRECTORY.      an alias of the configured name

They are record sets as those of zone files, each zone with its SOA and NS records. The zones are there even
without names in them, so that such a name is never asked of others. Pure functions.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from mesos_dns.config import DnsConfig, host_port
from mesos_dns.model import StaticRecords
from mesos_dns.names import AAAA, CNAME, NS, SOA, A
from mesos_dns.records import fold
from mesos_dns.resolver.address import canonical_host
from mesos_dns.resolver.config import ResolverConfig
from mesos_dns.served import NS_TTL
from mesos_dns.wire import MAX_NAME, name_to_wire, soa_rdata

NAME_SERVER = "ns.spartan"
"""The name of the resolver itself, as the NS and SOA records of its zones say."""
_LOOPBACK = ("127.0.0.1", "::1")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

Row: TypeAlias = tuple[str, int, bytes]
"""Owner relative to its zone, type, rdata."""


def local_records(resolver: ResolverConfig, dns: DnsConfig, node_addresses: Sequence[str]) -> tuple[StaticRecords, ...]:
    """Every record set, each with its `zone`. `node_addresses` are this node's own; the configuration's values
    have no problems (`local_problems`)."""
    heard = list(_listened(resolver))
    first = {ipaddress.ip_address(canonical_host(host)).version: host for host in reversed(heard or node_addresses)}
    zones = {
        "localhost": [*_addresses("", _LOOPBACK), *_addresses("*", _LOOPBACK)],
        "spartan": [*_addresses("ready", _LOOPBACK[:1]), *_addresses("ns", [first[kind] for kind in sorted(first)])],
    }
    if dns.directory:
        zones[f"thisnode.{dns.directory}"] = [
            *_addresses("", node_addresses),
            *_addresses("public", resolver.public_addresses),
        ]
        zones[f"component.{dns.directory}"] = [
            (name, CNAME, name_to_wire(target)) for name, target in resolver.components.items()
        ]
    return tuple([records for zone, rows in zones.items() for records in _sets(zone, rows, dns)])


def local_problems(resolver: ResolverConfig, dns: DnsConfig) -> Iterator[tuple[str, str]]:
    """(key path, what is wrong) of values that can't be served."""
    for key, addresses in (
        ("node_addresses", resolver.node_addresses),
        ("public_addresses", resolver.public_addresses),
    ):
        for index, text in enumerate(addresses):
            if not _is_address(text):
                yield f"resolver.{key}[{index}]", f"expected the IP address of a machine, got {text!r}"
    seen: dict[str, str] = {}
    for name, target in resolver.components.items():
        path = f"resolver.components.{json.dumps(name, ensure_ascii=False)}"
        own = f"{name}.component.{dns.directory}"
        if not _is_name(name) or not _is_name(own):
            yield path, f"expected a name that can stand before component.{dns.directory}, got {name!r}"
        elif fold(name) in seen:
            yield path, f"is the same name as {seen[fold(name)]!r}"
        seen.setdefault(fold(name), name)
        if not _is_name(target.removesuffix(".")):
            yield path, f"expected the name that it stands for, got {target!r}"
        elif fold(target.removesuffix(".")) == fold(own):
            yield path, "stands for itself"
    if resolver.cluster_key and not _LABEL.fullmatch(resolver.cluster_key):
        yield "resolver.cluster_key", f"expected the key in zbase32, got {resolver.cluster_key!r}"
    taken = ["localhost", "spartan"]
    if dns.directory:
        taken += [f"{label}.{dns.directory}" for label in ("thisnode", "component", "l4lb", "dclb")]
    for zone in taken:
        if _inside(dns.domain, zone) or _inside(zone, dns.domain):
            yield "dns.domain", f"{dns.domain!r} overlaps with {zone!r}, which the resolver answers itself"


def _listened(resolver: ResolverConfig) -> Iterator[str]:
    for text in resolver.listen:
        host = host_port(text, 53)[0]
        if _is_address(host):
            yield host


def _addresses(owner: str, addresses: Iterable[str]) -> Iterator[Row]:
    for text in addresses:
        packed = ipaddress.ip_address(canonical_host(text)).packed
        yield owner, A if len(packed) == 4 else AAAA, packed


def _sets(zone: str, rows: Sequence[Row], dns: DnsConfig) -> Iterator[StaticRecords]:
    """The record sets of one zone, its own first."""
    ttl = dns.directory_ttl
    minimum = ttl if dns.soa_minttl is None else dns.soa_minttl
    rname = dns.soa_rname or f"root.{NAME_SERVER}"
    # Nobody transfers them, and they are the same for as long as the process runs.
    soa = soa_rdata(NAME_SERVER, rname, (1, dns.soa_refresh, dns.soa_retry, dns.soa_expire, minimum))
    sets: dict[tuple[str, int], dict[bytes, None]] = {
        ("", SOA): {soa: None},
        ("", NS): {name_to_wire(NAME_SERVER): None},
    }
    for owner, rtype, rdata in rows:
        sets.setdefault((fold(owner), rtype), {})[rdata] = None
    for (owner, rtype), rdata_set in sets.items():
        name = fold(f"{owner}.{zone}." if owner else f"{zone}.")
        yield StaticRecords(name, rtype, NS_TTL if rtype == NS else ttl, tuple(rdata_set), fold(f"{zone}."))


def _is_address(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def _is_name(name: str) -> bool:
    return len(name) <= MAX_NAME - 2 and all(map(_LABEL.fullmatch, name.split(".")))


def _inside(name: str, zone: str) -> bool:
    return f".{name}".lower().endswith(f".{zone}".lower())
