"""Several metrics: the highest, a formula, what a failed one forbids; and what counts as activity."""

from __future__ import annotations

import pytest

from lb7.autoscale.combine import activity, combine
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.propose import Proposal
from lb7.autoscale.schedule import Schedule

METRICS = (Metric(kind="rps", target=100), Metric(kind="cpu", target=0.5), Metric(kind="queue", target=5, activation=2))


def proposal(metric: str, instances: int | None, value: float | None = None, *, partial: bool = False) -> Proposal:
    return Proposal(metric=metric, target=1, instances=instances, value=value, partial=partial, text="timeout")


def policy(formula: str = "") -> Policy:
    return Policy(max=100, metrics=METRICS, formula=formula)


@pytest.mark.parametrize(
    ("rps", "cpu", "result"),
    [(3, 7, 7), (3, 2, 3), (None, 7, 7), (None, 5, 5), (None, 4, None), (None, None, None)],
)
def test_the_highest_unless_one_failed_and_it_is_less(rps: int | None, cpu: int | None, result: int | None) -> None:
    assert combine([proposal("rps", rps), proposal("cpu", cpu)], policy(), 5, 1).instances == result


def test_it_says_which_and_why() -> None:
    proposals = [proposal("rps", None), proposal("cpu", 4)]
    assert combine(proposals, policy(), 2, 1).text == "cpu asks for 4"
    assert combine(proposals, policy(), 5, 1).text == "cpu asks for 4 is less than there are, but rps failed: timeout"
    assert combine(proposals[:1], policy(), 5, 1).text == "rps failed: timeout"
    assert combine([], policy(), 0, 1).text == "no metric is read"


def test_what_is_known_in_part_is_good_for_more_only() -> None:
    for number, result in ((7, 7), (4, None)):
        assert combine([proposal("rps", number, partial=True)], policy(), 5, 1).instances == result


@pytest.mark.parametrize(
    ("formula", "rps", "result"),
    [
        ("max(rps, cpu)", 6, 6),
        ("min(rps, cpu) * 2", 6, 8),
        ("(rps + cpu) / 2 + 0.2", 6, 5),  # 5.2 of 5 is within the tolerance
        ("rps.value / 70 + 1", 6, 9),
        ("instances - 3", 6, 2),
        ("rps - 5.5", 6, 1),
        ("cpu + rps * 0", None, None),  # 4 is less than there are
        ("rps + cpu", None, 9),  # the failed one stays at 5
        ("rps.value", None, None),
        ("1 / (rps - rps)", 6, None),
    ],
)
def test_formula(formula: str, rps: int | None, result: int | None) -> None:
    proposals = [proposal("rps", rps, None if rps is None else 560), proposal("cpu", 4)]
    assert combine(proposals, policy(formula), 5, 1).instances == result


def test_without_metrics_it_goes_by_schedules() -> None:
    day = Schedule(start="0 8 * * *", end="0 18 * * *", min=5)
    assert combine([], Policy(max=9, schedules=(day,)), 7, 5).instances == 5


@pytest.mark.parametrize(
    ("proposals", "held", "active"),
    [
        ([proposal("rps", 0, 0.0), proposal("queue", 0, 0.0)], 0, False),
        ([proposal("rps", 0, 0.0), proposal("queue", 0, 0.0)], 1, True),
        ([proposal("rps", 1, 0.1), proposal("queue", 0, 0.0)], 0, True),
        ([proposal("rps", 0, 0.0), proposal("queue", 1, 2.0)], 0, False),
        ([proposal("rps", 0, 0.0), proposal("queue", 1, 2.1)], 0, True),
        ([proposal("rps", 0, 0.0), proposal("queue", None)], 0, None),
        ([proposal("rps", None), proposal("queue", 1, 3.0)], 0, True),
        ([proposal("rps", 0, 0.0, partial=True), proposal("queue", 0, 0.0)], 0, None),
        ([proposal("rps", 0, 0.0), proposal("queue", 0, 0.0), proposal("cpu", 9, 0.9)], 0, False),
    ],
)
def test_activity(proposals: list[Proposal], held: int, active: bool | None) -> None:
    assert activity(proposals, policy(), held)[0] is active
