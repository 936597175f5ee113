"""When each of some services is to be looked at again."""

from __future__ import annotations

from math import inf

from lb4.services import ServiceKey


class Timetable:
    """Service → a time of the caller's clock. Asking what is due costs nothing until something is."""

    def __init__(self) -> None:
        self._at: dict[ServiceKey, float] = {}
        self._soonest: float | None = inf  # None: the entry that it came from is another now

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: ServiceKey) -> bool:
        return key in self._at

    def put(self, key: ServiceKey, at: float) -> None:
        """Look at it then, whatever was said before."""
        self.drop(key)
        self._at[key] = at
        if self._soonest is not None:
            self._soonest = min(self._soonest, at)

    def sooner(self, key: ServiceKey, at: float) -> None:
        """Look at it then, or when it was said before if that is sooner."""
        self.put(key, min(at, self._at.get(key, inf)))

    def drop(self, key: ServiceKey) -> None:
        """No look any more; nothing where none was wanted."""
        if self._at.pop(key, None) == self._soonest:
            self._soonest = None

    def due(self, now: float) -> list[ServiceKey]:
        """What to look at now. It stays due until another time is put, or it is dropped."""
        return [key for key, at in self._at.items() if at <= now] if self.next <= now else []

    @property
    def next(self) -> float:
        """The time of the soonest; infinite: there is none."""
        if self._soonest is None:
            self._soonest = min(self._at.values(), default=inf)
        return self._soonest
