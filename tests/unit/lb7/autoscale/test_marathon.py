"""Acting on a simulated Marathon over HTTP: every outcome, and what the network does to them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from lb7.autoscale.changes import Scale
from lb7.autoscale.marathon import PARALLEL, MarathonActor
from lb7.autoscale.marathon_told import ToldApp
from lb7.autoscale.outcome import Outcome
from mesos_dns.config import Duration
from tests.fakes.acting import actor, actor_of, changes, entity, running, settled, until
from tests.fakes.marathon import Marathons, app

pytestmark = pytest.mark.asyncio

WEB = app("/web", 3)
STUCK = {"env": {"SIMULATE_HEALTH": "false"}, "instances": 4}


def stuck(marathon: Marathons) -> str:
    """A deployment that never ends; its id."""
    return marathon.marathon.update(marathon.simulated("/web"), STUCK).id


async def test_scaling_up_and_down_and_to_nothing() -> None:
    async with Marathons(WEB, app("/my_app/v1.2", 1)) as marathon:
        acting = actor_of(marathon)
        for before, after in ((3, 5), (5, 2), (2, 0), (0, 1)):
            outcome = await acting.scale(entity(marathon), before, after)
            assert (outcome.result, outcome.instances, outcome.retry_after) == ("done", after, 0)
            assert outcome.deployment
            await settled(marathon)
            assert len(running(marathon)) == after
            assert await acting.deployment(entity(marathon), outcome.deployment) == "finished"
        other = entity(marathon, "/my_app/v1.2")
        assert (await acting.scale(other, 1, 2)).result == "done"
        assert changes(marathon)[-1] == "PUT /v2/apps/my_app/v1.2"


async def test_what_is_so_already_is_done_once() -> None:
    async with Marathons(WEB) as marathon:
        acting = actor_of(marathon)
        assert (await acting.scale(entity(marathon), 3, 4)).result == "done"
        again = await acting.scale(entity(marathon), 3, 4)
        assert (again.result, again.instances) == ("done", 4)
        assert changes(marathon) == ["PUT /v2/apps/web"]


async def test_nothing_is_sent_when_the_app_is_not_what_was_decided_about() -> None:
    async with Marathons(WEB) as marathon:
        acting = actor_of(marathon)
        changed = await acting.scale(entity(marathon), 2, 4)
        assert (changed.result, changed.instances) == ("changed", 3)
        gone = await acting.scale(entity(marathon, "/none"), 2, 4)
        assert gone.result == "gone"
        blocking = stuck(marathon)
        locked = await acting.scale(entity(marathon), 3, 5)
        assert (locked.result, locked.deployment, locked.retry_after) == ("locked", blocking, 5)
        assert blocking in locked.text
        assert changes(marathon) == []


async def test_a_lock_that_comes_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Marathons(WEB) as marathon:
        marathon.marathon.update(marathon.simulated("/web"), STUCK | {"instances": 3})
        (blocking,) = marathon.marathon.deployments
        with monkeypatch.context() as patched:
            reads = iter([[], [blocking], [blocking]])  # not when it is looked at first
            patched.setattr(marathon.marathon, "of_app", lambda app_id: next(reads))
            locked = await actor_of(marathon).scale(entity(marathon), 3, 5)
        assert (locked.result, locked.deployment, locked.retry_after) == ("locked", blocking, 5)
        assert changes(marathon) == ["PUT /v2/apps/web"]
        assert list(marathon.marathon.deployments) == [blocking]


async def test_a_lock_that_is_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a connection broke after a change was accepted, and the same was sent again."""
    async with Marathons(app("/web", 3, env={"SIMULATE_HEALTH": "false"})) as marathon:
        look = Scale.verdict

        def looked(change: Scale, told: ToldApp) -> Outcome | None:
            found = look(change, told)
            marathon.marathon.update(marathon.simulated("/web"), {"instances": 5})
            return found

        monkeypatch.setattr(Scale, "verdict", looked)
        outcome = await actor_of(marathon).scale(entity(marathon), 3, 5)
        (ours,) = marathon.marathon.deployments
        assert (outcome.result, outcome.instances, outcome.deployment) == ("done", 5, ours)


