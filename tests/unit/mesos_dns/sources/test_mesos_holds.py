"""Holds: who is waited for after a fail-over, and for how long."""

from __future__ import annotations

from mesos_dns.sources.mesos_holds import Holds

T1, T2 = ("task", "c", "F", "1"), ("task", "c", "F", "2")


def test_a_hold_ends_with_what_was_not_brought() -> None:
    holds = Holds(10)
    holds.hold("A", 0, "one", listed=True)
    holds.keep("A", T1)
    holds.keep("A", T2)
    holds.seen("A", T1)
    holds.seen("B", T1)
    assert "A" in holds
    assert holds.release("A") == {T2}
    assert holds.release("A") is None
    assert len(holds) == 0


def test_only_another_leader_starts_the_time_anew() -> None:
    holds = Holds(10)
    holds.hold("A", 0, "one", listed=False)
    assert not holds.agents()["A"].listed
    holds.hold("A", 5, "one", listed=True)
    assert holds.agents()["A"].listed
    assert holds.next_deadline() == 10
    holds.hold("A", 6, "two", listed=True)
    assert holds.next_deadline() == 16
    assert holds.due(15.9) == ([], [])
    assert holds.due(16) == (["A"], [])
    assert "A" in holds, "the caller releases it"


def test_frameworks() -> None:
    holds = Holds(10)
    holds.hold_framework("F", 0)
    holds.hold_framework("F", 5)
    holds.hold_framework("G", 5)
    assert holds.holds_framework("F")
    holds.release_framework("G")
    assert holds.next_deadline() == 10
    assert holds.due(10) == ([], ["F"])
    assert not holds.holds_framework("F")
    assert holds.next_deadline() is None
