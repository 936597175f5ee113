"""A subscriber of the simulated master sees each operation as a subscriber of a real one saw it.

The right-hand sides are slices of streams recorded from Apache Mesos (tests/data/mesos-api); they
come here over HTTP in RecordIO frames from the simulation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from agent.demo.simulation import SimulatedCluster
from agent.demo.spec import Check, PortSpec, TaskSpec
from agent.demo.world import Agent, Framework
from tests.unit.agent.demo.client import Subscription, subscribed
from tests.unit.agent.demo.shapes import shape, stream, told, unknown

WEB = TaskSpec("web.group", ports=(PortSpec("http", labels={"VIP_0": "/web:80"}),), check=Check.HTTP)
JOB = TaskSpec("job")
MAIN, EXTRAS = stream("main"), stream("extras")


class Conversation:
    """A cluster of three agents and two frameworks, and one who listens."""

    def __init__(self, sim: SimulatedCluster, listener: Subscription) -> None:
        self.sim = sim
        self.cluster = sim.cluster
        self.agents: list[Agent] = list(sim.cluster.agents.values())
        self.marathon, self.legacy = list[Framework](sim.cluster.frameworks.values())
        self.listener = listener

    async def hears(self, recorded: list[dict[str, Any]]) -> None:
        """The next events are those recorded, and have no shape that those have not."""
        expected = told(recorded)
        events = await self.listener.events(len(expected))
        assert told(events) == expected

    async def forgets(self) -> None:
        """Passes over what was sent so far."""
        mark = self.cluster.add_agent()
        self.cluster.remove_agent(mark)
        while (await self.listener.event())["type"] != "AGENT_REMOVED":
            pass


@pytest_asyncio.fixture
async def talk() -> AsyncIterator[Conversation]:
    async with SimulatedCluster(masters=2) as sim:
        for number in range(3):
            sim.cluster.add_agent(f"127.0.0.2{number + 1}")
        sim.cluster.add_framework("marathon", principal="marathon")
        sim.cluster.add_framework("legacy", capabilities=(), failover_timeout=0.0)
        async with subscribed(sim.urls[0]) as listener:
            yield Conversation(sim, listener)


@pytest.mark.asyncio
async def test_a_subscription_begins_as_recorded(talk: Conversation) -> None:
    records = [await talk.listener.record(), await talk.listener.record()]
    assert [record["type"] for record in records] == [record["type"] for record in MAIN[:2]]
    agents = records[0]["subscribed"]["get_state"]["get_agents"]
    recorded = MAIN[0]["subscribed"]["get_state"]["get_agents"]
    assert not unknown(shape(agents), shape(recorded))


@pytest.mark.asyncio
async def test_launch_health_and_kill(talk: Conversation) -> None:
    await talk.listener.record()
    task = talk.cluster.start(talk.marathon, WEB, talk.agents[0])
    talk.cluster.health(task, True)
    # web2b of the recording: staged, started, healthy
    await talk.hears(MAIN[87:91])
    talk.cluster.kill(task)
    await talk.hears(MAIN[91:93])
    one, other = (talk.cluster.start(talk.marathon, JOB, talk.agents[0]) for _ in range(2))
    await talk.forgets()
    talk.cluster.fail(one, "Command exited with status 3")
    talk.cluster.finish(other)
    await talk.hears([MAIN[73], MAIN[77]])


@pytest.mark.asyncio
async def test_every_failed_check_is_told(talk: Conversation) -> None:
    await talk.listener.record()
    task = talk.cluster.start(talk.marathon, WEB, talk.agents[0])
    await talk.forgets()
    for healthy in (False, False, False, False, True):
        talk.cluster.health(task, healthy)
    await talk.hears(MAIN[46:51])


@pytest.mark.asyncio
async def test_an_agent_lost_and_back(talk: Conversation) -> None:
    await talk.listener.record()
    talk.cluster.start(talk.legacy, JOB, talk.agents[2])
    for _ in range(2):
        talk.cluster.start(talk.marathon, WEB, talk.agents[2])
    await talk.forgets()
    talk.cluster.agent_unreachable(talk.agents[2])
    await talk.hears(MAIN[93:96])
    talk.cluster.agent_returns(talk.agents[2])
    await talk.hears(MAIN[97:101])


@pytest.mark.asyncio
async def test_an_agent_unregisters(talk: Conversation) -> None:
    await talk.listener.record()
    talk.cluster.start(talk.marathon, JOB, talk.agents[2])
    await talk.forgets()
    talk.cluster.remove_agent(talk.agents[2])
    await talk.hears(EXTRAS[12:14])


@pytest.mark.asyncio
async def test_a_framework_comes_back_and_goes(talk: Conversation) -> None:
    await talk.listener.record()
    for _ in range(4):
        talk.cluster.start(talk.marathon, JOB, talk.agents[0])
    await talk.forgets()
    talk.cluster.disconnect_framework(talk.marathon)
    talk.cluster.update_framework(talk.marathon)
    await talk.hears(MAIN[102:103])
    talk.cluster.remove_framework(talk.marathon)
    await talk.hears(MAIN[140:145])


@pytest.mark.asyncio
async def test_a_leader_fails_over(talk: Conversation) -> None:
    """Nearly nothing in the snapshot, one framework told of by an agent, then agent by agent."""
    for agent, count in zip(talk.agents, (5, 3, 3), strict=True):
        for _ in range(count):
            talk.cluster.start(talk.marathon, WEB, agent)
    await talk.sim.fail_over(to=1)
    talk.cluster.update_framework(talk.legacy)
    async with subscribed(talk.sim.urls[1]) as listener:
        found = await listener.record()
        assert not unknown(shape(found), shape(MAIN[103]))
        counts = [
            {part: {kind: len(members) for kind, members in lists.items()} for part, lists in state.items()}
            for state in (found["subscribed"]["get_state"], MAIN[103]["subscribed"]["get_state"])
        ]
        assert counts[0] == counts[1]
        assert (await listener.record())["type"] == "HEARTBEAT"
        after = Conversation(talk.sim, listener)
        talk.cluster.hear_of(talk.marathon)
        talk.cluster.return_all()
        await after.hears(MAIN[105:121])
