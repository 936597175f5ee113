"""The simulated Marathon keeps its instances running, with servers and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from agent.demo.cluster import Cluster
from agent.demo.marathon import Marathon, NoAgent
from agent.demo.task_servers import TaskServers


@pytest_asyncio.fixture
async def marathon(cluster: Cluster) -> AsyncIterator[Marathon]:
    found = Marathon(cluster, next(iter(cluster.frameworks.values())))
    yield found
    await found.close()


async def until_running(marathon: Marathon, name: str, count: int) -> list[str]:
    """Ids of the app's tasks once so many are ready."""
    async with asyncio.timeout(60):
        app = marathon.apps[name]
        while sum(map(app.ready, app.instances.values())) != count:
            await marathon.change()
    return list(app.instances)


@pytest.mark.asyncio
async def test_a_task_that_ends_is_replaced(marathon: Marathon) -> None:
    marathon.create_now({"id": "/web", "instances": 2, "healthChecks": [{"protocol": "MESOS_HTTP"}]})
    before = await until_running(marathon, "/web", 2)
    task = marathon.apps["/web"].instances[before[0]].task
    marathon.cluster.fail(task)
    assert len(marathon.apps["/web"].instances) == 1
    after = await until_running(marathon, "/web", 2)
    assert before[0] not in after
    assert before[1] in after


@pytest.mark.asyncio
async def test_tasks_of_a_lost_agent_start_elsewhere_when_it_is_removed(marathon: Marathon) -> None:
    marathon.create_now({"id": "/web", "instances": 4})
    gone, stays = marathon.cluster.agents.values()
    marathon.cluster.remove_agent(gone)
    await until_running(marathon, "/web", 4)
    assert {instance.task.agent for instance in marathon.apps["/web"].instances.values()} == {stays}


@pytest.mark.asyncio
async def test_an_unreachable_task_is_kept(marathon: Marathon) -> None:
    marathon.create_now({"id": "/web", "instances": 2})
    away = next(iter(marathon.cluster.agents.values()))
    marathon.cluster.agent_unreachable(away)
    states = sorted(instance.task.state for instance in marathon.apps["/web"].instances.values())
    assert states == ["TASK_RUNNING", "TASK_UNREACHABLE"]
    marathon.cluster.agent_returns(away)
    states = sorted(instance.task.state for instance in marathon.apps["/web"].instances.values())
    assert states == ["TASK_RUNNING", "TASK_RUNNING"]


def test_no_agent_takes_tasks(cluster: Cluster) -> None:
    marathon = Marathon(cluster, next(iter(cluster.frameworks.values())))
    for agent in cluster.agents.values():
        cluster.drain_agent(agent)
    with pytest.raises(NoAgent):
        marathon.pick_agent()


def test_agents_take_turns(cluster: Cluster) -> None:
    marathon = Marathon(cluster, next(iter(cluster.frameworks.values())))
    picked = [marathon.pick_agent() for _ in range(4)]
    assert picked == [*cluster.agents.values()] * 2
    new = cluster.add_agent()
    assert new in [marathon.pick_agent() for _ in range(3)]


@pytest.mark.asyncio
async def test_marathons_own_checks_stay_in_marathon(marathon: Marathon) -> None:
    """A MARATHON_HTTP check never shows in Mesos."""
    marathon.create_now({"id": "/web", "healthChecks": [{"protocol": "HTTP"}]})
    (instance,) = marathon.apps["/web"].instances.values()
    assert instance.alive is True
    assert instance.task.healthy is None
    marathon.set_health(instance, False)
    assert instance.alive is False
    assert instance.task.healthy is None


@pytest.mark.asyncio
async def test_every_task_is_a_server(cluster: Cluster) -> None:
    servers = TaskServers()
    cluster.overlay = "127"
    marathon = Marathon(cluster, next(iter(cluster.frameworks.values())), servers=servers)
    port = {"containerPort": 18080, "name": "http"}
    definitions: list[dict[str, Any]] = [
        {"id": "/host", "healthChecks": [{"protocol": "MESOS_HTTP"}]},
        {"id": "/overlay", "networks": [{"mode": "container"}], "container": {"portMappings": [port]}},
    ]
    try:
        async with aiohttp.ClientSession() as session:
            for definition in definitions:
                app = marathon.new_app(definition)
                marathon.apps[app.definition.id] = app
                await marathon.fill(app)
                (instance,) = app.instances.values()
                ((address, number),) = instance.task.endpoints
                async with session.get(f"http://{address}:{number}/") as response:
                    assert (await response.json())["task"] == instance.task.id
            (instance,) = marathon.apps["/host"].instances.values()
            marathon.set_health(instance, False)
            ((address, number),) = instance.task.endpoints
            async with session.get(f"http://{address}:{number}/health") as response:
                assert response.status == 503
            marathon.apps["/host"].definition.instances = 0
            await marathon.kill(instance.task)
            await asyncio.sleep(0)
            assert instance.task.id not in servers.by_task
    finally:
        await marathon.close()
    assert not servers.by_task
