"""A balancer with one VIP, a data plane in memory, and a clock that is the test's."""

from __future__ import annotations

from collections.abc import Container

import pytest

from lb4.balancer import Balancer
from lb4.services import BackendKey, Destination, Service, ServiceKey, Settings
from lb4.vip import Backend, VipKey, VipState
from tests.fakes.data_plane import FakePlane, FakeTable

WEB, API = VipKey("tcp", "web.marathon", 80), VipKey("tcp", "api.marathon", 80)
ONE, TWO = ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("tcp", "11.0.0.2", 80)
A, B = Backend("10.0.0.1", 8080), Backend("10.0.0.2", 8080)
LARGE = Service(Settings(), {A.key: Destination(), B.key: Destination()})
BOTH = VipState(WEB, (A, B))


class FakeChecks:
    """Checks whose outcome is the test's."""

    def __init__(self) -> None:
        self.failed: dict[VipKey, set[BackendKey]] = {}
        self.kept: dict[VipKey, VipState | None] = {}

    @property
    def failing(self) -> Container[BackendKey]:
        return {backend for found in self.failed.values() for backend in found}

    def failing_of(self, key: VipKey) -> Container[BackendKey]:
        return self.failed.get(key, ())

    def keep(self, key: VipKey, state: VipState | None) -> None:
        self.kept[key] = state


class World:
    """A balancer with one VIP, a data plane, a clock, and what is told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.known = self.complete = self.heard = True
        self.plane, self.table, self.checks = FakePlane(), FakeTable(), FakeChecks()
        self.told: list[frozenset[VipKey]] = []
        """VIPs of which what is served has changed."""
        self.table.put(BOTH)
        self.table.allocate("web.marathon", "11.0.0.1")
        self.balancer = Balancer(
            self.table,
            self.plane,
            known=lambda: self.known,
            own=frozenset({"10.0.0.1"}),
            owned=lambda address: address.startswith(("11.", "fd01:c::")),
            scheduler="wlc",
            reconcile=30.0,
            drain_timeout=60.0,
            checks=self.checks,
            served=self.told.append,
            may_drop=lambda: self.complete,
            heard=lambda: self.heard,
            clock=lambda: self.now,
            chance=lambda: 0.5,
        )

    async def quiet(self) -> float:
        """Turns until there is nothing to do at this time; when there is."""
        for _ in range(1000):
            at = await self.balancer.turn()
            if at > self.now:
                return at
        pytest.fail("the balancer never comes to rest")

    async def after(self, seconds: float) -> None:
        """Time goes by, in steps of what the balancer waits for."""
        end = self.now + seconds
        while (at := await self.quiet()) <= end:
            self.now = at
        self.now = end
