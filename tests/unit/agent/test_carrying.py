"""A node's data plane by itself; with names and servers beside it: test_balancing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import pytest

from agent import carrying
from agent.carrying import Carrying
from agent.data_planes import Opened
from lb4.config import L4Config
from lb4.services import ServiceKey
from lb4.table import VipTable
from lb4.vip import VipKey
from mesos_dns.config import Duration
from mesos_dns.model import Network, Port, VipAddress
from tests.fakes.data_plane import FakePlane
from tests.fakes.questions import AGENT, MARATHON, put, task

pytestmark = pytest.mark.asyncio

WEB = VipKey("tcp", "web.marathon", 80)
SERVICE = ServiceKey("tcp", "11.0.0.1", 80)


class World:
    """A table with one VIP, a plane in memory, and what was told of names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plane = FakePlane()
        self.told: list[VipKey] = []
        self.all_told = 0
        self.table = VipTable()
        self.carrying = Carrying(self.table, lambda: True, self.changed, self.all_changed)
        monkeypatch.setattr(carrying, "open_plane", self.open_plane)
        port = Port(8080, "http", "tcp", (("VIP_0", "/web:80"),))
        web = task(0, ports=(port,), networks=(Network("dcos", ("9.0.0.1",)),))
        self.table.apply(put(MARATHON, AGENT, web, VipAddress("web.marathon", "11.0.0.1")))

    async def open_plane(self, config: L4Config, said: str = "") -> Opened:
        return Opened(self.plane if config.dataplane != "off" else None)

    def changed(self, keys: Collection[VipKey]) -> None:
        self.told += keys

    def all_changed(self) -> None:
        self.all_told += 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def until(condition: Callable[[], object]) -> None:
    """A minute at most."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_is_known_is_there_when_it_has_been_opened(world: World) -> None:
    await world.carrying.open(L4Config())
    assert SERVICE in world.plane.services
    assert world.plane.addresses == {"11.0.0.1"}
    assert world.carrying.answers(WEB)
    assert WEB in world.told
    assert world.all_told
    await world.carrying.close(take_away=False)
    assert SERVICE in world.plane.services


async def test_off_answers_everything_and_carries_nothing(world: World) -> None:
    await world.carrying.open(L4Config(dataplane="off"))
    assert world.carrying.answers(WEB)
    assert not world.carrying.lacks
    assert not world.plane.services
    await world.carrying.change(L4Config())
    await until(lambda: SERVICE in world.plane.services)
    await world.carrying.change(L4Config(dataplane="off"))
    assert not world.plane.services
    assert world.carrying.answers(WEB)
    await world.carrying.close(take_away=False)


async def test_another_device_means_to_begin_anew_and_the_section_gone_to_leave(world: World) -> None:
    await world.carrying.open(L4Config())
    await world.carrying.change(L4Config(device="vips"))
    await until(lambda: SERVICE in world.plane.services)
    await world.carrying.change(None)
    assert not world.plane.services
    assert not world.plane.addresses
    assert world.carrying.answers(WEB)
    await world.carrying.change(None)
    await world.carrying.change(L4Config())
    assert SERVICE in world.plane.services
    await world.carrying.close(take_away=True)
    assert not world.plane.services


async def test_another_pace_keeps_the_plane(world: World) -> None:
    await world.carrying.open(L4Config())
    balancer = world.carrying.balancer
    await world.carrying.change(L4Config(reconcile=Duration(5)))
    assert world.carrying.opened.plane is world.plane
    assert world.carrying.balancer is not balancer
    again = world.carrying.balancer
    await world.carrying.change(L4Config(reconcile=Duration(5), vip_file="/x"))
    assert world.carrying.balancer is again
    await world.carrying.close(take_away=False)
