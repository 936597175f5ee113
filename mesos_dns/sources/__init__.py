"""Sources: each follows one place that knows what runs where and publishes what it says.

A source talks to the rest only through a `Publisher`; it never sees the catalog, other sources or
what is made of its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mesos_dns.model import Entity, Key, Sync


class Publisher(Protocol):
    """Where a source puts what it knows. Only the owning source writes; values are kept when it is silent."""

    def put(self, entity: Entity) -> None:
        """This is so now (insert or replace)."""

    def drop(self, key: Key) -> None:
        """This is no more. An unknown key is no error."""

    async def sync(self, change: Sync) -> None:
        """This is everything (of `change.kinds`). Applied in slices, the loop gets turns between them."""

    def said(self) -> Mapping[Key, Entity]:
        """What this source has said so far, restored state included (a live view: do not change it)."""

    def mark(
        self, *, connected: bool, synced: bool | None = None, detail: str = "", since: float | None = None
    ) -> None:
        """The source's standing; what it said stays as it is."""
