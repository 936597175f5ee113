"""Labels to a policy: what each says, and what a bad one costs."""

from __future__ import annotations

import pytest

from lb7.autoscale.labels import DIRECTIONS, PLAIN_METRICS, PREFIX, REASONS, Scaling, read_scaling
from lb7.autoscale.policy import DOWN, UP, Metric, Rate
from mesos_dns.model import App


def scaling(**labels: str) -> Scaling:
    given = {"MIN": "2", "MAX": "10", "RPS": "100"} | labels
    return read_scaling(App("/web", tuple((PREFIX + name, text) for name, text in given.items() if text)))


def test_no_label_no_policy_no_problem() -> None:
    assert read_scaling(App("/web", (("HAPROXY_GROUP", "external"),))) == Scaling()


def test_everything_that_can_be_said() -> None:
    policy, problems = scaling(
        MIN="0",
        LATENCY_P95="250ms",
        PROMETHEUS_JOBS="sum(jobs_waiting)",
        TARGET_JOBS="5 value activation=1",
        HOOK_ORDERS="http://orders.example/depth",
        TARGET_ORDERS="20",
        FORMULA="max(rps, latency_p95, jobs + orders)",
        UP_WINDOW="30s",
        UP_RATES="4/15s,100%/1m",
        UP_SELECT="min",
        UP_TOLERANCE="5%",
        UP_COOLDOWN="10s",
        DOWN_WINDOW="10m",
        DOWN_RATES="10%/1m",
        SCHEDULE_DAY="0 8 * * * to 0 18 * * * min=5",
        IDLE="15m",
        WAKE="2",
        MAX_AGE="20s",
        PAUSE="true",
        DRY_RUN="yes",
    )
    assert problems == ()
    assert policy is not None
    assert (policy.min, policy.max, policy.idle_time, policy.wake, policy.max_age) == (0, 10, 900, 2, 20)
    assert [metric.key for metric in policy.metrics] == ["rps", "latency_p95", "orders", "jobs"]
    jobs = Metric(kind="prometheus", target=5, type="value", name="jobs", activation=1, query="sum(jobs_waiting)")
    assert jobs in policy.metrics
    assert policy.formula == "max(rps, latency_p95, jobs + orders)"
    assert (policy.up.window, policy.up.select, policy.up.tolerance, policy.up.cooldown) == (30, "min", 0.05, 10)
    assert policy.down.rates == (Rate(type="percent", value=10, period=60),)
    assert [(schedule.name, schedule.min) for schedule in policy.schedules] == [("day", 5)]
    assert (policy.paused, policy.dry_run) == (True, True)


