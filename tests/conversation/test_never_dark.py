"""Masters misbehave while DNS is asked all the time: what was served stays served, and stays right.

A simulated cluster, the whole service in this process, and real UDP questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

from agent.config import load_text
from agent.demo.simulation import SimulatedCluster
from agent.demo.spec import PortSpec, TaskSpec
from agent.service import Service
from mesos_dns.catalog import Delta

pytestmark = pytest.mark.asyncio

NAMES = {f"app-{number}.marathon.mesos": {f"10.0.0.{number % 4 + 1}"} for number in range(8)}


def config_text(folder: Path, masters: list[str], more: str = "") -> str:
    """A configuration on free ports."""
    return (
        f'state_dir = "{folder}"\ndrain_timeout = "1s"\n[mesos]\nmasters = {json.dumps(masters)}\n{more}\n'
        '[dns]\nlisten = ["127.0.0.1:0"]\n[api]\nlisten = ["127.0.0.1:0"]\n'
    )


@contextlib.asynccontextmanager
async def serving(text: str) -> AsyncIterator[Service]:
    """The service, started."""
    service = Service(load_text(text, "pharos.toml"))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


@contextlib.asynccontextmanager
async def cluster(masters: int = 1, heartbeat: float = 0.2) -> AsyncIterator[SimulatedCluster]:
    """Four agents, one Marathon, eight apps of one task."""
    async with SimulatedCluster(masters=masters, heartbeat=heartbeat) as sim:
        agents = [sim.cluster.add_agent(f"10.0.0.{number}") for number in range(1, 5)]
        marathon = sim.cluster.add_framework("marathon")
        for number in range(8):
            sim.cluster.start(marathon, TaskSpec(f"app-{number}", ports=(PortSpec(),)), agents[number % 4])
        yield sim


async def ask(service: Service, name: str) -> set[str] | str:
    """The addresses of a name, or the rcode."""
    assert service.server is not None
    host, port = service.server.addresses[0]
    reply = await dns.asyncquery.udp(dns.message.make_query(name, "A"), host, timeout=30, port=port)
    return {str(item) for rrset in reply.answer for item in rrset} or dns.rcode.to_text(reply.rcode())


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; 20 s at most."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def known(service: Service) -> None:
    """Wait for the eight tasks to be in DNS."""
    async with asyncio.timeout(20):
        for name, addresses in NAMES.items():
            while await ask(service, name) != addresses:  # SERVFAIL until the first snapshot is in
                await asyncio.sleep(0.01)


class Watch:
    """Asks for every name without pause and keeps what was wrong; counts catalog changes to tasks and agents."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.wrong: list[tuple[str, object]] = []
        self.asked = 0
        self.changes: list[object] = []
        self._asking = True
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watch:
        self.service.catalog.listen(self._note, replay=False)
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._asking = False
        await self._task

    def _note(self, delta: Delta) -> None:
        self.changes += [key for key in delta.changes if key[0] != "leadership"]

    async def _ask(self) -> None:
        while self._asking:
            for name, addresses in NAMES.items():
                found = await ask(self.service, name)
                self.asked += 1
                if found != addresses:
                    self.wrong.append((name, found))

    async def asked_more(self, count: int = 50) -> None:
        """Until so many more questions were answered."""
        goal = self.asked + count
        await until(lambda: self.asked >= goal)


async def test_fail_over_with_tasks_unchanged_changes_nothing(tmp_path: Path) -> None:
    async with cluster(masters=3) as sim, serving(config_text(tmp_path, sim.urls)) as service:
        await known(service)
        async with Watch(service) as watch:
            for leader in (1, 2, 0):
                reconnects = service.sources["mesos"].counters.syncs
                await sim.fail_over(leader)  # the new leader has heard of no agent yet
                await until(lambda before=reconnects: service.sources["mesos"].counters.syncs > before)  # type: ignore[misc]
                await watch.asked_more()
                sim.cluster.return_all()
                await watch.asked_more()
        assert watch.wrong == []
        assert watch.changes == []


@pytest.mark.parametrize(
    "fault",
    [
        {"unavailable": "recovering"},
        {"unavailable": "no-leader"},
        {"unavailable": "json"},
        {"truncate": True},
        {"wrong": True},
        {"empty": True},
        {"stall": True},
        {"silent": True},
        {"content_type": "text/html"},
    ],
    ids=str,
)
async def test_a_master_that_misbehaves_changes_nothing(tmp_path: Path, fault: dict[str, object]) -> None:
    async with cluster() as sim, serving(config_text(tmp_path, sim.urls)) as service:
        await known(service)
        async with Watch(service) as watch:
            for name, value in fault.items():
                setattr(sim.faults, name, value)
            assert sim.leader is not None
            if "silent" not in fault:
                sim.leader.stream.abort()
            await until(
                lambda: service.catalog.sources["mesos"].stale or bool(fault.get("empty") or fault.get("content_type"))
            )
            await watch.asked_more(200)
            sim.faults.clear()
            await until(lambda: not service.catalog.sources["mesos"].stale)
            await watch.asked_more()
        assert watch.wrong == []
        assert watch.changes == []


async def test_all_masters_gone_and_a_restart_without_them(tmp_path: Path) -> None:
    async with cluster() as sim:
        text = config_text(tmp_path, sim.urls)
        async with serving(text) as service:
            await known(service)
            serial = service.view.serial
    async with serving(text) as service:  # nobody listens at the master's address now
        for name, addresses in NAMES.items():
            assert await ask(service, name) == addresses
        status = service.catalog.sources["mesos"]
        assert (status.stale, status.restored) == (True, True)
        assert service.view.serial >= serial


async def test_no_name_is_absent_before_anybody_said_what_runs(tmp_path: Path) -> None:
    async with cluster() as sim:
        sim.faults.unavailable = "recovering"
        async with serving(config_text(tmp_path, sim.urls)) as service:
            assert await ask(service, "app-0.marathon.mesos") == "SERVFAIL"
            sim.faults.clear()
            await known(service)
            assert await ask(service, "nothing.marathon.mesos") == "NXDOMAIN"


async def test_a_change_is_in_dns_and_a_bad_task_costs_only_itself(tmp_path: Path) -> None:
    async with cluster() as sim, serving(config_text(tmp_path, sim.urls)) as service:
        await known(service)
        agent = next(iter(sim.cluster.agents.values()))
        marathon = next(iter(sim.cluster.frameworks.values()))
        sim.cluster.start(marathon, TaskSpec("x" * 70, ports=(PortSpec(name="y" * 80, number=4_000_000_000),)), agent)
        new = sim.cluster.start(marathon, TaskSpec("new", ports=(PortSpec(),)), agent)
        await until_answered(service, "new.marathon.mesos", {"10.0.0.1"})
        sim.cluster.kill(new)
        await until_answered(service, "new.marathon.mesos", "NXDOMAIN")
        await known(service)


async def until_answered(service: Service, name: str, expected: set[str] | str) -> None:
    """Ask until the answer is the expected one; 20 s at most."""
    async with asyncio.timeout(20):
        while await ask(service, name) != expected:
            await asyncio.sleep(0.005)
