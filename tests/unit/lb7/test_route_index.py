"""Who asks for what, and exactly what has to be made anew when that changes."""

from __future__ import annotations

from typing import TypeAlias

from lb7.claims import Claim, Listened
from lb7.config import L7Config
from lb7.labels import read_app
from lb7.port_spec import UnitKey
from lb7.route_index import RouteIndex
from lb7.table import HostKey
from tests.fakes.marathon_apps import app

Dirty: TypeAlias = tuple[set[HostKey], set[int]]


def claims(name: str, vhost: str, config: L7Config, **labels: str) -> list[Claim]:
    named = {f"0_{key}": value for key, value in ({"VHOST": vhost} | labels).items() if value}
    of = app(name, named, ports=(10000, 10001))
    unit = UnitKey(of.cluster, of.framework_id, of.id)
    return [Claim(spec, f"{name}:{spec.port}") for spec in read_app(of, config, unit).ports]


class Index:
    """An index over plain HTTP, and what it leaves to be made anew."""

    def __init__(self, config: L7Config | None = None) -> None:
        self.config = config or L7Config()
        self.index = RouteIndex(self.config, Listened(https=False), (":80",))

    def set(self, name: str, vhost: str, **labels: str) -> Dirty:
        found = claims(name, vhost, self.config, **labels)
        return self._after(found[0].spec.key.unit, found)

    def drop(self, name: str) -> Dirty:
        return self._after(claims(name, "", self.config)[0].spec.key.unit, [])

    def _after(self, unit: UnitKey, found: list[Claim]) -> Dirty:
        self.index.set_unit(unit, found)
        dirty = set(self.index.dirty_hosts), set(self.index.dirty_ports)
        self.index.dirty_hosts.clear()
        self.index.dirty_ports.clear()
        return dirty

    def cluster(self, host: str, table: str = "http") -> str:
        rules = self.index.host((table, host)).rules
        return rules.routes[0].cluster if rules is not None else ""


def test_an_app_is_asked_for_by_host_by_id_and_at_its_ports() -> None:
    index = Index()
    assert index.set("/A", "x.y") == ({("http", "x.y"), ("app_id", "/a")}, {10000, 10001})
    assert index.cluster("x.y") == "/A:10000"
    assert index.cluster("/a", "app_id") == "/A:10000"
    assert index.index.port(10000).hosts["port:10000", ""].routes[0].cluster == "/A:10000"
    assert index.index.port(10001).listeners["port:10001"].name == "port:10001"


def test_what_did_not_change_is_left_alone() -> None:
    index = Index()
    index.set("/a", "x.y")
    assert index.set("/a", "x.y") == (set(), set())
    assert index.set("/a", "x.z") == ({("http", "x.y"), ("http", "x.z"), ("app_id", "/a")}, {10000})


def test_what_is_gone_is_made_anew_too() -> None:
    index = Index()
    index.set("/a", "x.y")
    assert index.drop("/a") == ({("http", "x.y"), ("app_id", "/a")}, {10000, 10001})
    assert index.index.host(("http", "x.y")).rules is None
    assert index.index.port(10000).listeners == {}
    assert index.drop("/a") == (set(), set())


def clusters(index: Index, host: str) -> list[str]:
    rules = index.index.host(("http", host)).rules
    return [rule.cluster for rule in rules.routes] if rules is not None else []


def test_a_wildcard_bears_on_no_other_host() -> None:
    index = Index()
    index.set("/a", "a.x.y", PATH="/a")
    dirty, _ = index.set("/wild", "*.x.y")
    assert dirty == {("http", "*.x.y"), ("app_id", "/wild")}
    assert clusters(index, "a.x.y") == ["/a:10000"]
    dirty, _ = index.set("/all", "*")
    assert dirty == {("http", ""), ("app_id", "/all")}


def test_names_below_a_host_bear_on_hosts_below_it_at_marathon_lb() -> None:
    index = Index(L7Config(compat="marathon-lb"))
    index.set("/a", "a.x.y", PATH="/a")
    index.set("/b", "z", PATH="/b")
    below = "acl x hdr_end(host) -i {hostname}\nuse_backend {backend} if x"
    dirty, _ = index.set("/wild", "x.y", HTTP_FRONTEND_ACL=below)
    assert dirty == {("http", "x.y"), ("http", "*.x.y"), ("http", "a.x.y"), ("app_id", "/wild")}
    assert clusters(index, "a.x.y") == ["/a:10000", "/wild:10000"]
    dirty, _ = index.drop("/wild")
    assert ("http", "a.x.y") in dirty
    assert clusters(index, "a.x.y") == ["/a:10000"]


def test_the_app_id_is_that_of_the_first_port_that_speaks_http() -> None:
    index = Index()
    index.set("/a", "", MODE="tcp", PATH="")
    assert index.cluster("/a", "app_id") == ""
    config = L7Config()
    of = app("/b", {"1_VHOST": "x.y", "0_MODE": "tcp"}, ports=(2, 1))
    unit = UnitKey(of.cluster, of.framework_id, of.id)
    found = [Claim(spec, f"/b:{spec.port}") for spec in read_app(of, config, unit).ports]
    index.index.set_unit(unit, found)
    assert index.cluster("/b", "app_id") == "/b:1"


def test_marathon_lbs_rules() -> None:
    index = Index(L7Config(compat="marathon-lb", haproxy_map=True))
    dirty, _ = index.set("/A", "x.y")
    assert dirty == {("http", "x.y"), ("http", "x.y:")}
    index.set("/b", "x.y", PATH="/b", BACKEND_WEIGHT="2")
    assert index.cluster("x.y") == "/b:10000"
    assert index.cluster("x.y:") == "/A:10000"


def test_service_ports_can_be_off() -> None:
    assert Index(L7Config(service_ports=False)).set("/a", "x.y")[1] == set()
