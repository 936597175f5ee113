"""Runs a MesosSource on a catalog for a test, and waits for what the catalog then says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from mesos_dns.config import MesosConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.mesos import MesosSource
from mesos_dns.zookeeper import Session
from tests.fakes.followed import Followed
from tests.fakes.replay import no_names


class Hasty(random.Random):
    """Dice that always fall near the lower end: no long back-off in tests."""

    def uniform(self, a: float, b: float) -> float:
        return a + min(0.01, (b - a) / 2)


class Following(Followed):
    """A running source. Use as an async context manager."""

    def __init__(
        self,
        *masters: str,
        hosts: Hosts | None = None,
        zookeeper: tuple[Session, str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.config = MesosConfig(masters=masters, **{"resync": 0.0, **settings})
        self.hosts = hosts or Hosts(resolve=no_names)
        self.source = MesosSource(self.config, self.publisher, zookeeper=zookeeper, hosts=self.hosts, dice=Hasty())
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Following:
        self._task = asyncio.create_task(self.source.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, condition: Callable[[], object], limit: float = 20.0) -> None:
        """Wait until `condition` holds; fails after `limit` seconds with what there is."""
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            status = self.catalog.sources["mesos"]
            raise AssertionError(f"not reached; running={sorted(self.running())} status={status}") from None
