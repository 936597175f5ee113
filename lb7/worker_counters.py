"""What a worker has counted since it last told so: native counters only grow, what goes up is the difference.

A difference is never lost: one that could not be told yet is part of the next. The parent adds them up
(`lb7/counters.py`), so its totals need not know when a worker or a cluster began anew. Clusters, which are many, know
themselves what they have told (`_balance.grown_of`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from typing import cast

from lb7.wire import Counts, Value


class Increments:
    """What is new of many sets of counters, each of which belongs to something: a front, an edge."""

    def __init__(self) -> None:
        self._told: dict[Hashable, Mapping[str, Value]] = {}

    def __len__(self) -> int:
        return len(self._told)

    def since(self, owner: Hashable, counts: Mapping[str, Value]) -> Counts:
        """What has grown since this was last asked of the same owner."""
        told = self._told.get(owner)
        if told == counts:
            return {}
        self._told[owner] = counts
        if told is None:
            return {key: value for key, value in counts.items() if _any(value)}
        return {key: _grown(value, told.get(key, 0)) for key, value in counts.items() if value != told.get(key, 0)}

    def keep(self, owners: Set[Hashable]) -> None:
        """All others are gone, and have told their last."""
        for owner in self._told.keys() - owners:
            del self._told[owner]


def add(into: Counts, more: Mapping[str, Value]) -> None:
    """Add counters to others."""
    for key, value in more.items():
        there = into.get(key)
        if isinstance(value, list):
            into[key] = [a + b for a, b in zip(there, value, strict=True)] if isinstance(there, list) else list(value)
        else:
            into[key] = (there if isinstance(there, (int, float)) else 0) + value


def _any(value: Value) -> bool:
    return any(value) if isinstance(value, list) else bool(value)


def _grown(now: Value, told: Value) -> Value:
    if isinstance(now, list):
        before = told if isinstance(told, list) else [0] * len(now)
        return [a - b for a, b in zip(now, before, strict=True)]
    return now - cast(float, told)
