"""Containers come and go, and one that can't have virtual addresses bothers no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent import containers
from agent.containers import Containers
from agent.data_planes import Opened
from lb4.balancer import Balancer
from lb4.config import L4Config
from lb4.namespaces import Change, Container
from lb4.services import DataPlane, NotUsable
from tests.fakes.data_plane import FakePlane, FakeTable

pytestmark = pytest.mark.asyncio

GOOD, OTHER, BAD = (Container(name, f"/run/netns/{name}", (0, number)) for number, name in enumerate(("a", "b", "bad")))


class World:
    """The folder, as the test changes it, and what was made for each container."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[Change] = asyncio.Queue()
        self.planes: dict[str, FakePlane] = {}
        self.switched: list[str] = []

    def folder(self, folder: str) -> World:
        return self

    async def _changes(self) -> AsyncIterator[Change]:
        while True:
            yield await self.changes.get()
            self.changes.task_done()

    async def open(self, config: L4Config, netns: str) -> Opened:
        if netns == BAD.path:
            raise NotUsable("not for you")
        return Opened(self.planes.setdefault(netns, FakePlane()))

    def sysctls(self, netns: str) -> Any:
        world = self

        class Sysctls:
            def apply(self, values: object) -> None:
                world.switched.append(netns)

        return Sysctls()

    def balancer(self, config: L4Config, plane: DataPlane) -> Balancer:
        return Balancer(
            FakeTable(),
            plane,
            known=lambda: True,
            own=frozenset(),
            owned=lambda address: True,
            scheduler="wlc",
            reconcile=30,
            drain_timeout=60,
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    class Folder:
        def __init__(self, folder: str) -> None:
            pass

        def changes(self) -> AsyncIterator[Change]:
            return made._changes()

    monkeypatch.setattr(containers, "NamespaceFolder", Folder)
    monkeypatch.setattr(containers, "open_container_plane", made.open)
    monkeypatch.setattr(containers, "Sysctls", made.sysctls)
    return made


async def seen(world: World, *changes: Change) -> None:
    """Until all of them were taken in."""
    for change in changes:
        world.changes.put_nowait(change)
    world.changes.put_nowait(Change(False, Container("nobody", "", (9, 9))))  # who asks for the next is done before
    async with asyncio.timeout(60):
        while world.changes.qsize():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)


async def test_each_has_its_own(world: World) -> None:
    kept = Containers(L4Config(netns_dir="/run/x"), world.balancer)
    running = asyncio.create_task(kept.run())
    await seen(world, Change(True, GOOD), Change(True, BAD), Change(True, OTHER))
    assert len(kept) == 2
    assert world.switched == [GOOD.path, BAD.path, OTHER.path]
    async with asyncio.timeout(60):
        while not all(plane.reads for plane in world.planes.values()):
            await asyncio.sleep(0.01)
    await seen(world, Change(False, GOOD))
    assert len(kept) == 1
    running.cancel()
    await asyncio.wait([running])
    await kept.close(take_away=True)
    assert len(kept) == 0
