"""The edge in this process: from the catalog to requests that are served."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web
from msgspec import structs

from agent.coordinator_keys import is_legal
from agent.edging import Edging, listened_elsewhere, own_name
from agent.sections import AdminConfig, Config
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.policy import Metric, Policy
from lb7.config import L7Config
from lb7.demand_shapes import read_block
from mesos_dns.catalog import Catalog
from mesos_dns.config import ApiConfig, DnsConfig
from mesos_dns.model import App, AppCheck, AppPort, Draining, Drop, Health, HealthOverlay, Put
from tests.ports import free_ports

LABELS = (("HAPROXY_GROUP", "external"), ("HAPROXY_0_VHOST", "app.example.com"))
APP = App("/web", LABELS, ports=(AppPort(10000),), instances=2, framework_id="F1")


@dataclass
class Edge:
    """An edge that listens at `port`, and tasks of `/web` that answer with their ports."""

    catalog: Catalog = field(default_factory=Catalog)
    port: int = field(default_factory=lambda: free_ports(1)[0])
    known: bool = True
    runners: dict[int, web.AppRunner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog.register("marathon")
        self.edging = Edging(self.catalog, lambda: self.known)

    def config(self, **values: object) -> L7Config:
        usual = L7Config(http=(f"127.0.0.1:{self.port}",), https=(), app_id=(), service_ports=False, workers=1)
        return structs.replace(usual, **values)

    async def task(self) -> int:
        """One more task that runs; its port."""

        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=str(port))

        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = int(runner.addresses[0][1])
        self.runners[port] = runner
        self.catalog.publish("marathon", Put(self.overlay(port)))
        return port

    def overlay(self, port: int) -> HealthOverlay:
        return HealthOverlay(
            "F1", f"web.{port}", Health.NONE, (port,), "/web", "127.0.0.1", ("127.0.0.1",), state="TASK_RUNNING"
        )

    def down(self) -> int:
        """How many servers fail, as the look-up API has it."""
        view = self.edging.routes()
        assert view is not None
        return sum(server.down for cluster in view.table().clusters.values() for server in view.marked(cluster).servers)

    def holding(self) -> list[bool]:
        """Whether requests are held, for each port of an app."""
        view = self.edging.routes()
        return [cluster.hold for cluster in view.table().clusters.values()] if view is not None else []

    async def answers(self) -> set[str]:
        """What a few requests are answered with; the status of those that fail."""
        found = set()
        async with aiohttp.ClientSession() as session:
            for _ in range(6):
                try:
                    async with session.get(
                        f"http://127.0.0.1:{self.port}/", headers={"Host": "app.example.com"}, allow_redirects=False
                    ) as answer:
                        found.add(await answer.text() if answer.status == 200 else str(answer.status))
                except aiohttp.ClientConnectionError:
                    found.add("refused")
        return found

    async def until_answers(self, *expected: object) -> None:
        found: set[str] = set()
        async with asyncio.timeout(60):
            while found != {str(each) for each in expected}:
                await asyncio.sleep(0.05)
                found = await self.answers()


@contextlib.asynccontextmanager
async def edge() -> AsyncIterator[Edge]:
    made = Edge()
    try:
        yield made
    finally:
        await made.edging.close()
        for runner in made.runners.values():
            await runner.cleanup()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_requests_follow_the_catalog() -> None:
    async with edge() as made:
        one = await made.task()
        made.catalog.publish("marathon", Put(APP))
        await made.edging.open(made.config())
        await made.until_answers(one)
        assert made.edging.ready
        two = await made.task()
        await made.until_answers(one, two)
        made.catalog.publish("marathon", Drop(made.overlay(one).key))
        await made.until_answers(two)
        made.catalog.publish("marathon", Drop(APP.key))
        await made.until_answers(503)


@pytest.mark.asyncio
async def test_what_is_asked_for_is_told_to_followers() -> None:
    async with edge() as made:
        one = await made.task()
        made.catalog.publish("marathon", Put(APP))
        assert made.edging.demand() is None
        await made.edging.open(made.config())
        await made.until_answers(one)
        demand = made.edging.demand()
        assert demand is not None
        assert demand.identity == made.edging.identity
        async with demand.follow() as follower:
            lines = follower.lines()
            requests = 0
            async with asyncio.timeout(60):
                while not requests:
                    told = read_block((await anext(lines)).strip())
                    requests = sum(row.requests for row in told.apps if row.app_keys() == [APP.key])
            made.edging._held("/web:10000")
            async with asyncio.timeout(60):
                while not told.urgent:
                    told = read_block((await anext(lines)).strip())
            assert [(row.cluster_name, row.held) for row in told.apps] == [("/web:10000", 1)]
            made.catalog.publish("marathon", Drop(APP.key))
            async with asyncio.timeout(60):
                while told.gone != ["/web:10000"]:
                    told = read_block((await anext(lines)).strip())
            await made.edging.change(None)
            assert made.edging.demand() is None
            assert follower.dropped
        await made.edging.open(made.config())
        await until(lambda: made.edging.demand() is not None)
        again = made.edging.demand()
        assert again is not None
        assert again.epoch != demand.epoch, "its counters have begun anew"


@pytest.mark.asyncio
async def test_a_task_that_is_drained_gets_no_new_request_neither_of_who_sticks_to_it() -> None:
    async with edge() as made:
        one, two = await made.task(), await made.task()
        sticky = (*LABELS, ("HAPROXY_0_STICKY", "true"))
        made.catalog.publish("marathon", Put(structs.replace(APP, labels=sticky)))
        await made.edging.open(made.config())
        await made.until_answers(one, two)
        cookies: dict[str, str] = {}
        async with aiohttp.ClientSession(headers={"Host": "app.example.com"}) as session:
            while not cookies:
                async with session.get(f"http://127.0.0.1:{made.port}/") as answer:
                    if await answer.text() == str(one):
                        cookies = {name: morsel.value for name, morsel in answer.cookies.items()}
            async with session.get(f"http://127.0.0.1:{made.port}/", cookies=cookies) as answer:
                assert await answer.text() == str(one)
        drained = Draining("F1", f"web.{one}", 1_800_000_000.0)
        made.catalog.publish("marathon", Put(drained))
        await made.until_answers(two)
        async with aiohttp.ClientSession(headers={"Host": "app.example.com"}) as session:
            for _ in range(3):
                async with session.get(f"http://127.0.0.1:{made.port}/", cookies=cookies) as answer:
                    assert await answer.text() == str(two)
        made.catalog.publish("marathon", Drop(drained.key))
        await made.until_answers(one, two)


@pytest.mark.asyncio
async def test_nothing_is_listened_on_before_it_is_known_what_runs() -> None:
    async with edge() as made:
        made.known = False
        await made.edging.open(made.config())
        assert await made.answers() == {"refused"}
        assert not made.edging.ready
        status = made.edging.status()
        assert status is not None
        assert not status["known"]
        made.known = True
        await made.until_answers(503)
        await until(lambda: made.edging.ready)


@pytest.mark.asyncio
async def test_a_server_that_fails_its_checks_gets_nothing_until_they_are_off() -> None:
    async with edge() as made:
        one, two = await made.task(), await made.task()
        check = AppCheck("MESOS_TCP", port_index=0, interval=0.1, timeout=0.5, max_failures=2)
        made.catalog.publish("marathon", Put(structs.replace(APP, checks=(check,))))
        for port in (one, two):
            made.catalog.publish("marathon", Put(structs.replace(made.overlay(port), health=Health.HEALTHY)))
        await made.edging.open(made.config())
        await made.until_answers(one, two)
        await made.runners.pop(two).cleanup()
        await made.until_answers(one)
        await until(lambda: made.down() == 1)
        await made.until_answers(one)
        await made.edging.change(made.config(checks=False))
        assert made.down() == 0
        assert made.edging.checks is not None
        assert made.edging.checks.checked == 0


@pytest.mark.asyncio
async def test_another_configuration() -> None:
    async with edge() as made:
        one = await made.task()
        made.catalog.publish("marathon", Put(APP))
        await made.edging.open(None)
        assert made.edging.ready
        assert made.edging.status() is None
        await made.edging.change(made.config())
        await made.until_answers(one)
        await made.edging.change(made.config(groups=("internal",)))
        await made.until_answers(503)
        await made.edging.change(made.config(groups=("*",)))
        await made.until_answers(one)
        await made.edging.change(None)
        assert await made.answers() == {"refused"}


@pytest.mark.asyncio
async def test_an_address_that_is_taken_is_told_and_leaves_the_edge_as_it_was() -> None:
    async with edge() as made:
        one = await made.task()
        made.catalog.publish("marathon", Put(APP))
        taken = f"127.0.0.1:{one}"
        with pytest.raises(OSError, match=taken):
            await made.edging.open(made.config(http=(taken,)))
        assert made.edging.status() is None
        await made.edging.open(made.config())
        await made.until_answers(one)
        with pytest.raises(OSError, match=taken):
            await made.edging.change(made.config(http=(f"127.0.0.1:{made.port}", taken)))
        await made.until_answers(one)


@pytest.mark.asyncio
async def test_problems_of_apps_are_in_the_status() -> None:
    async with edge() as made:
        labels = (*LABELS, ("HAPROXY_0_BACKEND_HEAD", "  acl all src 0.0.0.0/0\n"))
        made.catalog.publish("marathon", Put(structs.replace(APP, labels=labels)))
        await made.edging.open(made.config())
        await until(lambda: bool((made.edging.status() or {}).get("apps")))
        status = made.edging.status()
        assert status is not None
        assert list(status["apps"]) == ["/web"]
        assert status["unsupported"]["apps"] == 1


@pytest.mark.asyncio
async def test_draining_ends_it() -> None:
    async with edge() as made:
        one = await made.task()
        made.catalog.publish("marathon", Put(APP))
        await made.edging.open(made.config())
        await made.until_answers(one)
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: app.example.com\r\n")  # a request that has begun
        draining = asyncio.create_task(made.edging.drain(30))
        await until(lambda: not made.edging.ready)
        await made.until_answers("refused")
        writer.write(b"\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        await draining
        assert made.edging.workers is None


@pytest.mark.asyncio
async def test_https_is_listened_on_and_redirected_to_once_there_is_a_certificate(tmp_path: Path) -> None:
    async with edge() as made:
        one, (tls,) = await made.task(), free_ports(1)
        labels = (*LABELS, ("HAPROXY_0_REDIRECT_TO_HTTPS", "true"))
        made.catalog.publish("marathon", Put(structs.replace(APP, labels=labels)))
        await made.edging.open(made.config(https=(f"127.0.0.1:{tls}",), cert_dir=str(tmp_path)))
        await made.until_answers(one)  # nobody is sent to where nothing listens
        trust = trustme.CA()
        pem = trust.issue_cert("app.example.com").private_key_and_cert_chain_pem.bytes()
        await asyncio.to_thread((tmp_path / "app.pem").write_bytes, pem)
        context = ssl.create_default_context()
        trust.configure_trust(context)
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(
                        "127.0.0.1", tls, ssl=context, server_hostname="app.example.com"
                    )
                    writer.close()
                    break
                await asyncio.sleep(0.1)
        await made.until_answers(301)


@pytest.mark.asyncio
async def test_no_label_gets_at_a_port_of_this_process() -> None:
    async with edge() as made:
        await made.task()
        (taken,) = free_ports(1)
        made.catalog.publish("marathon", Put(structs.replace(APP, ports=(AppPort(taken),))))
        config = made.config(service_ports=True, service_address="127.0.0.1")
        await made.edging.open(config, [f"127.0.0.1:{taken}"])
        await until(lambda: made.edging.ready)
        await until(lambda: bool((made.edging.status() or {}).get("apps")))
        status = made.edging.status()
        assert status is not None
        assert status["unsupported"]["port-conflict"] == 1
        assert list(status["listeners"]) == ["http"]
        await made.edging.change(config)
        await until(lambda: len((made.edging.status() or {"listeners": ()})["listeners"]) == 2)


def test_where_other_parts_listen() -> None:
    config = Config(
        dns=DnsConfig(listen=("0.0.0.0:53",), tls_listen=("0.0.0.0:853",)),
        api=ApiConfig(listen=("127.0.0.1:8123",)),
        admin=AdminConfig(listen=("127.0.0.1:8124",)),
    )
    assert set(listened_elsewhere(config)) == {"0.0.0.0:53", "0.0.0.0:853", "127.0.0.1:8123", "127.0.0.1:8124"}
    assert listened_elsewhere(Config()) == ()


@pytest.mark.asyncio
async def test_the_configuration_says_which_apps_may_sleep() -> None:
    asleep = AutoscaleConfig(apps={"/web": Policy(min=0, max=3, metrics=(Metric(kind="rps", target=1.0),))})
    async with edge() as made:
        made.catalog.publish("marathon", Put(APP))
        await made.edging.open(made.config(), (), asleep)
        await until(lambda: made.holding() == [True])
        await made.edging.change(made.config())
        await until(lambda: made.holding() == [False])
        await made.edging.change(made.config(), (), asleep)
        await until(lambda: made.holding() == [True])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("web-7.example.com", "web-7"),
        ("ip 10/0", "ip-10-0"),
        ("", "pharos"),
        ("\u00e4", "pharos"),
        ("x" * 90, "x" * 63),
    ],
)
def test_a_process_is_called_by_its_machine(monkeypatch: pytest.MonkeyPatch, host: str, expected: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    one, other = own_name(), own_name()
    assert one.rpartition("-")[0] == other.rpartition("-")[0] == expected
    assert one != other
    assert is_legal(f"edges/{one}")
