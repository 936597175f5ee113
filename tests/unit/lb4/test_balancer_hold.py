"""lb4.balancer while not all that defines VIPs is known: what is there and nobody wants yet stays as it is."""

from __future__ import annotations

import asyncio
import errno

import pytest

from lb4.services import Destination, Kind, Service, ServiceKey, Settings
from lb4.vip import VipState
from tests.fakes.balancing import API, LARGE, ONE, TWO, WEB, A, World

pytestmark = pytest.mark.asyncio

SAME = ServiceKey("tcp", ONE.address, 81)
UDP = ServiceKey("udp", TWO.address, 53)
ALONE = "11.0.0.9"
SMALL = Service(Settings(), {A.key: Destination()})


@pytest.fixture
def world() -> World:
    """A data plane with services and addresses of an earlier process, of which not all is known."""
    world = World()
    for key in (TWO, UDP, SAME):
        world.plane.put(key, LARGE)
    world.plane.addresses = {TWO.address, ALONE}
    world.complete = False
    return world


async def test_what_nobody_wants_yet_stays(world: World) -> None:
    await world.after(200.0)
    assert world.plane.state() == {ONE: LARGE, TWO: LARGE, UDP: LARGE, SAME: LARGE}
    assert world.plane.addresses == {ONE.address, TWO.address, ALONE}
    assert {operation.service for operation in world.plane.operations} == {ONE}
    assert world.plane.reads == 7
    status = world.balancer.status()
    assert (status.backlog, status.draining, status.in_trouble) == (0, 0, 0)


@pytest.mark.parametrize("told", [True, False], ids=["told", "at the next look"])
async def test_then_it_goes(world: World, told: bool) -> None:
    await world.quiet()
    world.complete = True
    if told:
        world.balancer.changed(())
    else:
        world.now += 30.0
    await world.quiet()
    assert world.plane.reads == 2
    assert world.plane.state()[TWO].destinations == {key: Destination(0) for key in LARGE.destinations}
    assert UDP not in world.plane.state()
    await world.after(5.0)
    assert (world.plane.state(), world.plane.addresses) == ({ONE: LARGE}, {ONE.address})
    assert world.plane.reads == 2


async def test_a_running_balancer_can_be_told(world: World) -> None:
    world.balancer._clock = asyncio.get_running_loop().time
    task = asyncio.create_task(world.balancer.run())
    async with asyncio.timeout(60):
        await world.plane.applied.wait()
        world.plane.applied.clear()
        while world.balancer.counters.reconciles == 0 or world.balancer.status().backlog:
            await asyncio.sleep(0)
        world.complete = True
        world.balancer.changed(())
        await world.plane.applied.wait()
        world.balancer.close()
        await task
    assert UDP not in world.plane.state()


async def test_what_is_wanted_is_taken_over_and_changed(world: World) -> None:
    world.table.put(VipState(API, (A,)))
    world.table.allocate(API.name, TWO.address)
    await world.after(5.0)
    assert world.plane.state()[TWO] == SMALL
    assert world.plane.state()[UDP] == LARGE
    assert world.balancer.is_served(API)


async def test_what_was_programmed_here_goes_as_ever(world: World) -> None:
    world.table.put(VipState(API, (A,)))
    world.table.allocate(API.name, "11.0.0.3")
    await world.quiet()
    assert "11.0.0.3" in world.plane.addresses
    world.table.drop(API)
    await world.after(5.0)
    assert world.plane.state() == {ONE: LARGE, TWO: LARGE, UDP: LARGE, SAME: LARGE}
    assert world.plane.addresses == {ONE.address, TWO.address, ALONE}
    assert not world.balancer._programmer._mine - {ONE}


async def test_an_address_that_others_services_have_too_stays_when_ours_go(world: World) -> None:
    await world.quiet()
    world.table.drop(WEB)
    await world.after(5.0)
    assert set(world.plane.state()) == {TWO, UDP, SAME}
    assert ONE.address in world.plane.addresses


async def test_one_that_was_here_and_only_ours_had_goes() -> None:
    world = World()
    world.plane.put(ONE, LARGE)
    world.plane.addresses = {ONE.address}
    world.complete = False
    await world.quiet()
    world.table.drop(WEB)
    await world.after(5.0)
    assert (world.plane.state(), world.plane.addresses) == ({}, set())


async def test_what_could_not_be_dropped_is_tried_again(world: World) -> None:
    await world.quiet()
    world.plane.fails = lambda o: errno.EPERM if o.kind is Kind.DROP_SERVICE else 0
    world.table.drop(WEB)
    await world.after(50.0)
    assert ONE in world.plane.state()
    world.plane.fails = lambda operation: 0
    await world.after(30.0)
    assert set(world.plane.state()) == {TWO, UDP, SAME}


async def test_a_drain_goes_on_when_something_comes_to_be_unknown(world: World) -> None:
    world.complete = True
    await world.quiet()
    world.complete = False
    await world.after(5.0)
    assert (world.plane.state(), world.plane.addresses) == ({ONE: LARGE}, {ONE.address})
