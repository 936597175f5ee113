"""One recommendation from the proposals of all metrics: the highest, or what the policy's formula makes of them.

As in HPA: a metric that failed, or is only partly known, forbids scaling down and not scaling up; where all failed
nothing is recommended. In a formula a failed metric proposes the present number; where its value is used the formula
fails with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lb7.autoscale.formula import INSTANCES, read_formula
from lb7.autoscale.policy import SEEN_ASLEEP, Policy
from lb7.autoscale.propose import Proposal, round_up, tolerated


class Combined(NamedTuple):
    """How many instances are right, or None where that is not known; and how that came about."""

    instances: int | None
    text: str


def combine(proposals: Sequence[Proposal], policy: Policy, current: int, low: int) -> Combined:
    """One recommendation. A policy without metrics goes by its schedules: to the least that is allowed."""
    if not policy.metrics:
        return Combined(low, "no metric: as schedules say")
    faults = [f"{item.metric} failed: {item.text}" for item in proposals if item.instances is None]
    faults += [f"{item.metric} is known in part" for item in proposals if item.partial]
    if not any(item.instances is not None for item in proposals):
        return Combined(None, "; ".join(faults) or "no metric is read")
    found = _by_formula(proposals, policy, current) if policy.formula else _highest(proposals)
    if found.instances is None or not faults or found.instances >= current:
        return found
    return Combined(None, f"{found.text} is less than there are, but {'; '.join(faults)}")


def activity(proposals: Sequence[Proposal], policy: Policy, held: int) -> tuple[bool | None, str]:
    """Whether anybody wants the app, and a text that says why; None where that is not known."""
    if held:
        return True, f"requests held: {held}"
    unknown = ""
    found = {item.metric: item for item in proposals}
    for metric in policy.metrics:
        item = found.get(metric.key)
        if metric.kind not in SEEN_ASLEEP or item is None:
            continue
        if item.value is not None and item.value > metric.activation:
            return True, f"{item.metric} is {item.value:g}, more than {metric.activation:g}"
        if item.value is None or item.partial:
            unknown = f"{item.metric} is not known"
    return (None, unknown) if unknown else (False, "no activity")


def _highest(proposals: Sequence[Proposal]) -> Combined:
    best = max((item for item in proposals if item.instances is not None), key=lambda item: item.instances or 0)
    return Combined(best.instances, f"{best.metric} asks for {best.instances}")


def _by_formula(proposals: Sequence[Proposal], policy: Policy, current: int) -> Combined:
    values = {INSTANCES: float(current)}
    for item in proposals:
        values[item.metric] = float(current if item.instances is None else item.instances)
        if item.value is not None:
            values[f"{item.metric}.value"] = item.value
    try:
        result = read_formula(policy.formula).evaluate(values)
    except KeyError as error:
        return Combined(None, f"formula: {error.args[0]} is not known")
    except ValueError as error:
        return Combined(None, f"formula: {error}")
    if current and tolerated(result / current, policy):
        return Combined(current, f"formula gives {result:.4g}, within the tolerance of {current}")
    return Combined(round_up(result), f"formula gives {result:.4g}")
