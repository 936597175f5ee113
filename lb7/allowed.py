"""Allow-lists of client networks: whether an address is in one of them, at the cost of a dictionary look-up."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias
from weakref import WeakValueDictionary

_MEMO = 4096
"""Addresses whose answer is remembered by each list; when so many are, it starts anew."""
_MAPPED = 0xFFFF00000000
"""::ffff:0:0/96, IPv4 addresses written as IPv6 (RFC 4291 §2.5.5.2)."""

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Masks: TypeAlias = tuple[tuple[int, frozenset[int]], ...]
"""For each prefix length that occurs: how many bits to leave out, and the networks without these bits."""


class Allowed:
    """The networks of one allow-list. What is no network is left out, so that a bad entry never lets anybody in.

    An IPv4 address is the same as its IPv6-mapped form, in networks and in clients.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        found = [network for network in map(_network, networks) if network is not None]
        self.networks = tuple(str(network) for network in found)
        self._v4 = _masks([network for network in found if network.version == 4])
        self._v6 = _masks([network for network in found if network.version == 6])
        self._memo: dict[str, bool] = {}

    def contains(self, address: str) -> bool:
        """Whether the address is in one of the networks; what is no IP address (a UNIX socket's peer) is not."""
        known = self._memo.get(address)
        if known is None:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            known = self._memo[address] = self._search(address)
        return known

    def _search(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        number = int(mapped or found)
        masks = self._v4 if mapped or found.version == 4 else self._v6
        return any(number >> shift in networks for shift, networks in masks)


def network_fault(text: str) -> str:
    """What is wrong with an entry of an allow-list; empty: nothing."""
    if _network(text) is not None:
        return ""
    return f"{text!r} is neither an IP address nor a network such as 10.0.0.0/8 or 2001:db8::/32"


def allowed(networks: tuple[str, ...]) -> Allowed:
    """The list of these networks, one object for all that have the same."""
    found = _shared.get(networks)
    if found is None:
        found = _shared[networks] = Allowed(networks)
    return found


_shared: WeakValueDictionary[tuple[str, ...], Allowed] = WeakValueDictionary()


def _network(text: str) -> _Network | None:
    """An address or network; bits behind the prefix are ignored, as HAProxy does. A mapped network is one of IPv4."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    number = int(network.network_address)
    if network.version == 6 and network.prefixlen >= 96 and number >> 32 == _MAPPED >> 32:
        return ipaddress.IPv4Network((number & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _masks(networks: list[_Network]) -> _Masks:
    by_shift: dict[int, set[int]] = {}
    for network in networks:
        shift = network.max_prefixlen - network.prefixlen
        by_shift.setdefault(shift, set()).add(int(network.network_address) >> shift)
    return tuple((shift, frozenset(numbers)) for shift, numbers in sorted(by_shift.items(), reverse=True))
