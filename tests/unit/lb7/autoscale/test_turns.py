"""Whose turn it is: spread, in order, woken ones first."""

from __future__ import annotations

from lb7.autoscale.turns import Turns
from mesos_dns.model import Key

KEYS: list[Key] = [("app", "mesos", "marathon-1", f"/{number}") for number in range(400)]


def all_at(turns: Turns, now: float) -> list[Key]:
    found = []
    while (key := turns.next(now, 5.0)) is not None:
        found.append(key)
    return found


def test_each_once_in_an_interval_and_spread_over_it() -> None:
    turns = Turns()
    turns.keep(KEYS, 100.0, 5.0)
    by_second = [all_at(turns, 101.0 + second) for second in range(5)]
    assert sorted(key for keys in by_second for key in keys) == sorted(KEYS)
    assert all(40 < len(keys) < 120 for keys in by_second)
    assert all_at(turns, 106.0) == by_second[0]


def test_who_is_late_has_one_turn() -> None:
    turns = Turns()
    turns.keep(KEYS, 100.0, 5.0)
    assert len(all_at(turns, 1000.0)) == len(KEYS)
    assert all_at(turns, 1004.9) == []
    assert len(all_at(turns, 1005.0)) == len(KEYS)


def test_a_shorter_interval_holds_at_once() -> None:
    turns = Turns()
    turns.keep(KEYS, 100.0, 500.0)
    turns.within(100.0, 5.0)
    assert sorted(all_at(turns, 105.0)) == sorted(KEYS)


def test_woken_ones_come_first() -> None:
    turns = Turns()
    turns.keep(KEYS, 100.0, 5.0)
    assert turns.wake(KEYS[7])
    assert turns.wake(KEYS[7])
    assert not turns.wake(("app", "mesos", "marathon-1", "/unknown"))
    assert turns.wait(100.0, 1.0) == 0.0
    assert all_at(turns, 100.0) == [KEYS[7]]
    turns.sooner(KEYS[7], 101.0)
    turns.sooner(KEYS[7], 900.0)
    assert KEYS[7] in all_at(turns, 101.0)


def test_those_that_are_no_more() -> None:
    turns = Turns()
    turns.keep(KEYS, 100.0, 5.0)
    turns.wake(KEYS[0])
    assert turns.keep(KEYS[3:], 100.0, 5.0) == KEYS[:3]
    assert len(turns) == 397
    assert sorted(all_at(turns, 105.0)) == sorted(KEYS[3:])
    turns.keep([], 105.0, 5.0)
    assert turns.wait(105.0, 7.0) == 7.0
