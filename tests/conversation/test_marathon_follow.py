"""The Marathon source against a simulated Marathon over HTTP: what it sees, and what can't make it lose anything."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from agent.demo.marathon_faults import MarathonFaults
from mesos_dns.config import DnsConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import App, Health
from mesos_dns.sources.marathon_session import Timing
from mesos_dns.zone import ZoneView
from tests.fakes.marathon import FollowedMarathon, Marathons, app
from tests.ports import free_ports

pytestmark = pytest.mark.asyncio

WEB, DB = app("/shop/web", 2), app("/shop/db", 1)


# --- following -------------------------------------------------------------------------------------


async def test_apps_and_tasks_are_told() -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        assert set(follow.apps()) == {"/shop/web", "/shop/db"}
        found = follow.apps()["/shop/web"]
        assert found.framework_id == marathon.framework.id
        assert found.labels == (("HAPROXY_GROUP", "external"),)
        assert found.ports[0].service_port >= 10000
        assert found.checks[0].protocol == "MESOS_HTTP"
        assert set(follow.overlays()) == set(marathon.marathon.by_task)
        overlay = next(iter(follow.overlays("/shop/web").values()))
        assert overlay.health is Health.HEALTHY
        assert overlay.host in ("10.7.0.1", "10.7.0.2")
        assert overlay.host_addresses == (overlay.host,)
        assert len(overlay.ports) == 1
        assert follow.detail == f"following {marathon.instances.urls[0]}"


async def test_events_change_what_is_told() -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        new = marathon.start("/shop/web")
        await follow.until(lambda: new in follow.healthy("/shop/web"))
        gone = marathon.kill("/shop/web")
        await follow.until(lambda: gone not in follow.overlays())
        instance = marathon.simulated("/shop/db").instances
        task_id = next(iter(instance))
        marathon.marathon.set_health(instance[task_id], False)
        await follow.until(lambda: follow.overlays()[task_id].health is Health.UNHEALTHY)
        assert follow.counters.syncs == 1  # single apps were read, never everything


async def test_apps_come_change_and_go() -> None:
    async with Marathons(WEB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        marathon.marathon.create(app("/new", 1))
        await follow.until(lambda: follow.healthy("/new"))
        await follow.until(lambda: not marathon.marathon.deployments)
        marathon.marathon.update(marathon.simulated("/new"), {"labels": {"HAPROXY_GROUP": "internal"}})
        await follow.until(lambda: dict(follow.apps()["/new"].labels)["HAPROXY_GROUP"] == "internal")
        await follow.until(lambda: not marathon.marathon.deployments and not follow.apps()["/new"].deployments)
        marathon.marathon.remove(marathon.simulated("/new"))
        await follow.until(lambda: "/new" not in follow.apps() and not follow.overlays("/new"))
        assert follow.counters.syncs == 1


async def test_a_deployment_is_told_while_it_is_under_way() -> None:
    never = app("/slow", 1, env={"SIMULATE_HEALTH": "false"})
    async with Marathons(WEB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        deployment = marathon.marathon.create(never)
        await follow.until(lambda: "/slow" in follow.apps() and follow.apps()["/slow"].deployments == (deployment.id,))
        marathon.marathon.cancel(deployment, force=True)
        await follow.until(lambda: follow.apps()["/slow"].deployments == ())


async def test_events_of_one_app_are_coalesced() -> None:
    async with Marathons(WEB, DB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        asked = len(marathon.instances.requests)
        marathon.faults.slow = 0.2
        for _ in range(100):
            marathon.start("/shop/db")
            marathon.kill("/shop/db")
        await follow.until(lambda: set(follow.overlays("/shop/db")) == set(marathon.simulated("/shop/db").instances))
        reads = [request for request in marathon.instances.requests[asked:] if request == "GET /v2/apps/shop/db"]
        assert 1 <= len(reads) <= 10


async def test_many_changes_at_once_are_one_document() -> None:
    many = [app(f"/many/app-{number}", 1) for number in range(260)]
    async with Marathons(*many) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        marathon.faults.slow = 0.3
        for number in range(260):
            marathon.start(f"/many/app-{number}")
        await follow.until(lambda: follow.counters.syncs == 2)
        await follow.until(lambda: set(follow.overlays()) == set(marathon.marathon.by_task))


async def test_what_changes_while_everything_is_read_is_not_lost() -> None:
    async with Marathons(WEB, DB) as marathon:
        marathon.faults.slow = 0.1
        async with FollowedMarathon(*marathon.instances.urls) as follow:
            await follow.until(lambda: marathon.streams == 1)
            for _ in range(30):
                marathon.start("/shop/web")
                await asyncio.sleep(0.02)
            await follow.until(lambda: set(follow.overlays()) == set(marathon.marathon.by_task))


async def test_host_names_are_resolved_and_followed() -> None:
    addresses = {"agent-a.example": ("10.1.1.1",), "agent-b.example": ("10.1.1.2", "fd00::2")}

    async def resolve(name: str) -> tuple[str, ...]:
        return addresses[name]

    hosts = Hosts(resolve=resolve)
    async with (
        Marathons(WEB, hostnames=("agent-a.example", "agent-b.example")) as marathon,
        FollowedMarathon(*marathon.instances.urls, hosts=hosts) as follow,
    ):
        await follow.synced()
        assert {item.host: item.host_addresses for item in follow.overlays().values()} == addresses
        addresses["agent-a.example"] = ("10.9.9.9",)
        hosts.again("agent-a.example")
        await follow.until(lambda: ("10.9.9.9",) in {item.host_addresses for item in follow.overlays().values()})


# --- pods ------------------------------------------------------------------------------------------

POD: dict[str, Any] = {
    "id": "/pods/front",
    "labels": {"HAPROXY_GROUP": "external"},
    "networks": [{"mode": "host"}],
    "scaling": {"kind": "fixed", "instances": 2},
    "containers": [
        {
            "name": "web",
            "endpoints": [{"name": "http", "hostPort": 0, "labels": {"VIP_0": "/front:80"}}],
            "healthCheck": {"http": {"endpoint": "http", "path": "/"}},
        },
        {"name": "side", "endpoints": [{"name": "admin", "hostPort": 0}]},
    ],
}


async def test_pods() -> None:
    async with Marathons(WEB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        pods = marathon.marathon.pods
        pod = pods.put(POD)
        await follow.until(lambda: len(follow.overlays("/pods/front")) == 4)
        told = follow.apps()["/pods/front"]
        assert (told.kind, told.network, told.instances) == ("pod", "host", 2)
        assert [port.name for port in told.ports] == ["http", "admin"]
        task = pod.instances[0].tasks["web"]
        assert follow.overlays()[task.id].health is Health.PENDING
        assert follow.overlays()[task.id].ports == (task.host_ports[0], 0)
        pods.set_health(pod, pod.instances[0], "web", True)
        await follow.until(lambda: follow.overlays()[task.id].health is Health.HEALTHY)
        pods.put({**POD, "scaling": {"instances": 1}})
        await follow.until(lambda: len(follow.overlays("/pods/front")) == 2)
        pods.remove(pod)
        await follow.until(lambda: "/pods/front" not in follow.apps() and not follow.overlays("/pods/front"))
        assert follow.counters.syncs == 1


async def test_pods_that_were_there_before() -> None:
    async with Marathons(WEB) as marathon:
        marathon.marathon.pods.put(POD)
        async with FollowedMarathon(*marathon.instances.urls) as follow:
            await follow.synced()
            assert len(follow.overlays("/pods/front")) == 4


async def test_a_marathon_without_pods() -> None:
    async with Marathons(WEB) as marathon:
        marathon.marathon.pods.enabled = False
        async with FollowedMarathon(*marathon.instances.urls) as follow:
            await follow.synced()
            assert set(follow.apps()) == {"/shop/web"}


# --- leaders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("standby", ["redirect", "proxy", "redirect-all"])
async def test_the_leader_is_found_through_one_that_stands_by(standby: Any) -> None:
    async with Marathons(WEB, count=3, standby=standby) as marathon:
        async with FollowedMarathon(marathon.instances.urls[2]) as follow:
            await follow.synced()
            assert set(follow.healthy("/shop/web")) == set(marathon.marathon.by_task)
            new = marathon.start("/shop/web")
            await follow.until(lambda: new in follow.overlays())


@pytest.mark.parametrize("dead", [False, True])
async def test_a_fail_over_changes_nothing_and_loses_nothing(dead: bool) -> None:
    async with Marathons(WEB, DB, count=3) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        follow.changes()
        await marathon.instances.lose_leader(dead=dead)
        await follow.until(lambda: follow.counters.errors["status"] > 2)  # all say that there is no leader
        assert follow.stale
        new = marathon.start("/shop/web")
        marathon.instances.election.leader = marathon.instances.all[1]
        await follow.synced()
        changed = {key for key in follow.changes() if key[0] == "health"}
        assert changed == {("health", "mesos", marathon.framework.id, new)}
        assert follow.source.leaders == {marathon.framework.id: marathon.instances.urls[1]}


@pytest.mark.parametrize("kind", ["null", "none", "unchecked", "missing"])
async def test_a_fail_over_that_loses_the_results_of_health_checks_takes_nobody_out(kind: str) -> None:
    async with Marathons(WEB, DB, count=2) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        sick = next(iter(marathon.simulated("/shop/web").instances))
        marathon.marathon.set_health(marathon.simulated("/shop/web").instances[sick], False)
        await follow.until(lambda: follow.overlays()[sick].health is Health.UNHEALTHY)
        follow.changes()
        marathon.faults.no_health = kind
        await marathon.instances.fail_over(1)
        await follow.until(lambda: follow.counters.syncs == 2)
        assert follow.changes() == {}
        new = marathon.start("/shop/web")  # read alone; of a task that is new nothing is known
        await follow.until(lambda: new in follow.overlays())
        assert {key[3] for key in follow.changes() if key[0] == "health"} == {new}
        assert follow.overlays()[new].health is Health.PENDING
        marathon.faults.no_health = ""
        marathon.marathon.set_health(marathon.simulated("/shop/web").instances[sick], True)
        await follow.until(lambda: follow.healthy("/shop/web") == set(marathon.simulated("/shop/web").instances))


async def test_a_stream_that_stays_open_while_another_leads_is_left() -> None:
    timing = Timing(check=0.05)
    async with Marathons(WEB, count=2) as marathon:
        async with FollowedMarathon(*marathon.instances.urls, timing=timing) as follow:
            await follow.synced()
            marathon.instances.usurp(1)
            await follow.until(lambda: follow.counters.errors["moved"] >= 1)
            await follow.synced()
            new = marathon.start("/shop/web")
            await follow.until(lambda: new in follow.overlays())


async def test_a_silent_stream_is_taken_for_dead() -> None:
    async with Marathons(WEB) as marathon:
        async with FollowedMarathon(*marathon.instances.urls, silence=0.3) as follow:
            await follow.synced()
            marathon.faults.silent = True
            new = marathon.start("/shop/web")  # nobody tells
            await follow.until(lambda: new in follow.overlays())
            assert follow.counters.errors["silence"] >= 1


async def test_a_stream_with_keep_alives_only_is_found_out_by_comparing() -> None:
    async with Marathons(WEB) as marathon:
        async with FollowedMarathon(*marathon.instances.urls, resync=0.2, silence=5.0) as follow:
            await follow.synced()
            marathon.faults.mute = True
            new = marathon.start("/shop/web")
            await follow.until(lambda: new in follow.overlays())
            assert follow.counters.connects == 1


async def test_a_dead_instance_is_passed_over(free_port: int) -> None:
    async with Marathons(WEB) as marathon:
        async with FollowedMarathon(f"http://127.0.0.1:{free_port}", *marathon.instances.urls) as follow:
            await follow.synced()
            assert follow.counters.errors["connect"] == 1


async def test_a_connection_that_nobody_answers_is_given_up() -> None:
    timing = Timing(check=0.02)
    async with Marathons(WEB, count=2) as marathon:
        async with FollowedMarathon(*marathon.instances.urls, connect_timeout=0.3, timing=timing) as follow:
            await follow.synced()
            marathon.faults.stall = True
            await follow.until(lambda: follow.stale)
            assert set(follow.overlays()) == set(marathon.marathon.by_task)
            marathon.faults.stall = False
            await follow.synced()


# --- who may ask, and who is told a secret ---------------------------------------------------------


async def test_basic_authentication() -> None:
    async with Marathons(WEB, count=2, credentials=("pharos", "s3cret")) as marathon:
        login: dict[str, Any] = {"auth": "basic", "principal": "pharos", "secret": "s3cret"}
        async with FollowedMarathon(marathon.instances.urls[1], **login) as follow:
            await follow.synced()
            assert len(follow.overlays()) == 2  # also through a redirect to the leader that is named at /v2/leader


async def test_a_token_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    async with Marathons(WEB, credentials="new") as marathon:
        async with FollowedMarathon(*marathon.instances.urls, auth="token", secret_file=str(file)) as follow:
            await follow.until(lambda: follow.counters.errors["auth"] >= 1)
            assert "status 401" in follow.detail
            file.write_text("new\n")
            await follow.synced()


async def test_a_refused_login_is_said_and_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    login: dict[str, Any] = {"auth": "basic", "principal": "pharos", "secret": "wr0ng"}
    async with Marathons(WEB, credentials=("pharos", "s3cret")) as marathon:
        async with FollowedMarathon(*marathon.instances.urls, **login) as follow:
            await follow.until(lambda: follow.counters.errors["auth"] >= 2)
            assert "check [marathon] auth" in follow.detail
            assert "wr0ng" not in follow.detail + caplog.text
            assert "cGhhcm9z" not in caplog.text  # the header's beginning


async def test_credentials_do_not_follow_a_redirect_to_anywhere() -> None:
    seen: list[str] = []

    async def login_page(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response(text="log in")

    application = web.Application()
    application.router.add_get("/{path:.*}", login_page)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Marathons(WEB, count=2, credentials=("pharos", "s3cret")) as marathon:
        marathon.instances.election.elsewhere = f"http://127.0.0.1:{runner.addresses[0][1]}"
        login: dict[str, Any] = {"auth": "basic", "principal": "pharos", "secret": "s3cret"}
        async with FollowedMarathon(marathon.instances.urls[1], **login) as follow:
            await follow.until(lambda: follow.counters.errors["redirect"] > 0)
            assert "our credentials don't go there" in follow.detail
    assert seen == []
    await runner.cleanup()


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    async with Marathons(WEB, count=2, tls=server_context(authority)) as marathon:
        async with FollowedMarathon(marathon.instances.urls[1]) as follow:
            await follow.until(lambda: follow.counters.errors["connect"] > 0)
            assert "certificate" in follow.detail.lower()
        ways: tuple[dict[str, Any], ...] = ({"ca_file": str(file)}, {"tls_verify": False})
        for way in ways:
            async with FollowedMarathon(marathon.instances.urls[1], **way) as follow:
                await follow.synced()
                assert len(follow.overlays()) == 2


async def test_a_redirect_out_of_tls_is_refused() -> None:
    authority = trustme.CA()
    async with Marathons(WEB) as plain, Marathons(WEB, count=2, tls=server_context(authority)) as marathon:
        marathon.instances.election.elsewhere = plain.instances.urls[0]
        async with FollowedMarathon(marathon.instances.urls[1], tls_verify=False) as follow:
            await follow.until(lambda: follow.counters.errors["redirect"] > 0)
            assert "refused" in follow.detail


# --- several Marathons -----------------------------------------------------------------------------


async def test_several_marathons_come_and_go() -> None:
    async with Marathons(WEB) as one, Marathons(WEB, DB) as other, FollowedMarathon() as follow:
        await follow.until(lambda: "not known yet" in follow.detail)
        other.framework.id = "other-framework"  # that its tasks have the ids of the first one's does no harm
        first = {one.framework.id: one.instances.urls}
        follow.source.set_marathons(first)
        await follow.synced()
        follow.source.set_marathons({**first, "other-framework": other.instances.urls})
        await follow.until(lambda: follow.count == 5)
        assert len(list(follow.catalog.entities("app"))) == 3  # two of one id
        for _ in range(3):  # a whole document of one says nothing of the other
            done = follow.counters.syncs
            one.marathon.events.close()
            await follow.until(lambda done=done: follow.counters.syncs > done)  # type: ignore[misc]
        assert follow.count == 5
        follow.source.set_marathons({**first, "other-framework": ()})  # registered, but it does not say where
        new = other.start("/shop/db")
        await follow.until(lambda: new in follow.overlays())
        follow.source.set_marathons(first)
        await follow.until(lambda: follow.count == 2)
        assert len(follow.apps()) == 1
        await follow.synced()


async def test_a_marathon_that_is_another_framework_is_not_believed() -> None:
    async with Marathons(WEB) as marathon, FollowedMarathon() as follow:
        follow.source.set_marathons({"somebody-else": marathon.instances.urls})
        await follow.until(lambda: "expected somebody-else" in follow.detail)
        assert not follow.apps()


async def test_a_marathon_that_moved_is_followed_there() -> None:
    async with Marathons(WEB, count=2) as marathon, FollowedMarathon() as follow:
        old, new = marathon.instances.urls
        follow.source.set_marathons({marathon.framework.id: (old,)})
        await follow.synced()
        marathon.instances.usurp(1)  # the stream of the old leader stays open
        follow.source.set_marathons({marathon.framework.id: (new,)})
        await follow.until(lambda: follow.source.leaders == {marathon.framework.id: new})
        task_id = marathon.start("/shop/web")
        await follow.until(lambda: task_id in follow.overlays())


async def test_what_a_former_marathon_said_before_a_restart_goes() -> None:
    async with Marathons(WEB) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        await follow.stop()
        follow.publisher.put(App("/old", framework_id="former"))
        async with FollowedMarathon(*marathon.instances.urls, catalog=follow.catalog) as again:
            assert "/old" in again.apps()
            await again.until(lambda: "/old" not in again.apps())
            assert len(again.overlays()) == 2


# --- alone -----------------------------------------------------------------------------------------


async def test_tasks_are_told_where_nobody_else_does() -> None:
    async with Marathons(WEB) as marathon:
        async with FollowedMarathon(*marathon.instances.urls, publish_tasks=True) as follow:
            await follow.synced()
            tasks = follow.tasks()
            assert set(tasks) == set(marathon.marathon.by_task)
            task = next(iter(tasks.values()))
            assert (task.name, task.node_id, task.health) == ("web.shop", "", Health.HEALTHY)
            assert task.networks[0].addresses == follow.overlays()[task.id].host_addresses
            assert task.ports[0].number == task.host_ports[0]
            gone = marathon.kill("/shop/web")
            await follow.until(lambda: gone not in follow.tasks())
            await follow.stop()
        async with FollowedMarathon(*marathon.instances.urls, catalog=follow.catalog) as again:  # somebody else does
            await again.until(lambda: not again.tasks())
            assert len(again.overlays()) == 1


async def test_tasks_of_pods_are_told_where_nobody_else_does() -> None:
    async with Marathons(WEB) as marathon:
        pod = marathon.marathon.pods.put(POD)
        async with FollowedMarathon(*marathon.instances.urls, publish_tasks=True) as follow:
            await follow.synced()
            told = pod.instances[0].tasks
            web, side = (follow.tasks()[told[name].id] for name in ("web", "side"))
            assert (web.name, side.name, web.discovery_name) == ("web", "side", "front.pods")
            assert [(port.name, port.number) for port in web.ports] == [("http", told["web"].host_ports[0])]
            assert [(port.name, port.number) for port in side.ports] == [("admin", told["side"].host_ports[0])]
            marathon.marathon.pods.remove(pod)
            await follow.until(lambda: not follow.overlays("/pods/front"))
            assert set(follow.tasks()) == set(marathon.marathon.by_task)


async def test_names_are_served_of_what_marathon_alone_tells() -> None:
    view = ZoneView(DnsConfig())
    async with Marathons(WEB) as marathon:
        async with FollowedMarathon(*marathon.instances.urls, publish_tasks=True) as follow:
            follow.catalog.listen(view.apply)
            await follow.synced()
            follow.catalog.flush()
            records = {record[:2] for place in view.places() for record in view.task_records(place)}
            assert {("web.shop.marathon", 1), ("_web.shop._tcp.marathon", 33)} <= records


async def test_chaos_ends_with_what_there_is() -> None:
    dice = random.Random(5)
    apps = [app(f"/chaos/app-{number}", 2) for number in range(10)]
    timing = Timing(check=0.05, confirm=0.01)
    async with Marathons(*apps, count=3) as marathon:
        settings: dict[str, Any] = {"silence": 0.5, "resync": 0.5, "connect_timeout": 0.5, "timing": timing}
        async with FollowedMarathon(*marathon.instances.urls, **settings) as follow:
            await follow.synced()
            for _ in range(60):
                name = f"/chaos/app-{dice.randrange(10)}"
                marathon.start(name)
                if len(marathon.simulated(name).instances) > 2:
                    marathon.kill(name)
                fault = dice.choice(["", "", "unavailable", "truncate", "garble", "silent", "mute", "stall"])
                marathon.faults.clear()
                if fault:
                    setattr(marathon.faults, fault, True)
                if dice.random() < 0.1:
                    await marathon.instances.fail_over(dice.randrange(3))
                assert len(follow.apps()) == 10
                assert all(follow.overlays(f"/chaos/app-{number}") for number in range(10))
                await asyncio.sleep(0.02)
            marathon.faults.clear()
            assert marathon.faults == MarathonFaults()
            await follow.until(lambda: set(follow.overlays()) == set(marathon.marathon.by_task) and not follow.stale)


async def test_no_url_answers() -> None:
    urls = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    async with FollowedMarathon(*urls) as follow:
        await follow.until(lambda: follow.counters.errors["connect"] >= 4)
        assert follow.stale
