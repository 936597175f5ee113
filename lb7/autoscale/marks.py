"""Apps that are marked in the coordinator, as paused or as being deployed: a key each, below one prefix.

    autoscale/paused/HEX      scaling of the app is paused
    deployments/HEX           a deployment of Pharos is under way

HEX is `state.digest` of the app's key. That the key is there is the mark; its value repeats the app's key, for people.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import cast

import msgspec

from lb7.autoscale.state import digest
from mesos_dns.coordinate import ABSENT, Coordinator, CoordinatorLost, VersionConflict
from mesos_dns.model import Key

PAUSED, DEPLOYED = "autoscale/paused", "deployments"

TRIES = 5
RETRY = 1.0
"""Seconds until a watch that ended is begun anew."""


class Marks:
    """See the module. `known` is set once it was seen which there are; while the coordinator is away they stay."""

    def __init__(self, coordinator: Coordinator, prefix: str) -> None:
        self.known = asyncio.Event()
        self._coordinator = coordinator
        self._prefix = prefix
        self._marked: frozenset[str] = frozenset()

    def __contains__(self, hexed: object) -> bool:
        """Whether the app of this digest is marked."""
        return hexed in self._marked

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            watch = cast("AsyncGenerator[dict[str, bytes], None]", self._coordinator.watch(self._prefix))
            with contextlib.suppress(CoordinatorLost):
                async with contextlib.aclosing(watch) as pictures:
                    async for picture in pictures:
                        self._marked = frozenset(key.rpartition("/")[2] for key in picture)
                        self.known.set()
            await asyncio.sleep(RETRY)

    async def set(self, key: Key, marked: bool) -> None:
        """Mark an app, or take the mark away. Raises CoordinatorLost."""
        hexed = digest(key)
        name = f"{self._prefix}/{hexed}"
        for _ in range(TRIES):
            found = await self._coordinator.get(name)
            if (found is not None) == marked:
                # What was just said holds here at once, before the watch shows it.
                self._marked = self._marked | {hexed} if marked else self._marked - {hexed}
                return
            with contextlib.suppress(VersionConflict):
                if found is None:
                    await self._coordinator.put_if(name, msgspec.json.encode({"app": key}), ABSENT)
                else:
                    await self._coordinator.delete_if(name, found.version)
        raise CoordinatorLost(f"others go on changing {name}")
