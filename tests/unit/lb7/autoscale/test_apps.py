"""The apps that are scaled follow the catalog."""

from __future__ import annotations

import logging

import pytest
from msgspec import structs

from lb7.autoscale import apps as module
from lb7.autoscale.apps import ScaledApps
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.labels import read_scaling
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.scaled_app import AppTask, ScaledApp
from mesos_dns.catalog import Catalog, Delta
from mesos_dns.model import App, Entity, Health, HealthOverlay, Key, Labels, Put, Task

RPS = Metric(kind="rps", target=100.0)
POLICY = Policy(max=7, metrics=(RPS,))
LABELS: Labels = (("PHAROS_SCALE_MAX", "30"), ("PHAROS_SCALE_RPS", "100"))
OF_LABELS = Policy(max=30, metrics=(RPS,))
WEB = App("/web", LABELS, instances=1, framework_id="F")
TASK = HealthOverlay("F", "t1", Health.HEALTHY, app="/web", host="h", state="TASK_RUNNING", started=5.0)
READY = AppTask("t1", host="h", started=5.0)


def apps_of(*entities: Entity, config: AutoscaleConfig | None = None) -> ScaledApps:
    apps = ScaledApps(config or AutoscaleConfig())
    put(apps, *entities)
    return apps


def put(apps: ScaledApps, *entities: Entity) -> None:
    apps.apply(Delta(1, {entity.key: (None, entity) for entity in entities}))


def drop(apps: ScaledApps, key: Key) -> None:
    apps.apply(Delta(1, {key: (None, None)}))


def test_an_app_with_its_policy_and_tasks() -> None:
    apps = apps_of(TASK, WEB, App("/plain", framework_id="F"))
    assert apps.apps == {WEB.key: ScaledApp(WEB, OF_LABELS, "labels", (READY,))}
    assert repr(apps) == "<ScaledApps apps=1 of=2 problems=0>"


def test_what_was_returned_stays_and_what_did_not_change_is_the_same() -> None:
    other = structs.replace(WEB, id="/other")
    apps = apps_of(WEB, other)
    first = apps.apps
    put(apps, TASK)
    second = apps.apps
    assert not first[WEB.key].tasks
    assert second[WEB.key].tasks == (READY,)
    assert second[other.key] is first[other.key]
    assert dict(apps.apps) == dict(second)
    drop(apps, WEB.key)
    assert apps.apps.keys() == {other.key}


def test_a_change_of_each_kind_is_seen() -> None:
    apps = apps_of(WEB, TASK)
    put(apps, structs.replace(WEB, instances=5, deployments=("d",)))
    assert apps.apps[WEB.key].app.instances == 5
    put(apps, Task("F", "t1", "web", "n1", "TASK_RUNNING", Health.UNHEALTHY))
    assert apps.apps[WEB.key].tasks == (structs.replace(READY, node_id="n1", ready=False),)
    drop(apps, TASK.key)
    assert apps.apps[WEB.key].tasks == ()
    put(apps, structs.replace(WEB, labels=()))
    assert not apps.apps


def test_one_id_in_two_frameworks() -> None:
    other = structs.replace(WEB, framework_id="G", labels=())
    apps = apps_of(WEB, other, config=AutoscaleConfig(apps={"/web": POLICY}))
    assert {key: app.policy for key, app in apps.apps.items()} == {WEB.key: POLICY, other.key: POLICY}
    assert {app.told_by for app in apps.apps.values()} == {"config"}


def test_other_members_of_a_deployment_group() -> None:
    blue = App("/shop/blue", (*LABELS, ("HAPROXY_DEPLOYMENT_GROUP", "web")), framework_id="F")
    green = App("/shop/green", (("HAPROXY_DEPLOYMENT_GROUP", "/shop/web"),), framework_id="F")
    apps = apps_of(blue)
    assert apps.apps[blue.key].group == ()
    put(apps, green)
    assert apps.apps[blue.key].group == (green.key,)
    assert green.key not in apps.apps
    elsewhere = App("/other/green", green.labels, framework_id="F")
    put(apps, structs.replace(green, framework_id="G"), elsewhere)
    assert apps.apps[blue.key].group == (green.key,)
    apps.reconfigure(AutoscaleConfig(), compat=True)
    assert apps.apps[blue.key].group == ()  # "web" and "/shop/web" are two groups there
    apps.reconfigure(AutoscaleConfig())
    assert apps.apps[blue.key].group == (green.key,)
    drop(apps, green.key)
    assert apps.apps[blue.key].group == ()


