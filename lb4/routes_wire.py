"""The messages by which the kernel is asked of routes, links and addresses, and its answers (rtnetlink(7)).

A virtual address is one route of the table `local`, by which the kernel takes packets to it for its own:

    local 11.0.0.1 dev pharos0 table local proto 80 metric 80 src 10.0.0.7

No route of the kernel's own nor of other programs has this metric. So ours stands beside one of theirs to the same
address, and replacing or dropping ours never meets theirs.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

from lb4.netlink import pack_attr, pack_nested, unpack_attrs
from mesos_dns.device import MARK

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_GETADDR = 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

PROTOCOL = MARK
"""The protocol number of our routes (/etc/iproute2/rt_protos)."""
METRIC = 80
"""Their metric."""
TABLE_MAIN, TABLE_LOCAL = 254, 255
TYPE_UNICAST, TYPE_LOCAL = 1, 2
FAMILIES = (socket.AF_INET, socket.AF_INET6)

_ROUTE = struct.Struct("=BBBBBBBBI")  # family, lengths of dst and src, tos, table, protocol, scope, type, flags
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_HOP = struct.Struct("=HBBi")  # length, flags, hops, index
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")

_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 6, 7, 9, 15
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_IFALIAS = 3, 18, 20
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFF_UP = 0x1
_IFA_F_UNUSABLE = 0x08 | 0x20 | 0x40  # duplicate, deprecated, tentative
_SCOPE_HOST, _SCOPE_NOWHERE = 254, 255
_RTNH_F_DEAD = 0x1


class Route(NamedTuple):
    """A route; `devices` has the index of each of its ways that is not dead, addresses are canonical texts or ""."""

    address: str
    prefix: int
    table: int
    protocol: int
    type: int
    devices: tuple[int, ...] = ()
    source: str = ""


class Link(NamedTuple):
    """A device; `number` is its index, `kind` is "" where it is none that was made by software."""

    number: int
    name: str
    up: bool
    kind: str = ""
    alias: str = ""


class Held(NamedTuple):
    """An address of a device; `is_usable`: others may reach this machine by it."""

    device: int
    address: str
    prefix: int
    is_usable: bool

    @property
    def network(self) -> str:
        """The network that it says is there; "" where it is a single address."""
        network = ipaddress.ip_network((self.address, self.prefix), strict=False)
        return "" if network.prefixlen == network.max_prefixlen else str(network)


def add_route(address: str, device: int, source: str = "") -> bytes:
    """RTM_NEWROUTE's payload for a virtual address on a device, by its index. Raises ValueError."""
    family, packed = _packed(address)
    scope = _SCOPE_HOST if family == socket.AF_INET else 0
    attributes = [
        _ROUTE.pack(family, len(packed) * 8, 0, 0, TABLE_LOCAL, PROTOCOL, scope, TYPE_LOCAL, 0),
        pack_attr(_RTA_DST, packed),
        pack_attr(_RTA_OIF, _I32.pack(device)),
        pack_attr(_RTA_PRIORITY, _U32.pack(METRIC)),
    ]
    if source:
        attributes.append(pack_attr(_RTA_PREFSRC, ipaddress.ip_address(source).packed))
    return b"".join(attributes)


def drop_route(address: str) -> bytes:
    """RTM_DELROUTE's payload: our route to this address, on whatever device. Raises ValueError."""
    family, packed = _packed(address)
    head = _ROUTE.pack(family, len(packed) * 8, 0, 0, TABLE_LOCAL, PROTOCOL, _SCOPE_NOWHERE, TYPE_LOCAL, 0)
    return head + pack_attr(_RTA_DST, packed) + pack_attr(_RTA_PRIORITY, _U32.pack(METRIC))


def ask_route(address: str) -> bytes:
    """RTM_GETROUTE's payload: the way to this address. Raises ValueError."""
    family, packed = _packed(address)
    return _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + pack_attr(_RTA_DST, packed)


def ask_routes(family: int) -> bytes:
    """RTM_GETROUTE's payload of a dump."""
    return _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)


def is_ours(payload: bytes) -> bool:
    """Whether a route of a dump is to a virtual address, by its head alone: others may be very many.

    Raises ValueError when it is cut off.
    """
    if len(payload) < _ROUTE.size:
        raise ValueError("route is cut off")
    _, _, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
    return bool(table == TABLE_LOCAL and protocol == PROTOCOL and kind == TYPE_LOCAL)


def is_default(payload: bytes) -> bool:
    """Whether a route of a dump is a default route of the table `main`. Raises ValueError when it is cut off."""
    if len(payload) < _ROUTE.size:
        raise ValueError("route is cut off")
    _, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(payload)
    return bool(prefix == 0 and table == TABLE_MAIN and kind == TYPE_UNICAST)


