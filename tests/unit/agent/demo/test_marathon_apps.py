"""Definitions of apps, what Mesos is asked to launch for them, and their JSON."""

from __future__ import annotations

import pytest

from agent.demo import marathon_apps
from agent.demo.marathon_apps import BadApp, service_ports, task_spec, with_service_ports
from agent.demo.spec import Check, Network

MAPPED = {"portMappings": [{"containerPort": 8080, "name": "http", "labels": {"VIP_0": "/x:80"}}]}


@pytest.mark.parametrize(
    ("more", "network", "port"),
    [
        ({}, Network.HOST, ("default", 0)),
        ({"networks": [{"mode": "host"}], "portDefinitions": [{"name": "a"}]}, Network.HOST, ("a", 0)),
        ({"networks": [{"mode": "container/bridge"}], "container": MAPPED}, Network.BRIDGE, ("http", 8080)),
        (
            {"networks": [{"mode": "container/bridge"}], "container": {"type": "DOCKER", **MAPPED}},
            Network.DOCKER,
            ("http", 8080),
        ),
        ({"networks": [{"mode": "container", "name": "dcos"}], "container": MAPPED}, Network.CONTAINER, ("http", 8080)),
    ],
)
def test_network_modes(more: dict[str, object], network: Network, port: tuple[str, int]) -> None:
    found = task_spec(marathon_apps.read({"id": "/group/web", **more}))
    assert found.network is network
    assert [(given.name, given.number) for given in found.ports] == [port]
    assert (found.name, found.prefix) == ("web.group", "group_web")


@pytest.mark.parametrize(
    ("protocol", "check"),
    [("MESOS_HTTP", Check.HTTP), ("MESOS_TCP", Check.TCP), ("COMMAND", Check.COMMAND), ("HTTP", Check.NONE)],
)
def test_only_mesos_checks_are_mesos(protocol: str, check: Check) -> None:
    found = task_spec(marathon_apps.read({"id": "/a", "healthChecks": [{"protocol": protocol}]}))
    assert found.check is check


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ({"id": "web"}, "'web'"),
        ({"id": "/"}, "absolute"),
        ({"id": "/web", "instances": -1}, "-1"),
        ({"id": "/web", "instances": "two"}, "instances"),
        ({"id": "/web", "labels": {"a": 1}}, "labels"),
        ({"instances": 1}, "id"),
    ],
)
def test_bad_definitions_name_the_key(raw: dict[str, object], names: str) -> None:
    with pytest.raises(BadApp, match=names):
        marathon_apps.read(raw)


def test_service_ports_are_given_where_there_are_none() -> None:
    raw = {"id": "/a", "portDefinitions": [{"port": 0}, {"port": 12345}, {}]}
    found = with_service_ports(raw, [10000, 10001])
    assert service_ports(marathon_apps.read(found)) == (10000, 12345, 10001)
    assert raw["portDefinitions"] == [{"port": 0}, {"port": 12345}, {}]
    mapped = {"id": "/a", "networks": [{"mode": "container"}], "container": MAPPED}
    assert service_ports(marathon_apps.read(with_service_ports(mapped, [10007]))) == (10007,)
    assert service_ports(marathon_apps.read(with_service_ports({"id": "/a"}, [10009]))) == (10009,)


def test_stamp() -> None:
    assert marathon_apps.stamp(1_767_225_600.25) == "2026-01-01T00:00:00.250Z"
