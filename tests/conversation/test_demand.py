"""Real edges, each a process with its worker, count what clients ask for, and the decider's side reads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.edge_registration import EdgeRegistration
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.edges import EdgesDemand
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.config import Duration
from mesos_dns.coordinate import Coordinator
from mesos_dns.hosts import Hosts
from mesos_dns.model import App, Key
from tests.fakes.edge_workers import backend
from tests.fakes.memory_coordinator import Memory
from tests.fakes.running_edge import RunningEdge, running_edge
from tests.fakes.static_marathon import FRAMEWORK

pytestmark = pytest.mark.asyncio

HOST = "app.example"
POLICY = Policy(min=1, max=10, metrics=(Metric(kind="rps", target=10),))
PATIENCE = 60.0


def scaled(app_id: str = "/app0", framework: str = FRAMEWORK) -> ScaledApp:
    return ScaledApp(App(app_id, framework_id=framework), POLICY)


class Decider:
    """The decider's side, running."""

    def __init__(self, *edges: str, coordinator: Coordinator | None = None, **values: Any) -> None:
        self.woken: list[Key] = []
        self.hosts = Hosts()
        self.config = AutoscaleConfig(edges=edges, window=Duration(5), **values)
        self.demand = EdgesDemand(self.config, coordinator, self.hosts, self.woken.append)

    def read(self, kind: Any, app: ScaledApp | None = None) -> Reading:
        return self.demand.reading(app or scaled(), Metric(kind=kind, target=1), 1000.0)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until it holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{self.demand.status()} {self.read('rps')}") from None


@contextlib.asynccontextmanager
async def deciding(*edges: str, coordinator: Coordinator | None = None, **values: Any) -> AsyncIterator[Decider]:
    decider = Decider(*edges, coordinator=coordinator, **values)
    running = asyncio.create_task(decider.demand.run())
    try:
        yield decider
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await decider.hosts.close()


def edge(folder: Path, backend_port: int) -> Any:
    folder.mkdir()
    return running_edge(
        folder, {HOST: [backend_port]}, workers=1, service_ports=True, service_address="127.0.0.1", https=[]
    )


async def ask(session: aiohttp.ClientSession, port: int, times: int) -> None:
    for _ in range(times):
        async with session.get(f"http://127.0.0.1:{port}/", headers={"Host": HOST}) as answer:
            assert answer.status == 200
            await answer.read()


async def counted(session: aiohttp.ClientSession, one: RunningEdge) -> int:
    """Requests of the app that the edge tells of."""
    async with session.get(f"{one.api}/v1/demand") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        (row,) = (await answer.json())["apps"]
    assert row["keys"][0][2] == row["app"] == "/app0"
    return int(row.get("requests", 0))


async def test_requests_of_all_listeners_and_edges_count(tmp_path: Path) -> None:
    async with backend() as port, aiohttp.ClientSession() as session:
        with edge(tmp_path / "one", port) as one, edge(tmp_path / "two", port) as two:
            async with deciding(one.api, f"{two.api}/", one.api) as decider:
                await decider.until(lambda: decider.read("rps").value is not None and not decider.read("rps").partial)
                assert [row["state"] for row in decider.demand.status()] == ["connected", "connected"]
                assert decider.read("rps").value == 0
                assert decider.read("latency_p95").value == 0
                await ask(session, one.port, 10)  # by its host
                await ask(session, one.service_ports[0], 15)  # on its service port
                await ask(session, two.port, 20)
                assert await _until_counted(session, one, 25)
                assert await _until_counted(session, two, 20)
                await decider.until(lambda: decider.read("rps").value)
                latency = decider.read("latency_p95").value
                assert latency is not None
                assert latency > 0
                assert decider.read("error_rate").value == 0
                loads = await decider.demand.loads(scaled())
                assert loads.complete
                assert loads.active == {f"app0.{port}": 0}
                assert not loads.draining
                assert "no edge routes it" in decider.read("rps", scaled("/nobody")).error

                assert two._process is not None
                two._process.kill()
                await decider.until(lambda: decider.read("rps").partial)
                assert decider.read("rps").value is not None
                assert not (await decider.demand.loads(scaled())).complete
                states = {row["url"]: row["state"] for row in decider.demand.status()}
                assert states == {one.api: "connected", two.api: "lost"}
                two.stop = lambda: None  # it is gone


async def _until_counted(session: aiohttp.ClientSession, one: RunningEdge, number: int) -> bool:
    async with asyncio.timeout(PATIENCE):
        while await counted(session, one) != number:
            await asyncio.sleep(0.1)
    return True


async def test_an_edge_that_registers_is_followed(tmp_path: Path) -> None:
    memory = Memory()
    async with backend() as port:
        with edge(tmp_path / "one", port) as one:
            async with deciding(coordinator=memory.client()) as decider:
                await decider.until(lambda: "no edge is known" in decider.read("rps").error)
                registration = EdgeRegistration(memory.client(), "e1", lambda: one.api)
                registered = asyncio.create_task(registration.run())
                await decider.until(lambda: decider.read("rps").value == 0)
                assert not decider.read("rps").partial
                registered.cancel()
                await asyncio.gather(registered, return_exceptions=True)
                assert "edges/e1" not in memory.values
                assert decider.demand.status()[0]["url"] == one.api, "it is counted on for a while"
