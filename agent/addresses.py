"""The addresses of this machine's interfaces, read from /proc: what a wildcard listener answers on."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from mesos_dns.config import host_port
from mesos_dns.model import canonical_address

_LOCAL = re.compile(r"(\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")


def interface_addresses(proc: Path = Path("/proc/self/net")) -> list[str]:
    """Every address of the machine but loopback and link-local, IPv4 first; empty where /proc does not tell."""
    found: dict[str, None] = {}
    try:
        found.update(dict.fromkeys(_LOCAL.findall((proc / "fib_trie").read_text())))
    except OSError:
        pass
    try:
        for line in (proc / "if_inet6").read_text().splitlines():
            found[str(ipaddress.IPv6Address(int(line.split()[0], 16)))] = None
    except (OSError, ValueError, IndexError):
        pass
    return [address for address in found if _publishable(ipaddress.ip_address(address))]


def _publishable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Loopback and link-local addresses mean nothing to another machine."""
    return not address.is_loopback and not address.is_link_local


def name_server_addresses(listen: tuple[str, ...], proc: Path = Path("/proc/self/net")) -> list[str]:
    """The addresses that the name server's own name gets (mesos-dns: those it listens on, or, for a
    wildcard, every interface's but loopback)."""
    found: dict[str, None] = {}
    for text in listen:
        host, _ = host_port(text, 53)
        if ipaddress.ip_address(host).is_unspecified:
            version = ipaddress.ip_address(host).version
            found.update(
                dict.fromkeys(a for a in interface_addresses(proc) if ipaddress.ip_address(a).version == version)
            )
        else:
            found[canonical_address(host)] = None
    return list(found)
