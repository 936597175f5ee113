"""What the types of `[resolver]` and `[relay]` can't say, and what of them is seldom meant."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from agent.boot_hosts import circular_names
from agent.check_values import is_host, is_inside, is_own, listen_problems, name_problems, pair_problems
from agent.resolv_conf import listen_addresses
from agent.sections import Config
from mesos_dns.config import DnsConfig, RelayConfig, host_port
from mesos_dns.fastpath import MOST_WORKERS
from mesos_dns.resolver.address import parse_upstream
from mesos_dns.resolver.config import ResolverConfig
from mesos_dns.resolver.local import local_problems
from mesos_dns.toml_tables import Problem

_ORCHESTRATORS = ("mesos", "serversets")


def problems(config: Config) -> Iterator[Problem]:
    """Everything wrong with the values of both sections, without looking at the machine."""
    if config.resolver is not None:
        yield from _resolver(config.resolver, config.dns or DnsConfig())
        if config.dns is not None:
            yield from _wildcards(config.dns, config.resolver)
    if config.relay is not None:
        yield from _relay(config.relay)
        for name in _ORCHESTRATORS:
            if getattr(config, name) is not None:
                yield Problem("relay", f"follows servers instead of orchestrators: leave [{name}] or [relay] out")


def advice(config: Config) -> Iterator[Problem]:
    """What works, and is seldom meant."""
    if config.resolver is not None:
        for index, text in enumerate(config.resolver.allow):
            if not ipaddress.ip_network(text, strict=False).prefixlen:
                yield Problem(f"resolver.allow[{index}]", f"{text!r} makes this an open resolver")
    for path, host, zone in circular_names(config):
        text = f"{host!r} lies in {zone!r}, which this node answers from what that host tells"
        yield Problem(path, f"{text}: give its address, or a name that the upstreams know")
    relay = config.relay
    if relay is not None:
        if not relay.tls_verify:
            yield Problem("relay.tls_verify", "is off: whoever can answer in a server's place decides every name")
        for index, text in enumerate(relay.servers):
            if relay.token_file and text.startswith("http://"):
                yield Problem(f"relay.servers[{index}]", "the token is sent without encryption: use https://")


def _resolver(resolver: ResolverConfig, dns: DnsConfig) -> Iterator[Problem]:
    yield from listen_problems("resolver.listen", resolver.listen)
    if resolver.workers * len(resolver.listen) > MOST_WORKERS:
        text = f"for each of {len(resolver.listen)} addresses is more than {MOST_WORKERS} processes in all"
        yield Problem("resolver.workers", text)
    yield from _upstreams("resolver.upstreams", resolver.upstreams, resolver.listen)
    for zone, servers in resolver.zones.items():
        path = f"resolver.zones.{json.dumps(zone, ensure_ascii=False)}"
        yield from name_problems(path, zone)
        if is_inside(zone, dns.domain):
            yield Problem(path, f"lies in domain {dns.domain!r}, which is answered here")
        if not servers:
            yield Problem(path, "expected at least one server")
        yield from _upstreams(path, servers, resolver.listen)
    for index, text in enumerate(resolver.allow):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Problem(f"resolver.allow[{index}]", f"expected an IP address or network, got {text!r}")
    if resolver.min_ttl > resolver.max_ttl:
        yield Problem("resolver.min_ttl", f"expected at most max_ttl, {resolver.max_ttl}")
    for path, text in local_problems(resolver, dns):
        yield Problem(path, text)
    yield from _resolv_conf(resolver)


def _upstreams(path: str, servers: Sequence[str], listen: Sequence[str]) -> Iterator[Problem]:
    seen = set()
    for index, text in enumerate(servers):
        here = f"{path}[{index}]"
        try:
            address = parse_upstream(text)
        except ValueError as error:
            yield Problem(here, str(error))
            continue
        if address in seen:
            yield Problem(here, f"{text!r} is listed twice")
        seen.add(address)
        own = f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
        if is_own(own, listen):
            yield Problem(here, f"{text!r} is listened on here: questions would go round in a circle")


def _resolv_conf(resolver: ResolverConfig) -> Iterator[Problem]:
    if not resolver.resolv_conf:
        return
    if not resolver.resolv_conf.startswith("/"):
        yield Problem("resolver.resolv_conf", f"expected an absolute path, got {resolver.resolv_conf!r}")
    try:
        listen_addresses(resolver.listen)
    except ValueError as error:
        yield Problem("resolver.listen", str(error))


def _wildcards(dns: DnsConfig, resolver: ResolverConfig) -> Iterator[Problem]:
    """A wildcard of the one section takes every address of the other."""
    for path, listen, other_path, others in (
        ("dns.listen", dns.listen, "resolver.listen", resolver.listen),
        ("resolver.listen", resolver.listen, "dns.listen", dns.listen),
    ):
        for index, text in enumerate(listen):
            for other in others:
                if _covers(text, other):
                    yield Problem(f"{path}[{index}]", f"{text!r} takes {other!r} of {other_path}: name the addresses")
                    break


def _covers(wildcard: str, other: str) -> bool:
    try:
        (host, port), (other_host, other_port) = host_port(wildcard, 53), host_port(other, 53)
        address, other_address = ipaddress.ip_address(host), ipaddress.ip_address(other_host)
    except ValueError:  # said already
        return False
    same = address.version == other_address.version and port == other_port and port != 0
    return same and address.is_unspecified and not other_address.is_unspecified


def _relay(relay: RelayConfig) -> Iterator[Problem]:
    if not relay.servers:
        yield Problem("relay.servers", "expected at least one server, http(s)://HOST[:PORT]")
    seen = set()
    for index, text in enumerate(relay.servers):
        path = f"relay.servers[{index}]"
        if "@" in text:  # not shown: what stands before it is a secret
            yield Problem(path, "credentials don't belong here: set token_file or cert_file")
        elif not _is_server(text):
            yield Problem(path, f"expected http(s)://HOST[:PORT], got {text!r}")
        elif text.rstrip("/").lower() in seen:
            yield Problem(path, f"{text!r} is listed twice")
        seen.add(text.rstrip("/").lower())
    yield from pair_problems("relay", relay)


def _is_server(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    return parts.scheme in ("http", "https") and plain and port != 0 and is_host(parts.hostname or "")
