"""The addresses of this machine: what a wildcard listener answers on, and what others reach the node by."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from lb4.netlink import NETLINK_ROUTE, NetlinkSocket, unpack_attrs
from mesos_dns.config import host_port
from mesos_dns.model import canonical_address

_RTM_GETADDR = 22
_IFADDRMSG = 8
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


def device_addresses() -> list[str]:
    """Every address that a device has, IPv4 first. Virtual addresses, which are local by a route alone, are none.

    Raises OSError where the kernel does not tell.
    """
    found = {}
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        for payload in kernel.dump(_RTM_GETADDR, bytes(_IFADDRMSG)):
            attributes = unpack_attrs(payload[_IFADDRMSG:])
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
            if len(packed) in (4, 16):
                found[str(ipaddress.ip_address(packed))] = len(packed)
    return sorted(found, key=lambda address: found[address])


def interface_addresses(read: Callable[[], list[str]] = device_addresses) -> list[str]:
    """Every address of the machine but loopback and link-local, IPv4 first; empty where the kernel does not tell."""
    try:
        found = read()
    except (OSError, ValueError):
        return []
    return [address for address in found if _publishable(ipaddress.ip_address(address))]


def _publishable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Loopback and link-local addresses mean nothing to another machine."""
    return not address.is_loopback and not address.is_link_local


def name_server_addresses(listen: tuple[str, ...], read: Callable[[], list[str]] = device_addresses) -> list[str]:
    """The addresses that the name server's own name gets (mesos-dns: those it listens on, or, for a
    wildcard, every interface's but loopback)."""
    found: dict[str, None] = {}
    for text in listen:
        host, _ = host_port(text, 53)
        if ipaddress.ip_address(host).is_unspecified:
            version = ipaddress.ip_address(host).version
            found.update(
                dict.fromkeys(a for a in interface_addresses(read) if ipaddress.ip_address(a).version == version)
            )
        else:
            found[canonical_address(host)] = None
    return list(found)


def node_addresses(listen: Sequence[str], read: Callable[[], list[str]] = device_addresses) -> list[str]:
    """The addresses that others reach this node by: of each family, the one that its default route uses, or else
    the first that is not one of the resolver's own (`listen`)."""
    own = {canonical_address(host_port(text, 53)[0]) for text in listen}
    others = [address for address in interface_addresses(read) if address not in own]
    found = []
    for family, beyond in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        version = 4 if family == socket.AF_INET else 6
        address = _source_towards(family, beyond)
        if not address or address in own:
            address = next((each for each in others if ipaddress.ip_address(each).version == version), "")
        if address:
            found.append(address)
    return found


def _source_towards(family: int, address: str) -> str:
    """The address that the system would send from; nothing is sent. "" where there is no way."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 53))
            return canonical_address(probe.getsockname()[0])
    except OSError:
        return ""
