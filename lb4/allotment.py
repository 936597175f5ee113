"""Which addresses the stored book is to give to which names: decided here, written by the allocator.

Names get addresses in the order in which they are placed. One that was told to have an address before gets
that again, where it is free; else the first free one from where its hash says. When none is free, the address
of the name that was longest unused is given up; that of a name in use never.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec

from lb4.addresses import AddressRange, parsed, probe
from lb4.allocations import MAX_ENTRIES, Book, Entry, Shard, is_name

DAY = 86_400
"""Seconds for which a name that is in use no more counts as if it were, when its address is told or reserved."""

TOUCH = 3_600
"""Seconds after which it is written that a name is still in use."""

REFRESH = 600
"""The same, for names whose shard is written anyway: so each shard is written once an hour, not each name."""

Wanted: TypeAlias = Mapping[str, frozenset[int]]
"""The names of VIPs in use, each with the IP versions in which it needs an address."""

Told: TypeAlias = Callable[[str, int], str]
"""The address that was told of a name before, for an IP version; "" when none was."""


class Change(NamedTuple):
    """What an address was given to, and what it is to be given to; None: to no name."""

    before: Entry | None
    after: Entry | None


Changes: TypeAlias = dict[int, dict[str, Change]]
"""By shard and address."""


class Allotment:
    """One pass over a book: `place` names, then `finish`. While it lasts, what is given counts as taken in the book.

    `reserved` are addresses (canonical texts) that no name may be given; `clashes` afterwards are those that a name in
    use has. `left` says when names were last in use, where that is known better than stored. `give_up` False: no
    stored address is given up. `now` is epoch seconds.
    """

    def __init__(
        self,
        book: Book,
        wanted: Wanted,
        now: int,
        *,
        reserved: Collection[str] = (),
        told: Told = lambda name, version: "",
        left: Mapping[str, int] | None = None,
        give_up: bool = True,
    ) -> None:
        self.changes: Changes = {}
        self.without: list[str] = []
        self.refused: list[str] = []
        self.clashes: list[tuple[str, str]] = []
        self.given = 0
        self.given_up = 0
        self._book = book
        self._wanted = wanted
        self._now = now
        self._reserved = frozenset(reserved)
        self._told = told
        self._left = left or {}
        self._give_up = give_up
        self._added: list[tuple[int, int]] = []
        self._more: Counter[int] = Counter()
        self._exhausted: set[int] = set()
        self._unused: dict[int, Iterator[Entry]] = {}
        for address in self._reserved:
            for version, addresses in book.ranges.items():
                if (number := _number(address, addresses)) is not None and not self._take(version, number):
                    if version in wanted.get(owner := book.owner(address), ()):
                        self.clashes.append((address, owner))

    def place(self, name: str) -> None:
        """Give a wanted name the addresses that it lacks. It is among those `without` when one can't be had,
        `refused` when it is no name."""
        if not is_name(name):
            self.refused.append(name)
            return
        lacks = False
        for version in sorted(self._wanted[name]):
            entry = self._book.entry(name, version)
            if entry is not None:
                if not self._is_void(entry):
                    continue
                self._change(entry.address, entry.shard, Change(entry, None))
            lacks |= not (version in self._book.ranges and self._give(name, version))
        if lacks:
            self.without.append(name)

    def finish(self) -> Changes:
        """What is to be written. The book is again as it was."""
        for version, number in self._added:
            self._book.taken[version].discard(number)
        self._added.clear()
        return self.changes

    def _give(self, name: str, version: int) -> bool:
        addresses = self._book.ranges[version]
        number = _number(self._told(name, version), addresses)
        if number is not None and self._book.shards[number % len(self._book.shards)].damage:
            return True  # it may well be stored as it was told: only that can't be read
        if number is None or number in self._book.taken[version] or not self._has_room(number):
            number = self._free(name, version, addresses)
        if number is None:
            return self._give_anothers(name, version)
        self._take(version, number)
        new = Entry(addresses.text(number), name, self._now, version, number)
        self._change(new.address, new.shard, Change(None, new))
        return True

    def _free(self, name: str, version: int, addresses: AddressRange) -> int | None:
        if version in self._exhausted:
            return None
        number = probe(addresses, addresses.start(name), self._book.taken[version], self._has_room)
        if number is None:
            self._exhausted.add(version)  # nothing becomes free in this pass
        return number

    def _give_anothers(self, name: str, version: int) -> bool:
        """Give a name the address of the name that was longest unused."""
        if not self._give_up:
            return False
        if version not in self._unused:
            self._unused[version] = iter(self._candidates(version))
        old = next(self._unused[version], None)
        if old is None:
            return False
        self.given_up += 1
        self._change(old.address, old.shard, Change(old, msgspec.structs.replace(old, name=name, used=self._now)))
        return True

    def _candidates(self, version: int) -> list[Entry]:
        """What may be given up of a range: the longest unused first."""
        addresses = self._book.ranges[version]
        found = [
            entry
            for entry in self._book
            if entry.version == version
            and entry.number in addresses
            and version not in self._wanted.get(entry.name, ())
            and entry.address not in self._reserved
            and not self._book.shards[entry.shard].damage
        ]
        return sorted(found, key=lambda entry: (self._used(entry), entry.number))

    def _used(self, entry: Entry) -> int:
        """When a name was last in use; a clock that was wrong in between makes no name newer than now."""
        return min(max(entry.used, self._left.get(entry.name, 0)), self._now)

    def _is_void(self, entry: Entry) -> bool:
        """True for an address that was reserved while its name had not been in use for long."""
        return (
            entry.address in self._reserved
            and self._now - self._used(entry) > DAY
            and not self._book.shards[entry.shard].damage
        )

    def _has_room(self, number: int) -> bool:
        at = number % len(self._book.shards)
        shard = self._book.shards[at]
        return not shard.damage and len(shard.entries) + self._more[at] < MAX_ENTRIES

    def _take(self, version: int, number: int) -> bool:
        """Let an address count as taken; False when it is."""
        new = self._book.taken[version].add(number)
        if new:
            self._added.append((version, number))
        return new

    def _change(self, address: str, at: int, change: Change) -> None:
        """Note what is to become of an address in shard `at`."""
        self.changes.setdefault(at, {})[address] = change
        self._more[at] += (change.after is not None) - (change.before is not None)
        self.given += change.after is not None


@lru_cache(maxsize=1 << 14)
def _number(text: str, addresses: AddressRange) -> int | None:
    """An address's number when it is in the range; None for all other texts."""
    try:
        version, number = parsed(text)
    except ValueError:
        return None
    return number if version == addresses.version and number in addresses else None


