"""lb4.programmer: services are made as they should be, and what came of it is known."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import pytest

from lb4.balancer_state import Drift
from lb4.programmer import Programmer
from lb4.services import Actual, BackendKey, Destination, Failure, Kind, Operation, Service, ServiceKey, Settings
from lb4.vip import VipKey
from tests.fakes.data_plane import FakePlane

pytestmark = pytest.mark.asyncio

WEB, API, FIXED = VipKey("tcp", "web.marathon", 80), VipKey("tcp", "web.marathon", 81), VipKey("udp", "10.9.9.9", 53)
ONE, TWO = ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("tcp", "11.0.0.1", 81)
DNS = ServiceKey("udp", "10.9.9.9", 53)
FOREIGN = ServiceKey("tcp", "192.0.2.1", 80)
A, B = BackendKey("10.0.0.1", 8080), BackendKey("10.0.0.2", 8080)
SMALL, LARGE = Service(Settings(), {A: Destination()}), Service(Settings(), {A: Destination(), B: Destination()})


class World:
    """A programmer with a data plane, a clock and what is told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.plane = FakePlane()
        self.told: list[frozenset[VipKey]] = []
        self.programmer = Programmer(
            self.plane, lambda address: address.startswith("11."), 60.0, self.told.append, lambda: self.now
        )

    async def want(self, vip: VipKey, services: Mapping[ServiceKey, Service]) -> bool:
        """A VIP wants these, and they are programmed."""
        try:
            return await self.programmer.program(self.programmer.want(vip, services), {})
        finally:
            self.programmer.served.check([vip])

    async def look(self) -> list[ServiceKey]:
        """Read everything; what differs."""
        self.drift = await self.programmer.take(await self.plane.read())
        return await self.programmer.differing()


@pytest.fixture
def world() -> World:
    return World()


async def test_a_vip_is_programmed_and_served(world: World) -> None:
    assert await world.want(WEB, {ONE: LARGE})
    assert world.plane.state() == {ONE: LARGE}
    assert world.plane.addresses == {ONE.address}
    assert world.told == [{WEB}]
    assert len(world.plane.batches) == 1
    assert await world.want(WEB, {ONE: LARGE})
    assert len(world.plane.batches) == 1


async def test_one_change_is_one_operation(world: World) -> None:
    await world.want(WEB, {ONE: LARGE})
    await world.want(WEB, {ONE: Service(Settings(), {A: Destination(), B: Destination(2)})})
    assert world.plane.batches[1:] == [[Operation(Kind.SET_DESTINATION, ONE, None, B, Destination(2))]]


async def test_failures_are_kept_and_what_was_done_is_remembered(world: World) -> None:
    world.plane.fails = lambda operation: errno.ENOMEM if operation.backend == B else 0
    assert await world.want(WEB, {ONE: LARGE})
    assert world.programmer.remembered.services == {ONE: SMALL}
    assert [failure.errno for failure in world.programmer.troubles.of(ONE)] == [errno.ENOMEM]
    assert WEB in world.programmer.served  # it works
    world.plane.fails = lambda operation: 0
    await world.programmer.program([ONE], {})
    assert world.plane.operations[-1] == Operation(Kind.ADD_DESTINATION, ONE, None, B, Destination())
    assert len(world.programmer.troubles) == 0


async def test_an_address_that_could_not_be_made_concerns_all_who_have_it(world: World) -> None:
    world.plane.fails = lambda operation: errno.EPERM if operation.kind is Kind.ADD_ADDRESS else 0
    await world.want(WEB, {ONE: SMALL})
    await world.want(API, {TWO: SMALL})
    assert world.told == []
    world.plane.fails = lambda operation: 0
    await world.programmer.program([ONE], {})
    assert world.told == [{WEB, API}]


async def test_something_else_than_was_thought(world: World) -> None:
    world.plane.put(ONE, SMALL)
    assert not await world.want(WEB, {ONE: LARGE})
    assert [failure.operation.kind for failure in world.programmer.troubles.of(ONE)] == [Kind.ADD_SERVICE]
    assert await world.look() == [ONE]
    assert await world.programmer.program([ONE], {})
    assert world.plane.state() == {ONE: LARGE}


async def test_what_was_to_go_and_is_gone_is_no_failure(world: World) -> None:
    await world.want(FIXED, {DNS: LARGE})
    world.plane.services.clear()
    assert await world.want(FIXED, {})
    assert len(world.programmer.troubles) == 0
    assert world.programmer.remembered.services == {}


