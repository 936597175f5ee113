"""The event stream: snapshot and events in one order, shared bytes, slow and surplus subscribers, faults."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from agent.demo.simulation import SimulatedCluster
from agent.demo.spec import TaskSpec
from agent.demo.stream import record
from tests.unit.agent.demo.client import subscribed


def test_record_is_length_and_data() -> None:
    assert record(b'{"type":"HEARTBEAT"}') == b'20\n{"type":"HEARTBEAT"}'


@pytest.mark.asyncio
async def test_snapshot_then_heartbeat_then_events() -> None:
    async with SimulatedCluster() as sim:
        framework, agent = sim.cluster.add_framework("marathon"), sim.cluster.add_agent()
        first = sim.cluster.start(framework, TaskSpec("a"), agent)
        async with subscribed(sim.urls[0]) as stream:
            snapshot = await stream.record()
            assert snapshot["subscribed"]["get_state"]["get_tasks"]["tasks"][0]["task_id"]["value"] == first.id
            assert await stream.record() == {"type": "HEARTBEAT"}
            second = sim.cluster.launch(framework, TaskSpec("b"), agent)
            assert (await stream.record())["task_added"]["task"]["task_id"]["value"] == second.id


@pytest.mark.asyncio
async def test_heartbeats_go_on() -> None:
    async with SimulatedCluster(heartbeat=0.01) as sim, subscribed(sim.urls[0]) as stream:
        assert (await stream.record())["subscribed"]["heartbeat_interval_seconds"] == 0.01
        for _ in range(3):
            assert (await stream.record())["type"] == "HEARTBEAT"


@pytest.mark.asyncio
async def test_events_while_the_snapshot_is_under_way_come_after_it() -> None:
    async with SimulatedCluster() as sim:
        framework, agent = sim.cluster.add_framework("marathon"), sim.cluster.add_agent()
        for _ in range(400):
            sim.cluster.start(framework, TaskSpec("a", labels={"x": "y" * 5000}), agent)
        sim.faults.piece, sim.faults.pause = 1 << 16, 0.001
        async with subscribed(sim.urls[0]) as stream:
            await sim.masters[0].stream.until(1)
            late = sim.cluster.launch(framework, TaskSpec("late"), agent)
            snapshot = await stream.record()
            assert len(snapshot["subscribed"]["get_state"]["get_tasks"]["tasks"]) == 400
            assert (await stream.event())["task_added"]["task"]["task_id"]["value"] == late.id


@pytest.mark.asyncio
async def test_one_subscriber_too_many_ends_the_oldest() -> None:
    async with SimulatedCluster(max_subscribers=1) as sim, subscribed(sim.urls[0]) as oldest:
        await oldest.record()
        async with subscribed(sim.urls[0]) as newest:
            await newest.record()
            await oldest.until_end()
            sim.cluster.add_agent()
            assert (await newest.event())["type"] == "AGENT_ADDED"


@pytest.mark.asyncio
async def test_a_subscriber_that_leaves_is_forgotten() -> None:
    async with SimulatedCluster() as sim:
        async with subscribed(sim.urls[0]) as stream:
            await stream.record()
            await sim.masters[0].stream.until(1)
        await sim.masters[0].stream.until(0)


@pytest.mark.asyncio
async def test_records_split_at_every_byte_are_the_same_records() -> None:
    async with SimulatedCluster() as sim:
        sim.faults.piece = 1
        async with subscribed(sim.urls[0]) as stream:
            assert (await stream.record())["type"] == "SUBSCRIBED"
            sim.cluster.add_agent()
            assert (await stream.event())["type"] == "AGENT_ADDED"


@pytest.mark.asyncio
async def test_a_silent_stream_loses_events_and_heartbeats() -> None:
    async with SimulatedCluster(heartbeat=0.01) as sim, subscribed(sim.urls[0]) as stream:
        await stream.record()
        sim.faults.silent = True
        lost = sim.cluster.add_agent()
        sim.faults.silent = False
        seen = sim.cluster.add_agent()
        event = await stream.event()
        assert event["agent_added"]["agent"]["agent_info"]["id"]["value"] == seen.id != lost.id


@pytest.mark.asyncio
async def test_a_cut_record_ends_the_connection() -> None:
    async with SimulatedCluster() as sim, subscribed(sim.urls[0]) as stream:
        await stream.record()
        await stream.record()
        sim.faults.cut_after = 10
        sim.cluster.add_agent()
        with pytest.raises((asyncio.IncompleteReadError, aiohttp.ClientPayloadError)):
            await stream.record()


@pytest.mark.asyncio
async def test_a_garbled_record_has_its_length_and_the_next_is_whole() -> None:
    async with SimulatedCluster() as sim, subscribed(sim.urls[0]) as stream:
        await stream.record()
        await stream.record()
        sim.faults.garble = True
        sim.cluster.add_agent()
        sim.cluster.add_agent()
        with pytest.raises(json.JSONDecodeError):
            await stream.record()
        assert (await stream.record())["type"] == "AGENT_ADDED"


@pytest.mark.asyncio
async def test_a_truncated_snapshot_ends_the_connection() -> None:
    async with SimulatedCluster() as sim:
        sim.faults.truncate = True
        async with subscribed(sim.urls[0]) as stream:
            with pytest.raises((asyncio.IncompleteReadError, aiohttp.ClientPayloadError)):
                await stream.record()


@pytest.mark.asyncio
async def test_an_empty_master_knows_nothing() -> None:
    async with SimulatedCluster() as sim:
        sim.cluster.add_agent()
        sim.faults.empty = True
        async with subscribed(sim.urls[0]) as stream:
            state = (await stream.record())["subscribed"]["get_state"]
            assert state["get_agents"] == {"agents": [], "recovered_agents": []}
