"""The Marathon source against a simulated Marathon that tells what is not so: nothing of it is believed too early."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from mesos_dns.sources import marathon as marathon_source
from mesos_dns.sources.marathon_session import Timing
from tests.fakes.marathon import FollowedMarathon, Marathons, app

pytestmark = pytest.mark.asyncio

WEB, DB = app("/shop/web", 2), app("/shop/db", 1)


@pytest.mark.parametrize("fault", ["unavailable", "truncate", "garble", "wrong", "status"])
async def test_broken_documents_change_nothing(fault: str) -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls, silence=1.0) as follow:
        await follow.synced()
        follow.changes()
        setattr(marathon.faults, fault, 404 if fault == "status" else True)
        marathon.marathon.events.close()
        failed = sum(follow.counters.errors.values())
        await follow.until(lambda: sum(follow.counters.errors.values()) >= failed + 3)
        assert follow.changes() == {}
        assert follow.stale
        marathon.faults.clear()
        await follow.synced()
        assert follow.changes() == {}


@pytest.mark.parametrize("fault", ["unavailable", "truncate", "status"])
async def test_a_broken_answer_about_one_app_is_asked_for_again(fault: str) -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        setattr(marathon.faults, fault, 404 if fault == "status" else True)
        new = marathon.start("/shop/web")
        await follow.until(lambda: follow.counters.reads >= 2)
        assert len(follow.overlays("/shop/web")) == 2
        marathon.faults.clear()
        await follow.until(lambda: new in follow.overlays())


async def test_a_leader_that_knows_nothing_is_asked_again() -> None:
    timing = Timing(check=3600.0, confirm=0.5)
    async with Marathons(WEB, DB, count=2) as marathon:
        async with FollowedMarathon(*marathon.instances.urls, timing=timing) as follow:
            await follow.synced()
            follow.changes()
            marathon.faults.empty = True
            await marathon.instances.fail_over(1)
            await follow.until(lambda: follow.counters.errors["empty"] >= 1)
            marathon.faults.empty = False  # it has read its store now
            await follow.synced()
            assert follow.changes() == {}


async def test_a_leader_that_goes_on_to_know_nothing_is_believed() -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        marathon.faults.empty = True
        marathon.marathon.events.close()
        await follow.until(lambda: not follow.apps() and not follow.overlays())
        assert follow.counters.errors["empty"] == 2


async def test_a_document_without_tasks_keeps_them() -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        follow.changes()
        marathon.faults.no_tasks = True
        marathon.marathon.events.close()
        await follow.until(lambda: follow.counters.syncs == 2)
        assert follow.changes() == {}


async def test_another_framework_of_the_same_name_takes_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marathon_source, "LOOK", 0.05)
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        old, before = marathon.framework.id, set(follow.overlays())
        marathon.framework.id = "other-framework"
        marathon.faults.empty = True
        marathon.marathon.events.close()
        await follow.until(lambda: follow.counters.syncs == 2)  # it says so again and again
        assert follow.counters.errors["empty"] == 2
        await follow.until(lambda: f"former framework is held: {old}" in follow.detail)
        assert set(follow.overlays()) == before
        marathon.faults.empty = False
        for task_id in list(marathon.simulated("/shop/db").instances):  # of the old, the new has none yet
            marathon.marathon.set_health(marathon.simulated("/shop/db").instances[task_id], False)
        marathon.marathon.events.close()
        await follow.until(lambda: follow.counters.syncs == 3)
        assert follow.count == 2 * len(before)  # the new serves one app, the old both
        for instance in marathon.simulated("/shop/db").instances.values():
            marathon.marathon.set_health(instance, True)
        await follow.until(lambda: {item.framework_id for item in follow.overlays().values()} == {"other-framework"})
        assert set(follow.overlays()) == before
        assert {item.framework_id for item in follow.apps().values()} == {"other-framework"}
        await follow.until(lambda: "held" not in follow.detail)


async def test_a_former_framework_that_nobody_replaces_goes_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marathon_source, "LOOK", 0.05)
    async with Marathons(WEB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        marathon.framework.id = "other-framework"
        marathon.faults.empty = True
        marathon.marathon.events.close()
        await follow.until(lambda: "is held" in follow.detail)
        assert len(follow.overlays()) == 2
        monkeypatch.setattr(marathon_source, "HOLD", 0.01)
        await follow.until(lambda: not follow.overlays() and not follow.apps())


async def test_a_marathon_that_was_followed_before_a_restart_is_held_until_it_is_named() -> None:
    async with Marathons(WEB) as one, Marathons(WEB) as other, FollowedMarathon() as follow:
        other.framework.id = "other-framework"
        both = {one.framework.id: one.instances.urls, "other-framework": other.instances.urls}
        follow.source.set_marathons(both)
        await follow.until(lambda: follow.count == 4)
        await follow.stop()
        async with FollowedMarathon(catalog=follow.catalog) as again:
            again.source.set_marathons({one.framework.id: one.instances.urls})  # the other was not heard of yet
            await again.until(lambda: "former framework is held" in again.detail)
            assert again.count == 4
            again.source.set_marathons(both)
            await again.until(lambda: again.detail.count("following") == 2)
            assert "held" not in again.detail
            again.source.set_marathons({one.framework.id: one.instances.urls})  # it is no more
            await again.until(lambda: again.count == 2)


async def test_an_app_that_may_not_be_seen_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        marathon.faults.forbidden = "/v2/apps/shop/db"
        hidden = marathon.start("/shop/db")
        new = marathon.start("/shop/web")
        await follow.until(lambda: new in follow.healthy("/shop/web"))
        await follow.until(lambda: hidden in follow.overlays("/shop/db"))  # the whole document tells
        assert follow.counters.connects == 1
        assert not follow.stale
        assert follow.counters.errors == {}
        assert follow.counters.skipped_entities >= 1
        said = [record for record in caplog.records if "may not see" in record.message]
        assert len(said) == 1
        assert "/shop/db" in said[0].message


@pytest.mark.parametrize("path", ["/v2/apps", "/v2/events"])
async def test_a_login_that_may_see_nothing_is_said(path: str) -> None:
    async with Marathons(WEB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        marathon.faults.forbidden = path
        marathon.marathon.events.close()
        await follow.until(lambda: follow.counters.errors["auth"] >= 1)
        assert follow.stale
        assert "may not do that" in follow.detail
        assert len(follow.overlays()) == 2


async def test_a_storm_of_events_of_what_is_not_there_is_a_few_reads() -> None:
    async with Marathons(WEB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        asked = len(marathon.instances.requests)
        for _ in range(200):
            marathon.marathon.events.publish("status_update_event", 0.0, appId="/nobody", taskStatus="TASK_FAILED")
            await asyncio.sleep(0.002)
        new = marathon.start("/shop/web")
        await follow.until(lambda: new in follow.healthy("/shop/web"))
        reads = [request for request in marathon.instances.requests[asked:] if request == "GET /v2/apps/nobody"]
        assert 1 <= len(reads) <= 20
        assert follow.counters.syncs == 1


async def test_a_malformed_app_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        marathon.simulated("/shop/db").raw["ports"] = ["eighty"]
        new = marathon.start("/shop/web")
        marathon.start("/shop/db")
        for _ in range(2):
            done = follow.counters.syncs
            marathon.marathon.events.close()
            await follow.until(lambda done=done: follow.counters.syncs > done)  # type: ignore[misc]
        assert new in follow.overlays()
        assert len(follow.overlays("/shop/db")) == 1  # as it was
        assert follow.counters.skipped_entities >= 2
        said = [record for record in caplog.records if "malformed app" in record.message]
        assert len(said) == 1
        assert "/shop/db" in said[0].message


async def test_an_event_that_cannot_be_read_makes_everything_read() -> None:
    async with Marathons(WEB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        marathon.marathon.events.send(b"event: status_update_event\r\ndata: {half\r\n\r\n")
        await follow.until(lambda: follow.counters.syncs == 2)
        assert follow.counters.malformed == 1


async def test_what_is_no_marathon_at_all() -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with FollowedMarathon(f"http://127.0.0.1:{runner.addresses[0][1]}") as follow:
        await follow.until(lambda: follow.counters.errors["document"] > 0)
        assert "text/html, no events" in follow.detail
    await runner.cleanup()
