"""A decision as people see it: its numbers, its arithmetic, no text without end."""

from __future__ import annotations

from lb7.autoscale.decide import decide
from lb7.autoscale.history import History
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.samples import Reading, Samples
from lb7.autoscale.summary import MOST_TEXT, shown_policy, summary


def test_its_numbers() -> None:
    policy = Policy(max=9, metrics=(Metric(kind="rps", target=100), Metric(kind="queue", name="jobs", target=5)))
    readings = {"rps": Reading(value=450.0, at=5.0), "jobs": Reading(error="no" * 1000)}
    shown = summary(decide(Samples(instances=2, readings=readings), policy, History(), 5.0), policy, 5.0)
    assert (shown.at, shown.current, shown.instances, shown.wanted, shown.low, shown.high) == (5.0, 2, 5, 5, 1, 9)
    assert (shown.reason, shown.recommended) == ("up", 5)
    rps, jobs = shown.proposals
    assert (rps.metric, rps.kind, rps.value, rps.instances, rps.text) == ("rps", "rps", 450.0, 5, "⌈450 / 100⌉ = 5")
    assert (jobs.metric, jobs.kind, jobs.instances, len(jobs.text)) == ("jobs", "queue", None, MOST_TEXT)


def test_a_policy_without_what_its_hooks_are_asked_for() -> None:
    hook = Metric(kind="hook", name="jobs", target=5, url="http://h.example/jobs?key=hush")
    shown = shown_policy(Policy(max=9, metrics=(hook,)))
    assert (shown["max"], shown["metrics"][0]["url"]) == (9, "http://h.example/jobs?***")
