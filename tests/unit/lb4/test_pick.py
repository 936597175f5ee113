"""Schedulers, thresholds and persistence."""

from __future__ import annotations

from collections import Counter

import pytest

from lb4.config import SCHEDULERS as KNOWN
from lb4.pick import SCHEDULERS, Balance, Target
from lb4.services import BackendKey, Destination, Service, ServiceKey, Settings

VIP = ServiceKey("tcp", "11.0.0.1", 80)


class Connection:
    """A connection that counts what is done to it."""

    def __init__(self, target: Target, *, established: bool = True) -> None:
        self.target = target
        self.established = established
        target.opened(self)
        if established:
            target.established()

    def abort(self) -> None:
        self.target.closed(self, established=self.established)

    forsake = abort


def key(number: int) -> BackendKey:
    return BackendKey(f"10.0.0.{number}", 80)


def balance(scheduler: str, *weights: int, persistence: int = 0, prefix: int = 0, most_leases: int = 100) -> Balance:
    """Backends 10.0.0.1 and on with these weights."""
    made = Balance(VIP, Settings(scheduler, persistence, prefix), most_leases=most_leases)
    for number, weight in enumerate(weights, 1):
        made.put(key(number), Destination(weight))
    return made


def chosen(made: Balance, client: str = "192.0.2.1") -> int:
    """The number of the backend that is chosen, 0: none."""
    target = made.choose(client)
    return int(target.key.address.rpartition(".")[2]) if target else 0


def test_every_scheduler_that_can_be_configured_is_known() -> None:
    assert set(SCHEDULERS) == set(KNOWN)


@pytest.mark.parametrize("scheduler", [*KNOWN, "of-the-future"])
def test_nobody_gets_weight_0_or_too_much(scheduler: str) -> None:
    made = balance(scheduler, 0, 1, 2)
    made.targets[key(3)].set(Destination(2, upper=1))
    Connection(made.targets[key(3)])
    assert {chosen(made, f"192.0.2.{number}") for number in range(50)} == {2}
    made.put(key(2), Destination(0))
    assert chosen(made) == 0
    assert made.weighted
    made.put(key(3), Destination(0))
    assert not made.weighted


def test_turns() -> None:
    assert [chosen(made) for made in [balance("rr", 1, 5, 1)] for _ in range(6)] == [1, 2, 3, 1, 2, 3]
    smooth = balance("wrr", 5, 1, 1)
    turns = [chosen(smooth) for _ in range(14)]
    assert Counter(turns[:7]) == Counter(turns[7:]) == {1: 5, 2: 1, 3: 1}
    assert turns[:4] != [1, 1, 1, 1]  # no bursts


def test_turns_begin_where_it_is_told_and_go_on_when_backends_change() -> None:
    firsts = set()
    for start in range(3):
        made = Balance(VIP, Settings("rr"), start)
        for number in (1, 2, 3):
            made.put(key(number), Destination())
        firsts.add(chosen(made))
    assert firsts == {1, 2, 3}
    made = balance("rr", 1, 1, 1, 1)
    assert [chosen(made), chosen(made)] == [1, 2]
    made.drop(key(1))
    assert [chosen(made), chosen(made), chosen(made)] == [3, 4, 2]


def test_least_connections() -> None:
    made = balance("lc", 1, 1)
    Connection(made.targets[key(1)])
    assert chosen(made) == 2
    for _ in range(255):
        Connection(made.targets[key(2)], established=False)
    assert chosen(made) == 2  # 255 of those count less than one that is established
    weighted = balance("wlc", 1, 4)
    for _ in range(3):
        Connection(weighted.targets[key(2)])
    Connection(weighted.targets[key(1)])
    assert chosen(weighted) == 2


def test_ties_are_in_turn() -> None:
    made = balance("wlc", 1, 1, 1)
    assert [chosen(made) for _ in range(4)] == [1, 2, 3, 1]


def test_delay_idle_first_and_the_heaviest() -> None:
    made = balance("sed", 1, 3)
    Connection(made.targets[key(2)])
    assert chosen(made) == 2  # 2/3 of a job's time against 1
    assert chosen(_same(made, "nq")) == 1
    heavy = balance("fo", 1, 3, 2)
    assert chosen(heavy) == 2
    overflow = _same(heavy, "ovf")
    for _ in range(3):
        Connection(overflow.targets[key(2)])
    assert chosen(overflow) == 3


def _same(made: Balance, scheduler: str) -> Balance:
    made.set(Settings(scheduler))
    return made


