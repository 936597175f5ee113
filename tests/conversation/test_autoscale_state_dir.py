"""The decider on the coordinator of one machine, in real time: keys, values, marks and elections as they are there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.coordinators import StateDirCoordinator
from lb7.autoscale.policy import Direction, Metric, Policy
from tests.fakes.scaling import World, running
from tests.zookeeper_clients import until

pytestmark = pytest.mark.asyncio

AT_ONCE = Direction(window=0.0, rates=())
POLICY = Policy(min=1, max=9, metrics=(Metric(kind="rps", target=100),), up=AT_ONCE, down=AT_ONCE)


async def test_a_life_on_files(tmp_path: Path) -> None:
    world = World()
    world.deploy_time, world.lag, world.drain_time = 0.1, 0.01, 0.1
    key = world.add("/web", 2, POLICY)
    one, two = (world.decider(name, interval=0.1) for name in ("one", "two"))
    for decider in (one, two):
        decider.scaler = decider.scaler_on(StateDirCoordinator(tmp_path / "coordination", poll=0.05))
    async with running(one, two):
        await until(lambda: one.scaler.leading or two.scaler.leading)
        leader, other = (one, two) if one.scaler.leading else (two, one)
        world.load[key] = 450.0
        await until(lambda: world.instances[key] == 5)
        await other.scaler.pause("/web", True)
        await until(lambda: leader.scaler.around.paused._marked)
        world.load[key] = 800.0
        await asyncio.sleep(0.5)
        assert world.instances[key] == 5
        await leader.stop()
        await until(lambda: other.scaler.leading)
        shown = (await other.scaler.shown("/web")).apps[0]
        assert shown.paused
        await other.scaler.pause("/web", False)
        await until(lambda: world.instances[key] == 8)
        term = other.scaler.term
        assert term is not None
        await until(lambda: [change.by for change in term.states[key].history.changes] == [3, 3])
        world.load[key] = 250.0
        await until(lambda: world.instances[key] == 3)
