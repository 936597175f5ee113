"""What one metric asks for: HPA v2's replica calculator.

With `current` instances, of which `ready` serve, and a target:

    average of the app   ratio = value / (target · current)      proposal = ⌈value / target⌉
    value of the app     ratio = value / target                  proposal = ⌈ratio · ready⌉
    of each instance     ratio = mean(known values) / target     proposal = ⌈ratio · known⌉

and `current` where the ratio is within the tolerance: 1 − down.tolerance ≤ ratio ≤ 1 + up.tolerance.

Instances that are ready and have no value are missing, the others are not ready. Where there are missing ones, or
some that are not ready while ratio > 1, the ratio of `each` is taken again: missing ones count as exactly on target
if ratio < 1 and as 0 if ratio > 1; those not ready count as 0 if ratio > 1, and not at all if ratio < 1. If that
brings it within the tolerance, or to the other side of 1, the proposal is `current`; else ⌈new ratio · counted⌉.

Four places are stricter than HPA, none bolder: a proposal never goes against its ratio (HPA checks that in one of its
paths); instances defined and not yet started are not ready; with none ready a metric that needs some has failed; and
⌈ ⌉ takes what floating point makes of a whole number for that number.
"""

from __future__ import annotations

import math

import msgspec

from lb7.autoscale.policy import MOST_INSTANCES, Metric, Policy
from lb7.autoscale.samples import Reading, Samples

_FLOATING = 1e-9
"""The relative error of a few operations on floating-point numbers, generously."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric asks for; `instances` is None where it failed, and `text` says why, or how it came about.

    `value` is as it was read, of `each` instance their mean. `partial`: it may be too low."""

    metric: str
    target: float
    instances: int | None = None
    value: float | None = None
    ratio: float | None = None
    partial: bool = False
    text: str = ""


def round_up(number: float) -> int:
    """⌈number⌉, within 0 and what an app may have at all."""
    if not number > 0:
        return 0
    return MOST_INSTANCES if number >= MOST_INSTANCES else math.ceil(number - number * _FLOATING)


def tolerated(ratio: float, policy: Policy) -> bool:
    """Whether a ratio is close enough to 1 for no change."""
    return 1 - policy.down.tolerance - _FLOATING <= ratio <= 1 + policy.up.tolerance + _FLOATING


def propose(metric: Metric, samples: Samples, policy: Policy, now: float) -> Proposal:
    """What this metric asks for now."""
    reading = samples.readings.get(metric.key)
    fault = _fault(reading, policy, now)
    if reading is None or fault:
        return Proposal(metric=metric.key, target=metric.target, text=fault)
    if reading.each is not None:
        return _of_each(metric, reading, samples, policy)
    return _of_app(metric, reading.value or 0.0, reading.partial, samples, policy)


def _fault(reading: Reading | None, policy: Policy, now: float) -> str:
    """Why a reading can't be used; empty where it can. One from the future is as good as new: clocks differ."""
    if reading is None:
        return "not read"
    if reading.error:
        return reading.error
    if now - reading.at > policy.max_age:
        return f"read {now - reading.at:.0f} s ago, more than {policy.max_age:g}"
    values = list(reading.each.values()) if reading.each is not None else [reading.value]
    for value in values:
        if value is None:
            return "no value"
        if not (math.isfinite(value) and value >= 0):
            return f"expected a number from 0, got {value:g}"
    return ""


def _of_app(metric: Metric, value: float, partial: bool, samples: Samples, policy: Policy) -> Proposal:
    """From one value of the app as a whole."""
    current, target = samples.instances, metric.target
    if metric.averaged:
        asked = round_up(value / target)
        ratio = value / (target * current) if current else math.inf if value else 0.0
        text = f"⌈{value:g} / {target:g}⌉ = {asked}"
    else:
        ready = samples.ready() if current else 1
        if not ready:
            return Proposal(metric=metric.key, target=target, value=value, text="no instance is ready")
        ratio = value / target
        asked = round_up(ratio * ready)
        text = f"⌈{value:g} / {target:g} · {ready}⌉ = {asked}"
    if current:
        asked, text = _kept(current, asked, ratio, text, policy)
    return Proposal(
        metric=metric.key, target=target, instances=asked, value=value, ratio=ratio, partial=partial, text=text
    )


def _of_each(metric: Metric, reading: Reading, samples: Samples, policy: Policy) -> Proposal:
    """From values of instances."""
    current, target, each = samples.instances, metric.target, reading.each or {}
    running = samples.running
    ready = list(each) if running is None else [instance.id for instance in running if instance.ready]
    known = [each[name] for name in ready if name in each]
    if not known:
        return Proposal(metric=metric.key, target=target, text="no value of an instance that is ready")
    missing, not_ready = len(ready) - len(known), max(0, current - len(ready))
    ratio, counted = _mean(known) / target, known
    if missing or (not_ready and ratio > 1):
        filled = [target if ratio < 1 else 0.0] * missing if ratio != 1 else []
        counted = known + filled + ([0.0] * not_ready if ratio > 1 else [])
    again = _mean(counted) / target
    asked = round_up(again * len(counted))
    text = f"⌈{again:.4g} · {len(counted)}⌉ = {asked}"
    if counted is not known:
        text += f" (of {len(known)} {ratio:.4g}; {missing} missing, {not_ready} not ready)"
    if not tolerated(again, policy) and ((ratio < 1 < again) or (again < 1 < ratio)):
        asked, text = current, f"{text}: the other way with those counted, so {current} stay"
    asked, text = _kept(current, asked, again, text, policy)
    return Proposal(
        metric=metric.key,
        target=target,
        instances=asked,
        value=_mean(known),
        ratio=again,
        partial=reading.partial,
        text=text,
    )


def _kept(current: int, asked: int, ratio: float, text: str, policy: Policy) -> tuple[int, str]:
    """A proposal after tolerance, and never against its ratio."""
    if tolerated(ratio, policy):
        return current, f"{text}; {ratio:.4g} of the target is within the tolerance"
    if (ratio > 1 and asked < current) or (ratio < 1 and asked > current):
        return current, f"{text}; against its ratio {ratio:.4g}, so {current} stay"
    return asked, text


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
