"""Readings over several edges: what is known, what is partial, and what is not known at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from aiohttp import web

from lb7.autoscale import edge_feed, edges
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.demand_measures import TRAFFIC
from lb7.autoscale.edges import EdgesDemand
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.provider import Demand
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.coordinate import Coordinator
from mesos_dns.hosts import Hosts
from mesos_dns.model import App, Key
from tests.fakes.memory_coordinator import Memory
from tests.fakes.telling_edge import KEY, TellingEdge, row
from tests.unit.lb7.autoscale.test_edge_loads import routes, server

pytestmark = pytest.mark.asyncio

NOW = 5000.0
POLICY = Policy(min=1, max=10, metrics=(Metric(kind="rps", target=10),))
APP = ScaledApp(App("/a", framework_id="F1"), POLICY)
assert APP.key == KEY


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_feed, "PAUSE_FIRST", 0.01)
    monkeypatch.setattr(edge_feed, "PAUSE_MOST", 0.05)
    monkeypatch.setattr(edge_feed, "SILENCE", 60.0)
    monkeypatch.setattr(edges, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(edges, "SAME", -1.0)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


class World:
    """The decider's side, and what was woken."""

    def __init__(self, urls: Sequence[str], coordinator: Coordinator | None) -> None:
        self.woken: list[Key] = []
        self.hosts = Hosts()
        self.demand = EdgesDemand(AutoscaleConfig(edges=tuple(urls)), coordinator, self.hosts, self.woken.append)
        self.as_demand: Demand = self.demand

    def read(self, kind: Any = "rps", app: ScaledApp = APP) -> Reading:
        return self.demand.reading(app, Metric(kind=kind, target=1), NOW)

    def states(self) -> list[str]:
        return [each["state"] for each in self.demand.status()]


