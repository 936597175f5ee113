"""The switches of a simulated Marathon."""

from __future__ import annotations

import json

import pytest

from agent.demo.marathon_faults import MarathonFaults


def test_all_are_off_at_first_and_after_clearing() -> None:
    faults = MarathonFaults()
    assert faults.body(b"{}") == b"{}"
    faults.silent = faults.garble = True
    faults.slow, faults.status = 2.0, 500
    faults.clear()
    assert faults == MarathonFaults()


def test_results_of_health_checks_that_are_lost() -> None:
    task = {"id": "a.1", "healthCheckResults": [{"alive": True}]}
    assert MarathonFaults().unchecked(task) is task
    assert MarathonFaults(no_health="null").unchecked(task) == {"id": "a.1", "healthCheckResults": [None]}
    assert MarathonFaults(no_health="none").unchecked(task) == {"id": "a.1", "healthCheckResults": []}
    assert MarathonFaults(no_health="missing").unchecked(task) == {"id": "a.1"}
    (result,) = MarathonFaults(no_health="unchecked").unchecked(task)["healthCheckResults"]
    assert (result["alive"], result["consecutiveFailures"], result["lastSuccess"]) == (False, 0, None)
    assert MarathonFaults(no_health="null").unchecked({"id": "a.2"}) == {"id": "a.2"}


def test_bodies() -> None:
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(MarathonFaults(garble=True).body(b"{}"))
    assert json.loads(MarathonFaults(wrong=True).body(b"{}")) == {"apps": {"id": 7}}
    assert json.loads(MarathonFaults(empty=True).body(b"{}")) == {"apps": []}