def parse_route(payload: bytes) -> Route:
    """A route as the kernel gives it. Raises ValueError."""
    if len(payload) < _ROUTE.size:
        raise ValueError("route is cut off")
    _, prefix, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
    attributes = unpack_attrs(payload[_ROUTE.size :])
    if _RTA_TABLE in attributes:
        table = _number(_U32, attributes[_RTA_TABLE])
    if _RTA_MULTIPATH in attributes:
        devices = _hops(attributes[_RTA_MULTIPATH])
    else:
        devices = (_number(_I32, attributes[_RTA_OIF]),) if _RTA_OIF in attributes else ()
    return Route(
        _text(attributes.get(_RTA_DST)), prefix, table, protocol, kind, devices, _text(attributes.get(_RTA_PREFSRC))
    )


def add_dummy(name: str) -> bytes:
    """RTM_NEWLINK's payload for a dummy device. (The kernel takes no alias along with that.)"""
    return (
        _LINK.pack(0, 0, 0, 0, 0)
        + pack_attr(_IFLA_IFNAME, name.encode() + b"\0")
        + pack_nested(_IFLA_LINKINFO, pack_attr(_IFLA_INFO_KIND, b"dummy"))
    )


def raise_link(number: int, alias: str = "") -> bytes:
    """RTM_NEWLINK's payload that sets a device up, and its alias unless that is ""."""
    head = _LINK.pack(0, 0, number, _IFF_UP, _IFF_UP)
    return head + pack_attr(_IFLA_IFALIAS, alias.encode()) if alias else head


def one_link(number: int) -> bytes:
    """RTM_DELLINK's payload for a device."""
    return _LINK.pack(0, 0, number, 0, 0)


def ask_link(name: str) -> bytes:
    """RTM_GETLINK's payload for a device."""
    return _LINK.pack(0, 0, 0, 0, 0) + pack_attr(_IFLA_IFNAME, name.encode() + b"\0")


def ask_links() -> bytes:
    """RTM_GETLINK's payload of a dump."""
    return _LINK.pack(0, 0, 0, 0, 0)


def parse_link(payload: bytes) -> Link:
    """A device as the kernel gives it. Raises ValueError."""
    if len(payload) < _LINK.size:
        raise ValueError("link is cut off")
    _, _, index, flags, _ = _LINK.unpack_from(payload)
    attributes = unpack_attrs(payload[_LINK.size :])
    inner = unpack_attrs(attributes.get(_IFLA_LINKINFO, b""))
    return Link(
        index,
        _name(attributes.get(_IFLA_IFNAME, b"")),
        bool(flags & _IFF_UP),
        _name(inner.get(_IFLA_INFO_KIND, b"")),
        _name(attributes.get(_IFLA_IFALIAS, b"")),
    )


def ask_addresses(family: int) -> bytes:
    """RTM_GETADDR's payload of a dump."""
    return _ADDRESS.pack(family, 0, 0, 0, 0)


def parse_address(payload: bytes) -> Held:
    """An address as the kernel gives it. Raises ValueError."""
    if len(payload) < _ADDRESS.size:
        raise ValueError("address is cut off")
    _, prefix, flags, scope, index = _ADDRESS.unpack_from(payload)
    attributes = unpack_attrs(payload[_ADDRESS.size :])
    if _IFA_FLAGS in attributes:
        flags = _number(_U32, attributes[_IFA_FLAGS])
    # Of a point-to-point device IFA_ADDRESS is the other end.
    address = _text(attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS))
    usable = bool(address) and scope == 0 and not flags & _IFA_F_UNUSABLE and not _is_of_the_link(address)
    return Held(index, address, prefix, usable)


def _is_of_the_link(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return ip.is_loopback or ip.is_link_local


def _hops(data: bytes) -> tuple[int, ...]:
    devices, offset = [], 0
    while offset < len(data):
        if len(data) - offset < _HOP.size:
            raise ValueError("hop of a route is cut off")
        length, flags, _, device = _HOP.unpack_from(data, offset)
        if length < _HOP.size or length > len(data) - offset:
            raise ValueError("hop of a route is cut off")
        if not flags & _RTNH_F_DEAD:
            devices.append(device)
        offset += (length + 3) & ~3
    return tuple(devices)


def _packed(address: str) -> tuple[int, bytes]:
    ip = ipaddress.ip_address(address)
    return (socket.AF_INET if ip.version == 4 else socket.AF_INET6), ip.packed


def _text(packed: bytes | None) -> str:
    if packed is None:
        return ""
    if len(packed) not in (4, 16):
        raise ValueError(f"an address of {len(packed)} octets")
    return str(ipaddress.ip_address(packed))


def _name(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(form: struct.Struct, value: bytes) -> int:
    if len(value) < form.size:
        raise ValueError(f"a number of {len(value)} octets")
    return int(form.unpack_from(value)[0])
