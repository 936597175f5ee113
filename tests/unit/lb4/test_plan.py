"""lb4.plan: what is done, in which order, and what is left alone."""

from __future__ import annotations

from lb4.plan import plan
from lb4.services import Actual, BackendKey, Destination, Kind, Operation, Service, ServiceKey, Settings

WEB = ServiceKey("tcp", "11.0.0.1", 80)
TLS = ServiceKey("tcp", "11.0.0.1", 443)
DNS = ServiceKey("udp", "11.0.0.2", 53)
FOREIGN = ServiceKey("tcp", "192.0.2.1", 80)
FIXED = ServiceKey("tcp", "10.9.9.9", 80)
A, B, C = (BackendKey(f"10.0.0.{number}", 8080) for number in (1, 2, 3))


def service(**weights: int) -> Service:
    """A service with destinations a, b and c of these weights."""
    return Service(Settings(), {{"a": A, "b": B, "c": C}[name]: Destination(w) for name, w in weights.items()})


def owned(address: str) -> bool:
    return address.startswith("11.")


def kinds(operations: list[Operation]) -> list[Kind]:
    return [operation.kind for operation in operations]


def test_a_new_service_gets_usable_destinations_first_and_then_its_address() -> None:
    operations = plan({WEB: service(a=0, b=1)}, Actual(), owned)
    assert operations == [
        Operation(Kind.ADD_SERVICE, WEB, Settings()),
        Operation(Kind.ADD_DESTINATION, WEB, None, B, Destination(1)),
        Operation(Kind.ADD_DESTINATION, WEB, None, A, Destination(0)),
        Operation(Kind.ADD_ADDRESS, WEB),
    ]


def test_nothing_to_do() -> None:
    actual = Actual({WEB: service(a=1), FOREIGN: service(a=1)}, frozenset({WEB.address}))
    assert plan({WEB: service(a=1)}, actual, owned) == []
    assert plan({}, Actual(), owned) == []


def test_one_changed_weight_is_one_operation() -> None:
    actual = Actual({WEB: service(a=1, b=1)}, frozenset({WEB.address}))
    assert plan({WEB: service(a=1, b=2)}, actual, owned) == [
        Operation(Kind.SET_DESTINATION, WEB, None, B, Destination(2))
    ]


def test_one_changed_threshold_is_one_operation() -> None:
    actual = Actual({WEB: service(a=1)}, frozenset({WEB.address}))
    wanted = Service(Settings(), {A: Destination(1, 100, 50)})
    assert plan({WEB: wanted}, actual, owned) == [
        Operation(Kind.SET_DESTINATION, WEB, None, A, Destination(1, 100, 50))
    ]


def test_more_comes_before_less() -> None:
    d = BackendKey("10.0.0.4", 8080)
    there = Service(Settings(), {A: Destination(1), B: Destination(0), d: Destination(1)})
    wanted = Service(Settings("rr"), {A: Destination(0), B: Destination(1), C: Destination(1)})
    operations = plan({WEB: wanted}, Actual({WEB: there}, frozenset({WEB.address})), owned)
    assert operations[0] == Operation(Kind.SET_SERVICE, WEB, Settings("rr"))
    assert [(o.kind, o.backend) for o in operations[1:]] == [
        (Kind.SET_DESTINATION, B),
        (Kind.ADD_DESTINATION, C),
        (Kind.SET_DESTINATION, A),
        (Kind.DROP_DESTINATION, d),
    ]


def test_order_of_everything() -> None:
    gone = ServiceKey("tcp", "11.0.0.9", 80)
    actual = Actual({gone: service(a=1), WEB: service(a=1)}, frozenset({gone.address, WEB.address}))
    operations = plan({WEB: service(a=2), DNS: service(a=1)}, actual, owned)
    assert kinds(operations) == [
        Kind.ADD_SERVICE,
        Kind.ADD_DESTINATION,
        Kind.SET_DESTINATION,
        Kind.ADD_ADDRESS,
        Kind.DROP_ADDRESS,
        Kind.DROP_SERVICE,
    ]