async def test_drains(world: World) -> None:
    await world.want(WEB, {ONE: LARGE})
    await world.want(WEB, {ONE: SMALL})
    drained = Service(Settings(), {A: Destination(), B: Destination(0)})
    assert world.plane.state() == {ONE: drained}
    world.now += 2.0
    world.plane.active = {(ONE, B): 1}
    await world.programmer.program([ONE], await world.programmer.count([ONE]))
    assert world.plane.state() == {ONE: drained}
    world.plane.active = {}
    await world.programmer.program([ONE], await world.programmer.count([ONE]))
    assert world.plane.state() == {ONE: SMALL}


async def test_an_address_stays_while_its_last_service_drains(world: World) -> None:
    await world.want(WEB, {ONE: SMALL})
    await world.want(WEB, {})
    assert world.plane.state() == {ONE: Service(Settings(), {A: Destination(0)})}
    assert world.plane.addresses == {ONE.address}
    assert world.told == [{WEB}, {WEB}]
    world.now += 2.0
    await world.programmer.program([ONE], await world.programmer.count([ONE]))
    assert (world.plane.state(), world.plane.addresses) == ({}, set())


async def test_connections_that_can_not_be_counted(world: World) -> None:
    await world.want(WEB, {ONE: SMALL})
    assert await world.programmer.count([ONE, TWO]) == {ONE: {A: 0}, TWO: {}}
    world.plane.broken = OSError("no")
    assert await world.programmer.count([ONE]) == {ONE: {}}


async def test_drift_is_found(world: World) -> None:
    await world.want(WEB, {ONE: LARGE})
    await world.want(FIXED, {DNS: SMALL})
    world.plane.put(FOREIGN, LARGE)
    assert await world.look() == []
    assert not world.drift
    assert world.told == [{WEB}, {FIXED}]
    del world.plane.services[ONE][1][B]
    del world.plane.services[DNS]
    world.plane.addresses = {"11.0.0.9"}
    del world.plane.services[FOREIGN]
    stray = ServiceKey("tcp", "11.0.0.8", 80)
    world.plane.put(stray, SMALL)
    assert sorted(await world.look()) == [("", "11.0.0.9", 0), ONE, stray, DNS]
    assert world.drift == {
        Drift.MISSING_DESTINATION: 1,
        Drift.MISSING_SERVICE: 1,
        Drift.MISSING_ADDRESS: 2,
        Drift.FOREIGN_CHANGE: 2,
    }


async def test_an_address_alone_may_be_missing(world: World) -> None:
    await world.want(WEB, {ONE: LARGE})
    world.plane.addresses.clear()
    assert await world.look() == [ONE]
    assert world.drift == {Drift.MISSING_ADDRESS: 1}


async def test_another_service_at_an_address_that_is_wanted_is_not_left(world: World) -> None:
    other = DNS._replace(port=54)
    world.plane.put(other, SMALL)
    world.programmer.want(FIXED, {DNS: SMALL})
    assert sorted(await world.look()) == [DNS, other]


async def test_what_others_have_is_left_alone_whoever_asks(world: World) -> None:
    world.plane.put(FOREIGN, LARGE)
    assert await world.look() == []
    assert await world.programmer.program([FOREIGN], {})
    assert world.plane.batches == []
    assert world.programmer.programmed.services == {}


async def test_what_was_read_is_not_changed(world: World) -> None:
    read = Service(Settings(), {A: Destination()})
    world.plane.put(ONE, read)
    await world.programmer.take(Actual({ONE: read}, frozenset({ONE.address})))
    await world.want(WEB, {ONE: LARGE})
    assert world.programmer.remembered.services == {ONE: LARGE}
    assert read == SMALL


async def test_at_a_start_what_is_right_counts_as_served_and_nothing_is_done(world: World) -> None:
    world.plane.put(ONE, LARGE)
    world.plane.addresses = {ONE.address}
    world.programmer.want(WEB, {ONE: LARGE})
    assert await world.look() == []
    assert world.told == [{WEB}]
    assert world.plane.batches == []


async def test_at_a_start_no_address_goes_that_a_later_slice_needs(world: World) -> None:
    for key in (ONE, TWO):
        world.plane.put(key, SMALL)
    world.plane.addresses = {ONE.address}
    world.programmer.want(API, {TWO: LARGE})
    differing = await world.look()
    assert sorted(differing) == [ONE, TWO]
    await world.programmer.program([ONE], {})
    await world.programmer.program([TWO], {})
    world.now += 60.0
    await world.programmer.program([ONE], {})
    assert world.plane.state() == {TWO: LARGE}
    assert Kind.DROP_ADDRESS not in {operation.kind for operation in world.plane.operations}


