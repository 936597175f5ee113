"""What holds a change back: bounds in force, stabilization windows, rates and cooldowns, as HPA v2 has them.

Stabilization, with the recommendations r(t) before any limit:

    up   = min r(t) over the last up.window seconds, the present one included
    down = max r(t) over the last down.window seconds, the present one included
    result = current, raised to `up` where lower, then lowered to `down` where higher

Rates, with `start` = current − added + removed within a rate's period:

    up:    start + value          or ⌈start · (1 + value / 100)⌉;  the highest (max) or the lowest (min) of the rates
    down:  start − value          or ⌊start · (1 − value / 100)⌋;  the lowest (max) or the highest (min) of the rates

and never beyond `current` on the wrong side.
"""

from __future__ import annotations

from lb7.autoscale.history import History
from lb7.autoscale.policy import MOST_INSTANCES, Direction, Policy, Rate


def bounds(policy: Policy, now: float) -> tuple[int, int, tuple[str, ...]]:
    """The least and the most instances now, and the names of the schedules that are open.

    Of several open ones the highest min counts, and the highest max; where min is above max, max holds."""
    opened = [schedule for schedule in policy.schedules if schedule.open(now)]
    low = max((schedule.min for schedule in opened if schedule.min is not None), default=policy.min)
    high = max((schedule.max for schedule in opened if schedule.max is not None), default=policy.max)
    names = tuple(schedule.name or f"{schedule.start} to {schedule.end}" for schedule in opened)
    return min(low, high), high, names


def stabilized(wanted: int, current: int, policy: Policy, history: History, now: float) -> int:
    """What stays of a recommendation after both windows."""
    up = history.lowest(now - policy.up.window, wanted)
    down = history.highest(now - policy.down.window, wanted)
    return min(max(current, up), down)


def highest_allowed(current: int, policy: Policy, history: History, now: float) -> int:
    """The most instances that the rates of scaling up allow now."""
    direction = policy.up
    if direction.select == "disabled":
        return current
    if not direction.rates:
        return MOST_INSTANCES
    limits = [_raised(_start(current, rate, history, now), rate) for rate in direction.rates]
    return max(current, max(limits) if direction.select == "max" else min(limits))


def lowest_allowed(current: int, policy: Policy, history: History, now: float) -> int:
    """The fewest instances that the rates of scaling down allow now."""
    direction = policy.down
    if direction.select == "disabled":
        return current
    if not direction.rates:
        return 0
    limits = [_lowered(_start(current, rate, history, now), rate) for rate in direction.rates]
    return min(current, min(limits) if direction.select == "max" else max(limits))


def cooling(direction: Direction, history: History, now: float) -> float:
    """Seconds left of a direction's cooldown after the last change."""
    return 0.0 if history.changed is None else max(0.0, history.changed + direction.cooldown - now)


def _start(current: int, rate: Rate, history: History, now: float) -> int:
    """How many instances there were when the rate's period began."""
    return current - history.added(now - rate.period)


# Whole numbers only: 10 · 1.1 is not 11 in floating point.
def _raised(start: int, rate: Rate) -> int:
    return start + rate.value if rate.type == "instances" else -(-start * (100 + rate.value) // 100)


def _lowered(start: int, rate: Rate) -> int:
    return max(0, start - rate.value if rate.type == "instances" else start * (100 - rate.value) // 100)
