"""Networking modes, ports, checks and health of every version's way of saying them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mesos_dns.model import AppCheck, AppPort, Health
from mesos_dns.sources import marathon_wire as wire


def parts(**members: Any) -> wire.AppParts:
    return msgspec.convert({"id": "/x", **members}, wire.WireApp)


UNCHECKED = {
    "alive": False,
    "consecutiveFailures": 0,
    "firstSuccess": None,
    "lastFailure": None,
    "lastSuccess": None,
    "taskId": "t",
}
FAILED = {**UNCHECKED, "consecutiveFailures": 3, "lastFailure": "2026-01-01T00:00:00.000Z"}
MAPPING = {"containerPort": 8080, "hostPort": 0, "servicePort": 10101, "protocol": "tcp", "name": "http"}


@pytest.mark.parametrize(
    ("members", "network"),
    [
        ({}, "host"),
        ({"networks": []}, "host"),
        ({"networks": [{"mode": "host"}]}, "host"),
        ({"networks": [{"mode": "container/bridge"}]}, "bridge"),
        ({"networks": [{"mode": "container", "name": "dcos"}]}, "container"),
        ({"networks": [{"name": "dcos"}]}, "container"),
        ({"networks": [{"mode": "of the future"}]}, "host"),
        ({"container": None, "ipAddress": None}, "host"),
        ({"ipAddress": {}}, "container"),
        ({"container": {"docker": {"network": "BRIDGE"}}}, "bridge"),
        ({"container": {"docker": {"network": "USER"}}, "ipAddress": {}}, "container"),
        ({"container": {"docker": {"network": "HOST"}}}, "host"),
        ({"container": {"docker": {"network": "BRIDGE"}}, "networks": [{"mode": "host"}]}, "host"),
    ],
)
def test_networking_modes(members: dict[str, Any], network: str) -> None:
    assert wire.network_of(parts(**members)) == network


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, ()),
        ({"ports": [10000, 10001]}, (AppPort(10000), AppPort(10001))),
        ({"ports": [9000], "requirePorts": True}, (AppPort(9000, host_port=9000),)),
        ({"ports": [10000], "portDefinitions": []}, ()),
        ({"ports": [10000], "portDefinitions": None}, (AppPort(10000),)),
        (
            {"portDefinitions": [{"port": 10002, "name": "dns", "protocol": "udp,tcp", "labels": {"VIP_0": "/a:1"}}]},
            (AppPort(10002, name="dns", protocol="udp,tcp", labels=(("VIP_0", "/a:1"),)),),
        ),
        (
            {"networks": [{"mode": "container/bridge"}], "container": {"portMappings": [MAPPING]}},
            (AppPort(10101, 8080, 0, "http"),),
        ),
        (  # until 1.4: the mapping at Docker's, and the same port in `ports` and `portDefinitions`
            {
                "container": {"docker": {"network": "BRIDGE", "portMappings": [MAPPING]}},
                "ports": [10101],
                "portDefinitions": [{"port": 10101}],
            },
            (AppPort(10101, 8080, 0, "http"),),
        ),
        (  # no mapping names a service port: definitions do, in their order
            {
                "container": {"docker": {"network": "BRIDGE", "portMappings": [{"containerPort": 80}, {}]}},
                "ports": [10007],
            },
            (AppPort(10007, 80, -1), AppPort(0, 0, -1)),
        ),
        (
            {"networks": [{"mode": "container"}], "container": {"portMappings": [{"containerPort": 80}]}},
            (AppPort(0, 80, -1),),
        ),
        (
            {
                "ipAddress": {"discovery": {"ports": [{"number": 81, "name": "http", "protocol": "tcp"}]}},
                "container": {"portMappings": [MAPPING]},
                "ports": [10009],
            },
            (AppPort(10009, 81, -1, "http"),),
        ),
        ({"networks": [{"mode": "container"}], "ports": [10003]}, (AppPort(10003),)),
        ({"networks": [{"mode": "host"}], "container": {"portMappings": [MAPPING]}, "ports": [5]}, (AppPort(5),)),
    ],
)
def test_ports(members: dict[str, Any], expected: tuple[AppPort, ...]) -> None:
    app, lost = parts(**members), list[str]()
    assert wire.ports_of(app, wire.network_of(app), lost) == expected
    assert lost == []


def test_too_many_ports_are_refused() -> None:
    with pytest.raises(ValueError, match="2000 ports"):
        wire.ports_of(parts(ports=[0] * 2000), "host", [])


def test_a_label_that_is_no_text_costs_only_itself() -> None:
    lost: list[str] = []
    assert wire.labels_of({"a": "1", "b": 2, "c": None, "d": {"x": "y"}}, lost, "labels") == (("a", "1"),)
    assert lost == [
        "labels.b: expected a text, got int",
        "labels.c: expected a text, got NoneType",
        "labels.d: expected a text, got dict",
    ]
    assert wire.labels_of(None, lost, "labels") == ()


def test_checks() -> None:
    assert wire.checks_of(parts()) == ()
    told = [
        {"protocol": "TCP", "portIndex": 1, "gracePeriodSeconds": 15, "intervalSeconds": 3, "timeoutSeconds": 2.5},
        {"protocol": "MESOS_HTTP", "path": "/h", "port": 8080, "maxConsecutiveFailures": 0},
        {"command": {"value": "true"}, "protocol": "COMMAND"},
        {"path": None},
    ]
    assert wire.checks_of(parts(healthChecks=told)) == (
        AppCheck("TCP", port_index=1, grace=15.0, interval=3.0, timeout=2.5),
        AppCheck("MESOS_HTTP", "/h", port=8080, max_failures=0),
        AppCheck("COMMAND"),
        AppCheck(),
    )


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (None, None),
        ([], None),
        ([None], None),
        ([UNCHECKED], None),
        ([{"alive": False}], None),
        ([{"alive": True}], Health.HEALTHY),
        ([FAILED], Health.UNHEALTHY),
        ([{"alive": False, "consecutiveFailures": 1}], Health.UNHEALTHY),
        ([{"alive": False, "firstSuccess": "2026-01-01T00:00:00.000Z"}], Health.UNHEALTHY),
        ([{"alive": False, "lastSuccess": "2026-01-01T00:00:00.000Z"}], Health.UNHEALTHY),
        ([FAILED, None, {"alive": True}], Health.HEALTHY),
        ([FAILED, UNCHECKED], Health.UNHEALTHY),
    ],
)
def test_health(results: list[dict[str, Any] | None] | None, expected: Health | None) -> None:
    told = msgspec.convert({"id": "t", "healthCheckResults": results}, wire.WireTask).health_check_results
    assert wire.health_of(told) is expected


@pytest.mark.parametrize(
    ("state", "before", "expected"),
    [
        ("TASK_RUNNING", None, Health.PENDING),
        ("TASK_RUNNING", Health.NONE, Health.PENDING),
        ("TASK_RUNNING", Health.PENDING, Health.PENDING),
        ("TASK_RUNNING", Health.HEALTHY, Health.HEALTHY),
        ("TASK_RUNNING", Health.UNHEALTHY, Health.UNHEALTHY),
        ("TASK_UNREACHABLE", Health.HEALTHY, Health.HEALTHY),
        ("TASK_STAGING", Health.HEALTHY, Health.PENDING),  # an id that is used again
        ("TASK_STARTING", Health.UNHEALTHY, Health.PENDING),
    ],
)
def test_health_without_a_result(state: str, before: Health | None, expected: Health) -> None:
    assert wire.health_without_result(state, before) is expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01.500Z", 1.5),
        ("2016-02-01T22:57:48.784Z", 1454367468.784),
        ("1970-01-01T01:00:00+01:00", 0.0),
        (None, 0.0),
        ("", 0.0),
        ("yesterday", 0.0),
        ("0001-01-01T00:00:00+23:59", 0.0),
    ],
)
def test_times(text: str | None, seconds: float) -> None:
    assert max(0.0, wire.time_of(text)) == seconds
