"""What is stored of the addresses of named VIPs: its form in the coordinator, and the book that is kept of it.

    vips/00 ... vips/3f     {"format": 1, "addresses": [["11.225.36.193", "web.marathon", 1700000000], ...]}

An address is in the shard of its number modulo SHARDS: as a shard is written by compare-and-set, no two
writers can give one address to two names. The number behind a name is when it was last seen in use (epoch
seconds, an hour coarse). A name may be found at two addresses when two leaders wrote at the same time: the
one that is tried first for it counts. Addresses outside the ranges count for nothing.

A shard is taken as a whole or not at all: one that can't be read, or was written by a later version, is
damaged. What was known of it stays, and it is not written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from lb4.addresses import AddressRange, Taken, parsed
from mesos_dns.coordinate import ABSENT

SHARDS = 64
PREFIX = "vips"
FORMAT = 1

MAX_NAME = 253
"""Characters of a DNS name."""

MAX_ENTRIES = 3_200
"""Addresses in one shard: so many of the longest entries are a value that every coordinator takes."""

MAX_TIME = 1 << 40

_NAME = re.compile(r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*")


class Damaged(ValueError):
    """A stored shard that can't be taken; the text says why."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An address given to a name, and when the name was last in use (epoch seconds)."""

    address: str
    name: str
    used: int
    version: int
    number: int

    @property
    def shard(self) -> int:
        """The shard that it is stored in."""
        return self.number % SHARDS


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    addresses: list[tuple[str, str, int]]


def shard_key(number: int) -> str:
    """The key of a shard."""
    return f"{PREFIX}/{number:02x}"


def is_name(name: str) -> bool:
    """True for what may be the name of a VIP: labels of lower-case letters, digits and hyphens."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def encode(entries: Iterable[Entry]) -> bytes:
    """The value of a shard: the same entries give the same bytes."""
    ordered = sorted(entries, key=_order)
    return msgspec.json.encode(_Stored(FORMAT, [(entry.address, entry.name, entry.used) for entry in ordered]))


def decode(value: bytes, shard: int) -> dict[str, Entry]:
    """The entries of a shard by address. Raises Damaged."""
    try:
        stored = msgspec.json.decode(value, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(str(error)) from error
    if stored.format != FORMAT:
        raise Damaged(f"format {stored.format}, expected {FORMAT}")
    entries: dict[str, Entry] = {}
    last = (0, -1)
    for address, name, used in stored.addresses:
        try:
            version, number = parsed(address)
        except ValueError as error:
            raise Damaged(str(error)) from error
        if number % SHARDS != shard:
            raise Damaged(f"{address} belongs into another shard")
        if (version, number) <= last:
            raise Damaged(f"{address} is out of order")
        if not is_name(name):
            raise Damaged(f"{name[:80]!r} is no name of a VIP")
        if not 0 <= used < MAX_TIME:
            raise Damaged(f"{used} is no time")
        last = (version, number)
        entries[address] = Entry(address, name, used, version, number)
    return entries


def _order(entry: Entry) -> tuple[int, int]:
    return entry.version, entry.number


class Shard(msgspec.Struct, frozen=True):
    """A shard as it is known: its value (None: absent) with what it says, and its version (None: not known now).

    `damage` says why the value can't be taken ("": it can); the entries are then those known from before.
    """

    value: bytes | None = None
    version: int | None = ABSENT
    entries: Mapping[str, Entry] = {}
    damage: str = ""

    @property
    def full(self) -> bool:
        """True when nothing can be added."""
        return bool(self.damage) or len(self.entries) >= MAX_ENTRIES


def read_shard(before: Shard, number: int, value: bytes | None, version: int | None) -> Shard:
    """The shard with what was read of it. What is known of one that is gone or damaged stays."""
    if value is None:
        return Shard(None, version, before.entries)
    if value == before.value:
        return msgspec.structs.replace(before, version=version)
    try:
        return Shard(value, version, decode(value, number))
    except Damaged as error:
        return Shard(value, version, before.entries, str(error))


def unread(shard: Shard) -> Shard:
    """The shard with the knowledge of its version forgotten."""
    return msgspec.structs.replace(shard, version=None)


class Book:
    """All shards together, by name and by address. `ranges` are those of the IP versions for which there are any."""

    def __init__(self, ranges: Mapping[int, AddressRange]) -> None:
        self.ranges = ranges
        self.shards = [Shard()] * SHARDS
        self.taken = {version: Taken() for version in ranges}
        self._by_name: dict[str, dict[str, Entry]] = {}

    def __len__(self) -> int:
        return sum(len(shard.entries) for shard in self.shards)

    def __iter__(self) -> Iterator[Entry]:
        for shard in self.shards:
            yield from shard.entries.values()

    def names(self) -> Iterable[str]:
        """Every name that has an address, or had one in another range."""
        return self._by_name.keys()

    def replace(self, number: int, shard: Shard) -> set[str]:
        """Put in a shard as it is now; the names whose addresses or times may have changed."""
        old, self.shards[number] = self.shards[number], shard
        changed: set[str] = set()
        for address, entry in old.entries.items():
            if shard.entries.get(address) != entry:
                changed.add(entry.name)
                self._remove(entry)
        for address, entry in shard.entries.items():
            if old.entries.get(address) != entry:
                changed.add(entry.name)
                self._insert(entry)
        return changed

    def entry(self, name: str, version: int) -> Entry | None:
        """What counts of the addresses of a name: in the range, and the first of those that are tried for it."""
        found = self.entries(name, version)
        return min(found, key=self._probes) if len(found) > 1 else next(iter(found), None)

    def entries(self, name: str, version: int) -> list[Entry]:
        """All addresses of a name in the range of an IP version: more than one only after a race."""
        addresses = self.ranges.get(version)
        found = self._by_name.get(name)
        if addresses is None or not found:
            return []
        return [entry for entry in found.values() if entry.version == version and entry.number in addresses]

    def owner(self, address: str) -> str:
        """The name that an address is given to; "" when to none."""
        try:
            number = parsed(address)[1]
        except ValueError:
            return ""
        entry = self.shards[number % SHARDS].entries.get(address)
        return entry.name if entry is not None else ""

    def may_have(self, name: str, address: str) -> bool:
        """True for an address in a range that is given to this name or to none."""
        try:
            version, number = parsed(address)
        except ValueError:
            return False
        in_range = version in self.ranges and number in self.ranges[version]
        return in_range and self.owner(address) in ("", name)

    def _probes(self, entry: Entry) -> int:
        addresses = self.ranges[entry.version]
        return addresses.probes(addresses.start(entry.name), entry.number)

    def _in_range(self, entry: Entry) -> bool:
        return entry.version in self.ranges and entry.number in self.ranges[entry.version]

    def _insert(self, entry: Entry) -> None:
        self._by_name.setdefault(entry.name, {})[entry.address] = entry
        if self._in_range(entry):
            self.taken[entry.version].add(entry.number)

    def _remove(self, entry: Entry) -> None:
        found = self._by_name[entry.name]
        del found[entry.address]
        if not found:
            del self._by_name[entry.name]
        if self._in_range(entry):
            self.taken[entry.version].discard(entry.number)
