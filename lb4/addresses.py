"""Which address a VIP's name asks for, and the next free one: dcos-net's rule for named VIPs, without state.

In a range from its first to its last address a name asks for first + hash(name) mod (last - first):
phash2 of its DNS form ("web.marathon") for IPv4, SHA-1 as one big-endian number for IPv6. So the last
one is only ever given to a name that found others taken. Where an address is taken the next one is
tried, after the last the first, until all have been.
"""

from __future__ import annotations

import hashlib
import ipaddress
from bisect import bisect_right
from collections.abc import Callable, Iterable

import msgspec

from lb4.phash2 import phash2

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class AddressRange(msgspec.Struct, frozen=True):
    """The addresses `first` to `last` as numbers, both included, of IP `version` 4 or 6."""

    version: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """How many addresses there are."""
        return self.last - self.first + 1

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def __str__(self) -> str:
        return f"{self.text(self.first)}-{self.text(self.last)}"

    def text(self, number: int) -> str:
        """The canonical text of an address."""
        return str(ipaddress.IPv4Address(number) if self.version == 4 else ipaddress.IPv6Address(number))

    def start(self, name: str) -> int:
        """The address that a name asks for. Raises UnicodeEncodeError for a name that is not ASCII."""
        data, span = name.encode("ascii"), self.last - self.first
        if not span:
            return self.first
        if self.version == 4:
            return self.first + phash2(data, span)
        return self.first + int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest(), "big") % span

    def probes(self, start: int, number: int) -> int:
        """How many addresses are tried from `start` on before this one."""
        return (number - start) % self.size


def address_range(first: str, last: str) -> AddressRange:
    """The range between two addresses of one family. Raises ValueError."""
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    if low.version != high.version or int(low) > int(high):
        raise ValueError(f"{first}-{last}: expected two addresses of one family, the lower one first")
    return AddressRange(low.version, int(low), int(high))


def network_range(text: str, version: int) -> AddressRange:
    """The range of a network, "11.0.0.0/8"; its first and last address are its own. Raises ValueError.

    IPv4-mapped IPv6 is refused: those are written as IPv4 everywhere.
    """
    network = ipaddress.IPv4Network(text) if version == 4 else ipaddress.IPv6Network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.overlaps(_MAPPED):
        raise ValueError(f"{text}: IPv4-mapped addresses can't be given to VIPs")
    return AddressRange(version, int(network.network_address), int(network.broadcast_address))


def parsed(text: str) -> tuple[int, int]:
    """IP version and number of an address in canonical text. Raises ValueError for any other text."""
    address = ipaddress.ip_address(text)
    if str(address) != text or "%" in text:
        raise ValueError(f"{text!r} is not the canonical text of an address")
    return address.version, int(address)


class Taken:
    """A set of addresses (as numbers) that finds the next one which is not in it, however long the runs are.

    Runs of neighbours are kept in order: a look-up is a binary search, a change moves what is behind it.
    """

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers = set(numbers)
        self._starts: list[int] = []
        self._ends: list[int] = []
        for number in sorted(self._numbers):
            if self._ends and self._ends[-1] == number - 1:
                self._ends[-1] = number
            else:
                self._starts.append(number)
                self._ends.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def add(self, number: int) -> bool:
        """Put one in; False when it is in already."""
        if number in self._numbers:
            return False
        self._numbers.add(number)
        at = bisect_right(self._starts, number)
        joins = at > 0 and self._ends[at - 1] == number - 1
        meets = at < len(self._starts) and self._starts[at] == number + 1
        if joins and meets:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif joins:
            self._ends[at - 1] = number
        elif meets:
            self._starts[at] = number
        else:
            self._starts.insert(at, number)
            self._ends.insert(at, number)
        return True

    def discard(self, number: int) -> None:
        """Take one out, if it is in."""
        if number not in self._numbers:
            return
        self._numbers.remove(number)
        at = bisect_right(self._starts, number) - 1
        start, end = self._starts[at], self._ends[at]
        if start == end:
            del self._starts[at], self._ends[at]
        elif number == start:
            self._starts[at] = number + 1
        elif number == end:
            self._ends[at] = number - 1
        else:
            self._ends[at] = number - 1
            self._starts.insert(at + 1, number + 1)
            self._ends.insert(at + 1, end)

    def next_free(self, number: int) -> int:
        """The lowest number from this one on that is not in the set."""
        if number not in self._numbers:
            return number
        return self._ends[bisect_right(self._starts, number) - 1] + 1


def probe(
    addresses: AddressRange, start: int, taken: Taken, allowed: Callable[[int], bool] = lambda number: True
) -> int | None:
    """The first address from `start` on, wrapping, that is not taken and is allowed; None when there is none."""
    for low, high in ((start, addresses.last), (addresses.first, start - 1)):
        number = taken.next_free(low)
        while number <= high:
            if allowed(number):
                return number
            number = taken.next_free(number + 1)
    return None
