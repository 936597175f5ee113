"""What simulated agents say of their tasks: in the recorded shape, and as Pharos reads it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from agent.demo.agent_statistics import AgentStatistics
from agent.demo.cluster import Cluster
from agent.demo.spec import TaskSpec
from agent.demo.world import Agent, Task
from lb7.autoscale.agent_usage import Usages, add_container

RECORDED = Path(__file__).resolve().parents[3] / "data" / "mesos-api"
HOST = "127.0.0.98"


class Clock:
    """Seconds that a test lets pass."""

    now = 1_795_409_862.5

    def __call__(self) -> float:
        return self.now


class Made:
    """One agent with two tasks of one app."""

    def __init__(self) -> None:
        self.clock, self.cluster = Clock(), Cluster()
        self.told = AgentStatistics(self.cluster, self.clock)
        self.agent: Agent
        self.tasks: list[Task] = []

    async def start(self) -> None:
        self.agent = await self.told.add_agent(HOST)
        marathon = self.cluster.add_framework("marathon")
        spec = TaskSpec("web.shop", task_prefix="shop_web", cpus=0.3, mem=96)
        self.tasks = [self.cluster.start(marathon, spec, self.agent) for _ in range(2)]

    async def ask(self) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{HOST}:{self.agent.port}/monitor/statistics") as answer,
        ):
            assert answer.status == 200
            return await answer.json()

    def read(self, before: Usages) -> Usages:
        """As Pharos reads it."""
        found = Usages()
        for container in self.told.statistics(self.agent):
            add_container(msgspec.json.encode(container), before, found)
        return found


@pytest_asyncio.fixture
async def made() -> AsyncIterator[Made]:
    found = Made()
    await found.start()
    yield found
    await found.told.close()


@pytest.mark.asyncio
async def test_its_shape_is_the_recorded_one(made: Made) -> None:
    recorded = [
        element
        for element in json.loads((RECORDED / "agent_statistics_1.json").read_text())
        if element["source"]  # a pod's has none
    ]
    for element in await made.ask():
        assert element.keys() == recorded[0].keys()
        assert {key: type(value) for key, value in element["statistics"].items()} == {
            key: type(value) for key, value in recorded[0]["statistics"].items()
        }
    # Both have the executor's share beside their own: recorded were apps of 0.1 processors and 32 MiB.
    assert recorded[0]["statistics"]["cpus_soft_limit"] == 0.2
    assert element["statistics"]["cpus_soft_limit"] == 0.4
    assert element["statistics"]["mem_limit_bytes"] == 128 << 20


@pytest.mark.asyncio
async def test_an_app_and_one_of_its_tasks_use_what_was_said(made: Made) -> None:
    first, second = made.tasks
    made.told.use("shop_web", cpu=0.5, memory=0.25)
    before = made.read({})
    made.clock.now += 5
    made.told.use(second.id, cpu=1.0, memory=0.5)  # what it used till now is not forgotten
    made.clock.now += 5
    found = made.read(before)
    usages = [found[made.tasks[0].framework.id, task.id] for task in (first, second)]
    assert [usage.cpu for usage in usages] == [pytest.approx(0.5), pytest.approx(0.75)]
    assert [usage.memory for usage in usages] == [0.25, 0.5]


@pytest.mark.asyncio
async def test_one_that_is_silent_answers_nothing(made: Made) -> None:
    made.told.silent.add(made.agent.id)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await made.ask()
    made.told.silent.clear()
    assert len(await made.ask()) == 2
    assert made.told.requests == 2
