"""lb4.balancer on a machine without IPv6: what can be reached by IPv4 is served, and that is all there is to say."""

from __future__ import annotations

import errno
import logging

import pytest

from lb4.api_shapes import VipFailureRow
from lb4.services import Kind, Operation
from lb4.vip import Backend, VipKey, VipState
from tests.fakes.balancing import WEB, A, World

pytestmark = pytest.mark.asyncio

SIX = Backend("fd00::1", 8080)
ONLY_SIX = VipKey("tcp", "fd01:c::9", 80)


def dual(world: World) -> None:
    """The VIP has backends and addresses of both families."""
    world.table.put(VipState(WEB, (A, SIX)))
    world.table.allocate(WEB.name, "11.0.0.1", "fd01:c::1")


def lacks(*kinds: Kind, number: int) -> object:
    return lambda o: number if ":" in o.service.address and o.kind in kinds else 0


@pytest.mark.parametrize(
    ("kinds", "number"),
    [
        (tuple(Kind), errno.EAFNOSUPPORT),
        ((Kind.ADD_ADDRESS,), errno.EACCES),
        ((Kind.ADD_ADDRESS,), errno.EADDRNOTAVAIL),
        ((Kind.ADD_SERVICE,), errno.EPERM),
    ],
    ids=["no IPv6 in the kernel", "switched off", "no address", "no service"],
)
async def test_a_vip_is_served_by_ipv4(caplog: pytest.LogCaptureFixture, kinds: tuple[Kind, ...], number: int) -> None:
    world = World()
    dual(world)
    tries: list[float] = []

    def fails(operation: Operation) -> int:
        if ":" not in operation.service.address or operation.kind not in kinds:
            return 0
        tries.append(world.now)
        return number

    world.plane.fails = fails
    with caplog.at_level(logging.WARNING):
        await world.after(100.0)
    assert world.balancer.is_served(WEB)
    assert world.balancer.families(WEB) == {4}
    assert world.told == [{WEB}]
    assert world.balancer.failures(WEB) == []
    assert world.balancer.status().in_trouble == 0
    assert [record.getMessage() for record in caplog.records if "no IPv6" not in record.getMessage()] == []
    assert len(caplog.records) == 1
    # At the start, and at each look at everything.
    assert sorted(set(tries)) == [1000.0, 1030.0, 1060.0, 1090.0]
    assert world.plane.reads == 4
    world.plane.fails = lambda operation: 0
    await world.after(30.0)
    assert world.balancer.families(WEB) == {4, 6}
    assert world.told == [{WEB}, {WEB}]


async def test_failures_of_ipv4_are_told_without_those_of_ipv6() -> None:
    world = World()
    dual(world)
    world.plane.fails = lambda operation: errno.EACCES if operation.kind is Kind.ADD_ADDRESS else 0
    await world.quiet()
    assert not world.balancer.is_served(WEB)
    assert world.balancer.families(WEB) == frozenset()
    assert [row.address for row in world.balancer.failures(WEB)] == ["11.0.0.1"]


async def test_a_vip_that_has_only_ipv6_fails() -> None:
    world = World()
    world.table.put(VipState(ONLY_SIX, (SIX,)))
    world.plane.fails = lambda o: errno.EAFNOSUPPORT if ":" in o.service.address else 0
    await world.quiet()
    assert world.balancer.is_served(WEB)
    assert not world.balancer.is_served(ONLY_SIX)
    (row, *_) = world.balancer.failures(ONLY_SIX)
    assert isinstance(row, VipFailureRow)
    assert (row.address, row.errno) == (ONLY_SIX.name, "EAFNOSUPPORT")


async def test_where_ipv6_works_a_failure_of_it_is_told_and_tried_again() -> None:
    world = World()
    world.table.put(VipState(ONLY_SIX, (SIX,)))
    await world.quiet()
    assert world.balancer.is_served(ONLY_SIX)
    world.plane.fails = lambda o: errno.EACCES if ":" in o.service.address else 0
    dual(world)
    await world.quiet()
    assert world.balancer.families(WEB) == {4}
    assert {row.errno for row in world.balancer.failures(WEB)} == {"EACCES"}
    assert world.balancer.status().in_trouble == 1
    world.plane.fails = lambda operation: 0
    await world.after(1.0)
    assert world.balancer.families(WEB) == {4, 6}


async def test_a_restart_finds_that_ipv6_has_worked() -> None:
    before = World()
    dual(before)
    await before.quiet()
    world = World()
    dual(world)
    world.plane.services, world.plane.addresses = before.plane.services, before.plane.addresses
    await world.quiet()
    assert world.balancer.families(WEB) == {4, 6}
    world.table.put(VipState(ONLY_SIX, (SIX,)))
    world.plane.fails = lambda o: errno.EACCES if ":" in o.service.address else 0
    await world.quiet()
    assert world.balancer.status().in_trouble == 1
