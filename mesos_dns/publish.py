"""Connects one source to the catalog: the Publisher that is handed to a source under its name."""

from __future__ import annotations

from collections.abc import Mapping

from mesos_dns.catalog import Catalog
from mesos_dns.model import Drop, Entity, Key, Put, Sync


class CatalogPublisher:
    """A `mesos_dns.sources.Publisher` over a catalog; creating it registers the source.

    A source registered earlier wins where two speak of one key, so the order of creation is the
    order of trust.
    """

    def __init__(self, catalog: Catalog, source_name: str) -> None:
        self._catalog = catalog
        self._source = source_name
        catalog.register(source_name)

    def __repr__(self) -> str:
        return f"<CatalogPublisher source={self._source} entities={len(self.said())}>"

    def put(self, entity: Entity) -> None:
        """This is so now (insert or replace)."""
        self._catalog.publish(self._source, Put(entity))

    def drop(self, key: Key) -> None:
        """This is no more. An unknown key is no error."""
        self._catalog.publish(self._source, Drop(key))

    async def sync(self, change: Sync) -> None:
        """This is everything (of `change.kinds`), applied in slices."""
        await self._catalog.sync(self._source, change)

    def said(self) -> Mapping[Key, Entity]:
        """What this source has said so far, restored state included (a live view: do not change it)."""
        return self._catalog.said(self._source)

    def mark(
        self, *, connected: bool, synced: bool | None = None, detail: str = "", since: float | None = None
    ) -> None:
        """The source's standing; what it said stays as it is."""
        self._catalog.mark(self._source, connected=connected, synced=synced, detail=detail, since=since)
