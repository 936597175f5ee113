"""The memory of decisions: windows, what is forgotten, clocks that were set back."""

from __future__ import annotations

import msgspec

from lb7.autoscale.history import History


def test_windows() -> None:
    history = History().recommending(5, 0).recommending(9, 10).recommending(2, 20).recommending(4, 30)
    assert history.highest(5, 3) == 9
    assert history.highest(10, 3) == 4, "a window begins after its first moment"
    assert history.lowest(5, 3) == 2
    assert history.lowest(20, 3) == 3
    assert history.lowest(30, 7) == 7


def test_what_can_be_neither_highest_nor_lowest_is_forgotten() -> None:
    history = History()
    for second in range(3000):
        history = history.recommending(5 + second % 7, second)
    assert len(history.recommendations) <= 14
    assert (history.highest(2000, 0), history.lowest(2000, 99)) == (11, 5)


def test_blind_ones_keep_down_off_and_not_up() -> None:
    history = History().recommending(5, 0, blind=True)
    assert history.highest(-1, 2) == 5
    assert history.lowest(-1, 9) == 9
    low = History().recommending(3, 0).recommending(3, 5, blind=True)
    assert low.lowest(-1, 9) == 3


def test_changes_in_a_period() -> None:
    history = History().scaled(2, 6, 0).scaled(6, 5, 10).scaled(5, 5, 12)
    assert history.added(-1) == 3
    assert history.added(0) == -1
    assert (history.changed, len(history.changes)) == (10, 2)


def test_old_things_go() -> None:
    history = History().recommending(5, 0).scaled(1, 5, 0)
    assert history.at(1799).changes
    assert not history.at(1800).changes
    assert history.at(3599).recommendations
    assert not history.at(3600).recommendations
    assert history.at(9999).changed == 0


def test_what_lies_in_the_future_happened_now() -> None:
    history = msgspec.structs.replace(History().recommending(5, 500).scaled(1, 5, 500), active=500.0).at(100)
    assert history.recommendations[0].at == history.changes[0].at == history.active == history.changed == 100


def test_it_survives_being_written() -> None:
    history = History().recommending(5, 1.5, blind=True).scaled(1, 5, 2.5)
    assert msgspec.json.decode(msgspec.json.encode(history), type=History) == history