async def test_exactly_the_victims_are_killed() -> None:
    async with Marathons(app("/web", 5)) as marathon:
        acting = actor_of(marathon)
        tasks = running(marathon)
        outcome = await acting.remove(entity(marathon), 5, [tasks[0], tasks[3], tasks[0]])
        assert (outcome.result, outcome.instances) == ("done", 3)
        again = await acting.remove(entity(marathon), 5, [tasks[0], tasks[3]])
        assert (again.result, again.instances) == ("done", 3)
        await settled(marathon)
        assert running(marathon) == [tasks[1], tasks[2], tasks[4]]
        assert changes(marathon) == ["POST /v2/tasks/delete"]
        assert (await acting.remove(entity(marathon), 3, [tasks[0]])).result == "changed"  # it is gone
        assert (await acting.remove(entity(marathon), 4, [tasks[1]])).result == "changed"
        stuck(marathon)
        assert (await acting.remove(entity(marathon), 4, [tasks[1]])).result == "locked"
        assert changes(marathon) == ["POST /v2/tasks/delete"]


async def test_an_app_that_wakes_does_not_wait_for_others_that_change() -> None:
    async with Marathons(WEB, app("/asleep", 0)) as marathon:
        acting = actor_of(marathon)
        marathon.faults.stall = True
        slow = [asyncio.create_task(acting.scale(entity(marathon), 3, 4)) for _ in range(2 * PARALLEL)]
        await until(lambda: marathon.instances.requests.count("GET /v2/apps/web") == PARALLEL)
        marathon.faults.clear()
        async with asyncio.timeout(10):
            assert (await acting.scale(entity(marathon, "/asleep"), 0, 1)).result == "done"
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_the_last_word_is_had_when_it_is_sent() -> None:
    async with Marathons(WEB) as marathon:
        acting, asked = actor_of(marathon), list[bool]()

        def go() -> bool:
            asked.append("GET /v2/apps/web" in marathon.instances.requests)
            return False

        assert (await acting.scale(entity(marathon), 3, 5, go)).result == "changed"
        assert (await acting.remove(entity(marathon), 3, running(marathon)[:1], go)).result == "changed"
        assert (asked, changes(marathon)) == ([True, True], [])
        assert (await acting.scale(entity(marathon), 4, 5, go)).result == "changed"
        assert len(asked) == 2, "nothing would be sent anyway"


@pytest.mark.parametrize("fault", ["unanswered", "mumbled"])
async def test_a_lost_answer_is_looked_after_and_nothing_is_sent_twice(fault: str) -> None:
    async with Marathons(WEB) as marathon:
        acting = actor_of(marathon)
        setattr(marathon.faults, fault, True)
        outcome = await acting.scale(entity(marathon), 3, 5)
        assert (outcome.result, outcome.instances) == ("done", 5)
        await settled(marathon)
        victims = running(marathon)[:2]
        outcome = await acting.remove(entity(marathon), 5, victims)
        assert (outcome.result, outcome.instances) == ("done", 3)
        await settled(marathon)
        assert not set(victims) & set(running(marathon))
        assert (await acting.resize(entity(marathon), cpus=0.5)).result == "done"
        assert marathon.simulated("/web").definition.cpus == 0.5
        assert changes(marathon) == ["PUT /v2/apps/web", "POST /v2/tasks/delete", "PUT /v2/apps/web"]


async def test_several_that_ask_for_the_same_at_a_time_get_it_once() -> None:
    async with Marathons(app("/web", 3, env={"SIMULATE_HEALTH": "false"}), WEB | {"id": "/b"}) as marathon:
        acting = actor_of(marathon)
        found = await asyncio.gather(*(acting.scale(entity(marathon), 3, 4) for _ in range(5)))
        assert [(outcome.result, outcome.instances) for outcome in found] == [("done", 4)] * 5
        assert len({outcome.deployment for outcome in found}) == 1
        tasks = running(marathon, "/b")
        found = await asyncio.gather(*(acting.remove(entity(marathon, "/b"), 3, tasks[1:]) for _ in range(5)))
        assert [(outcome.result, outcome.instances) for outcome in found] == [("done", 1)] * 5
        await until(lambda: running(marathon, "/b") == tasks[:1])


async def test_a_leader_that_dies_when_it_has_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Marathons(WEB, count=2) as marathon:
        marathon.faults.unanswered = True
        look = MarathonActor._look_again

        async def dead(*given: Any) -> Outcome:
            marathon.faults.clear()
            await marathon.instances.fail_over(to=1, dead=True)
            return await look(*given)

        monkeypatch.setattr(MarathonActor, "_look_again", dead)
        outcome = await actor_of(marathon).scale(entity(marathon), 3, 5)
        assert (outcome.result, outcome.instances) == ("done", 5)
        assert changes(marathon) == ["PUT /v2/apps/web"]


