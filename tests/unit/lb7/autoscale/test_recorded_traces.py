"""On the inputs of the recorded runs of marathon-lb-autoscale, the right thing where it did the wrong one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lb7.autoscale.decide import Decision, decide
from lb7.autoscale.history import History
from lb7.autoscale.labels import read_scaling
from lb7.autoscale.policy import Policy
from lb7.autoscale.samples import Reading, Samples
from mesos_dns.model import App
from tests.fakes.recorded_scaling import CASES, Case, recorded

INTERVAL = 60.0

Read = Callable[[Case, int], Reading]


def policy(app: str = "/web", **labels: str) -> Policy:
    """What the program's flags are as labels: a target of 1000 requests a second for each instance."""
    given = {"MAX": "1000", "RPS": "1000"} | labels
    found = read_scaling(App(app, tuple((f"PHAROS_SCALE_{name}", text) for name, text in given.items())))
    assert found.policy is not None, found.problems
    return found.policy


def all_listeners(case: Case, interval: int) -> Reading:
    """Requests of an app are counted where they are handed to it, whichever listener they came by."""
    rate = sum(case.rows(interval).values()) if case.real is None else case.real
    return Reading(value=rate, at=interval * INTERVAL)


def replay(name: str, asked: Policy, read: Read = all_listeners) -> list[Decision]:
    """One decision for each recorded interval; each is carried out."""
    case, history = CASES[name], History()
    current, decisions = case.start, []
    for interval in range(1, recorded()[name]["intervals"] + 1):
        now = interval * INTERVAL
        samples = Samples(instances=current, readings={"rps": read(case, interval)})
        decision = decide(samples, asked, history, now)
        history = decision.history.scaled(current, decision.instances, now)
        current = decision.instances
        decisions.append(decision)
    return decisions


def changes(decisions: list[Decision]) -> list[tuple[int, int, int]]:
    """As the recordings have it: interval, from, to."""
    return [(n, d.current, d.instances) for n, d in enumerate(decisions, 1) if d.instances != d.current]


def theirs(name: str) -> list[tuple[int, int, int]]:
    return [(put["interval"], put["frm"], put["to"]) for put in recorded()[name]["puts"]]


def unmet(name: str, steps: list[tuple[int, int, int]]) -> float:
    """Requests a second above 1000 for each instance, summed up over all intervals."""
    case, total = CASES[name], 0.0
    current, by_interval = case.start, {interval: to for interval, _, to in steps}
    for interval in range(1, recorded()[name]["intervals"] + 1):
        total += max(0.0, sum(case.rows(interval).values()) - 1000 * current)
        current = by_interval.get(interval, current)
    return total


def test_it_acts_on_the_first_reading_not_on_the_thirteenth() -> None:
    name = "const_5000rps_from_1"
    assert theirs(name) == [(13, 1, 5)]
    assert changes(replay(name, policy())) == [(1, 1, 5)]


def test_a_fifth_instance_is_added_to_four_that_have_too_much() -> None:
    name = "const_5000rps_from_4_within_thresholds"
    assert theirs(name) == []
    assert changes(replay(name, policy())) == [(1, 4, 5)]


def test_going_down_waits_for_the_window_and_keeps_to_the_rate() -> None:
    name = "drop_to_0_from_10"
    assert theirs(name) == [(13, 10, 1)]
    assert changes(replay(name, policy())) == [(6, 10, 1)]
    gently = changes(replay(name, policy(DOWN_RATES="2/1m")))
    assert gently == [(6, 10, 8), (7, 8, 6), (8, 6, 4), (9, 4, 2), (10, 2, 1)]


def test_bounds_hold_and_the_most_is_reached_at_once() -> None:
    name = "min_max"
    assert theirs(name) == [(13, 1, 20)]
    decisions = replay(name, policy(MIN="2", MAX="20"))
    assert changes(decisions) == [(1, 1, 2), (2, 2, 6), (3, 6, 12), (4, 12, 20)]
    assert {decision.reason for decision in decisions[4:]} == {"maximum"}


def test_a_spike_is_answered_while_it_lasts_or_not_at_all() -> None:
    name = "spike_2_intervals"
    assert theirs(name) == [(22, 5, 14)]  # when it was over, and for good
    steps = changes(replay(name, policy()))
    assert steps[:2] == [(20, 5, 10), (21, 10, 20)]
    assert steps[-1][2] == 5
    assert unmet(name, steps) < unmet(name, theirs(name))
    assert changes(replay(name, policy(UP_WINDOW="3m"))) == []


def test_an_oscillating_load_does_not_flap() -> None:
    name = "oscillate_2k_8k"
    assert len(theirs(name)) == 8
    steps = changes(replay(name, policy(DOWN_WINDOW="10m")))
    assert steps == [(1, 5, 8)]
    assert unmet(name, steps) < unmet(name, theirs(name)) / 10
    # With the five minutes of the defaults it follows each wave of six, but never comes late by more than one reading.
    assert unmet(name, changes(replay(name, policy()))) < unmet(name, theirs(name))


def test_up_at_once_and_down_when_the_window_is_over() -> None:
    name = "step_up_then_down_cooldown"
    assert theirs(name) == [(13, 1, 8), (31, 8, 4), (46, 4, 1)]
    assert changes(replay(name, policy())) == [(1, 1, 5), (2, 5, 8), (29, 8, 1)]
    assert changes(replay(name, policy(UP_COOLDOWN="5m"))) == [(1, 1, 5), (6, 5, 8), (29, 8, 1)]


@pytest.mark.parametrize(
    ("name", "app"), [("nested_id_team/prod/svc", "/team/prod/svc"), ("underscore_id_my_app", "/my_app")]
)
def test_an_id_is_never_taken_apart(name: str, app: str) -> None:
    assert recorded()[name]["puts"][0]["path"] == f"/v2/apps{app.replace('_', '/')}"  # of another app, for /my_app
    assert changes(replay(name, policy(app))) == [(1, 1, 5)]
    (problem,) = read_scaling(App(app, (("PHAROS_SCALE_MAX", "x"), ("PHAROS_SCALE_RPS", "1000")))).problems
    assert problem.app == app


def test_the_frontends_of_an_app_are_one_load() -> None:
    name = "two_frontends_same_app"
    assert theirs(name) == [(13, 1, 9), (28, 9, 5)]  # 14 are needed
    assert changes(replay(name, policy())) == [(1, 1, 5), (2, 5, 10), (3, 10, 14)]


def test_from_zero_to_what_is_needed_unless_somebody_stopped_it() -> None:
    name = "scaled_to_zero_then_traffic"
    assert theirs(name) == [(13, 0, 5)]
    assert changes(replay(name, policy(MIN="0"))) == [(1, 0, 4), (2, 4, 5)]
    assert changes(replay(name, policy(MIN="0", WAKE="5"))) == [(1, 0, 5)]
    stopped = replay(name, policy())
    assert changes(stopped) == []
    assert {decision.reason for decision in stopped} == {"suspended"}


def test_a_metric_that_is_missing_is_not_a_load_of_nothing() -> None:
    name = "missing_frontend"
    assert theirs(name) == [(13, 5, 1)]
    decisions = replay(name, policy(), lambda case, interval: Reading(error="no edge answers"))
    assert changes(decisions) == []
    assert {decision.reason for decision in decisions} == {"no-metric"}


def test_traffic_of_a_virtual_host_counts() -> None:
    name = "vhost_port80_traffic_only"
    assert theirs(name) == [(13, 5, 1)]
    decisions = replay(name, policy())
    assert changes(decisions) == []
    assert {decision.reason for decision in decisions} == {"steady"}
