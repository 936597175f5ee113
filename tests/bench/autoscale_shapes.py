"""Loads that autoscalers are tried with: requests a second at each second, and what metrics show of them. Seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

MINUTE, HOUR = 60, 3600


class Shape(NamedTuple):
    """`demand` by second. `seen` is the part of it that metrics show at a second: 1 all, 0 none (they failed)."""

    name: str
    what: str
    demand: tuple[float, ...]
    seen: Callable[[int], float]


def all_of_it(_: int) -> float:
    """Metrics that never fail."""
    return 1.0


def shapes() -> tuple[Shape, ...]:
    """All of them."""
    return (
        Shape("step", "300 → 1,500 after 10 min, back after 40", _each(HOUR, _step), all_of_it),
        Shape("ramp", "100 → 2,000 in 30 min, and back", _each(HOUR + HOUR // 3, _ramp), all_of_it),
        Shape("spike", "300, for 2 min 1,500", _each(HOUR, _spike), all_of_it),
        Shape("daily wave", "200 to 1,500 in 24 h, 5 % noise", _daily(), all_of_it),
        Shape("noise", "700 with 20 % of noise", _noise(HOUR), all_of_it),
        Shape("oscillation", "200 and 800 in turn, 4 min each", _each(HOUR, _oscillation), all_of_it),
        Shape("metric outage", "none for 10 min, then half for a minute", _each(HOUR, _flat), _outage),
    )


def _each(seconds: int, rate: Callable[[int], float]) -> tuple[float, ...]:
    return tuple(rate(second) for second in range(seconds))


def _step(second: int) -> float:
    return 1500.0 if 10 * MINUTE <= second < 40 * MINUTE else 300.0


def _ramp(second: int) -> float:
    part = (second - 5 * MINUTE) / (30 * MINUTE)
    return 100.0 + 1900.0 * max(0.0, min(part, 2.2 - part, 1.0))


def _spike(second: int) -> float:
    return 1500.0 if 20 * MINUTE <= second < 22 * MINUTE else 300.0


def _oscillation(second: int) -> float:
    return 800.0 if second // (4 * MINUTE) % 2 else 200.0


def _flat(_: int) -> float:
    return 1000.0


def _outage(second: int) -> float:
    """Two edges: both are lost, one comes back, the other a minute later."""
    if 15 * MINUTE <= second < 25 * MINUTE:
        return 0.0
    return 0.5 if 25 * MINUTE <= second < 26 * MINUTE else 1.0


def _daily() -> tuple[float, ...]:
    chance = random.Random(7)
    found: list[float] = []
    for second in range(24 * HOUR):
        wave = 850 - 650 * math.cos(2 * math.pi * second / (24 * HOUR))
        found.append(found[-1] if second % 15 else round(wave * (1 + chance.gauss(0, 0.05)), 3))
    return tuple(found)


def _noise(seconds: int) -> tuple[float, ...]:
    chance = random.Random(11)
    found: list[float] = []
    for second in range(seconds):
        found.append(found[-1] if second % 15 else round(max(0.0, 700 * (1 + chance.gauss(0, 0.2))), 3))
    return tuple(found)
