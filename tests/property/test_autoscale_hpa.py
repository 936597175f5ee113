"""Decisions beside HPA v2 as its documentation tells it, told again here without regard to speed: the same numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale.decide import decide
from lb7.autoscale.history import History
from lb7.autoscale.policy import Direction, Metric, Policy, Rate
from lb7.autoscale.propose import propose
from lb7.autoscale.samples import Instance, Reading, Samples

TARGET = 4
"""Of load in whole numbers, so that all arithmetic is exact."""

RATES = st.builds(
    Rate,
    type=st.sampled_from(["instances", "percent"]),
    value=st.integers(1, 150),
    period=st.sampled_from([5.0, 15.0, 60.0]),
)
DIRECTIONS = st.builds(
    Direction,
    window=st.sampled_from([0.0, 20.0, 60.0]),
    rates=st.lists(RATES, min_size=1, max_size=3).map(tuple),
    select=st.sampled_from(["max", "min", "disabled"]),
    tolerance=st.sampled_from([0.0, 0.125, 0.25]),
)
STEPS = st.lists(st.tuples(st.sampled_from([1, 5, 15, 30]), st.none() | st.integers(0, 400)), min_size=1, max_size=40)


@dataclass
class Told:
    """The documented algorithm for one metric (AverageValue): all it remembers is everything."""

    policy: Policy
    recommended: list[tuple[float, int]] = field(default_factory=list)
    changed: list[tuple[float, int]] = field(default_factory=list)

    def step(self, load: int, current: int, now: float) -> int:
        """One sync."""
        if not self.recommended:
            self.recommended.append((now, current))
        wanted = self._wanted(load, current)
        up = min([wanted, *self._since(self.policy.up.window, now)])
        down = max([wanted, *self._since(self.policy.down.window, now)])
        self.recommended.append((now, wanted))
        number = min(max(current, up), down)
        if number > current:
            number = min(number, self.policy.max, max(current, self._limit(self.policy.up, current, now)))
        elif number < current:
            number = max(number, self.policy.min, min(current, self._limit(self.policy.down, current, now)))
        if number != current:
            self.changed.append((now, number - current))
        return number

    def _wanted(self, load: int, current: int) -> int:
        ratio = Fraction(load, TARGET * current)
        if 1 - Fraction(self.policy.down.tolerance) <= ratio <= 1 + Fraction(self.policy.up.tolerance):
            return current
        return math.ceil(ratio * current)

    def _since(self, window: float, now: float) -> list[int]:
        return [number for at, number in self.recommended if at > now - window]

    def _limit(self, direction: Direction, current: int, now: float) -> int:
        if direction.select == "disabled":
            return current
        up, limits = direction is self.policy.up, []
        for rate in direction.rates:
            start = current - sum(by for at, by in self.changed if at > now - rate.period)
            part = Fraction(rate.value, 100)
            if rate.type == "instances":
                limits.append(start + rate.value if up else start - rate.value)
            else:
                limits.append(math.ceil(start * (1 + part)) if up else math.trunc(start * (1 - part)))
        return max(limits) if up == (direction.select == "max") else min(limits)


@given(DIRECTIONS, DIRECTIONS, st.integers(1, 40), STEPS)
def test_the_same_course(up: Direction, down: Direction, start: int, steps: list[tuple[int, int | None]]) -> None:
    policy = Policy(max=80, metrics=(Metric(kind="rps", target=TARGET),), up=up, down=down)
    told, history, current, now = Told(policy), History(), start, 1000.0
    for seconds, load in steps:
        now += seconds
        if load is None:
            continue
        samples = Samples(instances=current, readings={"rps": Reading(value=load, at=now)})
        decision = decide(samples, policy, history, now)
        assert decision.instances == told.step(load, current, now)
        history = decision.history.scaled(current, decision.instances, now)
        current = decision.instances


def replicas(known: list[int], missing: int, unready: int, tolerance: float) -> int:
    """What is asked for by values of instances: the documented treatment of missing and unready ones."""
    current = len(known) + missing + unready
    ratio = Fraction(sum(known), TARGET * len(known))
    counted = list(known)
    if ratio < 1:
        counted += [TARGET] * missing
    elif ratio > 1:
        counted += [0] * (missing + unready)
    again = Fraction(sum(counted), TARGET * len(counted))
    if abs(1 - again) <= Fraction(tolerance) or (again - 1) * (ratio - 1) < 0:
        return current
    asked = math.ceil(again * len(counted))
    return current if (asked - current) * (again - 1) < 0 else asked


@given(
    st.lists(st.integers(0, 16), min_size=1, max_size=8),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from([0.0, 0.125, 0.25]),
)
def test_missing_and_unready_instances(known: list[int], missing: int, unready: int, tolerance: float) -> None:
    direction = Direction(window=0, rates=(), tolerance=tolerance)
    metric = Metric(kind="cpu", target=TARGET)
    policy = Policy(max=100, metrics=(metric,), up=direction, down=direction)
    count = len(known) + missing
    running = tuple(Instance(str(number), number < count) for number in range(count + unready))
    each = {str(number): float(value) for number, value in enumerate(known)}
    samples = Samples(instances=len(running), running=running, readings={"cpu": Reading(each=each)})
    assert propose(metric, samples, policy, 0.0).instances == replicas(known, missing, unready, tolerance)
