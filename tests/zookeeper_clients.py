"""Sessions with a real ZooKeeper for tests, and waiting for what comes of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from mesos_dns.zookeeper import Session
from mesos_dns.zookeeper_target import Target, parse_hosts
from tests.system.ensemble import Ensemble

_numbers = itertools.count()


def unique_path() -> str:
    """A path that no other test uses."""
    return f"/test-{os.getpid()}-{next(_numbers)}"


async def until(condition: Callable[[], object], limit: float = 30.0) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def session(ensemble: Ensemble, *, wait: bool = True, **target: Any) -> AsyncIterator[Session]:
    """A connected session (`wait` False: one that is about to connect)."""
    opened = Session(Target(parse_hosts(ensemble.hosts), **{"session_timeout": 4.0, **target}))
    opened.start()
    try:
        if wait:
            await until(lambda: opened.connected)
        yield opened
    finally:
        await opened.close()


class Events:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.states = 0

    def touched(self, path: str) -> None:
        self.paths.append(path)

    def state_changed(self) -> None:
        self.states += 1
