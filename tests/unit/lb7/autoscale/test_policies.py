"""Which policy counts: the configuration's before labels, and labels within what they may ask for."""

from __future__ import annotations

import pytest
from msgspec import structs

from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.labels import read_scaling
from lb7.autoscale.policies import Found, capped, has_labels, most_asked, policy_of, sleeps_by
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.schedule import Schedule
from lb7.table import Problem
from mesos_dns.model import App, Labels

RPS = Metric(kind="rps", target=100.0)
POLICY = Policy(max=7, metrics=(RPS,))
LABELS: Labels = (("PHAROS_SCALE_MAX", "30"), ("PHAROS_SCALE_RPS", "100"))
APP = App("/web", LABELS)
WINDOW = Schedule(start="0 8 * * *", end="0 18 * * *", min=2000)


def test_an_app_without_labels_and_without_a_policy_is_not_scaled() -> None:
    app = App("/web", (("HAPROXY_GROUP", "external"),))
    assert not has_labels(app)
    assert policy_of(app, AutoscaleConfig(apps={"/other": POLICY})) == Found()


def test_labels() -> None:
    found = policy_of(APP, AutoscaleConfig())
    assert found == Found(Policy(max=30, metrics=(RPS,)))
    assert found.told_by == "labels"
    assert policy_of(APP, AutoscaleConfig(labels=False)) == Found()


def test_labels_that_were_read_are_not_read_again() -> None:
    other = read_scaling(App("/web", (*LABELS[:1], ("PHAROS_SCALE_RPS", "5"))))
    assert policy_of(APP, AutoscaleConfig(), other).policy == other.policy


def test_the_configuration_counts_before_labels() -> None:
    config = AutoscaleConfig(apps={"/web": POLICY}, max_instances=3)
    assert policy_of(APP, config) == Found(POLICY, "config", ignored=True)
    assert policy_of(App("/web"), config) == Found(POLICY, "config")
    assert policy_of(APP, structs.replace(config, labels=False)).policy == POLICY


def test_bad_labels_are_told_and_nothing_is_scaled_by_them() -> None:
    found = policy_of(App("/web", LABELS[1:]), AutoscaleConfig())
    assert found.policy is None
    assert [problem.reason for problem in found.problems] == ["scale-policy"]
    # With a policy of the configuration they count for nothing.
    assert not policy_of(App("/web", LABELS[1:]), AutoscaleConfig(apps={"/web": POLICY})).problems


@pytest.mark.parametrize(
    ("config", "what"),
    [(AutoscaleConfig(), "PHAROS_SCALE_…"), (AutoscaleConfig(apps={"/web": POLICY}), "autoscale.apps./web")],
)
def test_a_pod_is_not_scaled(config: AutoscaleConfig, what: str) -> None:
    pod = structs.replace(APP, kind="pod")
    assert policy_of(pod, config) == Found(
        problems=(Problem("/web", "scale-policy", f"{what}: a pod is not scaled, only apps are"),)
    )
    assert policy_of(App("/other", kind="pod"), config) == Found()


def test_labels_get_no_more_than_they_may_ask_for() -> None:
    found = policy_of(APP, AutoscaleConfig(max_instances=10))
    assert found.policy == Policy(max=10, metrics=(RPS,))
    text = "PHAROS_SCALE_MAX: 30 instances are asked for, and max_instances of [autoscale] allows 10: so many"
    assert found.problems == (Problem("/web", "scale-limit", text),)
    assert policy_of(APP, AutoscaleConfig(max_instances=30)).problems == ()
    assert policy_of(APP, AutoscaleConfig(max_instances=0)).policy == Policy(max=30, metrics=(RPS,))


def test_all_bounds_are_cut() -> None:
    policy = Policy(max=3000, min=5, metrics=(RPS,), wake=7, schedules=(WINDOW, structs.replace(WINDOW, max=4000)))
    assert most_asked(policy) == 4000
    cut = capped(policy, 3)
    assert (cut.min, cut.max, cut.wake) == (3, 3, 3)
    assert [(each.min, each.max) for each in cut.schedules] == [(3, None), (3, 3)]
    assert most_asked(cut) == 3
    assert capped(policy, 5000) == policy


def test_which_apps_may_sleep() -> None:
    by_labels = App("/web", (*LABELS, ("PHAROS_SCALE_MIN", "0")))
    paused = App("/web", (*by_labels.labels, ("PHAROS_SCALE_PAUSE", "true")))
    usual = sleeps_by(None)
    assert [usual(app) for app in (App("/web"), APP, by_labels, paused)] == [False, False, True, True]
    assert not sleeps_by(AutoscaleConfig(labels=False))(by_labels)
    told = sleeps_by(AutoscaleConfig(apps={"/web": structs.replace(POLICY, min=0), "/other": POLICY}))
    assert [told(app) for app in (APP, App("/web"), App("/other", by_labels.labels))] == [True, True, False]
    assert not told(App("/web", kind="pod"))
