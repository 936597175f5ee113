"""Documents of apps: what is read, and what a malformed part costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mesos_dns.model import App, AppCheck, AppPort, Health, HealthOverlay
from mesos_dns.sources.marathon_read import BadApp, check_id, id_of, read_app, read_apps, read_element

TASK = {
    "id": "web.1",
    "appId": "/web",
    "host": "10.0.0.1",
    "ports": [31000],
    "ipAddresses": [{"ipAddress": "172.17.0.2", "protocol": "IPv4"}, {"ipAddress": "junk"}],
    "state": "TASK_RUNNING",
    "slaveId": "S0",
    "stagedAt": "1970-01-01T00:00:10.000Z",
    "startedAt": "1970-01-01T00:00:11.000Z",
    "version": "1970-01-01T00:00:09.000Z",
    "healthCheckResults": [{"alive": True, "consecutiveFailures": 0}],
}
APP: dict[str, Any] = {
    "id": "/web",
    "instances": 1,
    "labels": {"HAPROXY_GROUP": "external"},
    "networks": [{"mode": "container/bridge"}],
    "container": {"portMappings": [{"containerPort": 80, "hostPort": 0, "servicePort": 10000}]},
    "healthChecks": [{"protocol": "HTTP", "portIndex": 0}],
    "version": "1970-01-01T00:00:03.000Z",
    "versionInfo": {
        "lastScalingAt": "1970-01-01T00:00:02.000Z",
        "lastConfigChangeAt": "1970-01-01T00:00:01.000Z",
    },
    "deployments": [{"id": "d1"}],
    "tasks": [TASK],
}


def document(*apps: Any) -> bytes:
    return json.dumps({"apps": apps}).encode()


def test_a_whole_app() -> None:
    read = read_apps(document(APP), "F1", "c")
    assert read.bad == []
    assert read.apps == [
        App(
            id="/web",
            labels=(("HAPROXY_GROUP", "external"),),
            network="bridge",
            ports=(AppPort(10000, 80),),
            checks=(AppCheck(port_index=0),),
            instances=1,
            version="1970-01-01T00:00:03.000Z",
            config_changed=1.0,
            scaled=2.0,
            deployments=("d1",),
            framework_id="F1",
            cluster="c",
        )
    ]
    assert read.overlays == [
        HealthOverlay(
            framework_id="F1",
            task_id="web.1",
            health=Health.HEALTHY,
            ports=(31000,),
            app="/web",
            host="10.0.0.1",
            addresses=("172.17.0.2",),
            state="TASK_RUNNING",
            version="1970-01-01T00:00:09.000Z",
            staged=10.0,
            started=11.0,
            cluster="c",
        )
    ]


def test_one_app() -> None:
    read = read_app(json.dumps({"app": APP}).encode(), "F1")
    assert (read.app.id, len(read.overlays), read.tasks_told, read.lost) == ("/web", 1, True, [])
    with pytest.raises(BadApp, match="no document of an app"):
        read_app(document(APP))


def test_little_is_enough() -> None:
    read = read_apps(document({"id": "/a"}, {"id": "/b", "tasks": [{"id": "t"}]}))
    assert [app.id for app in read.apps] == ["/a", "/b"]
    assert read.overlays == [HealthOverlay("", "t", app="/b", state="TASK_RUNNING")]
    assert not read_element(b'{"id":"/a"}').tasks_told
    assert read_element(b'{"id":"/a","tasks":[]}').tasks_told


def test_without_versions_info_the_version_is_the_time() -> None:
    read = read_element(json.dumps({**APP, "versionInfo": None}).encode())
    assert (read.app.config_changed, read.app.scaled) == (3.0, 3.0)


def test_health_needs_a_check_and_missing_results_keep_what_was_known() -> None:
    bare = {key: value for key, value in TASK.items() if key != "healthCheckResults"}
    others = [{**TASK, "id": f"web.{n}", "healthCheckResults": told} for n, told in ((2, []), (3, [None]), (4, []))]
    failed = {**TASK, "id": "web.5", "healthCheckResults": [{"alive": False, "consecutiveFailures": 2}]}
    others[2]["state"] = "TASK_STAGING"
    data = json.dumps({**APP, "tasks": [bare, *others, failed]}).encode()
    known = dict.fromkeys([f"web.{n}" for n in (1, 2, 4, 5)], Health.HEALTHY)
    assert [item.health for item in read_element(data, before=known.get).overlays] == [
        Health.HEALTHY,
        Health.HEALTHY,
        Health.PENDING,  # nothing was known
        Health.PENDING,  # it is being launched
        Health.UNHEALTHY,
    ]
    assert {item.health for item in read_element(data).overlays[:4]} == {Health.PENDING}
    unchecked = json.dumps({**APP, "healthChecks": []}).encode()
    assert [item.health for item in read_element(unchecked).overlays] == [Health.NONE]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"portDefinitions": [{"port": "80"}]}, "portDefinitions"),
        ({"ports": [70000]}, "65535"),
        ({"id": "relative"}, "begins with '/'"),
        ({"id": "/a\u0000b"}, "begins with '/'"),
        ({"id": "/" + "x" * 2000}, "begins with '/'"),
        ({"instances": -1}, ">= 0"),
        ({"labels": []}, "labels"),
        ({"tasks": {}}, "tasks"),
        ({"ports": [1] * 2000}, "2000 ports"),
    ],
)
def test_a_malformed_app_costs_only_itself(change: dict[str, Any], reason: str) -> None:
    read = read_apps(document({**APP, "networks": [{"mode": "host"}], **change}, {"id": "/good"}))
    assert [app.id for app in read.apps] == ["/good"]
    assert len(read.bad) == 1
    assert reason in read.bad[0][1]
    assert read.bad[0][0] == str(change.get("id", "/web"))[:1024]


@pytest.mark.parametrize("odd", [7, None, "x", [], {"id": 7}, {}])
def test_what_is_no_app_has_no_name(odd: object) -> None:
    read = read_apps(document(odd, APP))
    assert [app.id for app in read.apps] == ["/web"]
    assert [name for name, _ in read.bad] == [""]


def test_a_malformed_task_costs_only_itself() -> None:
    tasks = [{**TASK, "ports": "31000"}, {**TASK, "id": "web.2"}, {"host": "x"}, {**TASK, "id": ""}]
    read = read_element(json.dumps({**APP, "tasks": tasks}).encode())
    assert [item.task_id for item in read.overlays] == ["web.2"]
    assert [name for name, _ in read.bad_tasks] == ["web.1", "", ""]
    whole = read_apps(document({**APP, "tasks": tasks}))
    assert [name for name, _ in whole.bad] == ["/web"] * 3


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"apps":{}}', b'{"apps":[{"id":"/a"}]', b"\xff", b'{"app":{}}', b"[" * 5000]
)
def test_what_is_no_document(data: bytes) -> None:
    with pytest.raises(ValueError, match="no document of apps"):
        read_apps(data)


def test_ids() -> None:
    assert check_id("/a/b") == "/a/b"
    assert id_of(b'{"id":"/a","ports":"x"}') == "/a"
    assert id_of(b"nonsense") == ""


def test_every_recorded_document_is_read_whole(truth: Path) -> None:
    """What marathon-lb itself was fed: nothing of it is malformed."""
    found = sorted((truth / "marathon-lb").glob("*/apps.json")) + sorted(truth.glob("upstream/marathon-lb/*/apps.json"))
    assert len(found) > 20
    for path in found:
        data = path.read_bytes()
        apps = json.loads(data)["apps"]
        read = read_apps(data, "F1")
        assert read.bad == []
        assert [app.id for app in read.apps] == [app["id"] for app in apps]
        assert [item.task_id for item in read.overlays] == [task["id"] for app in apps for task in app["tasks"]]
