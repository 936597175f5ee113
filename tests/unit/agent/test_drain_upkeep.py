"""Which processes read what is drained, and what of it they keep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent.config import load_text
from agent.coordination import Coordination
from agent.drain_upkeep import DrainUpkeep, is_on
from agent.draining import Drains
from agent.sections import Config
from agent.zookeeper_sessions import Sessions
from mesos_dns.catalog import Catalog
from mesos_dns.hosts import system_resolve
from mesos_dns.model import App, Draining, Put

APP = App("/web", framework_id="F1")
MARATHON = '[marathon]\nurls = ["http://127.0.0.1:1"]\n'
RELAY = '[relay]\nservers = ["http://127.0.0.1:1"]\n'


def config(text: str, folder: Path = Path("/nowhere")) -> Config:
    return load_text(f'state_dir = "{folder}/state"\n{text}', "test.toml")


class World:
    """A process' catalog and coordinator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalog = Catalog()
        self.sources: dict[str, Any] = {}
        self.coordination = Coordination(Sessions(system_resolve))
        self.upkeep = DrainUpkeep(self.catalog, self.sources)

    async def open(self, text: str = MARATHON + "[l7]\n") -> None:
        made = config(text, self.folder)
        await self.coordination.open(made)
        await self.upkeep.open(made, self.coordination)

    def drained(self) -> set[str]:
        return {entity.task_id for entity in self.catalog.entities("draining") if isinstance(entity, Draining)}

    async def drain(self, *tasks: str) -> None:
        assert self.coordination.coordinator is not None
        await Drains(self.coordination.coordinator).set(APP, tasks, time.time() + 60)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.upkeep.close()
    await made.coordination.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("text", "on"),
    [
        (MARATHON, False),
        (MARATHON + "[l7]\n", True),
        (MARATHON + "[l4]\n", True),
        (MARATHON + "[autoscale]\n", True),
        (RELAY + "[l7]\n[l4]\n", False),
    ],
)
def test_who_follows_the_orchestrators_reads_it(text: str, on: bool) -> None:
    assert is_on(config(text)) is on


@pytest.mark.asyncio
async def test_what_the_coordinator_has_is_told_also_after_a_reload(world: World) -> None:
    world.upkeep.follow(config(MARATHON + "[l7]\n"))
    assert not world.catalog.sources["draining"].synced
    await world.open()
    assert world.catalog.sources["draining"].synced, "nobody waits for it"
    source = world.sources["draining"]
    await world.drain("a")
    await until(lambda: world.drained() == {"a"})
    await world.open(MARATHON + "[l7]\nhttp = []\n")
    assert world.sources["draining"] is source
    await world.upkeep.end()
    assert world.drained() == {"a"}, "until it is known better"
    assert not world.sources
    await world.coordination.close()
    await world.open()
    assert world.sources["draining"] is not source
    await world.drain("b")
    await until(lambda: world.drained() == {"b"})


@pytest.mark.asyncio
async def test_another_coordinator_is_read_instead(world: World, tmp_path: Path) -> None:
    await world.open()
    await world.drain("a")
    await until(lambda: world.drained() == {"a"})
    world.folder = tmp_path / "other"
    await world.open()
    await until(lambda: not world.drained())


@pytest.mark.asyncio
@pytest.mark.parametrize("text", [RELAY + "[l7]\n", MARATHON])
async def test_when_it_is_off_what_it_said_is_forgotten(world: World, text: str) -> None:
    await world.open()
    await world.drain("a")
    await until(lambda: world.drained() == {"a"})
    await world.open(text)
    assert not world.drained()
    assert (list(world.sources), list(world.catalog.sources)) == ([], [])


@pytest.mark.asyncio
async def test_without_a_coordinator_nothing_is_waited_for(world: World) -> None:
    made = config(MARATHON + "[l7]\n")
    world.upkeep.follow(made)
    await world.upkeep.open(made, world.coordination)
    assert not world.catalog.sources
    await world.upkeep.open(made, world.coordination)


@pytest.mark.asyncio
async def test_a_node_forgets_what_its_server_does_not_take_back(world: World) -> None:
    made = config(RELAY + "[l7]\n")
    world.upkeep.follow(made)
    world.catalog.register("relay")
    world.catalog.publish("relay", Put(Draining("F1", "old", time.time() - 3600)))  # as from a saved catalog
    world.catalog.publish("relay", Put(Draining("F1", "new", time.time() + 3600)))
    await world.upkeep.open(made, world.coordination)
    await until(lambda: world.drained() == {"new"})
