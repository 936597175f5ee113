"""Leadership of the simulated masters: fail-over, followers, and what the new leader knows."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from agent.demo.simulation import SimulatedCluster
from agent.demo.spec import TaskSpec
from tests.unit.agent.demo.client import subscribed


@pytest.mark.asyncio
async def test_the_first_master_leads_and_events_come_from_the_leader_alone() -> None:
    async with SimulatedCluster(masters=2) as sim:
        assert sim.leader is sim.masters[0]
        assert sim.masters[0].leads
        assert not sim.masters[1].leads
        assert len(set(sim.urls)) == 2
        sim.cluster.add_agent()
        assert [master.stream.events_sent for master in sim.masters] == [0, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize("dead", [False, True])
async def test_a_fail_over_cuts_streams_and_the_new_leader_knows_little(dead: bool) -> None:
    async with SimulatedCluster(masters=2) as sim:
        framework = sim.cluster.add_framework("marathon")
        agents = [sim.cluster.add_agent() for _ in range(2)]
        tasks = [sim.cluster.start(framework, TaskSpec("web"), agent) for agent in agents]
        async with subscribed(sim.urls[0]) as old:
            await old.record()
            await sim.fail_over(to=1, agents=1, dead=dead)
            with pytest.raises((aiohttp.ClientError, asyncio.IncompleteReadError, ConnectionError)):
                await old.until_end()
        assert sim.leader is sim.masters[1]
        assert sim.masters[0].running != dead
        async with subscribed(sim.urls[1]) as new:
            state = (await new.record())["subscribed"]["get_state"]
            assert [task["task_id"]["value"] for task in state["get_tasks"]["tasks"]] == [tasks[0].id]
            assert [agent["id"]["value"] for agent in state["get_agents"]["recovered_agents"]] == [agents[1].id]
            assert len(state["get_agents"]["agents"]) == 1
            sim.cluster.return_all()
            kinds = [event["type"] for event in await new.events(3)]
            assert kinds == ["FRAMEWORK_UPDATED", "TASK_ADDED", "AGENT_ADDED"]
