"""Deciders that are stopped, killed, cut off and replaced at any moment: no change twice, no bound and no rate broken.

A rate is what tells: it goes by changes that were carried out and counted. A change that was made twice, or made and
not counted, would let the app grow or shrink by more than the rate allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from lb7.autoscale.policy import Direction, Metric, Policy, Rate
from mesos_dns.model import Key
from tests.fakes.scaling import Decider, World, running
from tests.fakes.virtual_time import run

PERIOD, UP, DOWN, LEAST, MOST = 600.0, 4, 3, 1, 16
INACCURACY = 60.0
"""Seconds by which a change may be counted earlier or later than it was made."""

POLICY = Policy(
    min=LEAST,
    max=MOST,
    metrics=(Metric(kind="rps", target=100),),
    up=Direction(window=0.0, rates=(Rate(type="instances", value=UP, period=PERIOD),)),
    down=Direction(window=30.0, rates=(Rate(type="instances", value=DOWN, period=PERIOD),)),
)

Event: TypeAlias = Callable[[World, list[Decider], Key], None]


def _load(rate: float) -> Event:
    def event(world: World, deciders: list[Decider], key: Key) -> None:
        world.load[key] = rate

    return event


def _depose(number: int) -> Event:
    def event(world: World, deciders: list[Decider], key: Key) -> None:
        deciders[number].coordinator.push_back()

    return event


def _freeze(number: int) -> Event:
    """It goes on, and does not notice that another leads."""

    def event(world: World, deciders: list[Decider], key: Key) -> None:
        coordinator = deciders[number].coordinator
        coordinator.stopped = True
        coordinator.push_back()

    return event


def _thaw(number: int) -> Event:
    def event(world: World, deciders: list[Decider], key: Key) -> None:
        deciders[number].coordinator.stopped = False
        world.memory.tell()

    return event


def _replace(number: int) -> Event:
    def event(world: World, deciders: list[Decider], key: Key) -> None:
        deciders[number].die()
        deciders[number] = world.decider(f"{number}.{len(world.deciders)}")
        deciders[number].start()

    return event


def _dying(number: int, *, asked: bool) -> Event:
    """It dies at its next request, just before or just after Marathon has it."""

    def event(world: World, deciders: list[Decider], key: Key) -> None:
        name = deciders[number].name

        def die(who: str, key: Key) -> None:
            if who == name and deciders[number].name == name:
                _replace(number)(world, deciders, key)

        if asked:
            world.stage.after_ask = die
        else:
            world.stage.before_ask = die

    return event


def _lost(lost: bool) -> Event:
    def event(world: World, deciders: list[Decider], key: Key) -> None:
        world.memory.lost = lost

    return event


def _lose_answers(number: int) -> Event:
    def event(world: World, deciders: list[Decider], key: Key) -> None:
        deciders[number].coordinator.lose_answers = 2

    return event


def _uncertain(world: World, deciders: list[Decider], key: Key) -> None:
    world.stage.lose_answers = 1


ONE = st.sampled_from([0, 1])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.sampled_from([0.0, 150.0, 300.0, 700.0, 1200.0, 5000.0]).map(_load),
    st.sampled_from([0.0, 150.0, 300.0, 700.0, 1200.0, 5000.0]).map(_load),
    ONE.map(_depose),
    ONE.map(_freeze),
    ONE.map(_thaw),
    ONE.map(_replace),
    st.builds(lambda number, asked: _dying(number, asked=asked), ONE, st.booleans()),
    st.booleans().map(_lost),
    ONE.map(_lose_answers),
    st.just(_uncertain),
)
STORIES = st.lists(st.tuples(st.sampled_from([0.03, 0.3, 2.0, 6.0, 25.0, 100.0]), EVENTS), max_size=25)


@settings(max_examples=40)
@given(STORIES, st.sampled_from([0.0, 0.2, 4.0]), st.sampled_from([1.0, 10.0]))
def test_whatever_happens_to_deciders(story: list[tuple[float, Event]], lag: float, deploy_time: float) -> None:
    async def main() -> World:
        world = World()
        world.lag, world.deploy_time = lag, deploy_time
        key = world.add("/web", 6, POLICY)
        world.load[key] = 600.0
        deciders = [world.decider("0"), world.decider("1")]
        async with running(*deciders):
            await asyncio.sleep(12.0)
            for pause, event in story:
                event(world, deciders, key)
                await asyncio.sleep(pause)
            await asyncio.sleep(60.0)
            await asyncio.gather(*(decider.stop() for decider in deciders))
        return world

    world = run(main())
    course = [(0.0, 6)] + [(asked.at, asked.after) for asked in world.asked]
    for number, asked in enumerate(world.asked):
        assert LEAST <= asked.after <= MOST
        assert asked.before == course[number][1]
        since = asked.at - PERIOD + INACCURACY
        then = [instances for at, instances in course[: number + 1] if at <= since] or [6]
        assert then[-1] - DOWN <= asked.after <= then[-1] + UP, world.asked


@settings(max_examples=10)
@given(STORIES)
def test_in_the_end_somebody_decides_and_it_is_as_the_load_asks(story: list[tuple[float, Event]]) -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 6, POLICY)
        deciders = [world.decider("0"), world.decider("1")]
        async with running(*deciders):
            for pause, event in story:
                event(world, deciders, key)
                await asyncio.sleep(pause)
            world.memory.lost = False
            world.stage.before_ask = world.stage.after_ask = lambda who, key: None
            for number in (0, 1):
                _thaw(number)(world, deciders, key)
            world.load[key] = 800.0
            await asyncio.sleep(2.5 * PERIOD)
            assert world.instances[key] == 8
            assert sum(decider.scaler.leading for decider in deciders) == 1
            await asyncio.gather(*(decider.stop() for decider in deciders))

    run(main())
