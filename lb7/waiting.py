"""Requests that wait for a place at a server: first come, first served, and no place stays free while one waits.

Whoever is woken is out of the queue and has its turn in the next round of the loop. It may take a place, wait again (in
its old place), or do neither; the next is woken then. One that gives up between being woken and its turn hands its turn
on. So as long as `wake` is called when places come free, none is lost.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol


class Waiter(Protocol):
    """Who waits; equal to none but itself."""

    def room(self) -> None:
        """There may be a place: try again."""


class Waiting:
    """At most `most` waiters. `places` is told how many wait now, and says how many places are free now.

    `has_turn`: somebody's `room()` runs now. All is to be called on the loop's thread.
    """

    def __init__(self, most: int, places: Callable[[int], int]) -> None:
        self._most = most
        self._places = places
        self._first: OrderedDict[Waiter, None] = OrderedDict()
        self._queue: OrderedDict[Waiter, None] = OrderedDict()
        self._woken: set[Waiter] = set()
        self.has_turn = False

    def __len__(self) -> int:
        """Those who are woken but had no turn yet are counted too."""
        return len(self._first) + len(self._queue) + len(self._woken)

    def add(self, waiter: Waiter, most: int | None = None, first: bool = False) -> bool:
        """Wait: in front when it is this one's turn; `first`: before those who never left; else at the end. False: too
        many do (`most`, where it is not the usual limit)."""
        if not self.has_turn and len(self) >= (self._most if most is None else most):
            return False
        line = self._first if first or self.has_turn else self._queue
        line[waiter] = None
        if self.has_turn:
            line.move_to_end(waiter, last=False)
            self._places(len(self))
        else:
            self.wake()
        return True

    def drop(self, waiter: Waiter) -> None:
        """Wait no more; nothing where it does not."""
        for line in (self._first, self._queue):
            if waiter in line:
                del line[waiter]
        self._woken.discard(waiter)
        self.wake()

    def wake(self) -> None:
        """Wake as many as there are free places that nobody was woken for yet."""
        places = self._places(len(self)) - len(self._woken)
        while places > 0 and (self._first or self._queue):
            self._wake_first()
            places -= 1

    def wake_all(self) -> None:
        """There is nothing to wait for any more."""
        while self._first or self._queue:
            self._wake_first()

    def _wake_first(self) -> None:
        waiter, _ = (self._first or self._queue).popitem(last=False)
        self._woken.add(waiter)
        asyncio.get_running_loop().call_soon(self._turn, waiter)

    def _turn(self, waiter: Waiter) -> None:
        if waiter not in self._woken:  # it gave up, or has had its turn and waits again
            return
        self._woken.remove(waiter)
        self.has_turn = True
        try:
            waiter.room()
        finally:
            self.has_turn = False
            self.wake()
