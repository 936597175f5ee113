"""Which tasks are drained, in this process: read from the coordinator where that is asked for, forgotten in time.

    coordinator ─▶ DrainSource ─▶ catalog ─▶ route view, virtual IPs, followers
                                    ▲ └─ DrainExpiry: what is over goes
    another server ─▶ relay ────────┘

A process that follows the orchestrators reads the coordinator itself, where it has one for `[l4]`, `[l7]` or
`[autoscale]`; with `[relay]` a server tells.
"""

from __future__ import annotations

from typing import Any

from agent.background import Background
from agent.coordination import Coordination
from agent.drain_expiry import OWN, DrainExpiry
from agent.draining import DrainSource
from agent.sections import Config
from mesos_dns.catalog import Catalog
from mesos_dns.coordinate import Coordinator
from mesos_dns.publish import CatalogPublisher


class DrainUpkeep:
    """See the module. `follow`, `open`; `open` again after each reload; `close`. `sources` is the process' register."""

    def __init__(self, catalog: Catalog, sources: dict[str, Any]) -> None:
        self.expiry = DrainExpiry(catalog)
        self._catalog = catalog
        self._sources = sources
        self._coordinator: Coordinator | None = None
        self._background = Background()

    def follow(self, config: Config) -> None:
        """See to it from now on that nothing is drained longer than it is to be. Call it before what was saved is
        restored: the source is registered for that."""
        if is_on(config):
            self._catalog.register(OWN)
        self.expiry.follow()
        self._background.spawn("drains expire", self.expiry.run())

    async def open(self, config: Config, coordination: Coordination) -> None:
        """Tell what the coordinator has, if the configuration asks for it and there is one; else forget it."""
        coordinator = coordination.coordinator if is_on(config) else None
        if coordinator is None or coordinator is not self._coordinator:
            await self.end()
        if coordinator is None:
            if OWN in self._catalog.sources:
                await self._catalog.forget(OWN)
        elif OWN not in self._background:
            publisher = CatalogPublisher(self._catalog, OWN)
            # Nobody who asks whether this process is ready needs to wait for it.
            publisher.mark(connected=False, synced=True, detail="the coordinator was not read yet")
            self._coordinator = coordinator
            self._sources[OWN] = source = DrainSource(publisher, coordinator)
            self._background.spawn(OWN, source.run())

    async def end(self) -> None:
        """Use the coordinator no more, which is to be closed. What is known stays until its time is over."""
        await self._background.end(OWN)
        self._sources.pop(OWN, None)
        self._coordinator = None

    async def close(self) -> None:
        """End everything."""
        await self.end()
        await self._background.end_all()
        self.expiry.close()


def is_on(config: Config) -> bool:
    """Whether a process reads itself what is drained, if it has a coordinator."""
    wanted = config.l4 is not None or config.l7 is not None or config.autoscale is not None
    return wanted and config.relay is None
