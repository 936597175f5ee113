"""One time of leading: what it begins with, what it looks at, what it forgets, what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from lb7.autoscale import term as module
from lb7.autoscale.policy import Direction, Metric, Policy
from lb7.autoscale.state import digest, page_key, shard_of
from lb7.autoscale.state_store import Deposed
from lb7.autoscale.term import Term
from mesos_dns.model import Key
from tests.fakes.scaling import Decider, World, until
from tests.fakes.virtual_time import run

POLICY = Policy(max=9, metrics=(Metric(kind="rps", target=100),))


@contextlib.asynccontextmanager
async def leading(decider: Decider) -> AsyncIterator[tuple[Term, asyncio.Task[None]]]:
    """A term of a decider whose marks are followed."""
    around = decider.scaler.around
    marks = [asyncio.create_task(each.run()) for each in (around.paused, around.deployed)]
    async with decider.coordinator.elect("autoscale") as election:
        term = Term(around, election)
        task = asyncio.create_task(term.run())
        try:
            yield term, task
        finally:
            for each in (task, *marks):
                each.cancel()
            await asyncio.gather(task, *marks, return_exceptions=True)


def test_it_decides_about_each_in_its_turn_and_at_once_when_woken() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        decider = world.decider("one", interval=60.0)
        async with leading(decider) as (term, _):
            await until(lambda: term.ready)
            await asyncio.sleep(60.5)
            state = term.states[key]
            assert state.decision is not None
            first = state.decision.at
            await asyncio.sleep(0.2)
            term.wake(key)
            await asyncio.sleep(0.01)
            assert state.decision.at > first
            assert decider.scaler.counts.wakes == 1
            term.wake(("app", "mesos", "marathon-1", "/unknown"))
            world.load[key] = 450.0
            term.wake(key)
            await until(lambda: term.is_changing(key), 0.1)
            assert not term.is_changing(("app", "mesos", "marathon-1", "/unknown"))

    run(main())


def test_a_removal_that_was_asked_for_is_a_change_that_can_not_be_given_up() -> None:
    async def main() -> None:
        world = World()
        world.think = 5.0
        key = world.add("/web", 6, Policy(max=9, metrics=POLICY.metrics, down=Direction(window=0.0)))
        world.load[key] = 320.0
        decider = world.decider("one")
        async with leading(decider) as (term, _):
            await until(lambda: decider.hands.progress(key))
            assert not term.is_changing(key)
            await until(lambda: world.asked)
            assert term.is_changing(key)

    run(main())


def test_an_app_that_is_gone_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGET", 100.0)

    async def main() -> None:
        world = World()
        key, other = world.add("/web", 2, POLICY), world.add("/other", 2, POLICY)
        async with leading(world.decider("one")) as (term, _):
            await until(lambda: key in term.states and other in term.states)
            world.remove(key)
            await asyncio.sleep(50)
            assert key in term.states
            await asyncio.sleep(70)
            assert list(term.states) == [other]
            assert _stored(world, key) == 0

    run(main())


def test_one_that_is_deposed_ends() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        async with leading(world.decider("one")) as (term, task):
            await until(lambda: term.ready)
            for number in range(32):
                world.memory.write(page_key(number), b'{"term": "of another", "apps": []}')
            world.load[key] = 450.0
            with pytest.raises(Deposed):
                await task
            assert world.tries == 0

    run(main())


def _stored(world: World, key: Key) -> int:
    return world.memory.values[page_key(shard_of(digest(key)))].value.count(key[3].encode())
