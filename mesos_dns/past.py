"""A dict as it was: seen at once and read later, while the dict itself goes on changing.

To copy a hundred thousand entries takes tens of milliseconds, most of it to fetch each of them from memory.
So nothing is copied but keys, where they are asked for: whoever changes the dict tells `keep` before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Past(Mapping[K, V]):
    """See the module. `keys`: its keys at that moment, where they are asked for."""

    def __init__(self, now: dict[K, V], keys: list[K] | None = None) -> None:
        self._now = now
        self._keys = keys
        self._before: dict[K, V | None] = {}

    def keep(self, key: K) -> bool:
        """The value of a key is about to change (or the key to come or go); True when it was not kept before."""
        if key in self._before:
            return False
        self._before[key] = self._now.get(key)
        return True

    def __getitem__(self, key: K) -> V:
        if key not in self._before:
            return self._now[key]
        value = self._before[key]
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[K]:
        if self._keys is None:
            raise TypeError("made without its keys")
        return iter(self._keys)

    def __len__(self) -> int:
        if self._keys is None:
            raise TypeError("made without its keys")
        return len(self._keys)

    def __bool__(self) -> bool:
        return bool(self._now or self._before)  # True although empty does no harm: no key is found then

    # A view is itself alone: two are compared only to find one in a set.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other