@contextlib.asynccontextmanager
async def world(*edges: TellingEdge | str, coordinator: Coordinator | None = None) -> AsyncIterator[World]:
    made = World([each if isinstance(each, str) else each.url for each in edges], coordinator)
    running = asyncio.create_task(made.demand.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.hosts.close()


async def grown(there: World, *edges: TellingEdge, requests: int = 10, **figures: Any) -> None:
    """Each edge tells that the app has had so many requests in the last second."""
    await until(lambda: all(edge.followers for edge in edges))
    for edge in edges:
        await until(lambda: there.read().error != "" or there.read().value is not None)
        before = edge.rows["/a:1"].requests
        edge.uptime += 1.0
        edge.rows["/a:1"] = row(requests=before + requests, **figures)
        edge.tell()


def edge(name: str = "e1", epoch: str = "", **values: Any) -> TellingEdge:
    made = TellingEdge(name, epoch or f"epoch of {name}")
    made.rows["/a:1"] = row(**values)
    return made


async def test_edges_are_added_up() -> None:
    async with edge("e1") as one, edge("e2") as two, world(one, two) as there:
        await until(lambda: there.states() == ["starting", "starting"])
        found = there.read()
        assert found.partial
        assert "connected a moment ago" in found.error
        await grown(there, one, two, active=2, waiting=1)
        await until(lambda: there.states() == ["connected", "connected"])
        assert {kind: there.read(kind).value for kind in sorted(TRAFFIC)} == {
            "rps": 20,
            "concurrency": 4,
            "queue": 2,
            "error_rate": 0,
            "latency_p50": 0,
            "latency_p95": 0,
            "latency_p99": 0,
        }
        found = there.read()
        assert not found.partial
        assert 0 <= NOW - found.at < 60
        assert there.demand.reads == 4


async def test_one_edge_by_two_urls_counts_once() -> None:
    async with edge("e1") as one, world(one, one.url.replace("127.0.0.1", "localhost")) as there:
        await until(lambda: one.followers == 2)
        await grown(there, one)
        await until(lambda: there.read().value == 10)
        assert not there.read().partial
        one.rows["/a:1"] = row(requests=10, held=3)
        one.tell()
        await until(lambda: there.demand.held(APP) == 3)


async def test_without_one_edge_it_is_partial_and_without_all_it_is_not_known() -> None:
    async with edge("e1") as one, world(one, "http://127.0.0.1:1") as there:
        await grown(there, one)
        await until(lambda: there.read().value == 10)
        assert there.read().partial
        assert there.states() == ["connected", "lost"]

        async def misbehave(request: web.Request) -> web.StreamResponse:
            return web.Response(status=503)

        one.misbehave = misbehave
        one.cut()
        await until(lambda: there.read().error)
        found = there.read()
        assert (found.value, found.partial) == (None, True)
        assert found.error.startswith("no edge tells: ")
        assert one.url in found.error
        assert "http://127.0.0.1:1" in found.error
        await until(lambda: there.demand.failures["connect"] and there.demand.failures["status"])
        assert not (await there.demand.loads(APP)).complete


async def test_nobody_is_known() -> None:
    async with world() as there:
        found = there.read()
        assert found.error.startswith("no edge is known: set [autoscale] edges")
        assert not (await there.demand.loads(APP)).complete
        assert there.demand.held(APP) == 0


async def test_before_the_coordinator_has_told_all_is_partial() -> None:
    memory = Memory()
    client = memory.client()
    client.blind = True
    async with edge("e1") as one, world(one, coordinator=client) as there:
        await grown(there, one)
        await until(lambda: there.read().value == 10)
        assert there.read().partial
        client.blind = False
        memory.tell()
        await until(lambda: not there.read().partial)


async def test_those_in_the_coordinator_are_followed_and_left() -> None:
    memory = Memory()
    async with edge("e1") as one, world(coordinator=memory.client()) as there:
        memory.write("edges/e1", b'{"url":"%s"}' % one.url.encode())
        await grown(there, one)
        await until(lambda: there.read().value == 10)
        memory.write("edges/e2", b"nonsense")
        await until(lambda: there.read().partial)
        assert "unreadable" in there.states()
        memory.values.clear()
        memory.tell()
        await until(lambda: there.demand._known._leaving)
        assert there.read().value == 10
        there.demand._known.look(float("inf"))
        await until(lambda: "no edge is known" in there.read().error)
        assert there.demand.reads == 2, "what was counted stays counted"


async def test_an_app_that_no_edge_routes() -> None:
    async with edge("e1") as one, world(one) as there:
        await grown(there, one)
        await until(lambda: there.read().value == 10)
        found = there.read(app=ScaledApp(App("/b", framework_id="F1"), POLICY))
        assert (found.value, found.partial) == (None, False)
        assert found.error.startswith("no edge routes it: is HAPROXY_GROUP set")


async def test_an_edge_that_does_not_route_it_is_no_part_of_it() -> None:
    async with edge("e1") as one, TellingEdge("e2", "y") as two, world(one, two) as there:
        await grown(there, one)
        await until(lambda: there.states() == ["connected", "starting"] and there.read().value == 10)
        assert not there.read().partial


async def test_who_is_woken_hears_it_at_once() -> None:
    async with edge("e1") as one, world(one) as there:
        await until(lambda: there.states() == ["starting"])
        one.rows["/a:1"] = row("/a:1", "/a", "/a-green", held=2)
        one.tell("/a:1", urgent=True)
        await until(lambda: there.woken)
        assert there.woken == [KEY, ("app", "mesos", "F1", "/a-green")]
        assert there.demand.held(APP) == 2


async def test_what_was_found_out_a_moment_ago_holds_unless_somebody_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with edge("e1") as one, world(one) as there:
        await grown(there, one)
        await until(lambda: there.read().value == 10)
        monkeypatch.setattr(edges, "SAME", 3600.0)
        there.demand._known_standing = None
        assert there.read().value == 10
        one.uptime, one.rows["/a:1"] = 3.0, row(requests=100)
        one.tell()
        await until(lambda: there.demand.reads == 3)
        assert there.read().value == 10
        one.rows["/a:1"] = row(requests=100, held=1)
        one.tell(urgent=True)
        await until(lambda: there.woken)
        assert there.read().value == 50
        assert there.demand.held(APP) == 1


async def test_loads() -> None:
    async with edge("e1") as one, edge("e2") as two, world(one, two) as there:
        await until(lambda: there.states() == ["starting", "starting"])
        one.routes = [routes(server("t1", 2), server("t2", 0, "draining"))]
        two.routes = [routes(server("t1", 1), server("t2", 3, "draining"))]
        found = await there.demand.loads(APP)
        assert (found.active, found.draining, found.complete) == ({"t1": 3, "t2": 3}, {"t2"}, True)
        two.routes = [{"servers": 5}]
        found = await there.demand.loads(APP)
        assert (found.active, found.complete) == ({"t1": 2, "t2": 0}, False)


async def test_an_epoch_that_changes_is_no_rate_below_nothing() -> None:
    async with edge("e1", requests=1000) as one, world(one) as there:
        await grown(there, one)
        await until(lambda: there.read().value == 10)
        one.epoch, one.uptime, one.rows["/a:1"] = "another", 0.5, row(requests=3)
        one.cut()
        await until(lambda: there.states() == ["starting"])
        assert there.read().value is None
        await grown(there, one, requests=4)
        await until(lambda: there.read().value == 4)
