"""Hosts of followers that fell silent, and those that said good-bye."""

from __future__ import annotations

import logging

import pytest

from mesos_dns import hearing as module
from mesos_dns.hearing import HOLD, SILENT, STALL, Hearing


class Clock:
    """A clock that is moved by hand, with looks on the way."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def move(self, hearing: Hearing, seconds: float, *heard: str) -> frozenset[str]:
        """What a look finds after so long, in which these hosts showed life all the time."""
        found: frozenset[str] = frozenset()
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            for address in heard:
                hearing.heard(address)
            found = hearing.look()
        return found


def entered(hearing: Hearing, *addresses: str) -> None:
    """Followers connect from there, and are told everything."""
    for address in addresses:
        hearing.enter(address)
        hearing.in_sync(address)


def test_a_host_that_falls_silent_is_found_after_three_seconds() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    entered(hearing, "10.0.0.1", "10.0.0.2")
    assert clock.move(hearing, SILENT - 0.5, "10.0.0.2") == frozenset()
    assert clock.move(hearing, 0.5, "10.0.0.2") == {"10.0.0.1"}
    assert hearing.hears("10.0.0.2")
    assert not hearing.hears("10.0.0.1")
    hearing.heard("10.0.0.1")
    assert hearing.look() == frozenset()


def test_one_that_never_reported_is_unknown() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    hearing.heard("10.0.0.9")
    hearing.in_sync("10.0.0.9")
    hearing.excuse("10.0.0.9", 10.0)
    assert clock.move(hearing, 10) == frozenset()
    assert not hearing.hears("10.0.0.9")


def test_one_is_not_judged_before_it_was_in_sync() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    hearing.enter("10.0.0.1")
    assert clock.move(hearing, 20) == frozenset()
    assert hearing.hears("10.0.0.1")
    hearing.leave("10.0.0.1", silent=True)
    assert clock.move(hearing, 20) == frozenset()
    assert len(hearing) == 0
    entered(hearing, "10.0.0.1")
    hearing.leave("10.0.0.1", silent=False)
    hearing.enter("10.0.0.1")  # again: it is told everything again
    assert clock.move(hearing, 20) == frozenset()


def test_one_to_which_much_is_on_the_way_may_be_late() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    entered(hearing, "10.0.0.1", "10.0.0.2")
    clock.move(hearing, SILENT - 1)
    hearing.excuse("10.0.0.1", 10.0)
    assert clock.move(hearing, 1) == {"10.0.0.2"}
    hearing.excuse("10.0.0.2", 10.0)  # it is silent already, and stays so
    hearing.excuse("10.0.0.1", 10.0)  # the time counts from the last sign of life, however often
    assert clock.move(hearing, 10 - SILENT - 0.5) == {"10.0.0.2"}
    assert hearing.hears("10.0.0.1")
    assert clock.move(hearing, 0.5) == {"10.0.0.1", "10.0.0.2"}
    hearing.heard("10.0.0.1", 10.0)
    assert clock.move(hearing, 9) == {"10.0.0.2"}
    hearing.heard("10.0.0.1")
    assert clock.move(hearing, SILENT) == {"10.0.0.1", "10.0.0.2"}


def test_one_that_was_late_and_is_cut_is_silent_at_once() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    entered(hearing, "10.0.0.1")
    hearing.excuse("10.0.0.1", 100.0)
    clock.move(hearing, 10)
    hearing.leave("10.0.0.1", silent=True)
    assert hearing.look() == {"10.0.0.1"}


def test_one_whose_connection_ended_is_forgotten_and_a_silent_one_is_not() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    entered(hearing, "10.0.0.1", "10.0.0.2")
    hearing.leave("10.0.0.1", silent=False)
    hearing.leave("10.0.0.2", silent=True)
    assert clock.move(hearing, 10) == {"10.0.0.2"}
    hearing.enter("10.0.0.2")
    assert hearing.look() == frozenset()


def test_a_silent_one_that_stays_away_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    hearing = Hearing(clock)
    entered(hearing, "10.0.0.1")
    hearing.leave("10.0.0.1", silent=True)
    assert clock.move(hearing, 180) == {"10.0.0.1"}
    assert not caplog.messages
    assert clock.move(hearing, 1) == frozenset()
    assert caplog.messages == ["a host has been silent for long, it is no longer remembered host=10.0.0.1"]


def test_who_is_silent_is_given_up_though_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    clock = Clock()
    hearing = Hearing(clock)
    for address in ("10.0.0.1", "10.0.0.2"):
        entered(hearing, address)
        hearing.leave(address, silent=True)
    hearing.enter("10.0.0.3")
    assert not hearing.hears("10.0.0.3")
    clock.now += HOLD + 1
    hearing.enter("10.0.0.3")
    assert hearing.hears("10.0.0.3")
    assert len(hearing) == 1


def test_a_host_with_two_connections_is_there_while_one_is() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    entered(hearing, "10.0.0.1", "10.0.0.1")
    hearing.leave("10.0.0.1", silent=False)
    assert clock.move(hearing, 5) == {"10.0.0.1"}
    hearing.leave("10.0.0.1", silent=False)
    assert hearing.look() == frozenset()
    hearing.leave("10.0.0.1", silent=False)  # nobody knows it: no matter


def test_a_stall_of_this_process_makes_nobody_silent() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    entered(hearing, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    clock.move(hearing, 1, "10.0.0.3")
    hearing.leave("10.0.0.2", silent=True)
    assert clock.move(hearing, SILENT - 1, "10.0.0.3") == {"10.0.0.1", "10.0.0.2"}
    clock.now += STALL + 10
    assert hearing.look() == {"10.0.0.1", "10.0.0.2"}  # they were silent before
    assert clock.move(hearing, SILENT) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_the_first_look_after_a_long_time_judges_nobody_and_the_next_ones_do() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    entered(hearing, "10.0.0.9")
    hearing.leave("10.0.0.9", silent=True)  # long ago: nobody ever hears of it
    clock.now += 3600
    entered(hearing, "10.0.0.1")
    clock.now += 0.2
    assert hearing.look() == frozenset()
    assert clock.move(hearing, SILENT - 0.5) == frozenset()
    assert clock.move(hearing, 0.5) == {"10.0.0.1"}
