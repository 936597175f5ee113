"""Tasks that drain when the one that decides ends, loses its session, or comes back: none stays marked."""

from __future__ import annotations

import asyncio
import json

from agent.draining import PREFIX, Drains
from lb7.autoscale.policy import Direction, Metric, Policy
from mesos_dns.coordinate import CoordinatorLost
from mesos_dns.model import App, Key
from tests.fakes.scaling import Decider, World, running, steps, until
from tests.fakes.scaling_drains import marking
from tests.fakes.virtual_time import run

POLICY = Policy(min=1, max=20, metrics=(Metric(kind="rps", target=100),), down=Direction(window=10.0))


def draining(world: World, name: str) -> Decider:
    """One that really marks tasks."""
    return marking(world.decider(name))


def kill(decider: Decider) -> None:
    """It takes nothing back."""

    async def refused(key: str, version: int) -> None:
        raise CoordinatorLost(key)

    decider.coordinator.delete_if = refused  # type: ignore[method-assign]
    decider.die()


def marked(world: World) -> list[str]:
    """Tasks that get nothing new, as servers read it."""
    values = [value.value for key, value in world.memory.values.items() if key.startswith(f"{PREFIX}/")]
    return [task for value in values for task in json.loads(value)["tasks"]]


def busy_with_less(world: World) -> Key:
    """An app that has more instances than it needs."""
    key = world.add("/web", 6, POLICY)
    world.load[key] = 320.0
    return key


def test_what_a_leader_that_died_was_draining_gets_requests_again() -> None:
    async def main() -> None:
        world = World()
        key = busy_with_less(world)
        one, two = draining(world, "one"), draining(world, "two")
        async with running(one, two):
            await until(lambda: len(marked(world)) == 2)
            world.load[key] = 550.0  # all of them are needed
            kill(one)
            await until(lambda: two.scaler.leading)
            await until(lambda: not marked(world), 30)
            assert world.asked == []

    run(main())


def test_what_a_leader_that_died_was_draining_is_drained_anew_where_that_is_still_wanted() -> None:
    async def main() -> None:
        world = World()
        busy_with_less(world)
        one, two = draining(world, "one"), draining(world, "two")
        async with running(one, two):
            await until(lambda: len(marked(world)) == 2)
            kill(one)
            await until(lambda: two.scaler.leading)
            await until(lambda: not marked(world), 30)
            await until(lambda: len(marked(world)) == 2, 30)
            await until(lambda: world.asked, 400)
            assert steps(world.asked) == [(6, 4)]
            assert len(marked(world)) == 2, "who is killed gets nothing new"

    run(main())


def test_a_leader_that_could_not_take_marks_back_does_it_when_it_is_back() -> None:
    async def main() -> None:
        world = World()
        key = busy_with_less(world)
        one = draining(world, "one")
        async with running(one):
            await until(lambda: len(marked(world)) == 2)
            world.load[key] = 550.0
            world.memory.lost = True
            await until(lambda: not one.scaler.leading)
            await asyncio.sleep(10)
            assert len(marked(world)) == 2
            world.memory.lost = False
            await until(lambda: not marked(world), 10)
            assert world.asked == []

    run(main())


def test_marks_that_a_leader_that_goes_on_could_not_take_back_are_taken_back_later() -> None:
    async def main() -> None:
        world = World()
        key = busy_with_less(world)
        one = draining(world, "one")
        delete = one.coordinator.delete_if

        async def refused(key: str, version: int) -> None:
            raise CoordinatorLost(key)

        async with running(one):
            await until(lambda: len(marked(world)) == 2)
            one.coordinator.delete_if = refused  # type: ignore[method-assign]
            world.load[key] = 750.0
            await until(lambda: world.instances[key] == 8, 30)
            assert len(marked(world)) == 2
            one.coordinator.delete_if = delete  # type: ignore[method-assign]
            await until(lambda: not marked(world), 20)

    run(main())


def test_one_that_ends_in_order_holds_up_nothing() -> None:
    async def main() -> None:
        world = World()
        key = busy_with_less(world)
        one, two = draining(world, "one"), draining(world, "two")
        async with running(one, two):
            await until(lambda: len(marked(world)) == 2)
            await one.stop()
            assert marked(world) == []
            world.load[key] = 750.0
            await until(lambda: world.instances[key] == 8, 10)

    run(main())


def test_one_that_was_stopped_leaves_the_marks_of_the_next_one() -> None:
    async def main() -> None:
        world = World()
        busy_with_less(world)
        one, two = draining(world, "one"), draining(world, "two")
        drains = Drains(one.coordinator)
        async with running(one, two):
            await until(lambda: len(marked(world)) == 2)
            first = json.loads(next(value.value for key, value in world.memory.values.items() if PREFIX in key))
            kill(one)
            await until(lambda: not marked(world), 60)
            await until(lambda: len(marked(world)) == 2, 30)
            del one.coordinator.delete_if  # it goes on from where it was stopped
            await drains.clear(App("/web", framework_id=first["app"][2]), first["until"])
            assert len(marked(world)) == 2

    run(main())
