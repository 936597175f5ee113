"""lb4.balancer_state: what VIPs want, what is to be programmed, what is remembered, and how others changed it."""

from __future__ import annotations

from lb4.balancer_state import Drift, Programmed, Remembered, Wanted, address_drift, service_drift
from lb4.services import BackendKey, Destination, Kind, Operation, Service, ServiceKey, Settings
from lb4.vip import VipKey

WEB, API = VipKey("tcp", "web.marathon", 80), VipKey("tcp", "api.marathon", 80)
ONE, TWO = ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("tcp", "11.0.0.2", 80)
A, B = BackendKey("10.0.0.1", 8080), BackendKey("10.0.0.2", 8080)
SMALL, LARGE = Service(Settings(), {A: Destination()}), Service(Settings(), {A: Destination(), B: Destination()})


def test_wanted_follows_vips() -> None:
    wanted = Wanted()
    assert sorted(wanted.put(WEB, {ONE: SMALL, TWO: LARGE})) == [ONE, TWO]
    assert wanted.services == {ONE: SMALL, TWO: LARGE}
    assert wanted.destinations == 3
    assert wanted.put(WEB, {ONE: SMALL, TWO: LARGE}) == []
    assert wanted.put(WEB, {ONE: LARGE, TWO: LARGE}) == [ONE]
    assert wanted.of(WEB) == {ONE: LARGE, TWO: LARGE}
    assert wanted.claims(ONE) == (WEB,)
    assert wanted.put(WEB, {TWO: LARGE}) == [ONE]
    assert wanted.put(WEB, {}) == [TWO]
    assert (wanted.services, wanted.destinations, list(wanted.vips), wanted.claims(TWO)) == ({}, 0, [], ())


def test_of_two_vips_that_want_one_service_the_first_by_key_has_it_whoever_came_first() -> None:
    for order in ([WEB, API], [API, WEB]):
        wanted = Wanted()
        for vip in order:
            wanted.put(vip, {ONE: SMALL if vip == WEB else LARGE})
        assert wanted.services == {ONE: LARGE}
        assert wanted.claims(ONE) == (API, WEB)
        assert wanted.put(API, {}) == [ONE]
        assert wanted.services == {ONE: SMALL}


def test_a_named_vip_has_a_service_rather_than_one_of_the_address_itself() -> None:
    """ "11…" is before "api…": a label with a number would take the service over."""
    literal = VipKey("tcp", ONE.address, 80)
    for order in ([WEB, API, literal], [literal, API, WEB]):
        wanted = Wanted()
        for vip in order:
            wanted.put(vip, {ONE: SMALL if vip == literal else LARGE})
        assert wanted.services == {ONE: LARGE}
        assert wanted.claims(ONE) == (API, WEB, literal)
        wanted.put(API, {})
        assert wanted.put(WEB, {}) == [ONE]
        assert wanted.services == {ONE: SMALL}


def test_an_address_that_goes_from_one_name_to_another_is_not_lost_on_the_way() -> None:
    wanted = Wanted()
    wanted.put(WEB, {ONE: SMALL})
    wanted.put(API, {ONE: SMALL})
    assert wanted.put(WEB, {}) == []
    assert wanted.services == {ONE: SMALL}
    assert wanted.destinations == 1


def test_programmed_knows_who_has_an_address() -> None:
    programmed = Programmed()
    tls = ServiceKey("tcp", ONE.address, 443)
    for key in (ONE, tls, TWO):
        programmed.put(key, SMALL)
    assert programmed.addresses == {ONE.address: {ONE, tls}, TWO.address: {TWO}}
    programmed.put(ONE, None)
    programmed.put(ONE, None)
    assert programmed.addresses == {ONE.address: {tls}, TWO.address: {TWO}}
    programmed.put(tls, None)
    assert programmed.addresses == {TWO.address: {TWO}}
    assert programmed.services == {TWO: SMALL}


def test_remembered_follows_what_was_done() -> None:
    remembered = Remembered()
    remembered.note(
        [
            Operation(Kind.ADD_SERVICE, ONE, Settings()),
            Operation(Kind.ADD_DESTINATION, ONE, None, A, Destination()),
            Operation(Kind.ADD_DESTINATION, ONE, None, B, Destination()),
            Operation(Kind.ADD_SERVICE, TWO, Settings()),
            Operation(Kind.ADD_ADDRESS, ONE),
            Operation(Kind.ADD_ADDRESS, TWO),
        ]
    )
    assert remembered.services == {ONE: LARGE, TWO: Service()}
    assert remembered.actual.addresses == {ONE.address, TWO.address}
    remembered.note(
        [
            Operation(Kind.DROP_ADDRESS, TWO),
            Operation(Kind.DROP_SERVICE, TWO),
            Operation(Kind.SET_SERVICE, ONE, Settings("rr")),
            Operation(Kind.SET_DESTINATION, ONE, None, A, Destination(0)),
            Operation(Kind.DROP_DESTINATION, ONE, None, B),
        ]
    )
    assert remembered.services == {ONE: Service(Settings("rr"), {A: Destination(0)})}
    assert remembered.addresses == {ONE.address}


def test_remembered_takes_what_can_not_be_without_harm() -> None:
    remembered = Remembered()
    remembered.note(
        [
            Operation(Kind.ADD_DESTINATION, ONE, None, A, Destination()),
            Operation(Kind.DROP_DESTINATION, ONE, None, A),
            Operation(Kind.DROP_SERVICE, ONE),
        ]
    )
    assert remembered.services == {}


def test_service_drift() -> None:
    other = Service(Settings("rr"), {A: Destination(2)})
    assert list(service_drift(LARGE, LARGE)) == []
    assert list(service_drift(None, None)) == []
    assert list(service_drift(LARGE, None)) == [Drift.MISSING_SERVICE]
    assert list(service_drift(None, LARGE)) == [Drift.FOREIGN_CHANGE]
    assert list(service_drift(LARGE, SMALL)) == [Drift.MISSING_DESTINATION]
    assert list(service_drift(SMALL, LARGE)) == [Drift.FOREIGN_CHANGE]
    assert list(service_drift(SMALL, other)) == [Drift.FOREIGN_CHANGE] * 2


def test_address_drift() -> None:
    drift = address_drift(frozenset({"11.0.0.1", "11.0.0.2"}), frozenset({"11.0.0.2", "11.0.0.3"}))
    assert drift == {Drift.MISSING_ADDRESS: 1, Drift.FOREIGN_CHANGE: 1}
    assert not address_drift(frozenset({"11.0.0.1"}), frozenset({"11.0.0.1"}))
