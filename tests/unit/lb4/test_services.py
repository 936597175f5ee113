"""The values that data planes are told: what stands where nothing is said, and what is equal."""

from __future__ import annotations

from lb4.services import Actual, BackendKey, Destination, Kind, NotUsable, Operation, Service, ServiceKey, Settings


def test_equal_services_are_equal_however_they_were_made() -> None:
    one = Service(
        Settings("rr"), {BackendKey("10.0.0.1", 80): Destination(), BackendKey("10.0.0.2", 80): Destination(2)}
    )
    other = Service(
        Settings(scheduler="rr"),
        {BackendKey("10.0.0.2", 80): Destination(weight=2), BackendKey("10.0.0.1", 80): Destination(1)},
    )
    assert one == other
    assert one != Service(Settings("wlc"), one.destinations)


def test_nothing_is_there_at_first() -> None:
    assert Actual() == Actual({}, frozenset())
    assert Service() == Service(Settings("wlc", 0, 0), {})


def test_operations_can_be_counted_and_compared() -> None:
    key = ServiceKey("tcp", "11.0.0.1", 80)
    assert {Operation(Kind.DROP_SERVICE, key), Operation(Kind.DROP_SERVICE, key)} == {Operation(Kind.DROP_SERVICE, key)}
    assert str(Kind.ADD_ADDRESS) == "add-address"


def test_a_plane_that_is_not_usable_says_why() -> None:
    assert str(NotUsable("load ip_vs")) == "load ip_vs"
    assert isinstance(NotUsable(), OSError)
