"""What the types of `[l4]` can't say, and what of it is seldom meant."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Literal

from agent.sections import Config
from lb4.config import L4Config
from lb4.vip_file import address_fault
from mesos_dns.config import Duration, host_port
from mesos_dns.model import canonical_address
from mesos_dns.toml_tables import Problem, shown

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FEW = 16
"""Addresses; a range with fewer is seldom meant."""
_NO_RANGE = tuple(
    map(ipaddress.ip_network, ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "fe80::/10"))
)
"""Addresses that no machine, or none beyond its link, can have."""
_LOOPBACK = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
_DEVICE = re.compile(r"[!-~]+")
_RECONCILE = (Duration(1), Duration(3600))
_LONGEST_TIMEOUT = Duration(24 * 86400)
"""The kernel refuses what is over 2^31 of its ticks, a thousand a second at most."""


def problems(config: Config) -> Iterator[Problem]:
    """Everything wrong with the values, without looking at the machine."""
    l4 = config.l4
    if l4 is None:
        return
    networks = []
    for key, text, fault in (
        ("range", l4.range, range_fault(l4.range, 4)),
        ("range6", l4.range6, range_fault(l4.range6, 6)),
    ):
        if fault:
            yield Problem(f"l4.{key}", fault)
        else:
            networks.append((key, ipaddress.ip_network(text)))
    yield from _node_addresses(l4, networks)
    if fault := _device_fault(l4.device):
        yield Problem("l4.device", fault)
    elif config.resolver is not None and config.resolver.device == l4.device != "lo":
        yield Problem("l4.device", f"{l4.device!r} is resolver.device: each needs a device of its own")
    shortest, longest = _RECONCILE
    if not shortest <= l4.reconcile <= longest:
        yield Problem("l4.reconcile", f"expected {shortest} to {longest}, got {l4.reconcile}")
    for key, timeout in (
        ("tcp_timeout", l4.tcp_timeout),
        ("tcp_fin_timeout", l4.tcp_fin_timeout),
        ("udp_timeout", l4.udp_timeout),
    ):
        if timeout % 1 or timeout > _LONGEST_TIMEOUT:
            yield Problem(f"l4.{key}", f"expected whole seconds, at most {_LONGEST_TIMEOUT}, got {timeout}")
    for key, path in (("netns_dir", l4.netns_dir), ("vip_file", l4.vip_file)):
        if path and not path.startswith("/"):
            yield Problem(f"l4.{key}", f"expected an absolute path, got {shown(path)}")


def advice(config: Config) -> Iterator[Problem]:
    """What works, and is seldom meant."""
    l4 = config.l4
    if l4 is None:
        return
    if config.relay is not None and l4.dataplane == "off":
        yield Problem("l4.dataplane", "is off on a node that follows servers: [l4] has no effect here")
    networks = [(key, ipaddress.ip_network(text)) for key, text in (("range", l4.range), ("range6", l4.range6))]
    for key, network in networks:
        if any(_overlap(network, other) for other in _LOOPBACK):
            text = f"{str(network)!r} holds loopback addresses: only this machine reaches its own VIPs there"
            yield Problem(f"l4.{key}", text)
        if network.num_addresses < _FEW:
            yield Problem(f"l4.{key}", f"{str(network)!r} has addresses for {network.num_addresses} names of VIPs")
    for path, listen in _listens(config):
        for index, text in enumerate(listen):
            for key, network in networks:
                if _is_in(text, network):
                    yield Problem(f"{path}[{index}]", f"{text!r} lies in l4.{key}, of which VIPs get their addresses")


def range_fault(text: str, version: Literal[4, 6]) -> str:
    """Why VIPs can't get their addresses of a network, "" when they can."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"expected an IPv{version} network such as {_example(version)}, got {shown(text)}"
    if network.version != version or "/" not in text:
        return f"expected an IPv{version} network such as {_example(version)}, got {shown(text)}"
    if text.partition("/")[0] != str(network.network_address):
        return f"expected the network's own address, {str(network)!r}, got {shown(text)}"
    for other in _NO_RANGE:
        if _overlap(network, other):
            return f"expected addresses that machines can have, got {shown(text)}, which overlaps {other}"
    return ""


def _example(version: int) -> str:
    default = L4Config()
    return default.range if version == 4 else default.range6


def _overlap(one: Network, other: Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.overlaps(other)
    return isinstance(other, ipaddress.IPv6Network) and one.overlaps(other)


def _node_addresses(l4: L4Config, networks: list[tuple[str, Network]]) -> Iterator[Problem]:
    families: dict[int, str] = {}
    for index, text in enumerate(l4.node_addresses):
        path, canonical = f"l4.node_addresses[{index}]", canonical_address(text)
        if fault := address_fault(text):
            yield Problem(path, fault)
            continue
        if canonical != text:
            yield Problem(path, f"expected {canonical!r}, got {shown(text)}")
            continue
        address = ipaddress.ip_address(canonical)
        if address.version in families:
            yield Problem(path, f"expected one IPv{address.version} address, got {families[address.version]!r} too")
        families.setdefault(address.version, text)
        for key, network in networks:
            if address in network:
                yield Problem(path, f"{text!r} lies in {key}, of which VIPs get their addresses")


def _device_fault(name: str) -> str:
    """Why the kernel takes no device of this name (dev_valid_name), or takes it for a pattern ("%d")."""
    if name in (".", "..") or not _DEVICE.fullmatch(name) or set(name) & set("/:%"):
        return f"expected a device's name of ASCII without spaces, '/', ':' and '%', got {shown(name)}"
    return ""


def _listens(config: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    if config.dns is not None:
        yield "dns.listen", config.dns.listen
    if config.resolver is not None:
        yield "resolver.listen", config.resolver.listen


def _is_in(text: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(host_port(text)[0]) in network
    except ValueError:  # said already
        return False
