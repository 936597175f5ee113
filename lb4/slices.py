"""How much is done before the loop gets a turn: some services, or fewer that have many destinations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")

SLICE = 200
"""VIPs or services that are worked on before the loop gets a turn: a few ms of work, for which a change has to wait."""

DESTINATIONS = 2_000
"""Their destinations, beyond which a slice ends sooner. What is larger alone is a slice of its own."""


class Slices:
    """Counts work done; one object for one pass."""

    def __init__(self) -> None:
        self._items = self._destinations = 0

    def ends(self, destinations: int) -> bool:
        """One item more was done, with so many destinations; True: a slice is done, and another begins."""
        self._items += 1
        self._destinations += destinations
        if self._items < SLICE and self._destinations < DESTINATIONS:
            return False
        self._items = self._destinations = 0
        return True


def first(items: Iterable[_T], size: Callable[[_T], int]) -> Iterator[_T]:
    """The first of these that are a slice by their sizes (destinations), one at least. `items` must not be changed
    meanwhile."""
    total = 0
    for number, item in enumerate(items):
        total += size(item)
        if number >= SLICE or (number and total > DESTINATIONS):
            return
        yield item


def slices(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    """SLICE of them at a time."""
    return (items[start : start + SLICE] for start in range(0, len(items), SLICE))
