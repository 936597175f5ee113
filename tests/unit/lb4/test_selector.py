"""Which tasks a VIP of the VIP file takes, and by which port."""

from __future__ import annotations

from typing import Any

import pytest

from lb4.selector import SelectorIndex, app_names, port_for
from lb4.task_backends import PortUse
from lb4.vip import VipKey
from mesos_dns.model import Port, Task, Vip, VipSelector
from tests.fakes.questions import MARATHON, task

PG, STATS = Port(5432, "pg", "tcp", (("role", "db"),)), Port(8080, "stats", "udp")


def port(selector: VipSelector, one: Task, protocol: str = "tcp") -> PortUse | None:
    return port_for(selector, protocol, one, MARATHON)


def fits(selector: VipSelector, **fields: Any) -> bool:
    vip = Vip("db.prod", 80, selector=selector)
    index = SelectorIndex()
    index.add(VipKey("tcp", "db.prod", 80), vip)
    one = task(**fields)
    found = bool(index.candidates(one))
    assert list(index.fitting([(one.key, one)])) == ([one.key] if found else [])
    return found


def test_marathon_reverses_an_apps_path() -> None:
    assert app_names("/prod/db") == {"/prod/db", "db.prod"}
    assert app_names("/a/b/c") == {"/a/b/c", "c.b.a"}
    assert app_names("db") == {"db"}
    assert app_names("/db") == {"/db", "db"}
    assert app_names("/") == {"/"}
    assert app_names("") == set()


def test_apps() -> None:
    assert fits(VipSelector(app="/prod/db"), name="db.prod")
    assert fits(VipSelector(app="db.prod"), name="db.prod")
    assert fits(VipSelector(app="/prod/db"), name="x", discovery_name="db.prod")
    assert fits(VipSelector(app="db"), name="db", discovery_name="other")
    assert not fits(VipSelector(app="/prod/db"), name="prod.db")
    assert not fits(VipSelector(app="/prod/db"), name="db")
    assert not fits(VipSelector(app="/"), name="")


def test_labels() -> None:
    wanted = VipSelector(labels=(("role", "db"), ("tier", "a")))
    assert fits(wanted, labels=(("tier", "a"), ("x", "y"), ("role", "db")))
    assert fits(wanted, labels=(("tier", "a"),), ports=(STATS, PG))
    assert not fits(wanted, labels=(("tier", "a"),), ports=(STATS,))
    assert fits(VipSelector(labels=(("role", "db"),)), ports=(STATS, PG))
    assert not fits(wanted, labels=(("tier", "b"), ("role", "db")))
    assert not fits(wanted, ports=(PG, Port(1, "x", "tcp", (("tier", "a"),)))), "no one port has both"
    assert not fits(VipSelector(app="db", labels=(("a", "b"),)), name="db")


def test_a_selector_of_a_framework_alone_may_fit_any_task() -> None:
    assert fits(VipSelector(framework="marathon"))


def test_frameworks() -> None:
    one = task(ports=(PG,))
    assert port(VipSelector(framework="marathon"), one) == PortUse(5432, "tcp")
    assert port(VipSelector(framework="f-1"), one) == PortUse(5432, "tcp")
    assert port(VipSelector(framework="Marathon"), one) is None


@pytest.mark.parametrize(
    ("wanted", "protocol", "found"),
    [
        ("", "tcp", PortUse(5432, "tcp")),
        ("", "udp", PortUse(8080, "udp")),
        ("pg", "tcp", PortUse(5432, "tcp")),
        ("pg", "udp", None),
        ("stats", "udp", PortUse(8080, "udp")),
        ("5432", "tcp", PortUse(5432, "tcp")),
        ("31001", "tcp", PortUse(31001, "tcp", True)),
        ("31002", "tcp", None),
        ("nope", "tcp", None),
    ],
)
def test_ports(wanted: str, protocol: str, found: PortUse | None) -> None:
    one = task(ports=(PG, STATS), host_ports=(31000, 31001))
    assert port(VipSelector(port=wanted), one, protocol) == found


def test_the_first_port() -> None:
    assert port(VipSelector(), task(host_ports=(31000, 31001))) == PortUse(31000, "tcp", True)
    assert port(VipSelector(), task(host_ports=(0, 31001))) == PortUse(31001, "tcp", True)
    assert port(VipSelector(), task()) is None
    free = Port(53, "dns", "")
    assert port(VipSelector(), task(ports=(free,)), "udp") == PortUse(53, "udp")
    odd = (Port(0, "a", "tcp"), Port(70000, "b", "tcp"), Port(9, "c", "TCP", (("network-scope", "host"),)))
    assert port(VipSelector(), task(ports=odd)) == PortUse(9, "tcp", True)


def test_a_name_is_better_than_a_number() -> None:
    one = task(ports=(Port(80, "a", "tcp"), Port(81, "80", "tcp")))
    assert port(VipSelector(port="80"), one) == PortUse(81, "tcp")


def test_labels_choose_the_port_that_has_what_the_task_lacks() -> None:
    wanted = VipSelector(labels=(("role", "db"),))
    assert port(wanted, task(ports=(Port(1, "x", "tcp"), PG))) == PortUse(5432, "tcp")
    assert port(wanted, task(ports=(Port(1, "x", "tcp"), PG), labels=(("role", "db"),))) == PortUse(1, "tcp")
    assert port(wanted, task(ports=(PG,), host_ports=(31000,)), "udp") is None


def test_the_index_finds_each_vip_once_and_forgets() -> None:
    index = SelectorIndex()
    assert not index
    selectors = (
        VipSelector(app="/prod/db"),
        VipSelector(app="db.prod"),
        VipSelector(app="other"),
        VipSelector(labels=(("a", "b"),)),
        VipSelector(framework="marathon"),
    )
    vips = [Vip(f"v{number}", 80, selector=selector) for number, selector in enumerate(selectors)]
    for vip in vips:
        index.add(VipKey("tcp", vip.target, 80), vip)
    index.add(VipKey("tcp", "plain", 80), Vip("plain", 80))
    one = task(name="db.prod", discovery_name="other", labels=(("a", "b"),))
    assert sorted(chosen.key.name for chosen in index.candidates(one)) == ["v0", "v1", "v2", "v3", "v4"]
    same = task(name="db.prod", discovery_name="db.prod")
    assert sorted(chosen.key.name for chosen in index.candidates(same)) == ["v0", "v1", "v4"]
    index.remove(Vip("plain", 80))
    for vip in vips:
        assert index
        index.remove(vip)
        index.remove(vip)
    assert not index
    assert index.candidates(one) == []
    assert list(index.fitting([(one.key, one)])) == []
