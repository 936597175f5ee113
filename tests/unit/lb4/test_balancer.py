"""lb4.balancer: when what is done; the clock is the test's."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import inf

import pytest
import pytest_asyncio

from lb4 import programmer
from lb4.api_shapes import VipFailureRow
from lb4.balancer import KNOWN_EVERY, Balancer
from lb4.balancer_state import Drift, owned_copy
from lb4.services import BackendKey, Destination, Kind, Operation, Service, ServiceKey, Settings
from lb4.slices import DESTINATIONS, SLICE
from lb4.vip import Backend, VipKey, VipState
from mesos_dns.model import Draining, VipAddress
from tests.fakes.balancing import API, BOTH, LARGE, ONE, TWO, WEB, A, B, World
from tests.fakes.data_plane import FakePlane
from tests.fakes.vip_tables import NotingTable, vip_task

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    yield World()


async def test_the_start(world: World) -> None:
    await world.quiet()
    assert world.plane.state() == {ONE: LARGE}
    assert world.plane.addresses == {"11.0.0.1"}
    assert world.told == [{WEB}]
    assert world.balancer.is_served(WEB)
    assert world.plane.reads == 1
    assert world.checks.kept == {WEB: BOTH}


async def test_a_restart_changes_nothing_that_is_right(world: World) -> None:
    world.plane.put(ONE, LARGE)
    world.plane.addresses = {"11.0.0.1"}
    await world.quiet()
    assert world.plane.batches == []
    assert world.balancer.is_served(WEB)
    assert not world.balancer.counters.drift


async def test_a_restart_takes_what_nobody_wants(world: World) -> None:
    world.plane.put(TWO, LARGE)
    world.plane.addresses = {"11.0.0.2", "11.0.0.3"}
    world.plane.active = {(TWO, A.key): 1}
    await world.quiet()
    assert world.plane.addresses == {"11.0.0.1", "11.0.0.2"}
    assert world.plane.state()[TWO] == Service(Settings(), {A.key: Destination(0), B.key: Destination(0)})
    await world.after(3.0)
    assert world.plane.state()[TWO] == Service(Settings(), {A.key: Destination(0)})
    await world.after(60.0)
    assert (world.plane.state(), world.plane.addresses) == ({ONE: LARGE}, {"11.0.0.1"})


async def test_what_was_saved_does_not_change_what_is_there_until_it_is_heard(world: World) -> None:
    world.heard = False
    newer = Service(Settings(), {A.key: Destination(), B.key: Destination(0)})
    world.plane.put(ONE, newer)
    world.plane.put(TWO, LARGE)
    world.plane.addresses = {"11.0.0.1", "11.0.0.2"}
    world.table.put(VipState(API, (A,)))
    world.table.allocate("api.marathon", "11.0.0.3")
    await world.after(100.0)
    three = ServiceKey("tcp", "11.0.0.3", 80)
    made = Service(Settings(), {A.key: Destination()})
    assert world.plane.state() == {ONE: newer, TWO: LARGE, three: made}
    assert world.balancer.is_served(WEB)
    assert world.balancer.is_served(API)
    world.heard = True
    await world.after(100.0)
    assert world.plane.state() == {ONE: LARGE, three: made}


async def test_a_change_is_done_though_nothing_else_was_heard(world: World) -> None:
    world.heard = False
    world.plane.put(ONE, Service(Settings("rr"), {B.key: Destination()}))
    world.plane.addresses = {"11.0.0.1"}
    await world.quiet()
    world.table.put(VipState(WEB, (A,)))
    world.balancer.changed({WEB})
    await world.quiet()
    assert world.plane.state()[ONE].destinations == {A.key: Destination(), B.key: Destination(0)}


async def test_nothing_is_done_before_it_is_known(world: World) -> None:
    world.known = False
    world.plane.put(TWO, LARGE)
    assert await world.quiet() == world.now + KNOWN_EVERY
    assert (world.plane.reads, world.plane.batches) == (0, [])
    assert world.balancer.status().known is False
    world.known = True
    await world.quiet()
    assert world.balancer.is_served(WEB)


async def test_changes_are_programmed_and_nothing_else_is_looked_at(world: World) -> None:
    await world.quiet()
    world.table.put(VipState(WEB, (A, Backend("10.0.0.2", 8080, weight=3))))
    await world.quiet()
    assert [len(batch) for batch in world.plane.batches[1:]] == [1]
    assert world.plane.reads == 1


async def test_changes_at_one_time_are_one_batch(world: World) -> None:
    await world.quiet()
    world.table.put(VipState(API, (A,)))
    world.table.allocate("api.marathon", "11.0.0.2")
    world.table.put(VipState(WEB, (A, Backend("10.0.0.2", 8080, weight=3))))
    await world.quiet()
    assert len(world.plane.batches) == 2
    assert world.told == [{WEB}, {API}]


async def test_no_service_and_no_name_without_an_address(world: World) -> None:
    world.table.put(VipState(API, (A,)))
    await world.quiet()
    assert not world.balancer.is_served(API)
    world.table.allocate("api.marathon", "11.0.0.2")
    await world.quiet()
    assert world.balancer.is_served(API)
    world.table.allocate("web.marathon")
    await world.quiet()
    assert world.told == [{WEB}, {API}, {WEB}]


async def test_a_vip_without_weights_is_served(world: World) -> None:
    world.table.put(VipState(WEB, (Backend("10.0.0.1", 8080, weight=0),)))
    await world.quiet()
    assert world.plane.state() == {ONE: Service()}
    assert world.balancer.is_served(WEB)


async def test_a_vip_that_goes_drains_and_its_name_goes_at_once(world: World) -> None:
    await world.quiet()
    world.plane.active = {(ONE, A.key): 3}
    world.table.drop(WEB)
    await world.quiet()
    assert not world.balancer.is_served(WEB)
    assert world.plane.addresses == {"11.0.0.1"}
    await world.after(3.0)
    assert list(world.plane.state()[ONE].destinations) == [A.key]
    world.plane.active = {}
    await world.after(2.0)
    assert (world.plane.state(), world.plane.addresses) == ({}, set())
    assert world.checks.kept == {WEB: None}
    # Only the service that drained was looked at.
    assert world.plane.counted == [[ONE]] * 3


async def test_drains_are_told(world: World) -> None:
    await world.quiet()
    world.plane.active = {(ONE, B.key): 3}
    world.table.put(VipState(WEB, (A,)))
    await world.after(5.0)
    (draining,) = world.balancer.drains(WEB)
    assert (draining.service, draining.address, draining.port, draining.seconds) == (ONE, "10.0.0.2", 8080, 5.0)
    assert world.balancer.status().draining == 1
    assert world.balancer.drains(API) == []


async def test_a_task_that_is_drained_keeps_its_connections_and_gets_none() -> None:
    address, drained = VipAddress("x.marathon", "11.0.0.1"), Draining("f-1", vip_task(1).id, 1_800_000_000.0)
    table = NotingTable(vip_task(0), vip_task(1), address)
    plane = FakePlane()
    balancer = Balancer(
        table,
        plane,
        known=lambda: True,
        own=frozenset(),
        owned=lambda address: address.startswith("11."),
        scheduler="wlc",
        reconcile=30.0,
        drain_timeout=60.0,
        clock=lambda: now,
    )

    async def quiet() -> dict[str, int]:
        """The weights of the destinations when there is nothing to do."""
        for _ in range(1000):
            if await balancer.turn() > now:
                return {key.address: found.weight for key, found in plane.state()[ONE].destinations.items()}
        pytest.fail("the balancer never comes to rest")

    now = 1000.0
    assert await quiet() == {"9.0.0.1": 1, "9.0.0.2": 1}
    plane.active = {(ONE, BackendKey("9.0.0.2", 8080)): 3}
    table.put(drained)
    assert await quiet() == {"9.0.0.1": 1, "9.0.0.2": 0}
    now += 5.0
    assert await quiet() == {"9.0.0.1": 1, "9.0.0.2": 0}
    table.drop(drained)
    assert await quiet() == {"9.0.0.1": 1, "9.0.0.2": 1}
    table.put(drained)
    await quiet()
    plane.active = {}
    now += 5.0
    assert await quiet() == {"9.0.0.1": 1}
    table.put(Draining("f-1", vip_task(0).id, 1_800_000_000.0))
    assert await quiet() == {"9.0.0.1": 1, "9.0.0.2": 1}, "nothing else is there"


async def test_own_checks(world: World) -> None:
    await world.quiet()
    world.checks.failed = {WEB: {B.key}, API: {A.key}}
    world.balancer.changed([WEB])
    await world.quiet()
    assert world.plane.state()[ONE].destinations == {A.key: Destination(), B.key: Destination(0)}
    assert B.key in world.balancer.failing_of(WEB)


async def test_own_addresses_may_change(world: World) -> None:
    local = Backend("10.0.0.2", 8080, node="10.0.0.2", local=BackendKey("9.0.0.1", 80))
    world.table.put(VipState(WEB, (local,)))
    await world.quiet()
    world.balancer.set_own(frozenset({"10.0.0.2"}))
    world.balancer.set_own(frozenset({"10.0.0.2"}))
    await world.quiet()
    assert world.plane.state()[ONE].destinations[BackendKey("9.0.0.1", 80)] == Destination()


async def test_drift_is_counted_said_and_put_right(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.quiet()
    del world.plane.services[ONE][1][A.key]
    world.plane.addresses.clear()
    with caplog.at_level(logging.WARNING):
        await world.after(30.0)
    assert world.plane.state() == {ONE: LARGE}
    assert world.plane.addresses == {"11.0.0.1"}
    assert world.balancer.counters.drift == {Drift.MISSING_DESTINATION: 1, Drift.MISSING_ADDRESS: 1}
    assert world.balancer.counters.reconciles == 2
    assert "missing_address=1 missing_destination=1" in caplog.text
    assert world.told == [{WEB}]  # it was put right before anybody was told


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 24.0), (1.0, 36.0)])
async def test_looks_are_not_all_at_one_time(world: World, chance: float, seconds: float) -> None:
    world.balancer._chance = lambda: chance
    assert await world.quiet() == pytest.approx(world.now + seconds)


async def test_changes_do_not_put_a_look_off_for_ever(world: World) -> None:
    await world.quiet()
    for tenth in range(330):
        world.now += 0.1
        world.table.put(VipState(WEB, (A, Backend("10.0.0.2", 8080, weight=1 + tenth % 2))))
        await world.balancer.turn()
    assert world.plane.reads == 2


async def test_a_failure_is_tried_again_ever_later_and_hinders_no_other(world: World) -> None:
    world.table.put(VipState(API, (A,)))
    world.table.allocate("api.marathon", "11.0.0.2")
    world.plane.fails = lambda o: errno.EPERM if o.service == ONE and o.kind is Kind.ADD_SERVICE else 0
    await world.quiet()
    assert world.plane.state()[TWO].destinations == {A.key: Destination()}
    assert world.told == [{API}]
    row = VipFailureRow("add-service", "11.0.0.1", "EPERM", "Operation not permitted")
    assert world.balancer.failures(WEB) == [row]
    assert world.balancer.failures(API) == []
    assert world.balancer.status().in_trouble == 1
    tries = []
    for _ in range(4):
        world.now = await world.quiet()
        tries.append(world.now - 1000.0)
    assert tries == [1.0, 3.0, 7.0, 15.0]
    world.plane.fails = lambda operation: 0
    await world.quiet()
    assert world.told == [{API}, {WEB}]
    assert world.balancer.failures(WEB) == []


async def test_a_change_is_not_held_up_by_its_failure(world: World) -> None:
    world.plane.fails = lambda operation: errno.EPERM
    await world.quiet()
    world.plane.fails = lambda operation: 0
    world.table.put(VipState(WEB, (A,)))
    await world.quiet()
    assert world.balancer.is_served(WEB)


async def test_what_others_made_in_between_is_found_before_the_next_look(world: World) -> None:
    await world.quiet()
    world.plane.put(TWO, LARGE)
    world.table.put(VipState(API, (A,)))
    world.table.allocate("api.marathon", "11.0.0.2")
    await world.quiet()
    assert not world.balancer.is_served(API)
    await world.after(2.0)
    assert world.plane.state()[TWO].destinations == {A.key: Destination(), B.key: Destination(0)}
    assert world.balancer.is_served(API)
    assert world.plane.reads == 2


async def test_a_broken_plane_is_left_alone_and_then_read(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.quiet()
    world.plane.broken = OSError("gone away")
    with caplog.at_level(logging.INFO):
        world.table.put(VipState(WEB, (A,)))
        assert await world.quiet() == world.now + 1.0
        assert world.balancer.status().error == "gone away"
        batches = len(world.plane.batches)
        world.table.put(VipState(WEB, (B,)))
        assert await world.balancer.turn() == world.now + 1.0
        assert world.balancer.counters.plane_errors == 1
        await world.after(100.0)
        assert len(world.plane.batches) == batches
        assert world.balancer.is_served(WEB)
        world.plane.services.clear()
        world.plane.broken = None
        await world.after(30.0)
    assert world.plane.state() == {ONE: Service(Settings(), {B.key: Destination()})}
    assert world.balancer.status().error == ""
    assert not world.balancer.counters.drift  # what happened meanwhile is not known
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [
        "the data plane can't be used now plane=fake error=gone away",
        "the data plane can be used again plane=fake",
    ]


async def test_waits_for_a_broken_plane_grow(world: World) -> None:
    world.plane.broken = OSError("gone away")
    waits = []
    for _ in range(7):
        at = await world.quiet()
        waits.append(at - world.now)
        world.now = at
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


async def test_a_plane_that_only_reads_is_not_asked_all_the_time(world: World) -> None:
    def fails(operation: object) -> int:
        raise OSError("gone away")

    world.plane.fails = fails
    await world.after(100.0)
    assert world.plane.reads < 10


async def test_a_vip_that_can_not_be_understood_hinders_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    bad: VipState = "no state"  # type: ignore[assignment]
    world.table.vips[API] = bad
    await world.quiet()
    assert world.balancer.is_served(WEB)
    assert world.balancer.counters.vip_errors == 1
    assert "vip=tcp/api.marathon:80" in caplog.text


async def test_many_services_are_programmed_in_slices_and_changes_go_first(world: World) -> None:
    for number in range(3 * SLICE):
        name = f"app{number}.marathon"
        world.table.put(VipState(VipKey("tcp", name, 80), (A,)))
        world.table.allocate(name, f"11.0.{1 + number // 250}.{number % 250}")
    await world.balancer.turn()
    await world.balancer.turn()
    assert len({operation.service for operation in world.plane.operations}) == SLICE
    assert world.balancer.status().backlog == 2 * SLICE + 1
    batches = len(world.plane.batches)
    last = VipKey("tcp", f"app{3 * SLICE - 1}.marathon", 80)
    world.table.put(VipState(last, (A, B)))
    await world.balancer.turn()
    assert {operation.service.address for operation in world.plane.batches[batches]} == {
        world.table.addresses[last.name].address
    }
    await world.quiet()
    assert world.balancer.status().served == 3 * SLICE + 1
    assert world.plane.reads == 1


async def test_numbers(world: World) -> None:
    world.table.put(VipState(API, (A,)))
    world.table.allocate("api.marathon", "11.0.0.2")
    assert world.balancer.status().reconciled == -1.0
    await world.quiet()
    world.now += 5.0
    status = world.balancer.status()
    assert (status.plane, status.known, status.error) == ("fake", True, "")
    assert (status.vips, status.served, status.services, status.destinations) == (2, 2, 2, 3)
    assert (status.clashes, status.backlog, status.reconciled) == (1, 0, 5.0)
    assert world.balancer.shared(WEB) == [API]
    assert world.balancer.shared(API) == [WEB]
    assert world.balancer.counters.operations[Kind.ADD_SERVICE, "done"] == 2
    assert sum(world.balancer.counters.apply_counts) == 1


async def test_the_revision_follows_what_is_told(world: World) -> None:
    await world.quiet()
    seen = [world.balancer.revision]
    world.plane.fails = lambda operation: errno.EPERM
    world.table.put(VipState(WEB, (A,)))
    await world.quiet()
    seen.append(world.balancer.revision)
    world.plane.fails = lambda operation: 0
    await world.after(1.0)
    seen.append(world.balancer.revision)
    assert seen == sorted(set(seen))


async def test_the_revision_grows_when_a_vip_comes_to_be_served(world: World) -> None:
    """Who asked while it was being programmed is told that it is no longer as it was."""
    await world.quiet()
    seen: list[int] = []

    def applied(operation: Operation) -> int:
        seen.append(world.balancer.revision)
        return 0

    world.plane.fails = applied
    world.table.put(VipState(API, (A,)))
    world.table.allocate("api.marathon", "11.0.0.2")
    await world.balancer.turn()
    assert world.balancer.is_served(API)
    assert world.balancer.revision > max(seen)


async def test_no_two_balancers_have_a_revision(world: World) -> None:
    await world.quiet()
    told = world.balancer.revision
    assert World().balancer.revision > told


async def test_close_leaves_everything(world: World) -> None:
    await world.quiet()
    world.balancer.close()
    world.table.put(VipState(WEB, (A,)))
    assert not world.balancer._changes
    assert await world.balancer.turn() == inf
    assert world.plane.state() == {ONE: LARGE}


async def test_remove_takes_everything(world: World) -> None:
    await world.quiet()
    foreign = ServiceKey("tcp", "192.0.2.1", 80)
    world.plane.put(foreign, LARGE)
    assert await world.balancer.remove() == []
    assert (world.plane.state(), world.plane.addresses) == ({foreign: LARGE}, set())
    assert not world.balancer.is_served(WEB)
    assert await world.balancer.turn() == inf


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """A balancer that runs by itself, by a real clock."""
    world.balancer._clock = asyncio.get_running_loop().time
    task = asyncio.create_task(world.balancer.run())
    try:
        yield world
    finally:
        world.balancer.close()
        async with asyncio.timeout(60):
            await task


async def applied(world: World) -> None:
    """Wait for operations."""
    async with asyncio.timeout(60):
        await world.plane.applied.wait()
    world.plane.applied.clear()


async def test_it_runs_until_it_is_closed(world: World) -> None:
    async with running(world):
        await applied(world)
        world.table.put(VipState(WEB, (A,)))
        await applied(world)
    assert world.plane.operations[-1] == (Kind.SET_DESTINATION, ONE, None, B.key, Destination(0))


@pytest.mark.parametrize(("every", "tell"), [(0.001, False), (1e6, True)], ids=["by looking", "by a change"])
async def test_it_finds_that_it_is_known(
    world: World, monkeypatch: pytest.MonkeyPatch, every: float, tell: bool
) -> None:
    monkeypatch.setattr("lb4.balancer.KNOWN_EVERY", every)
    looked = asyncio.Event()

    def known() -> bool:
        looked.set()
        return world.known

    world.known = False
    world.balancer._known = known
    async with running(world):
        await looked.wait()
        world.known = True
        if tell:
            world.table.tell(WEB)
        await applied(world)
    assert world.balancer.is_served(WEB)


async def test_a_mistake_is_not_the_end(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lb4.balancer.SHORTEST", 0.001)

    def fails(operation: object) -> int:
        world.plane.fails = lambda operation: 0
        raise RuntimeError("a mistake")

    world.plane.fails = fails
    async with running(world):
        await applied(world)
        await applied(world)
    assert "the balancer failed" in caplog.text
    assert world.plane.state() == {ONE: LARGE}


class Ticks:
    """Counts turns of the loop, and what is done in each."""

    def __init__(self) -> None:
        self.now = 0
        self.done: dict[str, Counter[int]] = {}
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.now += 1
            await asyncio.sleep(0)

    def note(self, what: str, destinations: int) -> None:
        self.done.setdefault(what, Counter())[self.now] += destinations

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


LARGEST, MANY = 700, 12
"""Destinations of a VIP, and VIPs that are so large: few by their number."""


async def test_large_vips_are_worked_on_in_slices_by_their_destinations(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows = world.balancer._programmer
    want, settle, copy = knows.want, knows._settle, owned_copy
    ticks = Ticks()

    def watched_want(vip: VipKey, found: Mapping[ServiceKey, Service]) -> list[ServiceKey]:
        ticks.note("want", sum(len(service.destinations) for service in found.values()))
        return want(vip, found)

    def watched_settle(key: ServiceKey, active: Mapping[BackendKey, int] | None, now: float) -> None:
        ticks.note("settle", knows.size(key))
        settle(key, active, now)

    def watched_copy(destinations: Mapping[BackendKey, Destination]) -> dict[BackendKey, Destination]:
        ticks.note("take", len(destinations))
        return copy(destinations)

    monkeypatch.setattr(knows, "want", watched_want)
    monkeypatch.setattr(knows, "_settle", watched_settle)
    monkeypatch.setattr(programmer, "owned_copy", watched_copy)
    world.plane.fails = lambda operation: errno.EPERM if operation.backend == B.key else 0  # so all are tried again
    try:
        for weight in (1, 2, 3):
            for number in range(MANY):
                some = [Backend(f"10.1.{port >> 8}.{port & 255}", 80 + number, weight) for port in range(LARGEST)]
                name = f"app{number}.marathon"
                world.table.put(VipState(VipKey("tcp", name, 80), (*some, B)))
                world.table.allocate(name, f"11.0.1.{number}")
            await world.after(1.0)
        for key, (_, found) in world.plane.services.items():
            world.plane.services[key] = (Settings("rr"), found)  # others change all of them
        await world.after(31.0)
    finally:
        await ticks.close()
    assert ticks.done.keys() == {"want", "settle", "take"}
    for what, done in ticks.done.items():
        assert max(done.values()) < DESTINATIONS + LARGEST + 1, what
        assert len(done) > MANY * LARGEST / (DESTINATIONS + LARGEST), what
