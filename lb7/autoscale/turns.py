"""When each app is decided about: every interval, each at its own time of it; at once when it is woken."""

from __future__ import annotations

import heapq
from collections.abc import Collection

from lb7.autoscale.state import digest
from mesos_dns.model import Key


class Turns:
    """See the module. Times are the event loop's."""

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._line: list[tuple[float, Key]] = []
        self._woken: dict[Key, None] = {}

    def __len__(self) -> int:
        return len(self._at)

    def keep(self, apps: Collection[Key], now: float, interval: float) -> list[Key]:
        """These are all there are. Returns those that are no more; the new ones come within an interval."""
        gone = [key for key in self._at if key not in apps]
        for key in gone:
            del self._at[key]
            self._woken.pop(key, None)
        for key in apps:
            if key not in self._at:
                self._set(key, now + interval * int(digest(key)[-8:], 16) / 2**32)
        return gone

    def within(self, now: float, interval: float) -> None:
        """The interval is another: nobody waits for longer than that."""
        for key, at in list(self._at.items()):
            if at > now + interval:
                self._set(key, now + (at - now) % interval)

    def wake(self, key: Key) -> bool:
        """Let an app be the next; False where there is no such app."""
        if key not in self._at:
            return False
        self._woken[key] = None
        return True

    def sooner(self, key: Key, at: float) -> None:
        """Let an app come not later than at a time."""
        if at < self._at.get(key, at):
            self._set(key, at)

    def next(self, now: float, interval: float) -> Key | None:
        """The app whose turn it is, and give it its next; None: no one's."""
        if self._woken:
            key = next(iter(self._woken))
            del self._woken[key]
            self._set(key, now + interval)
            return key
        while self._line and self._line[0][0] <= now:
            at, key = heapq.heappop(self._line)
            if self._at.get(key) == at:
                # Who is late keeps its place in the interval, unless it is later than that.
                self._set(key, at + interval if at + interval > now else now + interval)
                return key
        return None

    def wait(self, now: float, most: float) -> float:
        """Seconds until it is somebody's turn, at most so many."""
        if self._woken:
            return 0.0
        while self._line and self._at.get(self._line[0][1]) != self._line[0][0]:
            heapq.heappop(self._line)
        return max(0.0, min(most, self._line[0][0] - now)) if self._line else most

    def _set(self, key: Key, at: float) -> None:
        self._at[key] = at
        heapq.heappush(self._line, (at, key))
