"""Bounds in force, stabilization windows, rates and cooldowns."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lb7.autoscale.history import History
from lb7.autoscale.limits import bounds, cooling, highest_allowed, lowest_allowed, stabilized
from lb7.autoscale.policy import DOWN, MOST_INSTANCES, UP, Direction, Metric, Policy, Rate, Select
from lb7.autoscale.schedule import Schedule

NOON = 12 * 3600.0


def policy(up: Direction = UP, down: Direction = DOWN, **fields: Any) -> Policy:
    return Policy(max=100, metrics=(Metric(kind="rps", target=1),), up=up, down=down, **fields)


def limited(*rates: Rate, select: Select = "max") -> Direction:
    return Direction(window=0, rates=rates, select=select)


FOUR = Rate(type="instances", value=4, period=60)
HALF = Rate(type="percent", value=50, period=60)
TENTH = Rate(type="percent", value=10, period=60)


def test_schedules_give_the_bounds() -> None:
    day = Schedule(start="0 8 * * *", end="0 18 * * *", min=5, max=50, name="day")
    lunch = Schedule(start="0 11 * * *", end="0 13 * * *", min=10)
    cheap = Schedule(start="0 8 * * *", end="0 18 * * *", max=3)
    assert bounds(policy(schedules=(day,)), 0) == (1, 100, ())
    assert bounds(policy(schedules=(day, lunch)), NOON) == (10, 50, ("day", "0 11 * * * to 0 13 * * *"))
    assert bounds(policy(schedules=(day, cheap)), NOON)[:2] == (5, 50)
    assert bounds(policy(schedules=(lunch, cheap)), NOON)[:2] == (3, 3), "the most holds"


@pytest.mark.parametrize(
    ("wanted", "up", "down", "result"),
    [
        (8, 0, 0, 8),
        (8, 100, 0, 4),  # it was 2 lately: no reason to rise, nor to sink, for 8 are wanted
        (2, 0, 0, 2),
        (2, 0, 100, 4),  # it was 9 lately, more than there are: nothing
        (3, 0, 31, 4),
        (3, 0, 30, 3),
    ],
)
def test_windows(wanted: int, up: float, down: float, result: int) -> None:
    history = History().recommending(9, 20).recommending(2, 40).recommending(5, 70)
    asked = policy(msgspec.structs.replace(UP, window=up), msgspec.structs.replace(DOWN, window=down))
    assert stabilized(wanted, 4, asked, history, 100.0) == result


@pytest.mark.parametrize(
    ("direction", "history", "limit"),
    [
        (limited(FOUR), History(), 14),
        (limited(HALF), History(), 15),
        (limited(FOUR, HALF), History(), 15),
        (limited(FOUR, HALF, select="min"), History(), 14),
        (limited(FOUR, select="disabled"), History(), 10),
        (limited(), History(), MOST_INSTANCES),
        (limited(TENTH), History(), 11),  # ⌈10 · 1.1⌉ in floating point is 12
        (limited(FOUR), History().scaled(7, 10, 50), 11),
        (limited(FOUR), History().scaled(7, 10, 40), 14),  # a minute ago
        (limited(FOUR), History().scaled(5, 10, 50), 10),
        (limited(FOUR), History().scaled(12, 10, 50), 16),
        (limited(FOUR), History().scaled(10, 60, 50).scaled(60, 10, 60), 14),
    ],
)
def test_rates_upwards(direction: Direction, history: History, limit: int) -> None:
    assert highest_allowed(10, policy(up=direction), history, 100.0) == limit


@pytest.mark.parametrize(
    ("direction", "history", "limit"),
    [
        (limited(FOUR), History(), 6),
        (limited(HALF), History(), 5),
        (limited(FOUR, HALF), History(), 5),
        (limited(FOUR, HALF, select="min"), History(), 6),
        (limited(FOUR, select="disabled"), History(), 10),
        (limited(), History(), 0),
        (limited(TENTH), History(), 9),
        (limited(Rate(type="percent", value=200, period=60)), History(), 0),
        (limited(FOUR), History().scaled(13, 10, 50), 9),
        (limited(FOUR), History().scaled(15, 10, 50), 10),
        (limited(FOUR), History().scaled(8, 10, 50), 4),
    ],
)
def test_rates_downwards(direction: Direction, history: History, limit: int) -> None:
    assert lowest_allowed(10, policy(down=direction), history, 100.0) == limit


def test_cooldown() -> None:
    direction = msgspec.structs.replace(UP, cooldown=30.0)
    assert cooling(direction, History(), 100) == 0
    history = History().scaled(1, 2, 90)
    assert (cooling(direction, history, 100), cooling(direction, history, 120)) == (20, 0)
    assert cooling(UP, history, 90) == 0
