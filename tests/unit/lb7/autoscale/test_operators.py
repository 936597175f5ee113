"""What operators ask, of the leader and of others: to see, to pause, to change by hand."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from lb7.autoscale.operators import Operators
from lb7.autoscale.policy import Direction, Metric, Policy, Rate
from lb7.autoscale.shown import Shown
from lb7.autoscale.state import digest
from lb7.table import Problem
from mesos_dns.model import App
from tests.fakes.scaling import World, running, steps, until
from tests.fakes.virtual_time import run

DOWN = Direction(window=30.0, rates=(Rate(type="percent", value=100, period=15.0),))
POLICY = Policy(min=1, max=9, metrics=(Metric(kind="rps", target=100),), down=DOWN)


def test_leader_and_follower_show_the_same() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.add("/other", 1, POLICY)
        world.load[key] = 450.0
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await until(lambda: world.instances[key] == 5)
            await asyncio.sleep(30)
            own, other = await one.scaler.shown(), await two.scaler.shown()
            assert (own.leading, other.leading, own.decider, other.decider) == (True, False, "one", "one")
            assert [app.app for app in own.apps] == [app.app for app in other.apps] == ["/other", "/web"]
            web = other.apps[1]
            assert web.decision is not None
            assert web.action is not None
            assert (web.decision.reason, web.action.state, web.action.after) == ("steady", "done", 5)
            assert (web.framework, web.cluster, web.told_by, web.policy["max"]) == ("marathon-1", "mesos", "labels", 9)
            assert own.edges[0]["state"] == "connected"
            assert msgspec.json.decode(msgspec.json.encode(own), type=Shown).apps[1].decision == own.apps[1].decision
            only = await one.scaler.shown("marathon-1:/web")
            assert [app.app for app in only.apps] == ["/web"]
            with pytest.raises(LookupError):
                await one.scaler.shown("/unknown")
            world.memory.lost = True
            blind = await two.scaler.shown("/web")
            assert (blind.decider, blind.apps[0].decision) == ("", None)

    run(main())


def test_in_a_few_words() -> None:
    async def main() -> None:
        world = World()
        world.add("/web", 2, POLICY)
        paused = world.add("/other", 1, POLICY)
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await until(lambda: one.scaler.leading)
            await two.scaler.pause("/other", True)
            await until(lambda: digest(paused) in one.scaler.around.paused)
            known = {"decider": "one", "apps": 2, "paused": 1, "apps_with_problems": 0, "edges": {"connected": 1}}
            assert await one.scaler.status() == {"leading": True, **known}
            assert await two.scaler.status() == {"leading": False, **known}
            world.memory.lost = True
            assert await two.scaler.status() == {"leading": False, **known, "decider": ""}

    run(main())


def test_what_drains_is_shown_while_it_does() -> None:
    async def main() -> None:
        world = World()
        world.drain_time = 40.0
        key = world.add("/web", 5, POLICY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.hands.progress(key))
            action = (await one.scaler.shown("/web")).apps[0].action
            assert action is not None
            assert action.state == "draining"
            assert action.text == "tasks to go: 4, requests that they still have: 1"

    run(main())


def test_problems_are_shown_with_their_apps_and_alone() -> None:
    async def main() -> None:
        world = World()
        world.add("/web", 2, POLICY)
        decider = world.decider("one")
        problems = {
            "/web": [Problem("/web", "scale-label", "IDLE: expected a time")],
            "/bad": [Problem("/bad", "scale-policy", "MAX: expected a number")],
        }
        around = decider.scaler.around
        operators = Operators(around, decider.edges, lambda: None, lambda _: (), lambda: problems)
        shown = await operators.shown()
        assert [(app.app, app.problems, bool(app.policy)) for app in shown.apps] == [
            ("/bad", ("scale-policy: MAX: expected a number",), False),
            ("/web", ("scale-label: IDLE: expected a time",), True),
        ]
        assert (await operators.shown("/bad")).apps == shown.apps[:1]

    run(main())


def test_pause_and_resume() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await two.scaler.pause("/web", True)
            world.load[key] = 450.0
            await asyncio.sleep(20)
            web = (await one.scaler.shown("/web")).apps[0]
            assert web.decision is not None
            assert (web.paused, web.decision.reason, web.decision.wanted, world.asked) == (True, "paused", 5, [])
            await one.scaler.pause("/web", False)
            await until(lambda: world.instances[key] == 5, 2)
            with pytest.raises(LookupError):
                await one.scaler.pause("/unknown", True)
            world.memory.lost = True
            with pytest.raises(ConnectionError, match="coordinator"):
                await one.scaler.pause("/web", True)

    run(main())


def test_a_pause_stops_what_drains() -> None:
    async def main() -> None:
        world = World()
        world.drain_time = 40.0
        key = world.add("/web", 5, POLICY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.hands.progress(key))
            await one.scaler.pause("/web", True)
            await until(lambda: world.cleared == [key], 2)
            await asyncio.sleep(60)
            assert world.asked == []

    run(main())


def test_a_number_by_hand_and_how_long_it_holds() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.load[key] = 200.0
        one, two = world.decider("one"), world.decider("two")
        async with running(one, two):
            await until(lambda: one.scaler.leading)
            world.lag = 10.0
            outcome = await two.scaler.set_instances("/web", 4)
            assert (outcome.result, outcome.text) == ("done", "this holds until its metrics ask for another number")
            await asyncio.sleep(4)
            outcome = await two.scaler.set_instances("/web", 30)
            assert outcome.result == "done", "the catalog still shows 2"
            assert outcome.text == "its policy allows 1 to 9 and will bring it back; pause it to prevent that"
            await until(lambda: world.instances[key] < 30)
            assert steps(world.asked)[:2] == [(2, 4), (4, 30)]
            await asyncio.sleep(30)
            await two.scaler.pause("/web", True)
            outcome = await two.scaler.set_instances("/web", 3)
            assert outcome.text == "its scaling changes nothing now, so this holds"
            await asyncio.sleep(30)
            await two.scaler.pause("/web", False)
            outcome = await two.scaler.set_instances("/web", 0)
            assert "stays stopped" in outcome.text
            await asyncio.sleep(60)
            assert world.instances[key] == 0
            for wrong in (-1, 100_001):
                with pytest.raises(ValueError, match="instances"):
                    await one.scaler.set_instances("/web", wrong)

    run(main())


def test_a_number_by_hand_takes_back_what_drains_and_waits_for_what_is_asked() -> None:
    async def main() -> None:
        world = World()
        world.drain_time = 40.0
        key = world.add("/web", 5, POLICY)
        one = world.decider("one")
        async with running(one):
            await until(lambda: one.hands.progress(key))
            outcome = await one.scaler.set_instances("/web", 7)
            assert (outcome.result, world.cleared) == ("done", [key])
            world.think = 3.0
            world.load[key] = 900.0
            await until(lambda: one.scaler.term and one.scaler.term.is_changing(key), 60)
            assert (await one.scaler.set_instances("/web", 1)).result == "locked"

    run(main())


def test_names() -> None:
    async def main() -> None:
        world = World()
        for framework in ("marathon-1", "marathon-2"):
            world.add("/web", 2, POLICY, framework)
        decider = world.decider("one")
        scaler = decider.scaler
        with pytest.raises(ValueError, match="marathon-1:/web, marathon-2:/web"):
            await scaler.resize("/web", 1.0, None)
        assert (await scaler.resize("marathon-2:/web", 1.0, 64.0)).deployment == "deployment-1"
        assert decider.hands.resized == [("/web", 1.0, 64.0)]
        assert await scaler.deployment("marathon-2:/web", "deployment-1") == "running"
        with pytest.raises(ValueError, match="cpus, mem"):
            await scaler.resize("marathon-2:/web", None, None)
        with pytest.raises(LookupError):
            await scaler.resize("marathon-3:/web", 1.0, None)

    run(main())


def test_an_app_without_a_policy_is_changed_as_well() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        app = world.apps()[key].app
        world.remove(key)
        decider = world.decider("one")

        def look_up(app_id: str) -> list[App]:
            return [app] if app_id == app.id else []

        operators = Operators(decider.scaler.around, decider.edges, lambda: None, look_up, dict)
        for name in ("/web", "marathon-1:/web"):
            world.instances[key] = 2
            outcome = await operators.set_instances(name, 4)
            assert (outcome.result, outcome.text) == ("done", "")
            await asyncio.sleep(10)
        with pytest.raises(LookupError):
            await operators.set_instances("/other", 4)

    run(main())
