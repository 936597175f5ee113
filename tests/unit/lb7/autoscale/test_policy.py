"""Policies check themselves, whether made here or decoded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lb7.autoscale.policy import DOWN, KINDS, OF_THE_WHOLE, UP, Metric, Policy
from lb7.autoscale.schedule import Schedule

RPS = {"kind": "rps", "target": 100}


def test_defaults_are_those_of_hpa() -> None:
    policy = msgspec.convert({"max": 10, "metrics": [RPS]}, Policy)
    assert policy.min == 1
    assert (UP.window, UP.tolerance, UP.select) == (0, 0.1, "max")
    assert [(rate.type, rate.value, rate.period) for rate in UP.rates] == [("instances", 4, 15), ("percent", 100, 15)]
    assert DOWN.window == 300
    assert [(rate.type, rate.value, rate.period) for rate in DOWN.rates] == [("percent", 100, 15)]
    assert (policy.up, policy.down) == (UP, DOWN)


def test_kinds_have_their_types() -> None:
    plain = [kind for kind in KINDS if kind not in ("prometheus", "hook")]
    assert {kind for kind in plain if not Metric(kind=kind, target=1).averaged} == OF_THE_WHOLE
    assert not Metric(kind="rps", target=1, type="value").averaged
    assert Metric(kind="hook", target=1, name="jobs", url="http://jobs.example/").key == "jobs"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"max": 0}, "max: expected 1 (min) to 100000, got 0"),
        ({"min": 5, "max": 4}, "max: expected 5 (min)"),
        ({"min": -1}, "min: expected 0"),
        ({"metrics": []}, "metrics: expected one at least"),
        ({"metrics": [RPS, RPS]}, "expected each name once, got 'rps' twice"),
        ({"metrics": [{"kind": "rps", "target": 0}]}, "target: expected a number above 0"),
        ({"metrics": [{"kind": "rps", "target": 1, "activation": -1}]}, "activation: expected a number from 0"),
        ({"metrics": [{"kind": "rps", "target": 1, "name": "Rps"}]}, "name: expected lower-case letters"),
        ({"metrics": [{"kind": "rps", "target": 1, "name": "max"}]}, "name: expected"),
        ({"metrics": [{"kind": "latency_p95", "target": 1, "type": "average"}]}, "type: expected value"),
        ({"metrics": [{"kind": "cpu", "target": 1, "type": "value"}]}, "type: expected average"),
        ({"metrics": [{"kind": "prometheus", "target": 1}]}, "query: expected with kind prometheus"),
        ({"metrics": [{"kind": "hook", "target": 1}]}, "url: expected with kind hook"),
        ({"metrics": [{"kind": "rps", "target": 1, "url": "http://a.example"}]}, "url: expected with kind hook"),
        ({"metrics": [{"kind": "rpm", "target": 1}]}, "Invalid enum value 'rpm'"),
        ({"formula": "rps + cpu"}, "formula: expected names of metrics (rps), got 'cpu'"),
        ({"formula": "rps +"}, "expected a number"),
        ({"min": 0, "metrics": [{"kind": "cpu", "target": 1}]}, "min: 0 needs a metric of an app without instances"),
        ({"min": 0, "wake": 11}, "wake: expected 1 to max, which is 10"),
        ({"min": 0, "up": {"window": 0, "rates": [], "select": "disabled"}}, "min: 0 needs a way up"),
        ({"up": {"window": 3601, "rates": []}}, "window: expected 0 to 3600"),
        ({"up": {"window": 0, "rates": [], "tolerance": 1}}, "tolerance: expected a ratio"),
        ({"up": {"window": 0, "rates": [], "cooldown": -1}}, "cooldown: expected 0"),
        ({"up": {"window": 0, "rates": [{"type": "percent", "value": 0, "period": 15}]}}, "value: expected 1 or more"),
        ({"up": {"window": 0, "rates": [{"type": "percent", "value": 1, "period": 0}]}}, "period: expected 1 to 1800"),
        ({"schedules": [{"start": "0 8 * * *", "end": "0 9 * * *", "min": 11}]}, "schedules: expected min up to max"),
        ({"max_age": 0}, "max_age: expected more than 0 seconds, got 0"),
        ({"idle_time": -1}, "idle_time: expected 0 or more seconds, got -1"),
        ({"idel_time": 3}, "unknown field `idel_time`"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"max": 10, "metrics": [RPS]} | fields, Policy)
    assert error in str(caught.value)


def test_too_much_is_refused() -> None:
    metrics = tuple(Metric(kind="rps", target=1, name=f"m{number}") for number in range(21))
    with pytest.raises(ValueError, match="at most 20 metrics"):
        Policy(max=10, metrics=metrics)
    with pytest.raises(ValueError, match="rates: expected at most 10"):
        msgspec.structs.replace(UP, rates=UP.rates * 6)


def test_a_policy_survives_being_written() -> None:
    night = Schedule(start="0 22 * * *", end="0 6 * * *", min=0, max=2)
    policy = Policy(max=10, metrics=(Metric(kind="rps", target=1.5),), schedules=(night,), formula="rps + 1")
    assert policy.sleeps
    assert msgspec.json.decode(msgspec.json.encode(policy), type=Policy) == policy
