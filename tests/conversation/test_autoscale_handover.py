"""Two deciders, one coordinator: leaders that die at every stage, are stopped, deposed or cut off; one change each."""

from __future__ import annotations

import asyncio

import pytest

from lb7.autoscale.policy import Direction, Metric, Policy, Rate
from lb7.autoscale.state import SHARDS, Record, decode, digest, page_key, shard_of, together
from mesos_dns.model import Key
from tests.fakes.scaling import World, running, steps, until
from tests.fakes.virtual_time import run

RPS = (Metric(kind="rps", target=100),)
POLICY = Policy(
    min=1,
    max=20,
    metrics=RPS,
    up=Direction(window=0.0, rates=(Rate(type="instances", value=4, period=600.0),)),
    down=Direction(window=60.0, rates=(Rate(type="instances", value=3, period=600.0),)),
)


def record_of(world: World, key: Key) -> Record:
    """What is stored of an app."""
    number = shard_of(digest(key))
    pages = [decode(world.memory.values[page_key(page)].value, page)[0] for page in (number, number + SHARDS)]
    return next(record for record in together([*pages[0].apps, *pages[1].apps]) if record.key == key)


@pytest.mark.parametrize("stage", ["intent", "before", "after", "answered"])
@pytest.mark.parametrize("load", [450.0, 120.0])
def test_a_leader_that_dies_at_any_stage_leaves_one_change(stage: str, load: float) -> None:
    """Its number of instances is reached once, by whoever, and the rate that it used up stays used up."""

    async def main() -> None:
        world = World()
        world.drain_time = 2.0
        up = load == 450.0
        key = world.add("/web", 2 if up else 6, POLICY)
        world.load[key] = load
        one, two = world.decider("one"), world.decider("two")
        died: list[float] = []

        def kill(who: str, key: Key) -> None:
            if who == "one" and not died:
                died.append(world.now)
                one.die()

        if stage == "intent":
            number = shard_of(digest(key))

            def written(name: str) -> None:
                if name == page_key(number) and one.scaler.term is not None and one.scaler.term.states:
                    state = one.scaler.term.states[key]
                    if state.intent is not None and not died:
                        asyncio.get_running_loop().call_soon(kill, "one", key)

            one.coordinator.before_put = written
        elif stage == "before":
            world.stage.before_ask = kill
        elif stage == "after":
            world.stage.after_ask = kill
        async with running(one, two):
            if stage == "answered":
                await until(lambda: world.asked)
                await asyncio.sleep(2)
                kill("one", key)
            await until(lambda: died)
            await until(lambda: two.scaler.leading)
            await asyncio.sleep(120)
            expected = (2, 5) if up else (6, 3)
            assert steps(world.asked) == [expected]
            assert record_of(world, key).intent is None
            term = two.scaler.term
            assert term is not None
            assert [change.by for change in term.states[key].history.changes] == [expected[1] - expected[0]]
            # The rate of 600 s that the first leader used up holds for the second.
            world.load[key] = 2000.0 if up else 0.0
            await asyncio.sleep(120)
            assert world.instances[key] == (6 if up else 3)

    run(main())


def test_an_answer_that_is_lost_is_settled_by_looking() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        world.stage.lose_answers = 1
        one = world.decider("one")
        async with running(one):
            await until(lambda: world.asked)
            await asyncio.sleep(60)
            assert (steps(world.asked), world.tries) == ([(2, 5)], 1)
            term = one.scaler.term
            assert term is not None
            assert [change.by for change in term.states[key].history.changes] == [3]
            action = term.states[key].action
            assert action is not None
            assert (action.state, action.text) == ("done", "found to be carried out")

    run(main())


def test_one_who_does_not_notice_that_it_was_deposed_changes_nothing() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await until(lambda: one.scaler.leading)
            one.coordinator.stopped = True
            one.coordinator.push_back()
            await until(lambda: two.scaler.leading)
            world.load[key] = 450.0
            await asyncio.sleep(15)
            assert [(item.by, item.before, item.after) for item in world.asked] == [("two", 2, 5)]
            assert not one.scaler.leading, "its first write was refused"

    run(main())


def test_without_the_coordinator_nothing_is_changed_and_then_all_goes_on() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.scaler.leading)
            await asyncio.sleep(10)
            world.memory.lost = True
            world.load[key] = 450.0
            reads = one.edges.reads
            await asyncio.sleep(60)
            assert (world.tries, one.scaler.leading, one.edges.wanted) == (0, False, {key})
            assert one.edges.reads == reads
            world.memory.lost = False
            await until(lambda: world.instances[key] == 5, 30)

    run(main())


