"""[l4] of a process: names follow what is served, sources come and go with the section, the kernel is left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent import carrying
from agent.balancing import SOURCES, Balancing, is_on, serves
from agent.config import load_text
from agent.coordination import Coordination
from agent.data_planes import Opened
from agent.sections import Config
from agent.zookeeper_sessions import Sessions
from lb4.config import L4Config
from lb4.services import Service, ServiceKey
from lb4.vip import VipKey
from mesos_dns.catalog import Catalog
from mesos_dns.hearing import Hearing
from mesos_dns.hosts import system_resolve
from mesos_dns.model import Drop, Network, Port, Put, VipAddress
from mesos_dns.names import AAAA, SRV, A
from tests.fakes.data_plane import FakePlane
from tests.fakes.questions import AGENT, MARATHON, task

pytestmark = pytest.mark.asyncio

WEB = VipKey("tcp", "web.marathon", 80)


class World:
    """A catalog with a VIP of two ports, and what `[l4]` makes of it with a data plane in memory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.plane = FakePlane()
        self.offered: list[Opened] = []
        self.opened = 0
        self.known = True
        self.catalog = Catalog()
        self.catalog.register("mesos")
        self.catalog.mark("mesos", connected=True, synced=True)
        self.sources: dict[str, Any] = {}
        self.balancing = Balancing(self.catalog, lambda: self.known, Hearing(), self.sources)
        self.coordination = Coordination(Sessions(system_resolve))
        monkeypatch.setattr(carrying, "open_plane", self.open_plane)

    async def open_plane(self, l4: L4Config, said: str = "") -> Opened:
        if l4.dataplane == "off":
            return Opened(None)
        self.opened += 1
        return self.offered.pop(0) if self.offered else Opened(self.plane)

    def config(self, text: str) -> Config:
        return load_text(f'state_dir = "{self.folder}/state"\n{text}', "test.toml")

    async def open(self, text: str) -> None:
        config = self.config(text)
        await self.coordination.open(config)
        await self.balancing.open(config, self.coordination)

    async def change(self, text: str) -> None:
        """A reload."""
        config = self.config(text)
        stays = serves(config) and await self.coordination.is_for(config)
        await self.balancing.end_sources(config, other_coordinator=not stays)
        if serves(config):
            await self.coordination.open(config)
        await self.balancing.change(config, self.coordination)

    def run_task(self, number: int = 0, port: str = "80") -> None:
        ports = (Port(8080, "http", "tcp", (("VIP_0", f"/web:{port}"),)),)
        networks = (Network("dcos", (f"9.0.0.{number + 1}",)),)
        for entity in (MARATHON, AGENT, task(number, ports=ports, networks=networks)):
            self.catalog.publish("mesos", Put(entity))

    def owners(self) -> dict[tuple[str, int], Any]:
        return {(owner, rtype): rdata for owner, rtype, rdata in self.balancing.names.records()}


@contextlib.asynccontextmanager
async def worlds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World(folder, monkeypatch)
    await world.balancing.follow()
    try:
        yield world
    finally:
        await world.balancing.close()
        await world.coordination.close()


