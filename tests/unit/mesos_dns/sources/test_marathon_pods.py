"""Pods: their endpoints as ports, their containers' tasks, whose ports and health those are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos_dns.model import AppCheck, AppPort, Health
from mesos_dns.sources.marathon_pods import read_pod
from mesos_dns.sources.marathon_read import BadApp

SPEC: dict[str, Any] = {
    "id": "/team/front",
    "labels": {"HAPROXY_GROUP": "external", "odd": 7},
    "version": "1970-01-01T00:00:05.000Z",
    "networks": [{"mode": "container/bridge"}],
    "scaling": {"kind": "fixed", "instances": 2},
    "containers": [
        {
            "name": "web",
            "endpoints": [
                {"name": "http", "containerPort": 80, "hostPort": 0, "protocol": ["tcp"], "labels": {"VIP_0": "/f:80"}},
                {"name": "udp", "containerPort": 53, "protocol": ["udp", "tcp"]},
            ],
            "healthCheck": {"http": {"endpoint": "http", "path": "/h", "scheme": "HTTPS"}, "intervalSeconds": 5},
        },
        {"name": "side", "endpoints": [{"name": "admin", "containerPort": 8081, "hostPort": 0}]},
        {"name": "tail", "healthCheck": {"exec": {"command": {"shell": "true"}}}},
    ],
}


def container(name: str, **facts: Any) -> dict[str, Any]:
    return {"name": name, "status": "TASK_RUNNING", "containerId": f"front.instance-1.{name}.1", **facts}


def status(*containers: dict[str, Any], **spec: Any) -> bytes:
    instance = {
        "id": "front.instance-1",
        "agentHostname": "10.0.0.1",
        "networks": [{"name": "dcos", "addresses": ["9.0.0.1", "9.0.0.1", "junk"]}, {}],
        "containers": containers,
        "specReference": "/v2/pods/team/front::versions/1970-01-01T00:00:04.000Z",
    }
    return json.dumps({"id": "/team/front", "spec": {**SPEC, **spec}, "instances": [instance]}).encode()


HTTP = {"name": "http", "allocatedHostPort": 31000}


def test_a_pod_is_an_app() -> None:
    read = read_pod(status(), "F1", "c")
    app = read.app
    assert (app.id, app.kind, app.network, app.instances) == ("/team/front", "pod", "bridge", 2)
    assert (app.framework_id, app.cluster, app.version, app.config_changed) == ("F1", "c", SPEC["version"], 5.0)
    assert app.labels == (("HAPROXY_GROUP", "external"),)
    assert read.lost == ["labels.odd: expected a text, got int"]
    assert app.ports == (
        AppPort(0, 80, 0, "http", "tcp", (("VIP_0", "/f:80"),)),
        AppPort(0, 53, -1, "udp", "udp,tcp"),
        AppPort(0, 8081, 0, "admin"),
    )
    assert app.checks == (AppCheck("MESOS_HTTPS", "/h", 0, interval=5.0), AppCheck("COMMAND"))


def test_each_task_serves_its_own_endpoints() -> None:
    read = read_pod(status(container("web", endpoints=[HTTP, {"name": "udp"}]), container("side"), container("tail")))
    web, side, tail = read.overlays
    assert (web.task_id, web.app, web.host, web.addresses) == (
        "front.instance-1.web.1",
        "/team/front",
        "10.0.0.1",
        ("9.0.0.1",),
    )
    assert web.version == "1970-01-01T00:00:04.000Z"
    assert (web.ports, side.ports, tail.ports) == ((31000, 0, 0), (0, 0, 0), (0, 0, 0))
    assert (web.health, side.health, tail.health) == (Health.PENDING, Health.NONE, Health.PENDING)


def test_in_a_container_network_ports_are_the_containers() -> None:
    told = status(container("web", endpoints=[HTTP]), container("side"), networks=[{"mode": "container"}])
    assert [item.ports for item in read_pod(told).overlays] == [(80, 53, 0), (0, 0, 8081)]


def test_on_the_hosts_network_there_are_no_container_ports() -> None:
    assert {port.container_port for port in read_pod(status(networks=[])).app.ports} == {0}


@pytest.mark.parametrize(
    ("facts", "health"),
    [
        ({}, Health.PENDING),
        ({"conditions": [{"name": "healthy", "value": "true"}]}, Health.HEALTHY),
        ({"conditions": [{"name": "healthy", "value": "false"}]}, Health.UNHEALTHY),
        (
            {"conditions": [{"name": "healthy", "value": "false", "reason": "health-unreported-by-mesos"}]},
            Health.PENDING,
        ),
        ({"conditions": [{"name": "other", "value": "false"}]}, Health.PENDING),
        ({"endpoints": [{"name": "http", "healthy": True}]}, Health.HEALTHY),
        ({"endpoints": [{"name": "http", "healthy": False}, {"name": "udp"}]}, Health.UNHEALTHY),
    ],
)
def test_health(facts: dict[str, Any], health: Health) -> None:
    assert read_pod(status(container("web", **facts))).overlays[0].health is health
    assert read_pod(status(container("side", **facts))).overlays[0].health is Health.NONE


def test_a_check_without_a_result_keeps_what_was_known() -> None:
    unreported = {"conditions": [{"name": "healthy", "value": "false", "reason": "health-unreported-by-mesos"}]}
    known = {"front.instance-1.web.1": Health.HEALTHY}
    for facts in ({}, unreported):
        told = status(container("web", **facts))
        assert read_pod(told, before=known.get).overlays[0].health is Health.HEALTHY
        launched = status(container("web", **{**facts, "status": "TASK_STARTING"}))
        assert read_pod(launched, before=known.get).overlays[0].health is Health.PENDING
    failed = status(container("web", conditions=[{"name": "healthy", "value": "false"}]))
    assert read_pod(failed, before=known.get).overlays[0].health is Health.UNHEALTHY


def test_a_container_that_was_not_launched_yet_is_no_task() -> None:
    assert read_pod(status({"name": "web", "status": "TASK_STAGING"})).overlays == []


def test_a_malformed_instance_costs_only_itself() -> None:
    told = json.loads(status(container("web")))
    told["instances"].insert(0, {"id": "x", "containers": 7})
    read = read_pod(json.dumps(told).encode())
    assert len(read.overlays) == 1
    assert "instance x" in read.bad_tasks[0][1]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"{", ""),
        (b'{"id":"/x"}', "/x"),
        (b'{"id":"x","spec":{"id":"x"}}', "x"),
        (status(containers=[{"name": "a", "endpoints": [{"name": "e"}] * 2000}]), "/team/front"),
    ],
)
def test_what_is_no_pod(data: bytes, name: str) -> None:
    with pytest.raises(BadApp) as error:
        read_pod(data)
    assert error.value.id == name