def test_what_takes_the_place_of_a_service_is_there_before_that_gets_no_connections() -> None:
    actual = Actual({WEB: service(a=1), TLS: service(a=1, b=1)}, frozenset({WEB.address}))
    new = WEB._replace(address="11.0.0.9")
    for order in ([WEB, TLS, new], [new, TLS, WEB]):
        operations = plan({WEB: service(a=0), TLS: service(a=0, b=1), new: service(a=1)}, actual, owned, order)
        assert [(o.kind, o.service) for o in operations] == [
            (Kind.ADD_SERVICE, new),
            (Kind.ADD_DESTINATION, new),
            (Kind.SET_DESTINATION, TLS),
            (Kind.ADD_ADDRESS, new),
            (Kind.SET_DESTINATION, WEB),
        ]


def test_an_address_stays_while_another_service_has_it() -> None:
    actual = Actual({WEB: service(a=1), TLS: service(a=1)}, frozenset({WEB.address}))
    assert plan({TLS: service(a=1)}, actual, owned) == [Operation(Kind.DROP_SERVICE, WEB)]
    assert plan({TLS: service(a=1)}, actual, owned, [WEB]) == [Operation(Kind.DROP_SERVICE, WEB)]
    assert kinds(plan({}, actual, owned)) == [Kind.DROP_ADDRESS, Kind.DROP_SERVICE, Kind.DROP_SERVICE]


def test_foreign_services_stay() -> None:
    actual = Actual({FOREIGN: service(a=1)})
    assert plan({WEB: service(a=1)}, Actual({FOREIGN: service(a=1)}), owned)[0].service == WEB
    assert plan({}, actual, owned) == []
    assert plan({}, actual, owned, [FOREIGN]) == []


def test_a_foreign_service_at_a_desired_key_is_ours() -> None:
    operations = plan({FOREIGN: service(b=1)}, Actual({FOREIGN: service(a=1)}), owned)
    assert [(o.kind, o.backend) for o in operations] == [
        (Kind.ADD_DESTINATION, B),
        (Kind.DROP_DESTINATION, A),
        (Kind.ADD_ADDRESS, None),
    ]


def test_a_service_outside_of_the_range_is_ours_while_its_address_is_local() -> None:
    assert kinds(plan({}, Actual({FIXED: service(a=1)}, frozenset({FIXED.address})), owned)) == [
        Kind.DROP_ADDRESS,
        Kind.DROP_SERVICE,
    ]
    assert plan({}, Actual({FIXED: service(a=1)}), owned) == []


def test_an_address_without_services() -> None:
    actual = Actual({}, frozenset({"11.0.0.7"}))
    assert plan({}, actual, owned) == [Operation(Kind.DROP_ADDRESS, ServiceKey("", "11.0.0.7", 0))]
    key = ServiceKey("", "11.0.0.7", 0)
    assert plan({}, actual, owned, [key], {"11.0.0.7"}) == []
    assert plan({}, actual, owned, [key], set()) == [Operation(Kind.DROP_ADDRESS, key)]


def test_keys_limit_the_work() -> None:
    actual = Actual({DNS: service(a=1)}, frozenset({DNS.address}))
    operations = plan({WEB: service(a=1), TLS: service(a=1)}, actual, owned, [TLS])
    assert {operation.service for operation in operations} == {TLS}
    assert kinds(operations) == [Kind.ADD_SERVICE, Kind.ADD_DESTINATION, Kind.ADD_ADDRESS]


class NotWalked(dict[ServiceKey, Service]):
    """A table that may be asked, but not walked."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        raise AssertionError("the whole table was walked")

    keys = items = values = __iter__


def test_with_keys_no_table_is_walked() -> None:
    desired = NotWalked({WEB: service(a=1)})
    actual = Actual(NotWalked({TLS: service(a=1)}), frozenset({WEB.address}))
    operations = plan(desired, actual, owned, [WEB, TLS], {WEB.address})
    assert kinds(operations) == [Kind.ADD_SERVICE, Kind.ADD_DESTINATION, Kind.DROP_SERVICE]