@pytest.mark.parametrize("label", PLAIN_METRICS)
def test_every_plain_metric(label: str) -> None:
    policy, problems = scaling(**({"RPS": ""} | {label: "1"}))
    assert policy is not None
    assert problems == ()
    assert policy.metrics == (Metric(kind=PLAIN_METRICS[label], target=1),)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"MAX": ""}, "MAX: expected the most instances that the app may have, got no such label"),
        ({"MAX": "many"}, "MAX: expected a number from 1 to 100000, got 'many'"),
        ({"MIN": "-1"}, "MIN: expected a number from 0 to 100000, got '-1'"),
        ({"MIN": "11"}, "…: max: expected 11 (min) to 100000, got 10"),
        ({"RPS": "fast"}, "RPS: expected a number as 100, 0.5 or 2k, got 'fast'"),
        ({"RPS": ""}, "…: metrics: expected one at least, or a schedule"),
        ({"CPU": "10"}, ""),
        ({"FORMULA": "rps +"}, "FORMULA: expected a number, a metric's name or '(' at character 6, got the end"),
        ({"FORMULA": "cpu"}, "…: formula: expected names of metrics (rps), got 'cpu'"),
        ({"MAX_AGE": "old"}, "MAX_AGE: expected a time as 90s, 5m or 1h, got 'old'"),
        ({"RSP": "100"}, "RSP: expected PHAROS_SCALE_RPS, got this one with '100'"),
        ({"ZZZZ": "1"}, "ZZZZ: expected a label that is known, got this one with '1'"),
        ({"PROMETHEUS_JOBS": "up"}, "PROMETHEUS_JOBS: expected PHAROS_SCALE_TARGET_JOBS beside it, got none"),
        ({"TARGET_JOBS": "5"}, "TARGET_JOBS: expected PHAROS_SCALE_PROMETHEUS_JOBS or PHAROS_SCALE_HOOK_JOBS"),
        ({"HOOK_JOBS": "ftp://x", "TARGET_JOBS": "5"}, "HOOK_JOBS: expected a URL as http://host/path"),
        ({"PROMETHEUS_RPS": "up", "TARGET_RPS": "5"}, "…: metrics: expected each name once, got 'rps' twice"),
        ({"MIN": "0", "RPS": "", "CPU": "50%"}, "…: min: 0 needs a metric of an app without instances"),
        ({"RPS": "1" * 5000}, "RPS: expected at most 4096 characters"),
    ],
)
def test_what_the_policy_stands_on_costs_the_policy(labels: dict[str, str], text: str) -> None:
    policy, problems = scaling(**labels)
    if not text:
        assert policy is not None
        return
    assert policy is None
    (problem,) = problems
    assert (problem.app, problem.reason) == ("/web", "scale-policy")
    assert problem.text.startswith(f"{PREFIX}{text}")
    assert problem.text.endswith(": the app is not scaled")


def test_what_holds_scaling_down_back_means_no_scaling_down() -> None:
    for word in DIRECTIONS:
        policy, problems = scaling(**{f"DOWN_{word}": "?"})
        assert policy is not None
        assert policy.down.select == "disabled"
        assert policy.up == UP
        (problem,) = problems
        assert (problem.reason, problem.text.rpartition(": ")[2]) == ("scale-label", "no scaling down")
    policy, _ = scaling(DOWN_WINDOW="?", DOWN_SELECT="max")
    assert policy is not None
    assert policy.down.select == "disabled"


def test_what_holds_scaling_up_back_is_as_if_it_were_not_there() -> None:
    for word in DIRECTIONS:
        policy, problems = scaling(**{f"UP_{word}": "?"})
        assert policy is not None
        assert (policy.up, policy.down) == (UP, DOWN)
        assert [problem.reason for problem in problems] == ["scale-label"]
    _, problems = scaling(UP_WINDOW="2h")
    assert problems[0].text == (
        "PHAROS_SCALE_UP_WINDOW: window: expected 0 to 3600 seconds, got 7200: as if it were not there"
    )


def test_careful_choices() -> None:
    policy, problems = scaling(PAUSE="?", DRY_RUN="?", SCHEDULE_A="?", SCHEDULE_B="0 8 * * * to 0 9 * * * min=3")
    assert policy is not None
    assert (policy.paused, policy.dry_run, [schedule.name for schedule in policy.schedules]) == (True, True, ["b"])
    assert [problem.text.rpartition(": ")[2] for problem in problems] == [
        "this schedule is left out",
        "taken as true",
        "taken as true",
    ]


@pytest.mark.parametrize("label", ["IDLE", "WAKE"])
def test_sleep_that_can_not_be_read_is_none(label: str) -> None:
    policy, problems = scaling(MIN="0", SCHEDULE_A="0 8 * * * to 0 9 * * * min=0", **{label: "?"})
    assert policy is not None
    assert policy.min == 1
    assert not policy.sleeps
    assert problems[0].text.endswith(": never to zero")


def test_too_many_labels_are_not_looked_at() -> None:
    policy, problems = scaling(**{f"SCHEDULE_{number}": "x" for number in range(1000)})
    assert policy is None
    assert len(problems) == 1


def test_words_of_problems_are_explained() -> None:
    assert set(REASONS) == {"scale-policy", "scale-label", "scale-limit"}
