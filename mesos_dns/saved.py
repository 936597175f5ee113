"""Saves the catalog while it changes, and serves what was saved as restored state after a restart.

What a source said is restored as that source's own words: its first Sync is compared with them, so
a restart in a cluster that did not change yields not a single change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mesos_dns.catalog import Catalog, Delta
from mesos_dns.catalog_file import CatalogFile
from mesos_dns.model import Entity, Key, Sync

log = logging.getLogger(__name__)

REWRITES_PER_AGE = 24
"""An unchanged catalog is written this many times per `max_age`, to keep its as-of time true."""

SETTLE = 1.0
"""Seconds from the first change to its save: the rest of a snapshot that is just arriving comes with it."""

COST_FACTOR = 30
"""A pause after a save is at least this many times the save: at most 3 % of a core goes into saving."""


class SavedCatalog:
    """Keeps a catalog's file up to date, and restores from it. `interval` and `max_age` are seconds.

    `extra` is asked at each save for the small values that must survive a restart (the SOA serial).
    """

    def __init__(
        self,
        catalog: Catalog,
        path: Path,
        *,
        max_age: float,
        interval: float,
        extra: Callable[[], Mapping[str, int | str]] = dict,
    ) -> None:
        self.file = CatalogFile(path, max_age)
        self.saves = 0
        self.errors = 0
        self.last_size = 0
        self.last_save_at = 0.0
        self.last_seconds = 0.0
        self._catalog = catalog
        self._interval = interval
        self._extra = extra
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()
        self._saved_version = 0
        self._complaint = ""

    async def restore(self) -> Mapping[str, int | str]:
        """Publish what the file holds for the registered sources, marked restored; the extra values.

        Call it after the sources are registered and before they speak. A source that has spoken
        already, or that is no longer configured, gets nothing.
        """
        saved = await asyncio.to_thread(self.file.load)
        if saved is None:
            return {}
        for name, source in saved.sources.items():
            status = self._catalog.sources.get(name)
            if status is None or self._catalog.said(name):
                log.info("saved catalog: source left out source=%s entities=%d", name, len(source.entities))
                continue
            await self._catalog.sync(name, Sync(changed=source.entities))
            status.restored = True
            status.since = source.as_of
            age = max(0.0, time.time() - source.as_of)
            log.info("restored source=%s entities=%d age=%.0fs", name, len(source.entities), age)
        self._saved_version = self._catalog.version
        return saved.extra

    async def run(self) -> None:
        """Save when the catalog changed, at most every `interval`, until cancelled."""
        refresh = max(self._interval, self.file.max_age / REWRITES_PER_AGE)
        if self._catalog.version != self._saved_version:
            self._changed.set()
        self._catalog.listen(self._note, replay=False)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(refresh):  # wait_for may swallow a cancellation (Python 3.11)
                        await self._changed.wait()
                if self._changed.is_set():
                    await asyncio.sleep(min(SETTLE, self._interval))
                await self.save()
                await asyncio.sleep(max(self._interval, COST_FACTOR * self.last_seconds))
        finally:
            self._catalog.unlisten(self._note)

    async def save(self) -> bool:
        """Save now; False (logged once per reason, counted) when the disk does not take it."""
        async with self._saving:
            self._changed.clear()
            version = self._catalog.version
            began = time.monotonic()
            try:
                self.last_size = await self._write()
            except OSError as error:
                self._failed(error)
                return False
            self.last_seconds = time.monotonic() - began
            self.last_save_at = time.time()
            self._saved_version = version
            self.saves += 1
            self._complaint = ""
            return True

    async def _write(self) -> int:
        now = time.time()
        snapshot: dict[str, Mapping[Key, Entity]] = {}
        as_of: dict[str, float] = {}
        for name, status in self._catalog.sources.items():
            # One source's state is copied within one loop turn, so what it joins fits together.
            snapshot[name] = dict(self._catalog.said(name))
            as_of[name] = status.since if status.stale else now
            await asyncio.sleep(0)
        return await self.file.save(snapshot, self._extra(), as_of)

    def _note(self, delta: Delta) -> None:
        self._changed.set()

    def _failed(self, error: OSError) -> None:
        self.errors += 1
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.error("catalog not saved, the last saved one stays file=%s reason=%s", self.file.path, error)