def test_an_intent_that_can_not_be_stored_is_not_carried_out() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.scaler.leading)
            one.coordinator.refuse = 1000
            world.load[key] = 450.0
            await asyncio.sleep(60)
            assert world.tries == 0
            assert one.scaler.counts.results["unreachable"] > 0
            one.coordinator.refuse = 0
            await until(lambda: world.instances[key] == 5, 30)

    run(main())


def test_a_write_whose_answer_is_lost_is_looked_at_and_not_mistaken_for_another_leader() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.scaler.leading)
            world.load[key] = 450.0
            one.coordinator.lose_answers = 1
            await until(lambda: world.instances[key] == 5, 60)
            await asyncio.sleep(60)
            assert (steps(world.asked), one.scaler.counts.terms) == ([(2, 5)], 1)

    run(main())


def test_an_intent_of_its_own_that_it_never_acted_on_does_not_hold_it_up() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.scaler.leading)

            def lose(name: str) -> None:
                state = one.scaler.term.states[key] if one.scaler.term is not None else None
                if state is not None and state.intent is not None:
                    one.coordinator.before_put = lambda name: None
                    one.coordinator.lose_answers = 1
                    asyncio.get_running_loop().call_soon(setattr, world.memory, "lost", True)

            one.coordinator.before_put = lose
            world.load[key] = 450.0
            await until(lambda: world.memory.lost)
            await asyncio.sleep(3)
            assert record_of(world, key).intent is not None
            world.memory.lost = False
            await until(lambda: world.instances[key] == 5, 10)
            assert steps(world.asked) == [(2, 5)]

    run(main())


def test_who_loses_the_election_stops_draining_and_the_next_one_does_it() -> None:
    async def main() -> None:
        world = World()
        world.drain_time = 30.0
        key = world.add("/web", 6, POLICY)
        world.load[key] = 320.0
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await until(lambda: one.hands.progress(key))
            one.coordinator.push_back()
            await until(lambda: world.cleared == [key], 5)
            await until(lambda: world.asked)
            assert [(item.by, item.before, item.after) for item in world.asked] == [("two", 6, 4)]

    run(main())


def test_windows_survive_the_end_of_a_process() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 6, POLICY)
        world.load[key] = 600.0
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await asyncio.sleep(100)
            world.load[key] = 320.0
            quiet = world.now
            await asyncio.sleep(20)
            await one.stop()
            await until(lambda: world.asked)
            assert world.asked[0].by == "two"
            assert 60.0 < world.now - quiet < 85.0, "what the first one had seen counts for the second"

    run(main())


def test_a_pause_is_known_before_anything_is_decided() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await until(lambda: one.scaler.leading)
            await two.scaler.pause("/web", True)
            world.load[key] = 450.0
            await one.stop()
            await until(lambda: two.scaler.leading)
            await asyncio.sleep(30)
            assert world.asked == []
            assert (await two.scaler.shown("/web")).apps[0].paused
            await two.scaler.pause("/web", False)
            await until(lambda: world.instances[key] == 5, 2)

    run(main())


def test_damaged_state_costs_history_and_nothing_else() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        for number in range(0, 32, 2):
            world.memory.write(page_key(number), b"\xff nonsense")
        async with running(world.decider("one")):
            await until(lambda: world.instances[key] == 5)

    run(main())


def test_a_request_that_is_still_on_its_way_is_waited_for() -> None:
    """The leader dies, and Marathon takes what it had asked for only a while later."""

    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        one, two = world.decider("one"), world.decider("two")

        def kill(who: str, key: Key) -> None:
            if who == "one":
                one.die()
                world.load[key] = 2000.0
                asyncio.get_running_loop().call_later(6.0, world.land, "one", key, 5)

        world.stage.before_ask = kill
        async with running(one, two):
            await until(lambda: two.scaler.leading)
            await asyncio.sleep(60)
            assert steps(world.asked) == [(2, 5), (5, 6)]

    run(main())


def test_who_does_not_know_what_is_paused_decides_nothing() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        one = world.decider("one")
        one.coordinator.blind = True
        async with running(one):
            await asyncio.sleep(30)
            assert (one.scaler.leading, world.tries) == (False, 0)
            one.coordinator.blind = False
            world.memory.tell()
            await until(lambda: world.instances[key] == 5, 10)

    run(main())


def test_a_process_that_ends_in_order_leaves_what_it_knew_last() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one = world.decider("one")
        async with running(one):
            await asyncio.sleep(66)
            assert one.scaler.term is not None
            known = one.scaler.term.states[key].decision
            assert record_of(world, key).decision != known
            await one.stop()
            assert record_of(world, key).decision == known

    run(main())
