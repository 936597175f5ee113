"""lb4.plan and lb4.drain against all kinds of states: a plan does what it should, and no more, and nobody notices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from lb4.drain import Drains
from lb4.plan import plan
from lb4.services import Actual, BackendKey, Destination, Kind, Operation, Service, ServiceKey, Settings
from tests.fakes.data_plane import FakePlane

ADDRESSES = ["11.0.0.1", "11.0.0.2", "10.9.9.9", "192.0.2.1"]

ports = st.sampled_from([53, 80])
keys = st.builds(ServiceKey, st.sampled_from(["tcp", "udp"]), st.sampled_from(ADDRESSES), ports)
backends = st.builds(BackendKey, st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), st.sampled_from([80, 81]))
destinations = st.builds(Destination, st.integers(0, 2), st.sampled_from([0, 9]))
services = st.builds(
    Service,
    st.builds(Settings, st.sampled_from(["wlc", "rr"]), st.sampled_from([0, 300])),
    st.dictionaries(backends, destinations, max_size=4),
)
tables = st.dictionaries(keys, services, max_size=6)
actuals = st.builds(Actual, tables, st.frozensets(st.sampled_from(ADDRESSES)))


def owned(address: str) -> bool:
    return address.startswith("11.")


def usable(plane: FakePlane) -> set[ServiceKey]:
    """Services that can carry a connection."""
    return {key for key, (_, found) in plane.services.items() if any(d.weight for d in found.values())}


def made(actual: Actual) -> FakePlane:
    plane = FakePlane()
    for key, service in actual.services.items():
        plane.put(key, service)
    plane.addresses = set(actual.addresses)
    return plane


def done(actual: Actual, operations: Iterable[Operation]) -> tuple[Actual, list[set[ServiceKey]]]:
    """The state after operations that must all succeed, and what was usable after each."""
    plane = made(actual)
    steps = []
    for operation in operations:
        assert plane._do(operation) == 0, operation
        steps.append(usable(plane))
    return Actual(plane.state(), frozenset(plane.addresses)), steps


def expected(desired: Mapping[ServiceKey, Service], actual: Actual) -> Actual:
    """What is desired, and what others have."""
    addresses = frozenset(key.address for key in desired)
    others = {
        key: service
        for key, service in actual.services.items()
        if not owned(key.address) and key.address not in actual.addresses | addresses
    }
    return Actual({**others, **desired}, addresses)


def differences(desired: Mapping[ServiceKey, Service], actual: Actual) -> int:
    """How many operations are needed at least."""
    after = expected(desired, actual)
    count = len(after.addresses ^ actual.addresses)
    for key in actual.services.keys() | after.services.keys():
        before, service = actual.services.get(key), after.services.get(key)
        if service is None:
            count += 1
        elif before is None:
            count += 1 + len(service.destinations)
        else:
            backends = before.destinations.keys() | service.destinations.keys()
            count += before.settings != service.settings
            count += sum(before.destinations.get(b) != service.destinations.get(b) for b in backends)
    return count


@given(tables, actuals)
def test_a_plan_gives_what_is_desired_with_as_few_operations_as_can_be(
    desired: dict[ServiceKey, Service], actual: Actual
) -> None:
    operations = plan(desired, actual, owned)
    after, _ = done(actual, operations)
    assert after == expected(desired, actual)
    assert plan(desired, after, owned) == []
    assert len(operations) == differences(desired, actual)


@given(tables, actuals)
def test_what_is_usable_before_and_after_is_so_all_the_time(desired: dict[ServiceKey, Service], actual: Actual) -> None:
    after, steps = done(actual, plan(desired, actual, owned))
    kept = usable(made(actual)) & usable(made(after))
    assert all(kept <= step for step in steps)


@given(tables, actuals)
def test_an_address_is_local_only_while_all_its_services_are_there(
    desired: dict[ServiceKey, Service], actual: Actual
) -> None:
    operations = plan(desired, actual, owned)
    places = {(o.kind, o.service, o.backend): number for number, o in enumerate(operations)}
    for kind, key, backend in places:
        if kind is Kind.ADD_ADDRESS:
            more = [n for n, o in enumerate(operations) if o.service.address == key.address and gives(o)]
            assert all(number < places[kind, key, backend] for number in more)
        elif kind is Kind.DROP_SERVICE:
            gone = [
                number
                for number, o in enumerate(operations)
                if o.kind is Kind.DROP_ADDRESS and o.service.address == key.address
            ]
            assert all(number < places[kind, key, backend] for number in gone)


def gives(operation: Operation) -> bool:
    """Whether a service has more of what it is to have after it."""
    return operation.kind is Kind.ADD_SERVICE or (
        operation.destination is not None and operation.destination.weight > 0
    )


@given(tables, actuals)
def test_new_services_are_there_before_others_lose_what_they_have(
    desired: dict[ServiceKey, Service], actual: Actual
) -> None:
    operations = plan(desired, actual, owned)
    new = [n for n, o in enumerate(operations) if o.service in desired and o.service not in actual.services]
    fading = [
        number
        for number, o in enumerate(operations)
        if o.kind in (Kind.DROP_SERVICE, Kind.DROP_ADDRESS)
        or (
            o.service in actual.services
            and o.kind is not Kind.ADD_ADDRESS
            and not any(d.weight for d in desired[o.service].destinations.values())
        )
    ]
    assert max(new, default=-1) < min(fading, default=len(operations))


@given(tables, actuals, st.frozensets(keys, max_size=4))
def test_keys_limit_a_plan_to_their_part_of_it(
    desired: dict[ServiceKey, Service], actual: Actual, some: frozenset[ServiceKey]
) -> None:
    addresses = {key.address for key in desired}
    part = plan(desired, actual, owned, some, addresses)
    assert part == plan(desired, actual, owned, some)
    mine = [o for o in plan(desired, actual, owned) if o.service in some]
    of_services = [o for o in part if o.kind not in (Kind.ADD_ADDRESS, Kind.DROP_ADDRESS)]
    assert sorted(of_services, key=repr) == sorted(
        (o for o in mine if o.kind not in (Kind.ADD_ADDRESS, Kind.DROP_ADDRESS)), key=repr
    )
    changed = {o.service.address for o in part} - {o.service.address for o in of_services}
    assert changed <= {key.address for key in some}


@given(tables, actuals, st.lists(keys, max_size=12))
def test_part_after_part_comes_to_the_same(
    desired: dict[ServiceKey, Service], actual: Actual, order: list[ServiceKey]
) -> None:
    # What an earlier part made of an address outside of the range must not keep a later one from its services.
    mine = frozenset(actual.addresses)
    addresses = {key.address for key in desired}
    state = actual
    rest = [*order, *desired, *actual.services, *(ServiceKey("", address, 0) for address in actual.addresses)]
    for key in rest:
        state, _ = done(state, plan(desired, state, lambda a: owned(a) or a in mine, [key], addresses))
    assert state == expected(desired, actual)


targets = st.none() | services
steps = st.lists(
    st.tuples(targets, st.booleans(), st.floats(0, 40), st.none() | st.dictionaries(backends, st.integers(0, 1))),
    min_size=1,
    max_size=12,
)


@given(st.sampled_from(["tcp", "udp"]), steps)
def test_drains(protocol: str, steps: list[tuple[Service | None, bool, float, dict[BackendKey, int] | None]]) -> None:
    key = ServiceKey(protocol, "11.0.0.1", 80)
    drains = Drains(timeout=30.0)
    there: Service | None = None
    now = 0.0
    for target, works, seconds, active in steps:
        now += seconds
        settled = drains.settle(key, target, there, active, now)
        wanted = target.destinations if target is not None else {}
        has = settled.destinations if settled is not None else {}
        before = there.destinations if there is not None else {}
        assert (settled is None) <= (target is None)
        assert target is None or settled is None or settled.settings == target.settings
        assert {b: d for b, d in wanted.items() if d.weight} == {b: d for b, d in has.items() if d.weight}
        draining = {b for b, d in has.items() if not d.weight}
        assert draining <= before.keys()
        assert not draining or protocol == "tcp"
        assert drains.of(key).keys() <= before.keys()
        assert all(now - began <= 30.0 or b not in draining for b, began in drains.of(key).items())
        # What is kept is looked at again in time.
        assert not draining or drains.next <= now + 30.0
        if works:
            there = settled
    now += 31.0
    there = drains.settle(key, None, there, {}, now)
    now += 31.0
    there = drains.settle(key, None, there, {}, now)
    assert there is None
    drains.settle(key, None, there, None, now)
    assert len(drains) == 0
    assert drains.due(now + 1e9) == []