def tidy(book: Book, at: int, wanted: Wanted, now: int) -> dict[str, Change]:
    """What is to be changed in one shard without being asked for: uses that are to be noted, what no name keeps.

    A name keeps one of two addresses of a range, and of one outside the ranges (of a configuration that was, or is
    about to be) for a day.
    """
    changes: dict[str, Change] = {}
    shard = book.shards[at]
    for entry in () if shard.damage else shard.entries.values():
        counts = book.entry(entry.name, entry.version)
        in_range = entry.version in book.ranges and entry.number in book.ranges[entry.version]
        if (in_range and counts != entry) or (not in_range and now - entry.used > DAY):
            changes[entry.address] = Change(entry, None)
        elif in_range and entry.version in wanted.get(entry.name, ()) and abs(now - entry.used) >= TOUCH:
            changes[entry.address] = Change(entry, msgspec.structs.replace(entry, used=now))
    return changes


def applied(shard: Shard, changes: Mapping[str, Change], wanted: Wanted, now: int) -> tuple[dict[str, Entry], int]:
    """A shard's entries after `changes`, and how many of these were left out: what they stand on is another now."""
    entries = dict(shard.entries)
    skipped = 0
    for address, (before, after) in changes.items():
        if entries.get(address) != before:
            skipped += 1
        elif after is None:
            entries.pop(address, None)
        else:
            entries[address] = after
    for address, entry in entries.items():
        if abs(now - entry.used) >= REFRESH and entry.version in wanted.get(entry.name, ()):
            entries[address] = msgspec.structs.replace(entry, used=now)
    return entries, skipped