async def test_a_change_that_may_still_come_is_uncertain() -> None:
    async with Marathons(WEB) as marathon:
        acting = actor_of(marathon)
        marathon.faults.write_status = 504
        pauses = []
        for _ in range(3):
            outcome = await acting.scale(entity(marathon), 3, 5)
            assert (outcome.result, outcome.instances) == ("uncertain", 3)
            assert "504" in outcome.text
            pauses.append(outcome.retry_after)
        assert 1 <= pauses[0] <= 1 < pauses[2] <= 4
        marathon.faults.clear()
        assert (await acting.scale(entity(marathon), 3, 5)).result == "done"


async def test_what_marathon_does_not_want_is_refused() -> None:
    async with Marathons(WEB) as marathon:
        acting = actor_of(marathon)
        outcome = await acting.scale(entity(marathon), 3, -1)
        assert (outcome.result, outcome.retry_after) == ("refused", 60)
        assert "status 422" in outcome.text
        pod = msgspec.structs.replace(entity(marathon), kind="pod")
        assert (await acting.scale(pod, 3, 4)).result == "refused"
        assert (await acting.scale(entity(marathon, "/web/tasks"), 3, 4)).result == "refused"


@pytest.mark.parametrize("name", ["/a/../web", "/./web", "//web"])
async def test_an_id_that_leads_to_another_app_changes_nothing(name: str) -> None:
    async with Marathons(WEB) as marathon:
        outcome = await actor_of(marathon).scale(entity(marathon, name), 3, 4)
        assert outcome.result in ("gone", "unreachable")
        assert changes(marathon) == []


@pytest.mark.parametrize("fault", ["unavailable", "garble", "wrong", "truncate"])
async def test_nothing_is_sent_where_the_app_can_t_be_read(fault: str) -> None:
    async with Marathons(WEB) as marathon:
        acting = actor_of(marathon)
        setattr(marathon.faults, fault, True)
        pauses = []
        for _ in range(9):
            outcome = await acting.scale(entity(marathon), 3, 4)
            assert outcome.result == "unreachable"
            pauses.append(outcome.retry_after)
        assert pauses[0] == 1
        assert 30 <= pauses[-1] <= 60
        marathon.faults.clear()
        assert (await acting.scale(entity(marathon), 3, 4)).retry_after == 0
        marathon.faults.unavailable = True
        assert (await acting.scale(entity(marathon), 3, 4)).retry_after == 1


async def test_no_marathon_at_all() -> None:
    async with Marathons(WEB) as marathon:
        outcomes = [
            await actor("http://127.0.0.1:1").scale(entity(marathon), 3, 4),
            await actor().scale(entity(marathon), 3, 4),
            await actor("ftp://x").scale(entity(marathon), 3, 4),
            await actor_of(marathon, ca_file="/nowhere").scale(entity(marathon), 3, 4),
        ]
        assert [outcome.result for outcome in outcomes] == ["unreachable"] * 4
        assert "no URL" in outcomes[1].text
        assert "/nowhere" in outcomes[3].text
        assert await actor("http://127.0.0.1:1").delay(entity(marathon)) == 0
        assert await actor("http://127.0.0.1:1").deployment(entity(marathon), "d") == "unknown"


async def test_a_marathon_that_says_nothing_is_given_up() -> None:
    async with Marathons(WEB) as marathon:
        marathon.faults.stall = True
        outcome = await actor_of(marathon, connect_timeout=Duration(0.1)).scale(entity(marathon), 3, 4)
        assert outcome.result == "unreachable"


async def test_another_marathon_at_the_same_place_is_left_alone() -> None:
    async with Marathons(WEB) as marathon:
        theirs = msgspec.structs.replace(entity(marathon), framework_id="F-0")
        outcome = await actor_of(marathon).scale(theirs, 3, 4)
        assert outcome.result == "unreachable"
        assert "not of 'F-0'" in outcome.text
        missing = msgspec.structs.replace(entity(marathon, "/none"), framework_id="F-0")
        assert (await actor_of(marathon).scale(missing, 3, 4)).result == "unreachable"
        assert changes(marathon) == []


@pytest.mark.parametrize("standby", ["redirect", "redirect-all"])
async def test_the_leader_is_found_and_credentials_go_to_nobody_else(standby: Any) -> None:
    async with Marathons(WEB, count=3, standby=standby, credentials=("me", "secret")) as marathon:
        login = {"auth": "basic", "principal": "me", "secret": "secret"}
        # Who sends everybody away can't be asked who leads: then the leader is to be among the URLs.
        known = marathon.instances.urls[::-1] if standby == "redirect-all" else marathon.instances.urls[2:]
        acting = actor(*known, **login)
        assert (await acting.scale(entity(marathon), 3, 4)).result == "done"
        await settled(marathon)
        await marathon.instances.fail_over(to=1, dead=True)
        acting = actor(*marathon.instances.urls, **login)
        assert (await acting.remove(entity(marathon), 4, running(marathon)[:1])).result == "done"
        await settled(marathon)
        async with Marathons() as thief:
            marathon.instances.election.elsewhere = thief.instances.urls[0]
            outcome = await actor(marathon.instances.urls[2], **login).scale(entity(marathon), 3, 4)
            assert outcome.result == "unreachable"
            assert thief.instances.requests == []