async def until(condition: Callable[[], object]) -> None:
    """A minute at most."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_without_l4_a_name_follows_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        await world.balancing.open(world.config(""), world.coordination)
        world.run_task()
        await until(lambda: world.balancing.table.get(WEB))
        assert not world.owners()
        world.catalog.publish("mesos", Put(VipAddress("web.marathon", "11.0.0.1", "fd01:c::1")))
        await until(lambda: world.owners().get(("web.marathon", A)) == bytes((11, 0, 0, 1)))
        assert ("web.marathon", AAAA) not in world.owners()  # no backend of it has such an address
        assert world.owners()["_web._tcp.marathon", SRV] == (80, "web.marathon")
        world.catalog.publish("mesos", Drop(task().key))
        await until(lambda: not world.owners())
        assert world.balancing.status() is None
        assert not world.sources


async def test_with_a_data_plane_it_answers_once_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        world.plane.fails = lambda operation: 1  # EPERM
        await world.open("[l4]\n")
        world.run_task()
        balancer = world.balancing.balancer
        assert balancer is not None
        await until(lambda: balancer.failures(WEB))
        assert not world.owners()
        world.plane.fails = lambda operation: 0
        await until(lambda: ("web.marathon", A) in world.owners())
        (key,) = world.plane.services
        assert key == ServiceKey("tcp", "11.225.36.193", 80)  # what dcos-net gives this name
        assert set(world.sources) == {"vips", "reachability"}
        status = world.balancing.status()
        assert status is not None
        assert (status["dataplane"], status["vips"], status["allocator"]["allocated"]) == ("fake", 1, 1)
        world.run_task(1, "81")  # another port of the same name
        await until(lambda: ("_81._tcp.web.marathon", SRV) in world.owners())


async def test_nothing_is_programmed_before_it_is_known_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        world.known = False
        world.plane.put(ServiceKey("tcp", "11.9.9.9", 80), Service())
        await world.open("[l4]\n")
        world.run_task()
        await asyncio.sleep(0.3)
        assert set(world.plane.services) == {ServiceKey("tcp", "11.9.9.9", 80)}
        assert not world.plane.batches
        world.known = True
        await until(lambda: set(world.plane.services) == {ServiceKey("tcp", "11.225.36.193", 80)})


async def test_what_is_programmed_stays_at_the_end_and_goes_with_the_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        await world.open("[l4]\n")
        world.run_task()
        await until(lambda: world.owners())
        before = dict(world.plane.services)
        batches = len(world.plane.batches)
        for text in ('[l4]\nreconcile = "7s"\n', '[l4]\nreconcile = "7s"\ntcp_timeout = "1h"\n'):
            balancer = world.balancing.balancer
            await world.change(text)
            assert world.owners()
            assert world.balancing.balancer is not balancer
            await until(lambda: world.balancing.balancer and world.balancing.balancer.counters.reconciles)
            assert world.plane.services == before
            assert world.owners()
        assert len(world.plane.batches) == batches  # nothing was made again
        assert world.opened == 2  # other time-outs need another plane, another pace does not
        await world.change("")
        assert not world.plane.services
        assert not world.plane.addresses
        await world.catalog.forget("vips")  # which is the service's to do
        await until(lambda: not world.owners())
        assert world.balancing.status() is None


async def test_only_what_changed_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "vips.toml"
    file.write_text("vip = []\n")
    async with worlds(tmp_path, monkeypatch) as world:
        await world.open("[l4]\n")
        world.run_task()
        await until(lambda: world.owners())
        balancer, allocator = world.balancing.balancer, world.balancing.allocator
        await world.change(f'[l4]\nvip_file = "{file}"\n')
        assert world.owners()
        assert (world.balancing.balancer, world.balancing.allocator) == (balancer, allocator)
        await until(lambda: world.catalog.sources["vip_file"].synced)
        await world.change('[l4]\nrange = "10.200.0.0/16"\n')
        assert world.balancing.allocator is not allocator


async def test_names_stay_until_a_new_balancer_has_read_the_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        await world.open("[l4]\n")
        world.run_task()
        await until(lambda: world.owners())
        world.plane.broken = OSError("no buffer space")
        await world.change('[l4]\nreconcile = "7s"\n')
        assert world.owners()
        balancer = world.balancing.balancer
        assert balancer is not None
        await until(lambda: balancer.counters.plane_errors)
        assert world.owners()
        world.plane.services.clear()
        world.plane.fails = lambda operation: 1  # EPERM
        world.plane.broken = None
        await until(lambda: not world.owners())  # it was read, and is not there


async def test_from_server_to_node_the_addresses_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        await world.open("[l4]\n")
        world.run_task()
        await until(lambda: world.owners())
        before, batches = dict(world.plane.services), len(world.plane.batches)
        await world.change('[l4]\n[relay]\nservers = ["http://127.0.0.1:1"]\n')
        assert world.balancing.allocator is None
        assert world.owners()
        assert world.plane.services == before
        assert len(world.plane.batches) == batches


async def test_a_plane_that_can_not_be_had_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "TRY_AGAIN", (0.01,))
    async with worlds(tmp_path, monkeypatch) as world:
        world.offered = [Opened(None, reason="ipvs: the kernel has no IPVS")] * 3
        await world.open('[l4]\ndataplane = "ipvs"\n')
        world.run_task()
        assert world.balancing.lacks
        assert not world.owners()
        await until(lambda: world.owners())
        assert world.opened == 4
        assert not world.balancing.lacks


async def test_a_plane_in_the_place_of_a_better_one_stays_at_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        world.offered = [Opened(world.plane, reason="ipvs: the kernel has no IPVS")]
        await world.open("[l4]\n")
        world.run_task()
        await until(lambda: world.owners())
        assert not world.balancing.lacks
        for text in ("[l4]\n", '[l4]\nreconcile = "7s"\n'):
            await world.change(text)
            assert (world.opened, world.balancing.carrying.opened.plane) == (1, world.plane)
            assert world.owners()


async def test_without_any_plane_names_follow_their_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        world.offered = [Opened(None, reason="nothing can be had")] * 3
        await world.open("[l4]\n")
        world.run_task()
        await until(lambda: world.owners())
        assert world.balancing.balancer is None


async def test_from_auto_to_what_it_found_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePlane, "name", "ipvs")
    monkeypatch.setattr(carrying, "KernelUpkeep", NoUpkeep)
    async with worlds(tmp_path, monkeypatch) as world:
        await world.open("[l4]\nconnection_metrics = false\n")
        world.run_task()
        await until(lambda: world.owners())
        before, batches = dict(world.plane.services), len(world.plane.batches)
        await world.change('[l4]\nconnection_metrics = false\ndataplane = "ipvs"\n')
        await until(lambda: world.balancing.balancer and world.balancing.balancer.counters.reconciles)
        assert (world.opened, world.plane.services, len(world.plane.batches)) == (1, before, batches)


class NoUpkeep:
    """Nothing of the machine is touched."""

    failures: dict[str, str] = {}

    def __init__(self, *arguments: object) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def remove(self) -> None:
        pass


async def test_addresses_are_not_known_before_the_store_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worlds(tmp_path, monkeypatch) as world:
        assert world.balancing.addresses_known  # without [l4] nobody asks for them
        gate = asyncio.Event()
        config = world.config("[l4]\n")
        coordinator = await world.coordination.open(config)
        watch, get = coordinator.watch, coordinator.get

        async def late_get(key: str) -> Any:
            await gate.wait()
            return await get(key)

        async def late(prefix: str) -> AsyncIterator[dict[str, bytes]]:
            await gate.wait()
            async for values in watch(prefix):
                yield values

        monkeypatch.setattr(coordinator, "watch", late)
        monkeypatch.setattr(coordinator, "get", late_get)
        world.plane.put(ServiceKey("tcp", "11.225.36.193", 80), Service())
        world.run_task()
        await world.balancing.open(config, world.coordination)
        await asyncio.sleep(0.1)
        assert not world.balancing.addresses_known
        assert not world.plane.batches  # what is there stays
        assert world.catalog.sources["vips"].synced  # and nobody else waits for it
        gate.set()
        await until(lambda: world.balancing.addresses_known)
        await until(lambda: world.owners())


async def test_a_vip_file_that_can_not_be_read_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "vips.toml"
    file.write_text("[[vip]]\n")
    of_the_file = ServiceKey("tcp", "11.200.0.10", 25)
    async with worlds(tmp_path, monkeypatch) as world:
        world.plane.put(of_the_file, Service())
        world.plane.addresses.add(of_the_file.address)
        await world.open(f'[l4]\nreconcile = "1s"\nvip_file = "{file}"\n')
        world.run_task()
        await until(lambda: world.owners())  # labels are served all the same
        assert of_the_file in world.plane.services
        file.write_text("vip = []\n")
        await until(lambda: of_the_file not in world.plane.services)


async def test_a_vip_file_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "vips.toml"
    file.write_text(
        '[[vip]]\nname = "db.static"\nport = 5432\nservers = [{ address = "10.0.0.4", port = 5432, weight = 2 }]\n'
    )
    async with worlds(tmp_path, monkeypatch) as world:
        await world.open(f'[l4]\nvip_file = "{file}"\n')
        await until(lambda: ("db.static", A) in world.owners())
        assert "vip_file" in world.sources
        (service,) = world.plane.state().values()
        assert [destination.weight for destination in service.destinations.values()] == [2]


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("", set()),
        ("[l4]\n", {"vips", "reachability"}),
        ('[l4]\nvip_file = "/x"\n', {"vips", "reachability", "vip_file"}),
        ('[l4]\n[relay]\nservers = ["http://127.0.0.1:1"]\n', set()),
    ],
)
async def test_who_allocates(text: str, on: set[str], tmp_path: Path) -> None:
    config = load_text(text, "test.toml")
    assert {name for name in SOURCES if is_on(name, config)} == on
