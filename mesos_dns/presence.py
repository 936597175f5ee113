"""Which names a zone has, told as they come and go: for those who must know a name's absence at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Presence(Protocol):
    """Hears of one zone's folded owners, relative to its apex. What hangs below a name implies the name."""

    def enter(self, owner: str) -> None:
        """An owner has got its first record."""

    def leave(self, owner: str) -> None:
        """An owner has lost its last record."""

    def enter_mark(self, mark: str) -> None:
        """From now on any name may exist that has a label ending with this (a task's canonical names)."""

    def leave_mark(self, mark: str) -> None:
        """The counterpart of `enter_mark`."""


class Together:
    """Several who hear of one zone's names."""

    def __init__(self, hearers: Sequence[Presence]) -> None:
        self._hearers = tuple(hearers)

    def enter(self, owner: str) -> None:
        """An owner has got its first record."""
        for hearer in self._hearers:
            hearer.enter(owner)

    def leave(self, owner: str) -> None:
        """An owner has lost its last record."""
        for hearer in self._hearers:
            hearer.leave(owner)

    def enter_mark(self, mark: str) -> None:
        """A task's canonical names have come."""
        for hearer in self._hearers:
            hearer.enter_mark(mark)

    def leave_mark(self, mark: str) -> None:
        """They have gone."""
        for hearer in self._hearers:
            hearer.leave_mark(mark)


def together(hearers: Sequence[Presence]) -> Presence | None:
    """All of them as one; None for nobody."""
    return hearers[0] if len(hearers) == 1 else Together(hearers) if hearers else None
