"""Marathons among frameworks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from agent.marathon_finder import MarathonFinder
from mesos_dns.catalog import Catalog
from mesos_dns.model import Drop, Framework, Put

OURS = Framework("F1", "marathon", webui_url="http://10.0.0.1:8080")


class Found:
    """A finder that runs, and what it has told."""

    def __init__(self, known: bool = True) -> None:
        self.catalog, self.known = Catalog(), known
        self.told: list[Mapping[str, Sequence[str]]] = []
        self.catalog.register("mesos")
        finder = MarathonFinder(
            self.catalog, "mesos", ["marathon", "marathon-user"], self.told.append, lambda: self.known
        )
        self.running = asyncio.create_task(finder.run())

    async def publish(self, *frameworks: Framework) -> None:
        for framework in frameworks:
            self.catalog.publish("mesos", Put(framework))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@pytest.mark.asyncio
async def test_those_of_the_cluster_are_told_and_whenever_they_change() -> None:
    found = Found()
    await found.publish(
        OURS,
        Framework("F2", "chronos", webui_url="http://10.0.0.2:4400"),
        Framework("F3", "marathon", webui_url="http://10.9.0.1:8080", cluster="other"),
    )
    assert found.told[-1] == {"F1": ("http://10.0.0.1:8080",)}
    await found.publish(Framework("F4", "marathon-user", webui_url=""))
    assert found.told[-1] == {"F1": ("http://10.0.0.1:8080",), "F4": ()}
    found.catalog.publish("mesos", Drop(OURS.key))
    await found.settle()
    assert found.told[-1] == {"F4": ()}
    times = len(found.told)
    await found.publish(Framework("F2", "chronos", webui_url="http://10.0.0.3:4400"))
    assert len(found.told) == times
    await found.end()
    await found.publish(OURS)
    assert len(found.told) == times


@pytest.mark.asyncio
async def test_that_there_is_none_is_told_when_all_frameworks_are_known() -> None:
    found = Found(known=False)
    await found.settle()
    assert found.told == []
    found.known = True
    async with asyncio.timeout(30):
        while not found.told:
            await asyncio.sleep(0.05)
    assert found.told == [{}]
    await found.end()


@pytest.mark.asyncio
async def test_one_that_is_there_is_told_at_once_and_its_end_only_when_that_is_known() -> None:
    found = Found(known=False)
    await found.publish(OURS)
    assert found.told[-1] == {"F1": ("http://10.0.0.1:8080",)}
    found.catalog.publish("mesos", Drop(OURS.key))
    await found.settle()
    assert found.told[-1] == {"F1": ("http://10.0.0.1:8080",)}
    await found.end()
