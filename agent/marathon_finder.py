"""Finds the Marathons among a cluster's frameworks, for a source that is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from mesos_dns.catalog import Catalog, Delta
from mesos_dns.model import Framework, Key
from mesos_dns.sources.marathon import marathons_among

Tell = Callable[[Mapping[str, Sequence[str]]], None]


WAIT = 0.2
"""Seconds between two looks whether the cluster's frameworks are known."""


class MarathonFinder:
    """Tells `tell` framework id → URLs of all Marathons of a cluster, and whenever that changes.

    That there is none is told only when `known` says that all frameworks are.
    """

    def __init__(
        self, catalog: Catalog, cluster: str, names: Sequence[str], tell: Tell, known: Callable[[], bool]
    ) -> None:
        self._catalog = catalog
        self._cluster = cluster
        self._names = names
        self._tell = tell
        self._known = known
        self._frameworks: dict[Key, Framework] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            await self._catalog.follow(self._apply)
            while True:
                if self._known():
                    break
                await asyncio.sleep(WAIT)
            self._tell(marathons_among(self._frameworks.values(), self._names))
            await asyncio.Event().wait()
        finally:
            self._catalog.unlisten(self._apply)

    def _apply(self, delta: Delta) -> None:
        before = dict(self._frameworks)
        for key, (_, after) in delta.changes.items():
            if key[0] != "framework":
                continue
            self._frameworks.pop(key, None)
            if isinstance(after, Framework) and after.cluster == self._cluster and after.name in self._names:
                self._frameworks[key] = after
        if self._frameworks != before and (self._frameworks or self._known()):
            self._tell(marathons_among(self._frameworks.values(), self._names))
