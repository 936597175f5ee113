"""Tasks as servers: addresses, ports, order, cookies."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from msgspec import structs

from lb7.config import L7Config
from lb7.labels import read_app
from lb7.port_spec import PortSpec, UnitKey
from lb7.table import Server
from lb7.task_servers import cluster_of, cookie_of, servers_of, task_address, task_ports
from mesos_dns.model import App, AppPort, HealthOverlay
from tests.fakes.marathon_apps import app, task


def spec_of(of: App, config: L7Config | None = None) -> PortSpec:
    return read_app(of, config or L7Config(), UnitKey(of.cluster, of.framework_id, of.id)).ports[0]


def servers(
    of: App, *tasks: HealthOverlay, draining: Collection[str] = (), **changes: Any
) -> tuple[tuple[Server, ...], int]:
    return servers_of(structs.replace(spec_of(of), **changes), of, tasks, draining)


def ids(found: tuple[tuple[Server, ...], int]) -> list[str]:
    return [server.id for server in found[0]]


def test_a_task_is_at_its_hosts_address_and_port() -> None:
    of = app("/a")
    found, missing = servers(of, task(of, 1, ports=(31005,)))
    assert found == (Server("10.1.0.1:31005", "10.1.0.1", 31005, task="a.1"),)
    assert missing == 0


def test_in_a_container_network_it_is_at_its_own() -> None:
    of = app("/a", network="container")
    one = task(of, 1, ports=(31005,), addresses=("9.0.0.7", "9.0.0.8"))
    assert ids(servers(of, one)) == ["9.0.0.7:8080"]
    assert task_address(of, structs.replace(one, addresses=())) == ""


def test_ports_that_old_marathons_do_not_tell() -> None:
    of = app("/a", ports=(10000, 10001))
    silent = structs.replace(task(of), ports=())
    assert task_ports(of, silent) == (8080, 8081)
    assert task_ports(structs.replace(of, network="host"), silent) == (10000, 10001)
    unmapped = structs.replace(of, network="container", ports=(AppPort(service_port=1),))
    assert task_ports(unmapped, task(of)) == (31000, 31001)


def test_tasks_without_address_or_port_are_left_out_and_counted() -> None:
    of = app("/a", ports=(10000, 10001))
    tasks = [
        task(of, 1),
        structs.replace(task(of, 2), host_addresses=()),
        task(of, 3, ports=(31000,)),
    ]
    found, missing = servers(of, *tasks, indexes=(1,))
    assert ([server.id for server in found], missing) == (["10.1.0.1:31001"], 2)


def test_a_port_that_is_listed_twice_has_both() -> None:
    of = app("/a", ports=(10000, 10001))
    assert ids(servers(of, task(of), indexes=(0, 1))) == ["10.1.0.1:31000", "10.1.0.1:31001"]


def test_the_order_is_that_of_hosts_and_ports() -> None:
    of = app("/a")
    tasks = [
        task(of, n, host=host, ports=(port,))
        for n, host, port in ((1, "10.0.0.2", 9), (2, "10.0.0.2", 8), (3, "10.0.0.1", 9))
    ]
    assert ids(servers(of, *tasks)) == ids(servers(of, *reversed(tasks))) == ["10.0.0.1:9", "10.0.0.2:8", "10.0.0.2:9"]


def test_of_two_at_one_place_the_one_that_started_last_is_there() -> None:
    of = app("/a")
    old, new = task(of, 1, host="10.0.0.1", started=1.0), task(of, 2, host="10.0.0.1", started=2.0)
    for tasks in ((old, new), (new, old)):
        assert [server.task for server in servers(of, *tasks)[0]] == ["a.2"]


def test_weights_draining_and_ipv6() -> None:
    of = app("/a")
    one = structs.replace(task(of), host_addresses=("fd00::1",))
    found, _ = servers(of, one, draining={"a.1"}, weight=7)
    assert found == (Server("[fd00::1]:31000", "fd00::1", 31000, 7, True, task="a.1"),)


def test_the_port_that_is_checked() -> None:
    of = app("/a", ports=(10000, 10001))
    assert servers(of, task(of), check_index=1)[0][0].check_port == 31001
    assert servers(of, task(of), check_index=0)[0][0].check_port == 0
    assert servers(of, task(of), check_index=7)[0][0].check_port == 0
    assert servers(of, task(of), check_port=9000)[0][0].check_port == 9000
    assert servers(of, task(of), check=None, check_port=9000)[0][0].check_port == 0


def test_cookies_are_marathon_lbs() -> None:
    def sha1(name: str) -> str:
        return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:10]

    assert cookie_of("10.1.0.1", "10.1.0.1", 31000) == sha1("10_1_0_1_31000")
    assert cookie_of("agent-1.example", "10.1.0.1", 31000) == sha1("agent-1_example_10_1_0_1_31000")
    of = app("/a", {"0_STICKY": "true"})
    assert servers(of, task(of))[0][0].cookie == cookie_of("10.1.0.1", "10.1.0.1", 31000)


def test_clusters() -> None:
    of = app(
        "/a",
        {
            "0_VHOST": "a.b",
            "0_STICKY": "true",
            "0_USE_HSTS": "true",
            "0_BALANCE": "leastconn",
            "0_BACKEND_NETWORK_ALLOWED_ACL": "10.0.0.0/8",
            "0_HTTP_BACKEND_PROXYPASS_PATH": "/x",
            "0_HTTP_BACKEND_REVPROXY_PATH": "/y",
        },
    )
    cluster = cluster_of(spec_of(of), "/a:10000", ())
    assert (cluster.name, cluster.app, cluster.service_port, cluster.mode) == ("/a:10000", "/a", 10000, "http")
    assert (cluster.balance, cluster.sticky, cluster.allow) == ("leastconn", "mesosphere_server_id", ("10.0.0.0/8",))
    assert (cluster.hsts, cluster.strip_path, cluster.host, cluster.location) == ("max-age=15768000", "/x", "a.b", "/y")
    assert cluster.check is not None


def test_a_pods_container_has_the_endpoints_that_it_says() -> None:
    of = structs.replace(app("/pod", ports=(10000, 10001), network="container"), kind="pod")
    web = structs.replace(task(of, 1), ports=(80, 0), addresses=("9.0.0.7",))
    other = structs.replace(task(of, 2), ports=(0, 9000), addresses=("9.0.0.7",))
    assert task_ports(of, web) == (80, 0)
    assert ids(servers(of, web, other)) == ["9.0.0.7:80"]
    assert ids(servers(of, web, other, indexes=(1,))) == ["9.0.0.7:9000"]