@pytest.mark.parametrize("at_once", [True, False], ids=["refused", "broken"])
async def test_a_service_outside_of_the_range_that_could_not_be_dropped_is_not_forgotten(
    world: World, at_once: bool
) -> None:
    await world.want(FIXED, {DNS: SMALL})

    def fails(operation: Operation) -> int:
        if operation.kind is not Kind.DROP_SERVICE:
            return 0
        if at_once:
            return errno.EPERM
        raise OSError("gone away")

    world.plane.fails = fails
    if at_once:
        await world.want(FIXED, {})
    else:
        with pytest.raises(OSError, match="gone away"):
            await world.want(FIXED, {})
    assert world.plane.addresses == set()
    assert DNS in world.plane.state()
    world.plane.fails = lambda operation: 0
    assert await world.look() == [DNS]
    await world.programmer.program([DNS], {})
    assert world.plane.state() == {}


async def test_remove_takes_what_is_ours_and_leaves_the_rest(world: World) -> None:
    world.plane.put(FOREIGN, LARGE)
    await world.want(WEB, {ONE: LARGE})
    await world.want(API, {TWO: LARGE})
    await world.want(API, {})
    await world.want(FIXED, {DNS: SMALL})
    world.plane.addresses.add("11.0.0.9")
    assert await world.programmer.remove() == []
    assert world.plane.state() == {FOREIGN: LARGE}
    assert world.plane.addresses == set()
    assert world.told[-1] == {WEB, FIXED}


async def test_remove_says_what_could_not_be_taken(world: World) -> None:
    await world.want(WEB, {ONE: LARGE})
    world.plane.fails = lambda operation: errno.EPERM if operation.kind is Kind.DROP_SERVICE else 0
    assert await world.programmer.remove() == [
        Failure(Operation(Kind.DROP_SERVICE, ONE), errno.EPERM, "Operation not permitted")
    ]


async def test_half_closed_connections_count(world: World) -> None:
    await world.want(WEB, {ONE: LARGE})
    await world.want(WEB, {ONE: SMALL})
    world.now += 2.0
    world.plane.active, world.plane.inactive = {(ONE, A): 2}, {(ONE, A): 1, (ONE, B): 1}
    counts = await world.programmer.count([ONE])
    assert counts == {ONE: {A: 3, B: 1}}
    await world.programmer.program([ONE], counts)
    assert B in world.plane.state()[ONE].destinations
    world.now += 60.0
    await world.programmer.program([ONE], await world.programmer.count([ONE]))
    assert world.plane.state() == {ONE: SMALL}


async def test_a_missing_scheduler_is_no_surprise_nor_what_follows_from_it(world: World) -> None:
    world.plane.fails = lambda operation: errno.ENOENT if operation.kind is Kind.ADD_SERVICE else 0
    assert await world.want(WEB, {ONE: LARGE})
    assert [failure.operation.kind for failure in world.programmer.troubles.of(ONE)] == [Kind.ADD_SERVICE]
    assert await world.programmer.program([ONE], {})


async def test_a_new_address_of_a_name_is_there_before_the_old_gets_no_connections(world: World) -> None:
    await world.want(WEB, {ONE: SMALL})
    await world.want(FIXED, {DNS: SMALL})
    new = ONE._replace(address="11.0.0.7")
    await world.want(WEB, {new: SMALL})
    assert [(operation.kind, operation.service) for operation in world.plane.batches[-1]] == [
        (Kind.ADD_SERVICE, new),
        (Kind.ADD_DESTINATION, new),
        (Kind.ADD_ADDRESS, new),
        (Kind.SET_DESTINATION, ONE),
    ]
    await world.want(FIXED, {DNS._replace(address="10.9.9.8"): SMALL})
    assert [operation.kind for operation in world.plane.batches[-1]] == [
        Kind.ADD_SERVICE,
        Kind.ADD_DESTINATION,
        Kind.ADD_ADDRESS,
        Kind.DROP_ADDRESS,
        Kind.DROP_SERVICE,
    ]


async def test_what_must_stay_stays_whoever_asks(world: World) -> None:
    for key in (ONE, TWO):
        world.plane.put(key, SMALL)
    world.plane.addresses = {ONE.address, "11.0.0.9"}
    assert len(await world.look()) == 3
    world.programmer._may_drop = lambda: False
    await world.want(WEB, {ONE: SMALL})
    other, alone = TWO._replace(address="11.0.0.8"), ServiceKey("", "11.0.0.9", 0)
    world.plane.put(other, SMALL)
    world.plane.addresses.add(other.address)
    assert await world.look() == [TWO]  # this one drains already
    await world.programmer.program([other, alone], {})
    assert world.plane.batches == []
    world.programmer._may_drop = lambda: True
    await world.programmer.program([other, alone], {})
    assert [(o.kind, o.service) for o in world.plane.operations] == [
        (Kind.SET_DESTINATION, other),
        (Kind.DROP_ADDRESS, alone),
    ]
