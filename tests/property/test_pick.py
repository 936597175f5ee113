"""Schedulers over random weights and stories: shares are exact, and weight 0 is never chosen."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lb4.pick import SCHEDULERS, Balance, Target
from lb4.services import BackendKey, Destination, ServiceKey, Settings

VIP = ServiceKey("tcp", "11.0.0.1", 80)
weights = st.lists(st.integers(0, 9), min_size=1, max_size=8)


class Connection:
    """An established connection."""

    def __init__(self, target: Target) -> None:
        self.target = target
        target.opened(self)
        target.established()

    def abort(self) -> None:
        self.target.closed(self, established=True)

    forsake = abort


def key(number: int) -> BackendKey:
    return BackendKey("10.0.0.1", number + 1)


def balance(scheduler: str, given_weights: list[int], start: int = 0) -> Balance:
    made = Balance(VIP, Settings(scheduler), start)
    for number, weight in enumerate(given_weights):
        made.put(key(number), Destination(weight))
    return made


def picks(made: Balance, number: int) -> Counter[BackendKey]:
    found = [made.choose("192.0.2.1") for _ in range(number)]
    return Counter(target.key for target in found if target is not None)


@given(weights, st.integers(0, 1 << 16), st.integers(1, 3))
def test_weighted_turns_are_exact_over_every_cycle(given_weights: list[int], start: int, cycles: int) -> None:
    made = balance("wrr", given_weights, start)
    for _ in range(cycles):
        expected = {key(number): weight for number, weight in enumerate(given_weights) if weight}
        assert picks(made, sum(given_weights)) == expected


@given(weights, st.integers(0, 1 << 16), st.integers(1, 5))
def test_turns_are_exact_over_every_cycle(given_weights: list[int], start: int, cycles: int) -> None:
    made = balance("rr", given_weights, start)
    able = [key(number) for number, weight in enumerate(given_weights) if weight]
    assert picks(made, len(able) * cycles) == dict.fromkeys(able, cycles)


@given(weights, st.integers(1, 200))
def test_least_connections_by_weight_keep_level(given_weights: list[int], number: int) -> None:
    made = balance("wlc", given_weights)
    for _ in range(number):
        if (target := made.choose("192.0.2.1")) is not None:
            Connection(target)
    for one in made.targets.values():
        for other in made.targets.values():
            if one.weight and other.weight:
                assert (one.active - 1) / one.weight <= other.active / other.weight


story = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("drop"), st.integers(0, 5), st.just(0), st.just(0)),
        st.tuples(st.just("open"), st.integers(0, 3), st.just(0), st.just(0)),
        st.tuples(st.just("close"), st.integers(0, 9), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(st.sampled_from(sorted(SCHEDULERS)), st.booleans(), story)
def test_only_what_can_be_used_is_chosen_and_something_is_if_it_can(
    scheduler: str, persistent: bool, events: list[tuple[str, int, int, int]]
) -> None:
    made = Balance(VIP, Settings(scheduler, 60 if persistent else 0), most_leases=3)
    open_ones: list[Connection] = []
    for now, (what, number, weight, upper) in enumerate(events):
        if what == "put":
            made.put(key(number), Destination(weight, upper))
        elif what == "drop" and key(number) in made.targets:
            made.drop(key(number))
        elif what == "close" and open_ones:
            open_ones.pop(number % len(open_ones)).abort()
        elif what == "open":
            client = f"192.0.2.{number}"
            able = [target for target in made.targets.values() if target.usable]
            target = made.choose(client, (), made.lease(client, float(now)))
            assert (target in able) if able else target is None
            if target is not None:
                assert target.destination.weight > 0
                assert not target.destination.upper or target.active < target.destination.upper
                open_ones.append(Connection(target))
    for target in made.targets.values():
        assert target.active == len(target.users) == sum(one.target is target for one in open_ones)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.data())
def test_hashing_moves_only_the_clients_of_what_is_gone(given_weights: list[int], data: st.DataObject) -> None:
    made = balance("mh", given_weights)
    clients = [f"192.0.2.{number}" for number in range(64)]
    before = {client: made.choose(client) for client in clients}
    gone = made.drop(key(data.draw(st.integers(0, len(given_weights) - 1))))
    for client, was in before.items():
        assert was is gone or made.choose(client) is was
