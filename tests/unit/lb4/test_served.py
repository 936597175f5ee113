"""lb4.served: which VIPs are served, and who hears of it."""

from __future__ import annotations

import logging

import pytest

from lb4.balancer_state import Programmed, Remembered, Wanted
from lb4.served import Served
from lb4.services import BackendKey, Destination, Service, ServiceKey, Settings
from lb4.vip import VipKey

WEB, API = VipKey("tcp", "web.marathon", 80), VipKey("tcp", "api.marathon", 80)
FOUR, SIX = ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("tcp", "fd01:c::1", 80)
A = BackendKey("10.0.0.1", 8080)
GOOD, IDLE = Service(Settings(), {A: Destination()}), Service(Settings(), {A: Destination(0)})


class World:
    """What the balancer knows, with one VIP of two services that is in the data plane."""

    def __init__(self, served: bool = True) -> None:
        self.wanted, self.programmed, self.remembered = Wanted(), Programmed(), Remembered()
        self.told: list[frozenset[VipKey]] = []
        self.served = Served(self.wanted, self.programmed, self.remembered, self.told.append)
        self.wanted.put(WEB, {FOUR: GOOD, SIX: GOOD})
        for key in (FOUR, SIX):
            self.programmed.put(key, GOOD)
        if served:
            self.remembered.services = {FOUR: GOOD, SIX: GOOD}
            self.remembered.addresses = frozenset({FOUR.address, SIX.address})
            self.served.check([WEB])
            self.told.clear()


def test_it_is_told_once() -> None:
    world = World()
    assert WEB in world.served
    assert len(world.served) == 1
    world.served.check([WEB, API])
    assert world.told == []


def test_each_family_is_served_by_itself() -> None:
    world = World(served=False)
    assert world.served.families(WEB) == frozenset()
    world.remembered.services = {FOUR: GOOD}
    world.remembered.addresses = frozenset({FOUR.address, SIX.address})
    world.served.check([WEB])
    assert WEB in world.served
    assert world.served.families(WEB) == {4}
    world.remembered.services = {FOUR: GOOD, SIX: GOOD}
    world.served.check([WEB])
    assert world.served.families(WEB) == {4, 6}
    assert world.told == [{WEB}, {WEB}]
    world.remembered.services = {}
    world.served.check([WEB])
    assert WEB not in world.served
    assert (world.told, len(world.served)) == ([{WEB}] * 3, 0)


def test_the_address_has_to_be_local() -> None:
    world = World()
    world.remembered.addresses = frozenset({SIX.address})
    world.served.check([WEB])
    assert world.told == [{WEB}]
    assert world.served.families(WEB) == {6}


def test_what_is_lost_may_be_left_for_later() -> None:
    world = World(served=False)
    world.remembered.services = {FOUR: GOOD, SIX: GOOD}
    world.remembered.addresses = frozenset({FOUR.address})
    world.served.gain([WEB])
    world.remembered.addresses = frozenset({SIX.address})
    world.served.gain([WEB])
    assert world.served.families(WEB) == {4, 6}
    assert world.told == [{WEB}, {WEB}]


def test_a_vip_that_is_no_more() -> None:
    world = World()
    world.wanted.put(WEB, {})
    world.served.check([WEB])
    assert world.told == [{WEB}]


def test_no_weight_is_enough_when_none_is_wanted() -> None:
    world = World()
    world.remembered.services = {FOUR: IDLE, SIX: GOOD}
    world.served.check([WEB])
    assert world.served.families(WEB) == {6}
    world.programmed.put(FOUR, IDLE)
    world.served.check([WEB])
    assert world.served.families(WEB) == {4, 6}


def test_a_service_that_another_vip_has_is_not_its_own() -> None:
    world = World()
    world.wanted.put(API, {FOUR: GOOD})
    world.served.check([WEB, API])
    assert world.told == [{WEB, API}]
    assert world.served.families(API) == {4}
    assert world.served.families(WEB) == {6}


def test_who_is_told_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    world = World(served=False)

    def fail(keys: frozenset[VipKey]) -> None:
        raise RuntimeError("no")

    served = Served(world.wanted, world.programmed, world.remembered, fail)
    world.remembered.services = {FOUR: GOOD, SIX: GOOD}
    world.remembered.addresses = frozenset({FOUR.address, SIX.address})
    with caplog.at_level(logging.ERROR):
        served.check([WEB])
    assert WEB in served
    assert "vips=1" in caplog.text
