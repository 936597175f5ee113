"""Takes tasks that are drained out of the catalog when their time is over, whoever told of them.

Mostly the source that told of a drained task tells as well that it is so no more. It can't where it is lost, or where
what it said is from before a restart; and nobody else may ever take it back. Views go by what is in the catalog: this
is the one place that knows of the clock.

A source's own server may have a clock that is behind: what others told is given SLACK more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf

from mesos_dns.catalog import Catalog, Delta
from mesos_dns.model import Draining, Drop, Key

OWN = "draining"
"""The source that reads the coordinator itself."""

SLACK = 60.0
"""Seconds after its time for which a drained task stays that another server told of."""

LONGEST_WAIT = 30.0
"""Seconds between two looks at the clock at most, while there is something to wait for: it may be set."""

SLICE = 500
"""Tasks that are taken out in one turn of the loop."""


class DrainExpiry:
    """See the module. `follow`, then `run` until cancelled. `clock` tells seconds since 1970."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def follow(self) -> None:
        """Hear from now on which tasks are drained, and of those that are already."""
        self._catalog.listen(self._apply)

    def close(self) -> None:
        """Hear of no more."""
        self._catalog.unlisten(self._apply)

    async def run(self) -> None:
        """Take out what has expired until cancelled."""
        while True:
            self._changed.clear()
            await self.look()
            wait = max(0.0, min(min(self._due.values()) - self._clock(), LONGEST_WAIT)) if self._due else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def look(self) -> None:
        """Take out what has expired by now."""
        now = self._clock()
        over = [key for key, due in self._due.items() if due <= now]
        for number, key in enumerate(over, 1):
            self._drop(key, now)
            if number % SLICE == 0:
                await asyncio.sleep(0)

    def _apply(self, delta: Delta) -> None:
        for key, (_, after) in delta.changes.items():
            if key[0] != "draining":
                continue
            if isinstance(after, Draining):
                self._due[key] = min(self._told(key).values(), default=inf)
                self._changed.set()
            else:
                self._due.pop(key, None)

    def _told(self, key: Key) -> dict[str, float]:
        """When what each source says of a task is over."""
        found = {}
        for source in self._catalog.sources:
            said = self._catalog.said(source).get(key)
            if isinstance(said, Draining):
                found[source] = said.until + (0.0 if source == OWN else SLACK)
        return found

    def _drop(self, key: Key, now: float) -> None:
        told = self._told(key)
        for source in [source for source, due in told.items() if due <= now]:
            del told[source]
            self._catalog.publish(source, Drop(key))
        if told:  # another one says that it goes on
            self._due[key] = min(told.values())
        else:
            self._due.pop(key, None)
