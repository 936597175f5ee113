"""The decider on real coordinators, in real time: files of one machine, and ZooKeeper with sessions that end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.coordinators import StateDirCoordinator
from agent.draining import drain_key
from agent.zookeeper_coordinator import ZooKeeperCoordinator
from lb7.autoscale import app_state
from lb7.autoscale.policy import Direction, Metric, Policy
from lb7.autoscale.state import digest
from mesos_dns.coordinate import Coordinator
from mesos_dns.model import Key
from mesos_dns.zookeeper import Session
from tests.fakes.scaling import Decider, World, running, steps
from tests.fakes.scaling_drains import marking
from tests.system.ensemble import Ensemble
from tests.zookeeper_clients import session, unique_path, until
from tests.zookeeper_faults import drop, end_session, lose_answers

pytestmark = pytest.mark.asyncio

AT_ONCE = Direction(window=0.0, rates=())
POLICY = Policy(min=1, max=9, metrics=(Metric(kind="rps", target=100),), up=AT_ONCE, down=AT_ONCE)


def quick() -> World:
    """A Marathon that takes a moment."""
    world = World()
    world.deploy_time, world.lag, world.drain_time = 0.1, 0.01, 0.1
    return world


def decider(world: World, name: str, coordinator: Coordinator) -> Decider:
    found = world.decider(name, interval=0.1)
    found.scaler = found.scaler_on(coordinator)
    return found


@contextlib.asynccontextmanager
async def on_zookeeper(servers: Ensemble, root: str) -> AsyncIterator[tuple[Session, ZooKeeperCoordinator]]:
    """A coordinator with a session of its own."""
    async with session(servers) as opened:
        coordinator = ZooKeeperCoordinator(opened, root)
        try:
            yield opened, coordinator
        finally:
            await coordinator.close()


async def live(world: World, key: Key, one: Decider, two: Decider) -> None:
    """Up, a pause, the leader's end, and down again."""
    await until(lambda: one.scaler.leading or two.scaler.leading)
    leader, other = (one, two) if one.scaler.leading else (two, one)
    world.load[key] = 450.0
    await until(lambda: world.instances[key] == 5)
    await other.scaler.pause("/web", True)
    await until(lambda: digest(key) in leader.scaler.around.paused)
    world.load[key] = 800.0
    await asyncio.sleep(0.5)
    assert world.instances[key] == 5
    await leader.stop()
    await until(lambda: other.scaler.leading)
    assert (await other.scaler.shown("/web")).apps[0].paused
    await other.scaler.pause("/web", False)
    await until(lambda: world.instances[key] == 8)
    term = other.scaler.term
    assert term is not None
    await until(lambda: [change.by for change in term.states[key].history.changes] == [3, 3])
    world.load[key] = 250.0
    await until(lambda: world.instances[key] == 3)
    assert steps(world.asked) == [(2, 5), (5, 8), (8, 3)]


async def test_a_life_on_files(tmp_path: Path) -> None:
    world = quick()
    key = world.add("/web", 2, POLICY)
    one, two = (decider(world, name, StateDirCoordinator(tmp_path / "files", poll=0.05)) for name in ("one", "two"))
    async with running(one, two):
        await live(world, key, one, two)


async def test_a_life_on_zookeeper(zookeeper: Ensemble) -> None:
    world, root = quick(), unique_path()
    key = world.add("/web", 2, POLICY)
    async with on_zookeeper(zookeeper, root) as (_, first), on_zookeeper(zookeeper, root) as (_, second):
        one, two = decider(world, "one", first), decider(world, "two", second)
        async with running(one, two):
            await live(world, key, one, two)


async def test_sessions_that_break_and_end_make_no_change_twice(
    zookeeper: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_state, "SETTLE", 1.0)
    world, root = quick(), unique_path()
    world.drain_time = 1.0
    key = world.add("/web", 2, POLICY)
    async with on_zookeeper(zookeeper, root) as (first, one_on), on_zookeeper(zookeeper, root) as (second, two_on):
        sessions = {"one": first, "two": second}
        one, two = decider(world, "one", one_on), decider(world, "two", two_on)
        async with running(one, two):
            for rate, instances in ((450.0, 5), (780.0, 8), (220.0, 3), (500.0, 5)):
                await until(lambda: one.scaler.leading or two.scaler.leading)
                leader = one if one.scaler.leading else two
                opened = sessions[leader.name]
                with lose_answers(opened, "set", 2):
                    world.load[key] = rate
                    await asyncio.sleep(0.3)
                    await (end_session(zookeeper, opened) if instances > 5 else drop(opened))
                    await until(lambda instances=instances: world.instances[key] == instances)  # type: ignore[misc]
            assert steps(world.asked) == [(2, 5), (5, 8), (8, 3), (3, 5)]


async def test_what_drains_when_a_session_ends_gets_requests_again(
    zookeeper: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_state, "SETTLE", 1.0)
    world, root = quick(), unique_path()
    key = world.add("/web", 6, POLICY)
    drains = drain_key(key)
    world.load[key] = 320.0
    async with on_zookeeper(zookeeper, root) as (first, one_on), on_zookeeper(zookeeper, root) as (second, two_on):
        sessions = {"one": (first, two_on), "two": (second, one_on)}
        one = marking(decider(world, "one", one_on), one_on)
        two = marking(decider(world, "two", two_on), two_on)
        async with running(one, two):
            for ends in (True, False, True):
                await until(lambda: one.scaler.leading or two.scaler.leading)
                opened, other_on = sessions["one" if one.scaler.leading else "two"]
                await _until_stored(other_on, drains, True)
                world.load[key] = 550.0
                await (end_session(zookeeper, opened) if ends else drop(opened))
                await _until_stored(other_on, drains, False)
                world.load[key] = 320.0
            assert world.asked == []


async def _until_stored(coordinator: Coordinator, key: str, there: bool) -> None:
    async with asyncio.timeout(60):
        while (await coordinator.get(key) is not None) != there:
            await asyncio.sleep(0.05)
