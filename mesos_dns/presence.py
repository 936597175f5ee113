"""Which names a zone has, told as they come and go: for those who must know a name's absence at once."""

from __future__ import annotations

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
