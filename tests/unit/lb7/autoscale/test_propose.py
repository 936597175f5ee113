"""What one metric asks for, as HPA v2's replica calculator, and where it is stricter."""

from __future__ import annotations

import math

import pytest

from lb7.autoscale.policy import MOST_INSTANCES, Metric, Policy
from lb7.autoscale.propose import Proposal, propose, round_up
from lb7.autoscale.samples import Instance, Reading, Samples

RPS = Metric(kind="rps", target=100)
P95 = Metric(kind="latency_p95", target=0.2)
CPU = Metric(kind="cpu", target=0.5)


def asked(metric: Metric, reading: Reading | None, current: int, ready: str = "") -> Proposal:
    """`ready`: one letter for each that runs, upper case where it is ready."""
    running = tuple(Instance(letter.lower(), letter.isupper()) for letter in ready) if ready else None
    samples = Samples(instances=current, running=running, readings={} if reading is None else {metric.key: reading})
    return propose(metric, samples, Policy(max=100, metrics=(metric,)), 0.0)


@pytest.mark.parametrize(
    ("value", "current", "result"),
    [
        (500, 5, 5),
        (550, 5, 5),  # 10 % above
        (551, 5, 6),
        (450, 5, 5),
        (449, 5, 5),  # outside of the tolerance, and yet ⌈4.49⌉
        (400, 5, 4),
        (0, 5, 0),
        (300, 1, 3),
        (30, 0, 1),
        (0, 0, 0),
        (1e12, 5, MOST_INSTANCES),
    ],
)
def test_average_of_the_app(value: float, current: int, result: int) -> None:
    assert asked(RPS, Reading(value=value), current).instances == result


@pytest.mark.parametrize(
    ("value", "current", "ready", "result"),
    [
        (0.2, 4, "", 4),
        (0.3, 4, "", 6),
        (0.1, 4, "", 2),
        (0.3, 4, "ABCd", 5),
        (0.3, 4, "Abcd", 4),  # ⌈1.5 · 1⌉ = 2 would go against the ratio
        (0.1, 4, "ABcd", 1),
        (0.3, 0, "", 2),
    ],
)
def test_value_of_the_app(value: float, current: int, ready: str, result: int) -> None:
    assert asked(P95, Reading(value=value), current, ready).instances == result


@pytest.mark.parametrize(
    ("each", "current", "ready", "result"),
    [
        ({"a": 0.5, "b": 0.5}, 2, "AB", 2),
        ({"a": 0.9, "b": 0.9}, 2, "AB", 4),
        ({"a": 0.2, "b": 0.2}, 2, "AB", 1),
        # Missing: on target when scaling down, nothing when scaling up.
        ({"a": 0.1, "b": 0.1}, 3, "ABC", 2),  # (0.1 + 0.1 + 0.5) / 3 / 0.5 · 3 = 1.4
        ({"a": 0.9, "b": 0.9}, 3, "ABC", 4),  # (0.9 + 0.9 + 0) / 3 / 0.5 · 3 = 3.6
        ({"a": 0.7, "b": 0.7}, 3, "ABC", 3),  # 0.933: the other way, so nothing
        ({"a": 0.5}, 2, "AB", 2),  # exactly on target: no direction, nothing assumed
        # Not ready: nothing when scaling up, left out when scaling down.
        ({"a": 0.9, "b": 0.9, "c": 2.0}, 3, "ABc", 4),
        ({"a": 0.2, "b": 0.2, "c": 0.5}, 3, "ABc", 1),
        ({"a": 0.6, "b": 0.6}, 4, "ABcd", 4),
        # Defined and not started yet: as not ready.
        ({"a": 0.75, "b": 0.75}, 4, "AB", 4),
        ({"a": 1.5, "b": 1.5}, 4, "AB", 6),
        ({"a": 0.25}, 4, "A", 1),
        # An instance that is no more has no say.
        ({"a": 0.5, "gone": 9.0}, 1, "A", 1),
        ({"a": 0.9, "b": 0.9}, 2, "", 4),
    ],
)
def test_each_instance(each: dict[str, float], current: int, ready: str, result: int) -> None:
    assert asked(CPU, Reading(each=each), current, ready).instances == result


@pytest.mark.parametrize(
    ("metric", "reading", "ready", "text"),
    [
        (RPS, None, "", "not read"),
        (RPS, Reading(error="edge-1: timeout", value=3), "", "edge-1: timeout"),
        (RPS, Reading(), "", "no value"),
        (RPS, Reading(value=5, at=-61), "", "read 61 s ago, more than 60"),
        (RPS, Reading(value=math.nan), "", "expected a number from 0, got nan"),
        (RPS, Reading(value=math.inf), "", "expected a number from 0, got inf"),
        (RPS, Reading(value=-1), "", "expected a number from 0, got -1"),
        (CPU, Reading(each={"a": math.nan}), "", "expected a number from 0, got nan"),
        (CPU, Reading(each={}), "A", "no value of an instance that is ready"),
        (CPU, Reading(each={"a": 1.0}), "a", "no value of an instance that is ready"),
        (P95, Reading(value=0.1), "ab", "no instance is ready"),
    ],
)
def test_what_failed_says_why(metric: Metric, reading: Reading | None, ready: str, text: str) -> None:
    proposal = asked(metric, reading, 2, ready)
    assert (proposal.instances, proposal.text) == (None, text)


def test_a_reading_from_a_clock_that_is_ahead_is_new() -> None:
    assert asked(RPS, Reading(value=200, at=500), 1).instances == 2


def test_floating_point_adds_no_instance() -> None:
    assert round_up(0.7 / 0.1) == 7
    assert round_up(7.0001) == 8
    assert round_up(math.nan) == round_up(-3) == 0
    assert asked(Metric(kind="rps", target=0.1), Reading(value=0.3), 1).instances == 3


def test_the_text_tells_the_numbers() -> None:
    assert asked(RPS, Reading(value=551), 5).text == "⌈551 / 100⌉ = 6"
    assert asked(CPU, Reading(each={"a": 0.7, "b": 0.7}), 3, "ABC").text == (
        "⌈0.9333 · 3⌉ = 3 (of 2 1.4; 1 missing, 0 not ready); 0.9333 of the target is within the tolerance"
    )
    assert asked(CPU, Reading(each={"a": 0.6, "b": 0.6}), 3, "ABC").text == (
        "⌈0.8 · 3⌉ = 3 (of 2 1.2; 1 missing, 0 not ready): the other way with those counted, so 3 stay"
    )
