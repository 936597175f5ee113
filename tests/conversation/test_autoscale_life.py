"""A decider and a Marathon in memory: apps grow, shrink, sleep and wake; what is locked, late or lost."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lb7.autoscale.acting import Go, at_any_time
from lb7.autoscale.carrier import MOST_ASKED
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.policy import Direction, Metric, Policy, Rate
from mesos_dns.model import App
from tests.fakes.scaling import World, running, steps, until
from tests.fakes.virtual_time import run

RPS = (Metric(kind="rps", target=100),)
QUICK_DOWN = Direction(window=60.0, rates=(Rate(type="percent", value=100, period=15.0),))
POLICY = Policy(min=1, max=20, metrics=RPS, down=QUICK_DOWN)
SLEEPY = Policy(min=0, max=20, metrics=RPS, down=QUICK_DOWN, idle_time=60.0)


def test_up_with_the_load_and_down_after_the_window() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        one = world.decider("one")
        async with running(one):
            await until(lambda: world.instances[key] == 5)
            world.load[key] = 120.0
            began = world.now
            await until(lambda: world.instances[key] == 2)
            assert world.now - began > 60.0
            assert steps(world.asked) == [(2, 5), (5, 2)]
            await asyncio.sleep(30)
            assert len(world.asked) == 2
            counts = one.scaler.counts
            assert (counts.results["done"], counts.decisions["up"], counts.decisions["down"] > 0) == (2, 1, True)

    run(main())


def test_to_sleep_and_awake() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 1, SLEEPY)
        async with running(world.decider("one")):
            await until(lambda: world.instances[key] == 0)
            await asyncio.sleep(60)
            asked = world.now
            world.wake(key, 3)
            await until(lambda: world.instances[key] == 1)
            assert world.now - asked < 0.5, "it is woken at once, not at its next turn"
            assert steps(world.asked) == [(1, 0), (0, 1)]

    run(main())


def test_a_request_that_comes_while_the_last_task_drains_keeps_it() -> None:
    async def main() -> None:
        world = World()
        world.drain_time = 40.0
        key = world.add("/web", 1, SLEEPY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.hands.progress(key))
            await asyncio.sleep(3)
            world.wake(key, 1)
            await until(lambda: world.cleared == [key])
            assert world.asked == []
            world.held[key], world.load[key] = 0, 50.0
            await asyncio.sleep(100)
            assert (world.asked, one.scaler.counts.results["given-up"]) == ([], 1)

    run(main())


def test_more_load_takes_back_tasks_that_drain_and_adds_to_them() -> None:
    async def main() -> None:
        world = World()
        world.drain_time = 50.0
        key = world.add("/web", 6, POLICY)
        one = world.decider("one")
        world.load[key] = 120.0
        async with running(one):
            await until(lambda: one.hands.progress(key))
            await asyncio.sleep(7)
            world.load[key] = 900.0
            await until(lambda: world.instances[key] == 9, 12)
            assert world.cleared == [key]
            assert steps(world.asked) == [(6, 9)]

    run(main())


def test_a_removal_that_is_being_asked_for_is_not_taken_back() -> None:
    async def main() -> None:
        world = World()
        world.think = 8.0
        key = world.add("/web", 6, POLICY)
        one = world.decider("one")
        world.load[key] = 120.0
        async with running(one):
            await until(lambda: (found := one.hands.progress(key)) and found.state == "sent")
            world.load[key] = 550.0
            await until(lambda: len(world.asked) == 2)
            assert (steps(world.asked), world.cleared) == ([(6, 2), (2, 6)], [])

    run(main())


@pytest.mark.parametrize("lag", [0.0, 2.0, 20.0])
def test_a_catalog_that_is_late_makes_no_second_change(lag: float) -> None:
    async def main() -> None:
        world = World()
        world.lag, world.deploy_time = lag, 1.0
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        async with running(world.decider("one")):
            await asyncio.sleep(100)
            assert steps(world.asked) == [(2, 5)]
            assert world.tries == 1

    run(main())


def test_while_a_deployment_is_under_way_nothing_is_asked_for() -> None:
    async def main() -> None:
        world = World()
        world.deploy_time = 100.0
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        one = world.decider("one")
        async with running(one):
            await until(lambda: world.asked)
            world.load[key] = 900.0
            await asyncio.sleep(80)
            assert world.tries == 1
            shown = (await one.scaler.shown("/web")).apps[0]
            assert shown.decision is not None
            assert (shown.decision.reason, shown.decision.wanted) == ("locked", 9)
            assert "deployment-1" in shown.decision.text
            await until(lambda: len(world.asked) == 2, 30)

    run(main())


def test_a_change_by_others_is_seen_before_anything_is_asked_for() -> None:
    async def main() -> None:
        world = World()
        world.lag = 4.0
        key = world.add("/web", 2, POLICY)
        world.load[key] = 250.0
        async with running(world.decider("one")):
            world.set(key, 4)
            await until(lambda: world.tries)
            await asyncio.sleep(120)
            assert steps(world.asked) == [(4, 3)]

    run(main())


def test_a_blue_green_pair_and_a_deployment_of_ours_are_left_alone() -> None:
    async def main() -> None:
        world = World()
        blue, other = world.add("/blue", 2, POLICY), world.add("/other", 2, POLICY)
        world.groups[blue] = (("app", "mesos", "marathon-1", "/green"),)
        world.show(blue)
        world.load[blue] = world.load[other] = 900.0
        one = world.decider("one")
        state = one.scaler.around
        async with running(one):
            await state.deployed.set(other, True)
            await asyncio.sleep(60)
            assert world.asked == []
            await state.deployed.set(other, False)
            await until(lambda: world.instances[other] > 2)
            assert {item.app for item in world.asked} == {"/other"}

    run(main())


def test_marathon_waits_before_it_starts_more_and_so_do_we() -> None:
    async def main() -> None:
        world = World()
        world.queue_delay = 40.0
        key = world.add("/web", 2, POLICY)
        world.load[key] = 900.0
        one = world.decider("one")
        async with running(one):
            await asyncio.sleep(30)
            assert (world.tries, one.scaler.counts.results["delayed"]) == (0, 1)
            world.queue_delay = 0.0
            await until(lambda: world.instances[key] == 6, 60)

    run(main())


def test_a_metric_that_fails_changes_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 5, POLICY)
        world.error[key] = "edge-1: timeout"
        async with running(world.decider("one")):
            await asyncio.sleep(200)
            assert world.asked == []

    with caplog.at_level(logging.INFO):
        run(main())
    told = [record.getMessage() for record in caplog.records if "no-metric" in record.getMessage()]
    assert len(told) == 1
    assert "edge-1: timeout" in told[0]


def test_a_dry_run_of_all_and_its_end() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        one = world.decider("one", dry_run=True)
        async with running(one):
            await asyncio.sleep(20)
            shown = (await one.scaler.shown("/web")).apps[0]
            assert shown.decision is not None
            assert (shown.decision.reason, shown.decision.wanted, world.tries) == ("dry-run", 5, 0)
            one.scaler.reconfigure(type(one.scaler.around.config)())
            await until(lambda: world.instances[key] == 5)

    run(main())


def test_an_app_that_goes_wrong_costs_no_other_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World()
        bad, good = world.add("/bad", 2, POLICY), world.add("/good", 2, POLICY)
        world.load[good] = 450.0
        world.load[bad] = "many"  # type: ignore[assignment]
        async with running(world.decider("one")):
            await until(lambda: world.instances[good] == 5)
            await asyncio.sleep(60)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert len([record for record in caplog.records if "/bad" in record.getMessage()]) == 1


def test_an_app_that_is_no_longer_scaled_drains_no_more() -> None:
    async def main() -> None:
        world = World()
        world.drain_time = 50.0
        key = world.add("/web", 6, POLICY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.hands.progress(key))
            world.remove(key)
            await until(lambda: world.cleared == [key], 5)
            await asyncio.sleep(60)
            assert world.asked == []
            assert (await one.scaler.shown()).apps == ()

    run(main())


def test_a_marathon_that_does_not_answer_costs_another_ones_apps_nothing() -> None:
    async def main() -> None:
        world = World()
        world.think = 0.0
        slow = [world.add(f"/slow/{number}", 2, POLICY, "marathon-2") for number in range(100)]
        quick = [world.add(f"/quick/{number}", 2, POLICY) for number in range(100)]
        for key in (*slow, *quick):
            world.load[key] = 450.0
        one = world.decider("one")
        scale, waiting = one.hands.scale, list[str]()

        async def scale_some(app: App, before: int, after: int, go: Go = at_any_time) -> Outcome:
            if app.framework_id == "marathon-2":
                waiting.append(app.id)
                await asyncio.sleep(1000)
            return await scale(app, before, after, go)

        one.hands.scale = scale_some  # type: ignore[method-assign]
        async with running(one):
            await until(lambda: all(world.instances[key] == 5 for key in quick), 30)
            assert len(waiting) == MOST_ASKED

    run(main())


def test_thousands_of_apps_are_decided_about_within_the_interval() -> None:
    async def main() -> None:
        world = World()
        keys = [world.add(f"/app/{number}", 2, POLICY) for number in range(2000)]
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.scaler.leading)
            await asyncio.sleep(5.5)
            term = one.scaler.term
            assert term is not None
            assert sum(1 for key in keys if (state := term.states.get(key)) and state.decision) == 2000
            before = one.scaler.counts.decisions.total()
            await asyncio.sleep(1.0)
            assert 200 < one.scaler.counts.decisions.total() - before < 800, "they are spread over the interval"

    run(main())
