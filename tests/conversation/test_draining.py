"""A drained task on its way: from the coordinator over servers to nodes and edges, and when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from agent import drain_expiry
from agent.drain_expiry import DrainExpiry
from agent.draining import Drains, DrainSource
from lb4.table import VipTable
from lb4.vip import State, VipKey
from lb7.config import L7Config
from lb7.view import RouteView
from mesos_dns.catalog import Catalog
from mesos_dns.model import App, Draining, Entity, HealthOverlay, Put
from mesos_dns.publish import CatalogPublisher
from tests.fakes.marathon_apps import app, tasks
from tests.fakes.memory_coordinator import Memory
from tests.fakes.questions import AGENT, MARATHON
from tests.fakes.relaying import Relaying, Serving
from tests.fakes.vip_tables import vip_task

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks are set in these stories."""
    monkeypatch.setattr(drain_expiry, "LONGEST_WAIT", 0.02)


WEB = app("/web", {"0_VHOST": "a.b"})
ONE, OTHER = tasks(WEB)
X = VipKey("tcp", "x.marathon", 80)
DB = App("/db", framework_id=MARATHON.id)


class Views:
    """What an edge and a node make of a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.routes = RouteView(L7Config(), certificates=False, later=asyncio.get_running_loop().call_soon)
        self.vips = VipTable()
        catalog.listen(self.routes.apply)
        catalog.listen(self.vips.apply)

    def drained(self) -> set[str]:
        """The tasks that get nothing new."""
        servers = [server for cluster in self.routes.table.clusters.values() for server in cluster.servers]
        state = self.vips.get(X)
        backends = state.backends if state is not None else ()
        return {server.task for server in servers if server.draining} | {
            backend.task[-1] for backend in backends if (backend.weight, backend.state) == (0, State.DRAINING)
        }

    def complete(self) -> bool:
        state = self.vips.get(X)
        return len(self.routes.table.clusters) == 1 and state is not None and len(state.backends) == 2


@contextlib.asynccontextmanager
async def running(*parts: DrainSource | DrainExpiry) -> AsyncIterator[None]:
    running = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def entities() -> tuple[Entity, ...]:
    """An app behind the edge, and a VIP with two backends."""
    overlays: list[HealthOverlay] = [ONE, OTHER]
    return (WEB, *overlays, MARATHON, AGENT, vip_task(0), vip_task(1))


class Clock:
    """A process' own."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def test_edges_and_nodes_behind_relays_hear_of_it_and_that_it_is_over() -> None:
    memory, clock = Memory(), Clock()
    drains = Drains(memory.client())
    async with Serving(*entities()) as server, Relaying(server.url) as middle:
        source = DrainSource(CatalogPublisher(server.catalog, "draining"), memory.client())
        expiry = DrainExpiry(server.catalog, clock)
        expiry.follow()
        async with (
            Serving(catalog=middle.catalog, upstream=middle.source) as chained,
            Relaying(chained.url) as last,
            running(source, expiry),
        ):
            views = [Views(catalog) for catalog in (server.catalog, middle.catalog, last.catalog)]
            await until(lambda: all(view.complete() for view in views))
            await drains.set(WEB, [ONE.task_id], time.time() + 600)
            await drains.set(DB, [vip_task(1).id], time.time() + 1200)
            both = {ONE.task_id, vip_task(1).id}
            await until(lambda: all(view.drained() == both for view in views))
            await drains.clear(WEB)
            await until(lambda: all(view.drained() == {vip_task(1).id} for view in views))
            await drains.set(WEB, [ONE.task_id], time.time() + 600)
            await until(lambda: all(view.drained() == both for view in views))
            clock.ahead = 601.0  # nobody takes it back
            await until(lambda: all(view.drained() == {vip_task(1).id} for view in views))


async def test_an_edge_without_any_server_does_not_drain_for_ever() -> None:
    clock = Clock()
    async with Serving(*entities()) as server, Relaying(server.url) as follower:
        server.catalog.register("draining")
        expiry = DrainExpiry(follower.catalog, clock)
        expiry.follow()
        async with running(expiry):
            view = Views(follower.catalog)
            drained = Draining(ONE.framework_id, ONE.task_id, time.time() + 600)
            server.catalog.publish("draining", Put(drained))
            await until(lambda: view.drained() == {ONE.task_id})
            await server.stop()
            clock.ahead = 700.0
            await until(lambda: not view.drained())
            clock.ahead = 0.0
            await server.restart()  # it knows of no end, and is told the difference
            await until(lambda: view.drained() == {ONE.task_id})
            server.catalog.publish("draining", Put(Draining(ONE.framework_id, ONE.task_id, time.time() - 600)))
            await until(lambda: not view.drained())
