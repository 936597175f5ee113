"""Changes of the simulation over HTTP, as benchmarks ask for them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from agent.demo.control import Control
from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.simulation import SimulatedCluster


class Change:
    """Posts changes."""

    def __init__(self, sim: SimulatedCluster, marathon: DeployingMarathon, session: aiohttp.ClientSession) -> None:
        self.sim, self.marathon, self.session = sim, marathon, session

    async def __call__(self, **change: object) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        async with self.session.post(self.sim.urls[0] + "/simulate/change", json=change) as response:
            return response.status, await response.json()


@pytest_asyncio.fixture
async def change() -> AsyncIterator[Change]:
    control = Control()
    async with SimulatedCluster(masters=2, extra=control.handle) as sim, aiohttp.ClientSession() as session:
        sim.cluster.add_agent("10.0.0.1")
        marathon = DeployingMarathon(sim.cluster, sim.cluster.add_framework("marathon"))
        control.attach(sim, marathon)
        yield Change(sim, marathon, session)
        await marathon.close()


@pytest.mark.asyncio
async def test_launch_health_and_kill_say_when_and_where(change: Change) -> None:
    before = time.time()
    status, told = await change(op="launch", app="/bench/one")
    assert status == 200
    assert before <= told["t"] <= time.time()
    assert (told["name"], told["framework"], told["address"]) == ("one.bench", "marathon", "10.0.0.1")
    task = change.marathon.apps["/bench/one"].instances[told["task"]].task
    assert told["endpoints"] == [{"address": "10.0.0.1", "port": task.host_ports[0]}]
    status, again = await change(op="launch")
    assert again["name"] == "one.bench"
    assert again["task"] != told["task"]
    assert (await change(op="health", task=told["task"], healthy=False))[0] == 200
    assert change.marathon.apps["/bench/one"].instances[told["task"]].alive is False
    status, killed = await change(op="kill", app="/bench/one")
    assert killed["task"] == told["task"]
    assert len(change.sim.cluster.tasks) == 1


@pytest.mark.asyncio
async def test_agents_and_leaders(change: Change) -> None:
    (agent,) = change.sim.cluster.agents.values()
    assert (await change(op="agent_unreachable", agent=agent.id))[0] == 200
    assert agent.unreachable
    assert (await change(op="agent_returns", agent=agent.id))[0] == 200
    assert not agent.unreachable
    assert (await change(op="fail_over", to=1))[0] == 200
    assert change.sim.leader is change.sim.masters[1]
    assert not agent.registered
    assert (await change(op="return_all"))[0] == 200
    assert agent.registered
    assert (await change(op="agent_removed", agent=agent.id))[0] == 200
    assert not change.sim.cluster.agents


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"op": "dance"}, "'dance'"),
        ({"op": "kill", "task": "x"}, "'x'"),
        ({"op": "kill"}, "app"),
        ({"op": "health", "app": "/none"}, "'/none'"),
        ({"op": "agent_gone", "agent": "S9"}, "'S9'"),
        ({"op": "fail_over", "to": 7}, "7"),
        ({"op": "launch", "ap": "/typo"}, "ap"),
        ({}, "op"),
    ],
)
async def test_what_cant_be_done_is_said(change: Change, asked: dict[str, object], names: str) -> None:
    status, told = await change(**asked)
    assert status == 400
    assert names in told["error"]


@pytest.mark.asyncio
async def test_stats_and_unknown_paths(change: Change) -> None:
    await change(op="launch", app="/a")
    async with change.session.get(change.sim.urls[0] + "/simulate/stats") as response:
        assert await response.json() == {"tasks": 1, "agents": 1, "events": 0, "subscribers": 0}
    async with change.session.get(change.sim.urls[0] + "/simulate/other") as response:
        assert response.status == 404


@pytest.mark.asyncio
async def test_nothing_to_change_yet() -> None:
    async with (
        SimulatedCluster(extra=Control().handle) as sim,
        aiohttp.ClientSession() as session,
        session.post(sim.urls[0] + "/simulate/change", json={"op": "launch"}) as response,
    ):
        assert response.status == 503
