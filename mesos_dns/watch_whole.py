"""Telling everything to many at once: whose turn it is, and what was encoded a moment ago for somebody else.

After a cold start or when a server is replaced every follower wants everything at the same time. A few are told at a
time, in the order in which they came; the others wait, and cost nothing meanwhile. What is told is encoded once per
bucket and kind, kept within a bound for as long as somebody is told or waits (and a while after that), and dropped
when something in it changes. No I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias

from mesos_dns.model import Key
from mesos_dns.watch_wire import BUCKETS, MOST_ENTITIES, ORDER, SLICE_OCTETS

MOST_TELLINGS = 16
"""Followers that are told everything at a time."""

WHOLE_OCTETS = 64 << 20
"""Octets of what is kept encoded: twice the size of a cluster of 100,000 tasks."""

Part: TypeAlias = tuple[int, bytes]
"""How many entities, and their JSON with commas between."""

Place: TypeAlias = tuple[str, int]
"""A kind and a bucket."""


class Waiter(Protocol):
    """One that wants to be told everything."""

    def wake(self) -> None:
        """It is your turn."""


class Turns:
    """At most `most` at a time, first come, first served."""

    def __init__(self, most: int = MOST_TELLINGS) -> None:
        self._most = most
        self._now: set[Waiter] = set()
        self._queue: OrderedDict[Waiter, None] = OrderedDict()

    @property
    def now(self) -> int:
        """How many have their turn."""
        return len(self._now)

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._queue)

    def granted(self, waiter: Waiter) -> bool:
        """True when it is its turn, until it leaves; otherwise it is in the queue and is woken when it is."""
        if waiter not in self._now:
            self._queue[waiter] = None
            self._admit()
        return waiter in self._now

    def leave(self, waiter: Waiter) -> None:
        """It has been told, or has gone. Again, or without ever having asked: nothing happens."""
        self._queue.pop(waiter, None)
        self._now.discard(waiter)
        self._admit()

    def _admit(self) -> None:
        while self._queue and len(self._now) < self._most:
            waiter, _ = self._queue.popitem(last=False)
            self._now.add(waiter)
            waiter.wake()


class Whole:
    """The keys that followers are told of, by bucket and kind, and what was encoded of them lately.

    `encoded` gives an entity's JSON as it is now, None when there is none. Values are what a key brings into its
    bucket's digest.
    """

    def __init__(self, encoded: Callable[[Key], bytes | None], octets: int = WHOLE_OCTETS) -> None:
        self.octets = 0
        self._encoded = encoded
        self._most = octets
        self._index: list[dict[str, dict[Key, int]]] = [{} for _ in range(BUCKETS)]
        self._kept: OrderedDict[Place, Part | None] = OrderedDict()

    def swap(self, bucket: int, key: Key, value: int | None) -> int | None:
        """Note a key's value (None: it is told of no more); the one it had."""
        kinds = self._index[bucket]
        held = kinds.setdefault(key[0], {})
        before = held.get(key)
        if value is not None:
            held[key] = value
        elif before is not None:
            del held[key]
        if not held:
            del kinds[key[0]]
        if before != value:
            self._forget((key[0], bucket))
        return before

    def keys(self, bucket: int, kind: str = "") -> list[Key]:
        """The keys of a bucket, or those of one kind."""
        kinds = self._index[bucket]
        if kind:
            return list(kinds.get(kind, ()))
        return [key for held in kinds.values() for key in held]

    def places(self, buckets: Iterable[int]) -> list[Place]:
        """Where there is something to tell, in the order in which it is told."""
        numbers = sorted(buckets)
        return [(kind, bucket) for kind in ORDER for bucket in numbers if kind in self._index[bucket]]

    def part(self, place: Place) -> Part | None:
        """All of a place as it is now; None when that is too much for one message."""
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        kind, bucket = place
        keys = self._index[bucket].get(kind, {})
        part = self._joined(keys) if len(keys) <= MOST_ENTITIES else None
        self._kept[place] = part
        self.octets += _size(part)
        while self.octets > self._most:
            _, oldest = self._kept.popitem(last=False)
            self.octets -= _size(oldest)
        return part

    def portions(self, place: Place) -> Iterator[list[bytes]]:
        """What is too much for one message, in portions; each is of the moment when it is asked for."""
        portion: list[bytes] = []
        size = 0
        kind, bucket = place
        for key in self.keys(bucket, kind):
            encoded = self._encoded(key)
            if encoded is None:
                continue
            portion.append(encoded)
            size += len(encoded)
            if len(portion) >= MOST_ENTITIES or size >= SLICE_OCTETS:
                yield portion
                portion, size = [], 0
        if portion:
            yield portion

    def clear(self) -> None:
        """Keep nothing encoded."""
        self._kept.clear()
        self.octets = 0

    def _joined(self, keys: Iterable[Key]) -> Part | None:
        found: list[bytes] = []
        size = 0
        for key in keys:
            encoded = self._encoded(key)
            if encoded is None:
                continue
            found.append(encoded)
            size += len(encoded) + 1
            if size > SLICE_OCTETS:
                return None
        return len(found), b",".join(found)

    def _forget(self, place: Place) -> None:
        if place in self._kept:
            self.octets -= _size(self._kept.pop(place))


def _size(part: Part | None) -> int:
    """Octets that a kept part counts for."""
    return 0 if part is None else len(part[1])