def test_problems_are_told_counted_and_go(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lb7.problems"):
        apps = apps_of(structs.replace(WEB, labels=LABELS[1:]), structs.replace(WEB, id="/pod", kind="pod"))
        put(apps, structs.replace(WEB, labels=LABELS[1:], instances=3))
    assert not apps.apps
    assert apps.problem_counts == {"scale-policy": 2}
    assert {app: [problem.reason for problem in found] for app, found in apps.problems.items()} == {
        "/pod": ["scale-policy"],
        "/web": ["scale-policy"],
    }
    assert len(caplog.records) == 2
    put(apps, WEB)
    drop(apps, ("app", "mesos", "F", "/pod"))
    assert not apps.problem_counts
    assert apps.problems == {}


def test_another_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    apps = apps_of(WEB, TASK, structs.replace(TASK, task_id="t2", health=Health.UNHEALTHY))
    monkeypatch.setattr(module, "read_scaling", None)  # labels are not read again
    assert [task.ready for task in apps.apps[WEB.key].tasks] == [True, False]
    apps.reconfigure(AutoscaleConfig(max_instances=10), "ignore")
    assert apps.apps[WEB.key].policy.max == 10
    assert [task.ready for task in apps.apps[WEB.key].tasks] == [True, True]
    assert apps.problem_counts == {"scale-limit": 1}
    apps.reconfigure(AutoscaleConfig(apps={"/web": POLICY}))
    assert apps.apps[WEB.key].policy == POLICY
    assert not apps.problem_counts
    apps.reconfigure(AutoscaleConfig(labels=False))
    assert not apps.apps
    apps.reconfigure(AutoscaleConfig())
    assert apps.apps[WEB.key].policy == OF_LABELS


def test_that_labels_count_for_nothing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    config = AutoscaleConfig(apps={"/web": POLICY})
    with caplog.at_level(logging.DEBUG, "lb7.autoscale.apps"):
        apps = apps_of(WEB, config=config)
        put(apps, structs.replace(WEB, instances=2))
        apps.reconfigure(config)
    assert [record.getMessage() for record in caplog.records] == [
        "the configuration has a policy: labels count for nothing app='/web'"
    ]


def test_an_app_that_cannot_be_taken_in_costs_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(app: App) -> object:
        if app.id == "/bad":
            raise RuntimeError("a fault of ours")
        return read_scaling(app)

    monkeypatch.setattr(module, "read_scaling", fails)
    bad = structs.replace(WEB, id="/bad")
    apps = apps_of(bad, WEB)
    assert apps.apps.keys() == {WEB.key}
    assert apps.faults == 1
    assert "a change could not be taken" in caplog.text
    monkeypatch.undo()
    put(apps, bad)
    assert apps.apps.keys() == {WEB.key, bad.key}
    monkeypatch.setattr(module, "read_scaling", fails)
    put(apps, structs.replace(bad, labels=(*LABELS, ("PHAROS_SCALE_MIN", "2"))))
    assert apps.apps.keys() == {WEB.key}


@pytest.mark.asyncio
async def test_it_follows_a_catalog() -> None:
    catalog = Catalog()
    catalog.register("marathon")
    catalog.publish("marathon", Put(WEB))
    catalog.publish("marathon", Put(TASK))
    apps = ScaledApps(AutoscaleConfig())
    await catalog.follow(apps.apply)
    assert apps.apps == {WEB.key: ScaledApp(WEB, OF_LABELS, "labels", (READY,))}
