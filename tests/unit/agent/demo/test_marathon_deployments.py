"""Deployments: scaling, rolling restarts within their bounds, locks, rollback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from agent.demo.cluster import Cluster
from agent.demo.marathon_deployments import DeployingMarathon, Deployment, Locked

CHECKED = {"healthChecks": [{"protocol": "MESOS_HTTP"}]}


@pytest_asyncio.fixture
async def marathon(cluster: Cluster) -> AsyncIterator[DeployingMarathon]:
    found = DeployingMarathon(cluster, next(iter(cluster.frameworks.values())))
    yield found
    await found.close()


async def done(deployment: Deployment) -> None:
    async with asyncio.timeout(60):
        await deployment.done.wait()


async def created(marathon: DeployingMarathon, **more: Any) -> None:
    await done(marathon.create({"id": "/web", **CHECKED, **more}))


@pytest.mark.asyncio
async def test_create_and_scale(marathon: DeployingMarathon) -> None:
    await created(marathon, instances=2)
    for wanted in (5, 1, 0, 3):
        before = list(marathon.apps["/web"].instances)
        await done(marathon.update(marathon.apps["/web"], {"instances": wanted}))
        app = marathon.apps["/web"]
        assert len(app.instances) == wanted
        assert all(map(app.ready, app.instances.values()))
        assert list(app.instances)[: len(before)] == before[:wanted]  # the youngest go first
    assert not marathon.deployments


@pytest.mark.asyncio
@pytest.mark.parametrize(("health", "over"), [(1.0, 1.0), (1.0, 0.0), (0.5, 0.0), (0.0, 0.5)])
async def test_a_restart_stays_within_the_upgrade_strategy(
    marathon: DeployingMarathon, health: float, over: float
) -> None:
    strategy = {"minimumHealthCapacity": health, "maximumOverCapacity": over}
    await created(marathon, instances=4, upgradeStrategy=strategy)
    old = set(marathon.apps["/web"].instances)
    seen: list[tuple[int, int]] = []

    def look(*_: object) -> None:
        app = marathon.apps["/web"]
        seen.append((sum(map(app.ready, app.instances.values())), len(app.instances)))

    marathon.cluster.schedulers.append(look)
    await done(marathon.update(marathon.apps["/web"], {"cmd": "new"}))
    app = marathon.apps["/web"]
    assert len(app.instances) == 4
    assert not old & set(app.instances)
    assert min(ready for ready, _ in seen) >= 4 * health - 1  # a kill is seen while it is under way
    assert max(count for _, count in seen) <= max(4 * (1 + over), 4 * health + 1)


@pytest.mark.asyncio
async def test_an_app_under_way_is_locked_unless_forced(marathon: DeployingMarathon) -> None:
    await created(marathon)
    running = marathon.update(marathon.apps["/web"], {"cmd": "new", "env": {"SIMULATE_HEALTH": "false"}})
    app = marathon.apps["/web"]
    with pytest.raises(Locked) as locked:
        marathon.update(app, {"instances": 2})
    assert locked.value.deployments == [running.id]
    with pytest.raises(Locked):
        marathon.remove(app)
    forced = marathon.update(app, {"env": {}, "instances": 2}, force=True)
    await done(forced)
    assert running.done.is_set()
    assert len(marathon.apps["/web"].instances) == 2


@pytest.mark.asyncio
async def test_a_cancelled_deployment_goes_back(marathon: DeployingMarathon) -> None:
    await created(marathon, instances=2)
    started = marathon.update(marathon.apps["/web"], {"env": {"SIMULATE_HEALTH": "false"}})
    await asyncio.sleep(0)
    back = marathon.cancel(started)
    assert back is not None
    await done(back)
    app = marathon.apps["/web"]
    assert app.definition.env == {}
    assert len(app.instances) == 2
    assert all(map(app.ready, app.instances.values()))


@pytest.mark.asyncio
async def test_remove(marathon: DeployingMarathon) -> None:
    await created(marathon, instances=2)
    await done(marathon.remove(marathon.apps["/web"]))
    assert not marathon.apps
    assert not marathon.cluster.tasks


@pytest.mark.asyncio
async def test_a_task_that_dies_meanwhile_is_made_up_for(marathon: DeployingMarathon) -> None:
    await created(marathon, instances=3)
    deployment = marathon.update(marathon.apps["/web"], {"instances": 4})
    marathon.cluster.fail(next(iter(marathon.apps["/web"].instances.values())).task)
    await done(deployment)
    assert len(marathon.apps["/web"].instances) == 4


@pytest.mark.asyncio
@pytest.mark.parametrize("smaller", [1, 2])
async def test_an_instance_that_is_held_back_counts_once_when_the_app_is_scaled_meanwhile(
    marathon: DeployingMarathon, smaller: int
) -> None:
    await created(marathon, instances=2)
    marathon.hold_back("/web", 0.3)
    victim = next(iter(marathon.apps["/web"].instances.values())).task
    marathon.cluster.update(victim, "TASK_FAILED")
    async with asyncio.timeout(30):
        while not marathon.apps["/web"].starting:
            await asyncio.sleep(0)
    await done(marathon.update(marathon.apps["/web"], {"instances": smaller}))
    await done(marathon.update(marathon.apps["/web"], {"instances": 4}))
    app = marathon.apps["/web"]
    assert (len(app.instances), app.starting) == (4, 0)


@pytest.mark.asyncio
async def test_without_agents_the_app_waits(marathon: DeployingMarathon) -> None:
    for agent in tuple(marathon.cluster.agents.values()):
        marathon.cluster.remove_agent(agent)
    deployment = marathon.create({"id": "/web"})
    await asyncio.sleep(0)
    assert marathon.of_app("/web") == [deployment.id]
    marathon.cluster.add_agent()
    await done(deployment)
    assert len(marathon.apps["/web"].instances) == 1