def test_two_at_random() -> None:
    made = balance("twos", 1, 1)
    for _ in range(100):
        Connection(made.targets[key(1)])
    found = Counter(chosen(made) for _ in range(400))
    assert found[2] > found[1] > 0  # only when both draws are the loaded one


@pytest.mark.parametrize("scheduler", ["sh", "mh"])
def test_hashed_clients_keep_their_backend(scheduler: str) -> None:
    clients = [f"192.0.2.{number}" for number in range(250)] + [f"2001:db8::{number:x}" for number in range(250)]
    made, other = balance(scheduler, 1, 1, 1, 2), balance(scheduler, 1, 1, 1, 2)
    before = {client: chosen(made, client) for client in clients}
    assert before == {client: chosen(other, client) for client in reversed(clients)}  # the same on every node
    share = Counter(before.values())
    assert 150 < share[4] < 250  # two of five
    made.drop(key(1))
    after = {client: chosen(made, client) for client in clients}
    assert all(after[client] == was for client, was in before.items() if was != 1)
    assert len({after[client] for client, was in before.items() if was == 1}) == 3


def test_hash_of_the_destination_is_one_for_all() -> None:
    made = balance("dh", 1, 1, 1)
    assert len({chosen(made, f"192.0.2.{number}") for number in range(50)}) == 1


def test_thresholds() -> None:
    made = balance("rr", 1)
    target = made.targets[key(1)]
    made.put(key(1), Destination(1, upper=4, lower=2))
    open_ones = [Connection(target, established=number % 2 == 0) for number in range(4)]
    assert chosen(made) == 0
    open_ones.pop().abort()
    open_ones.pop().abort()
    assert chosen(made) == 0  # two are not below two
    open_ones.pop().abort()
    assert chosen(made) == 1
    made.put(key(1), Destination(1, upper=1))
    assert chosen(made) == 0
    made.put(key(1), Destination(1))
    assert chosen(made) == 1
    made.put(key(1), Destination(1, upper=4))
    four = [Connection(target) for _ in range(3)]
    assert chosen(made) == 0
    four.pop().abort()
    assert chosen(made) == 0
    four.pop().abort()
    assert chosen(made) == 1  # less than three quarters of four
    assert target.stats.connections == 7


def test_persistence() -> None:
    made = balance("rr", 1, 1, 1, persistence=300, prefix=24)

    def first(client: str, now: float, *, end: bool = True) -> int:
        lease = made.lease(client, now)
        target = made.choose(client, (), lease)
        assert target is not None
        if end:
            made.release(lease, now)
        return int(target.key.address[-1])

    assert [first("192.0.2.1", 0), first("192.0.2.77", 100), first("192.0.3.1", 100)] == [1, 1, 2]
    assert first("192.0.2.1", 399) == 1
    assert first("192.0.2.1", 700) == 3  # its time was up at 699
    assert first("192.0.3.1", 700, end=False) == 1
    assert first("192.0.3.2", 99_999) == 1  # one is still open
    made.put(key(1), Destination(0))
    assert first("192.0.3.1", 99_999) == 2  # weight 0 ends it
    assert first("2001:db8::1", 0) == first("2001:db8::ffff", 0)
    made.set(Settings("rr"))
    assert made.lease("192.0.2.1", 0) is None


def test_persistence_is_bounded_and_avoids_what_was_tried() -> None:
    made = balance("rr", 1, 1, persistence=300, most_leases=2)
    first = made.lease("192.0.2.1", 0)
    assert first is not None
    target = made.choose("192.0.2.1", (), first)
    assert target is not None
    other = made.choose("192.0.2.1", (target,), first)
    assert other is not target
    assert made.choose("192.0.2.1", (), first) is other
    for number in (2, 3):
        made.lease(f"192.0.2.{number}", 0)
    assert made.lease("192.0.2.1", 0) is not first


def test_what_was_given_is_told() -> None:
    made = balance("rr", 1, 2)
    told = made.service
    assert told == Service(Settings("rr"), {key(1): Destination(1), key(2): Destination(2)})
    assert made.service is told
    made.put(key(2), Destination(0, upper=3))
    assert made.service.destinations[key(2)] == Destination(0, upper=3)
    assert told.destinations[key(2)] == Destination(2)
    dropped = made.drop(key(2))
    assert not dropped.usable
    assert made.service.destinations == {key(1): Destination(1)}
    with pytest.raises(KeyError):
        made.drop(key(2))