async def test_a_wrong_login_is_refused_and_no_secret_is_told() -> None:
    async with Marathons(WEB, credentials=("me", "secret")) as marathon:
        for login in ({"principal": "me", "secret": "s3cret"}, {"principal": "me", "secret_file": "/nowhere"}):
            outcome = await actor_of(marathon, auth="basic", **login).scale(entity(marathon), 3, 4)
            assert (outcome.result, outcome.retry_after) == ("refused", 60)
            assert "s3cret" not in outcome.text
        marathon.faults.forbidden = "/v2/apps/web"
        outcome = await actor_of(marathon, auth="basic", principal="me", secret="secret").scale(entity(marathon), 3, 4)
        assert outcome.result == "refused"


async def test_the_delay_of_the_queue() -> None:
    async with Marathons(WEB, app("/other", 1)) as marathon:
        acting = actor_of(marathon)
        marathon.marathon.hold_back("/web", 100)
        assert await acting.delay(entity(marathon)) == 0  # nothing waits
        await actor_of(marathon).scale(entity(marathon), 3, 5)
        delays = await asyncio.gather(
            *(actor_of(marathon).delay(entity(marathon, name)) for name in ("/web", "/other"))
        )
        assert 90 < delays[0] <= 100
        assert delays[1] == 0
        once = actor_of(marathon)
        before = marathon.instances.requests.count("GET /v2/queue")
        await asyncio.gather(*(once.delay(entity(marathon)) for _ in range(20)))
        assert marathon.instances.requests.count("GET /v2/queue") == before + 1


async def test_a_resize_is_followed_to_its_end() -> None:
    async with Marathons(WEB) as marathon:
        acting = actor_of(marathon)
        old = set(running(marathon))
        outcome = await acting.resize(entity(marathon), cpus=0.5, mem=256)
        assert (outcome.result, outcome.instances) == ("done", 3)
        await settled(marathon)
        assert await acting.deployment(entity(marathon), outcome.deployment) == "finished"
        definition = marathon.simulated("/web").definition
        assert (definition.cpus, definition.mem) == (0.5, 256)
        assert not old & set(running(marathon))
        same = await acting.resize(entity(marathon), cpus=0.5)
        assert (same.result, same.deployment) == ("done", "")
        await acting.scale(entity(marathon), 3, 4)
        await settled(marathon)
        assert await acting.deployment(entity(marathon), outcome.deployment) == "finished"


async def test_a_resize_that_hangs_and_is_taken_back() -> None:
    async with Marathons(app("/web", 2, env={"SIMULATE_HEALTH": "false"})) as marathon:
        acting = actor_of(marathon)
        outcome = await acting.resize(entity(marathon), mem=256)
        assert await acting.deployment(entity(marathon), outcome.deployment) == "running"
        marathon.marathon.cancel(marathon.marathon.deployments[outcome.deployment], force=True)
        await until(lambda: not marathon.marathon.deployments)
        assert await acting.deployment(entity(marathon), outcome.deployment) == "failed"
        assert await acting.deployment(entity(marathon, "/none"), outcome.deployment) == "failed"


async def test_a_resize_that_would_take_the_app_down_is_refused() -> None:
    strategy = {"minimumHealthCapacity": 0, "maximumOverCapacity": 1}
    async with Marathons(app("/web", 2, upgradeStrategy=strategy)) as marathon:
        outcome = await actor_of(marathon).resize(entity(marathon), cpus=0.5)
        assert (outcome.result, outcome.instances) == ("refused", 2)
        assert "upgradeStrategy.minimumHealthCapacity" in outcome.text
        assert (await actor_of(marathon).resize(entity(marathon), cpus=-1)).result == "refused"
        assert changes(marathon) == []


async def test_many_changes_at_a_time() -> None:
    apps = [app(f"/app{number}", 1) for number in range(40)]
    async with Marathons(*apps) as marathon:
        acting = actor_of(marathon)
        found = await asyncio.gather(*(acting.scale(entity(marathon, one["id"]), 1, 2) for one in apps))
        assert [outcome.result for outcome in found] == ["done"] * 40
        assert all(isinstance(outcome, Outcome) for outcome in found)
