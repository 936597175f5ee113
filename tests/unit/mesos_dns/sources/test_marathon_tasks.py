"""Tasks as Mesos would tell them, of what Marathon tells."""

from __future__ import annotations

import pytest

from mesos_dns.model import App, AppPort, Health, HealthOverlay, Network, Port
from mesos_dns.sources.marathon_tasks import mesos_name, task_of

HTTP = AppPort(10000, 80, 0, "http", "tcp", (("VIP_0", "/web:80"),))
OVERLAY = HealthOverlay(
    "F1",
    "shop_web.instance-1._app.1",
    health=Health.UNHEALTHY,
    ports=(31000,),
    app="/shop/web",
    host="a.example",
    host_addresses=("10.0.0.1",),
    addresses=("9.0.0.1", "fd00::1"),
    state="TASK_RUNNING",
    started=7.0,
    cluster="c",
)


@pytest.mark.parametrize(("path", "name"), [("/web", "web"), ("/shop/web", "web.shop"), ("/a/b/c", "c.b.a")])
def test_names(path: str, name: str) -> None:
    assert mesos_name(path) == name


@pytest.mark.parametrize("network", ["host", "bridge"])
def test_on_the_agents_ports(network: str) -> None:
    task = task_of(App("/shop/web", (("k", "v"),), network=network, ports=(HTTP,)), OVERLAY)
    assert (task.framework_id, task.id, task.cluster) == ("F1", OVERLAY.task_id, "c")
    assert (task.name, task.discovery_name, task.node_id) == ("web.shop", "web.shop", "")
    assert (task.state, task.health, task.start_time) == ("TASK_RUNNING", Health.UNHEALTHY, 7.0)
    assert task.labels == (("k", "v"),)
    assert task.networks == (Network("", ("10.0.0.1",)),)
    assert task.host_ports == (31000,)
    assert task.ports == (Port(31000, "http", "tcp", (("VIP_0", "/web:80"), ("network-scope", "host"))),)


def test_in_a_container_network() -> None:
    task = task_of(App("/shop/web", network="container", ports=(HTTP,)), OVERLAY)
    assert task.networks == (Network("", ("9.0.0.1", "fd00::1")),)
    assert task.host_ports == ()
    assert task.ports == (Port(80, "http", "tcp", (("VIP_0", "/web:80"), ("network-scope", "container"))),)


def test_ports_that_the_task_does_not_have_are_left_out() -> None:
    assert len(task_of(App("/shop/web", ports=(HTTP, HTTP)), OVERLAY).ports) == 1


def test_a_pods_task_has_its_containers_name_and_ports() -> None:
    pod = App("/shop/web", kind="pod", ports=(HTTP, AppPort(name="admin")))
    overlay = HealthOverlay("F1", "shop_web.instance-77.side.1", ports=(0, 31001), app="/shop/web")
    task = task_of(pod, overlay)
    assert (task.name, task.discovery_name) == ("side", "web.shop")
    assert [port.name for port in task.ports] == ["admin"]
    assert task.networks == ()
    assert task_of(pod, HealthOverlay("F1", "odd", app="/shop/web")).name == "web.shop"
