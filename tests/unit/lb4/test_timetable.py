"""lb4.timetable: what is due, and what is next."""

from __future__ import annotations

from math import inf

from lb4.services import ServiceKey
from lb4.timetable import Timetable

A, B = ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("tcp", "11.0.0.2", 80)


def test_due_and_next() -> None:
    table = Timetable()
    assert (table.due(100.0), table.next, len(table)) == ([], inf, 0)
    table.put(A, 5.0)
    table.put(B, 3.0)
    assert table.next == 3.0
    assert table.due(2.9) == []
    assert table.due(3.0) == [B]
    assert table.due(3.0) == [B]  # until something is done about it
    assert sorted(table.due(5.0)) == [A, B]
    table.put(B, 9.0)
    table.drop(A)
    table.drop(A)
    assert table.due(8.0) == []
    assert table.next == 9.0
    assert A not in table
    assert B in table


def test_sooner_never_puts_off() -> None:
    table = Timetable()
    table.sooner(A, 5.0)
    table.sooner(A, 7.0)
    assert table.due(5.0) == [A]
    table.sooner(A, 4.0)
    assert table.next == 4.0


def test_next_is_right_again_after_what_was_soonest_has_gone() -> None:
    table = Timetable()
    table.put(A, 1.0)
    table.put(B, 2.0)
    table.drop(A)
    assert table.due(1.5) == []
    assert table.next == 2.0
