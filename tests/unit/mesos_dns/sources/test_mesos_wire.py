"""The meaning of the shapes that v1 and /state share."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.model import Health, Network, Port, PortMapping
from mesos_dns.sources import mesos_wire as wire


def status(text: str) -> wire.WireStatus:
    return msgspec.json.decode(text, type=wire.WireStatus)


@pytest.mark.parametrize(
    ("pid", "expected"),
    [
        ("slave(1)@10.0.0.1:5051", ("10.0.0.1", 5051)),
        ("scheduler-2f@host.example:0", ("host.example", 0)),
        ("master@[fd00::1]:5050", ("fd00::1", 5050)),
        ("@10.0.0.1:1", ("10.0.0.1", 1)),
        ("", None),
        ("slave(1)@10.0.0.1", None),
        ("10.0.0.1:5051", None),
        ("a@b:99999", None),
        ("a@b:1:2", None),
        ("a@b@c:1", None),
        ("a@:5", None),
        ("a@b:-1", None),
        ("a@b:1\n", None),
    ],
)
def test_pid_address(pid: str, expected: tuple[str, int] | None) -> None:
    assert wire.pid_address(pid) == expected


def test_newest_running_status() -> None:
    statuses = [
        status('{"state":"TASK_RUNNING","timestamp":2,"healthy":true}'),
        status('{"state":"TASK_RUNNING","timestamp":2,"healthy":false}'),
        status('{"state":"TASK_RUNNING","timestamp":1}'),
        status('{"state":"TASK_KILLING","timestamp":9}'),
    ]
    assert wire.newest_running(statuses) is statuses[0], "of several with one timestamp the first"
    assert wire.newest_running(reversed(statuses)) is statuses[1]
    assert wire.newest_running([]) is None
    assert wire.newest_running(statuses[3:]) is None


@pytest.mark.parametrize(
    ("statuses", "checked", "expected"),
    [
        ([], False, Health.NONE),
        ([], True, Health.PENDING),
        (['{"state":"TASK_RUNNING"}'], True, Health.PENDING),
        (['{"state":"TASK_RUNNING","healthy":true}'], False, Health.HEALTHY),
        (['{"state":"TASK_RUNNING","healthy":false}'], True, Health.UNHEALTHY),
        (
            ['{"state":"TASK_RUNNING","healthy":true,"timestamp":1}', '{"state":"TASK_KILLING","timestamp":2}'],
            True,
            Health.HEALTHY,
        ),
        (
            [
                '{"state":"TASK_RUNNING","healthy":false,"timestamp":3}',
                '{"state":"TASK_STARTING","healthy":true,"timestamp":1}',
            ],
            True,
            Health.UNHEALTHY,
        ),
    ],
)
def test_health(statuses: list[str], checked: bool, expected: Health) -> None:
    assert wire.health_of([status(text) for text in statuses], checked=checked) is expected


def test_networks_of_both_forms() -> None:
    found = wire.networks_of(
        status(
            '{"state":"TASK_RUNNING","container_status":{"network_infos":['
            '{"name":"dcos","ip_addresses":[{"ip_address":"9.0.0.1"},{"protocol":"IPv4"},{"ip_address":"FD00::0:1"}]},'
            '{"ip_address":"10.0.0.9"},{"ip_addresses":[{"ip_address":"nonsense"},{"ip_address":"::ffff:1.2.3.4"}]},'
            '{"name":"asked"}]}}'
        )
    )
    assert found == (
        Network("dcos", ("9.0.0.1", "fd00::1")),
        Network("", ("10.0.0.9",)),
        Network("", ("1.2.3.4",)),
        Network("asked", ()),
    )
    assert wire.networks_of(status('{"state":"TASK_RUNNING"}')) == ()


def test_label_addresses() -> None:
    labels = (
        '[{"key":"Docker.NetworkSettings.IPAddress","value":"172.17.0.2"},{"key":"other","value":"1.1.1.1"},'
        '{"key":"MesosContainerizer.NetworkSettings.IPAddress","value":"172.18.0.2"},'
        '{"key":"Docker.NetworkSettings.IPAddress","value":"x"}]'
    )
    expected = (("docker", "172.17.0.2"), ("mesos", "172.18.0.2"))
    assert wire.label_addresses_of(status(f'{{"state":"TASK_RUNNING","labels":{labels}}}')) == expected
    assert wire.label_addresses_of(status(f'{{"state":"TASK_RUNNING","labels":{{"labels":{labels}}}}}')) == expected


def test_labels_and_ports() -> None:
    discovery = msgspec.json.decode(
        '{"ports":{"ports":[{"number":80,"name":"http","labels":{"labels":[{"key":"VIP_0","value":"/x:80"},{"key":"e"}]}},'
        '{"number":0}]}}',
        type=wire.WireDiscovery,
    )
    assert wire.ports_of(discovery) == (Port(80, "http", "", (("VIP_0", "/x:80"), ("e", ""))), Port(0))
    assert wire.labels_of(None) == ()
    assert wire.ports_of(wire.WireDiscovery()) == ()


def test_port_mappings_and_runtime() -> None:
    container = msgspec.json.decode(
        '{"type":"DOCKER","docker":{"port_mappings":[{"host_port":1,"container_port":2,"protocol":"udp"}]},'
        '"network_infos":[{"port_mappings":[{"host_port":3,"container_port":4}]}]}',
        type=wire.WireContainer,
    )
    assert wire.mappings_of(container) == (PortMapping(1, 2, "udp"), PortMapping(3, 4, "tcp"))
    status = msgspec.json.decode(
        '{"state":"TASK_RUNNING","container_status":{"network_infos":'
        '[{"port_mappings":[{"host_port":5,"container_port":6},{"host_port":3,"container_port":4}]}]}}',
        type=wire.WireStatus,
    )
    # Each container of a pod has the pod's mappings in its status alone.
    assert wire.mappings_of(None, status) == (PortMapping(5, 6, "tcp"), PortMapping(3, 4, "tcp"))
    assert wire.mappings_of(container, status)[2:] == (PortMapping(5, 6, "tcp"),)
    assert wire.runtime_of(container) == "docker"
    assert wire.runtime_of(wire.WireContainer(type="MESOS")) == wire.runtime_of(None) == "mesos"


@given(st.lists(st.tuples(st.integers(-5, 70000), st.integers(-5, 70000)), max_size=6))
def test_ranges(ranges: list[tuple[int, int]]) -> None:
    every = [number for begin, end in ranges for number in range(begin, end + 1)]
    good = [number for number in every if 0 <= number <= 65535]
    ports, lost = wire.expand_ranges(ranges)
    assert list(ports) == good[: wire.MAX_HOST_PORTS]
    assert lost == len(every) - len(ports)


def test_huge_ranges_cost_nothing() -> None:
    ports, lost = wire.expand_ranges([(0, 1 << 62)])
    assert len(ports) == wire.MAX_HOST_PORTS
    assert lost == (1 << 62) + 1 - len(ports)


def test_an_agent_is_at_its_pid_else_at_its_host_name() -> None:
    assert wire.agent_seen("A", "name", "slave(1)@10.0.0.1:5", 7, None) == wire.AgentSeen("A", "name", "10.0.0.1", 5)
    assert wire.agent_seen("A", "name", None, 7, True) == wire.AgentSeen("A", "name", "name", 7, True)
    assert wire.agent_seen("A", None, "", None, None) == wire.AgentSeen("A", "", "", 0)
