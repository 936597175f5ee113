"""Rules as rows, and what a request meets."""

from __future__ import annotations

import pytest
from msgspec import structs

from lb7.api_rows import Servers, bare_name, explanations, rules_of, servers_of, tcp_rule
from lb7.api_shapes import ExplanationRow, RoutePathRow
from lb7.config import L7Config
from lb7.table import Cluster, Listener, Server
from mesos_dns.model import Entity
from tests.fakes.marathon_apps import app, tasks, view_of

HASH = "$5$salt$hash"
ROOT = app("/root", {"0_VHOST": "a.example.com", "0_REDIRECT_TO_HTTPS": "true"})
API = app("/api", {"0_VHOST": "a.example.com", "0_PATH": "/api", "0_AUTH": f"realm:ann:{HASH}"}, ports=(10001,))
DEEP = app("/deep", {"0_VHOST": "a.example.com", "0_PATH": "/api/v2"}, ports=(10002,))
LATE = app("/late", {"0_VHOST": "a.example.com", "0_PATH": "/api"}, ports=(10003,), changed=9.0)
ALL = (ROOT, API, DEEP, LATE)
ENTITIES: tuple[Entity, ...] = (*ALL, *(task for each in ALL for task in tasks(each)))


def explained(path: str, listener: str = "http", compat: bool = False) -> ExplanationRow:
    view = view_of(L7Config(compat="marathon-lb" if compat else ""), *ENTITIES)
    found = explanations(view.table, "A.example.com:80", path, view.problems, compat=compat)
    return {row.listener: row for row, _ in found}[listener]


def test_rules_of_a_host() -> None:
    table = view_of(None, *ENTITIES).table
    rules = list(rules_of(table, ("http", "a.example.com")))
    told = [(rule.row.kind, [path.prefix for path in rule.row.paths], rule.cluster) for rule in rules]
    assert told == [
        ("auth", ["/api/v2"], ""),
        ("auth", ["/api"], ""),
        ("redirect", ["/api/v2"], ""),
        ("redirect", ["/api"], ""),
        ("redirect", [], ""),
        ("route", ["/api/v2"], "/deep:10002"),
        ("route", ["/api"], "/api:10001"),
        ("route", [], "/root:10000"),
    ]
    assert (rules[1].row.realm, rules[1].row.users) == ("realm", ["ann"])
    assert rules[4].row.to == "https"
    assert (rules[6].row.app, rules[6].row.port) == ("/api", 10001)
    assert HASH not in repr(rules)


def test_rules_for_a_path() -> None:
    table = view_of(None, *ENTITIES).table
    found = [rule.cluster for rule in rules_of(table, ("https", "a.example.com"), "/api/x") if rule.cluster]
    assert found == ["/api:10001", "/root:10000"]
    assert [rule.cluster for rule in rules_of(table, ("https", "a.example.com"), "/apix") if rule.cluster] == [
        "/root:10000"
    ]


def test_the_redirect_of_one_path() -> None:
    shop = app("/shop", {"0_VHOST": "s.example.com", "0_HTTP_BACKEND_REDIR": "/welcome"})
    rules = list(rules_of(view_of(None, shop, *tasks(shop)).table, ("https", "s.example.com")))
    assert (rules[0].row.paths, rules[0].row.to) == ([RoutePathRow("/")], "/welcome")


def test_a_tcp_listener() -> None:
    rule = tcp_rule(Listener("port:1", "port:1", (":1",), "tcp", "none", "/db:1"), Cluster("/db:1", "/db", 1))
    assert (rule.row.kind, rule.row.table, rule.row.app, rule.row.port, rule.cluster) == (
        *("tcp", "port:1", "/db"),
        *(1, "/db:1"),
    )


def test_states_of_servers() -> None:
    servers = (
        Server("a:1", "a", 1),
        Server("b:1", "b", 1, down=True),
        Server("c:1", "c", 1, draining=True, weight=0),
        Server("d:1", "d", 1, task="t"),
    )
    told: Servers = {
        "/x:1": [
            {"id": "d:1", "state": "ejected", "active": 3, "failures": 5, "whole": 1},
            {"id": "b:1", "state": "up"},
        ]
    }
    rows = servers_of(Cluster("/x:1", "/x", 1, servers), told)
    assert [(row.address, row.state, row.weight, row.active) for row in rows] == [
        ("a:1", "up", 1, 0),
        ("b:1", "down", 1, 0),
        ("c:1", "draining", 0, 0),
        ("d:1", "ejected", 1, 3),
    ]
    assert rows[3].task == "t"
    assert rows[3].failures == 5
    assert [row.counted for row in rows] == [False, False, False, True]


def test_the_longest_path_and_what_lost() -> None:
    row = explained("/api/v2/x", "https")
    assert (row.action, row.app, row.port, row.host) == ("proxy", "/deep", 10002, "a.example.com")
    assert any("/deep:10002" in step for step in row.steps)
    lost = [(each.app, each.reason) for each in row.lost]
    assert lost[:2] == [
        ("/api", "fits as well, and another path fits further"),
        ("/root", "fits as well, and another path fits further"),
    ]
    assert lost[2][0] == "/late"
    assert lost[2][1].startswith("route-conflict: a.example.com/api is served by /api:10001")


def test_in_marathon_lbs_order() -> None:
    row = explained("/api/v2/x", "https", compat=True)
    assert row.action == "auth"
    assert ("/deep", "comes later in the order of rules") in [(each.app, each.reason) for each in row.lost]


def test_a_password_and_what_comes_then() -> None:
    row = explained("/api", "https")
    assert (row.action, row.then, row.realm, row.app) == ("auth", "proxy", "realm", "/api")


def test_a_redirect() -> None:
    row = explained("/x")
    assert (row.action, row.location) == ("redirect", "https://A.example.com/x")


def test_a_host_that_nobody_has() -> None:
    view = view_of(None, *ENTITIES)
    (row, cluster), *_ = explanations(view.table, "nobody.example.com", "/", view.problems)
    assert (row.action, row.app, row.lost, cluster) == ("unavailable", "", [], "")
    assert row.steps == ["no rule for 'nobody.example.com' in http"]


def test_servers_that_checks_have_down() -> None:
    view = view_of(None, *ENTITIES)

    def marked(cluster: Cluster) -> Cluster:
        return structs.replace(cluster, servers=tuple(structs.replace(s, down=True) for s in cluster.servers))

    found = explanations(view.table, "a.example.com", "/api/v2", view.problems, marked=marked)
    rows = {row.listener: row for row, _ in found}
    assert rows["https"].action == "unavailable"
    assert rows["https"].app == "/deep"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A.example.com", "a.example.com"),
        ("a.example.com:8080", "a.example.com"),
        ("a.example.com.", "a.example.com"),
        ("[FD00::1]:80", "[fd00::1]"),
        ("[fd00::1]", "[fd00::1]"),
        ("10.0.0.1:80", "10.0.0.1"),
        ("", ""),
    ],
)
def test_names_of_hosts(text: str, name: str) -> None:
    assert bare_name(text) == name
