"""What happens to a request, and the sentences that say why."""

from __future__ import annotations

import pytest

from lb7.config import L7Config
from lb7.resolve import Request, Resolution, explain, find_host, first, listeners_at, resolve
from lb7.table import (
    AuthRule,
    Cluster,
    HostRules,
    Listener,
    PathPrefix,
    RedirectRule,
    RouteRule,
    RouteTable,
    Server,
)
from tests.fakes.marathon_apps import app, table_of, tasks

SECRET = AuthRule((PathPrefix("/secret"),), "R", (("bob", "h"),))
UP = Server("10.0.0.1:1", "10.0.0.1", 1)
TABLE = RouteTable(
    {
        "http": Listener("http", "http", (":80", "10.0.0.9:81")),
        "app_id": Listener("app_id", "app_id", ("127.0.0.1:9091",), by="app_id"),
        "port:9": Listener("port:9", "port:9", (":9",), "tcp", "none", "/tcp:9"),
        "port:8": Listener("port:8", "port:8", (":8",), by="none"),
    },
    {
        ("http", "a.b"): HostRules(
            (SECRET,),
            (RedirectRule((PathPrefix("/go"),), https=True), RedirectRule(location="/start", only_path="/")),
            (
                RouteRule((PathPrefix("/x"),), "/x:1"),
                RouteRule((PathPrefix("/lost"),), "/lost:1"),
                RouteRule((), "/a:1"),
            ),
        ),
        ("http", "*.b"): HostRules(routes=(RouteRule((), "/wild:1"),)),
        ("app_id", "/a"): HostRules(routes=(RouteRule((), "/a:1"),)),
        ("port:8", ""): HostRules(routes=(RouteRule((), "/a:1"),)),
    },
    {
        "/a:1": Cluster("/a:1", "/a", 1, (UP, Server("10.0.0.2:1", "10.0.0.2", 1, draining=True))),
        "/x:1": Cluster("/x:1", "/x", 1, (UP,), allow=("10.0.0.0/8",)),
        "/wild:1": Cluster("/wild:1", "/wild", 1),
        "/tcp:9": Cluster("/tcp:9", "/tcp", 9, (UP,), mode="tcp", allow=("10.0.0.0/8",)),
    },
)


def at(listener: str, **request: str) -> Resolution:
    return resolve(TABLE, TABLE.listeners[listener], Request(**request))


def test_who_listens() -> None:
    assert [found.name for found in listeners_at(TABLE, 80)] == ["http"]
    assert [found.name for found in listeners_at(TABLE, 81, "10.0.0.9")] == ["http"]
    assert listeners_at(TABLE, 81, "10.0.0.8") == []
    assert listeners_at(TABLE, 82) == []
    assert [found.name for found in listeners_at(TABLE, 9091)] == ["app_id"]


def test_who_listens_at_an_address_alone_goes_before_all_others() -> None:
    names = ("port:5", "port:5#2", "port:5#3")
    addresses = (":5", "127.0.0.1:5", "[::1]:5")
    listeners = {n: Listener(n, n, (a,), "tcp", "none", "/x") for n, a in zip(names, addresses, strict=True)}
    table = RouteTable(listeners)
    assert [found.name for found in listeners_at(table, 5)] == list(names)
    assert [found.name for found in listeners_at(table, 5, "127.0.0.1")] == ["port:5#2"]
    assert [found.name for found in listeners_at(table, 5, "::1")] == ["port:5#3"]
    assert [found.name for found in listeners_at(table, 5, "10.0.0.1")] == ["port:5"]


def test_a_cluster_that_sends_the_root_on() -> None:
    name, listener = "/r:1", Listener("app_id", "app_id", (":9091",), by="app_id")
    cluster = Cluster(name, "/r", 1, (UP,), allow=("10.0.0.0/8",), root_redirect="/s", root_redirect_hosts=("a.b",))
    table = RouteTable({}, {("app_id", "/r"): HostRules(routes=(RouteRule((), name),))}, {name: cluster})

    def asked(host: str, path: str = "/", client: str = "10.0.0.1") -> tuple[str, str]:
        request = Request(host=host, path=path, app_id="/r", client=client)
        found = resolve(table, listener, request, compat=True)
        return found.action, found.location

    assert asked("A.b") == ("redirect", "/s")
    assert asked("A.b", client="1.2.3.4") == ("deny", "")
    assert asked("A.b", "/x") == asked("other") == asked("a.b:80") == ("proxy", "")


@pytest.mark.parametrize(
    ("path", "action", "more"),
    [
        ("/other", "proxy", "/a:1"),
        ("/xy", "proxy", "/a:1"),
        ("/secret/1", "auth", "R"),
        ("/go/on", "redirect", "https://A.b/go/on"),
        ("/", "redirect", "/start"),
        ("/lost", "unavailable", ""),
        ("/secret/../x", "ambiguous", ""),
    ],
)
def test_what_happens(path: str, action: str, more: str) -> None:
    found = at("http", host="A.b:80", path=path)
    assert found.action == action
    assert more in (found.cluster, found.realm, found.location)
    assert found.host == "a.b"


def test_servers_that_are_drained_or_down_get_nothing_new() -> None:
    assert at("http", host="a.b", path="/other").servers == ("10.0.0.1:1",)


def test_the_right_password_passes() -> None:
    asked = []

    def passes(rule: AuthRule) -> bool:
        asked.append(rule)
        return True

    request = Request(host="a.b", path="/secret")
    assert resolve(TABLE, TABLE.listeners["http"], request, passes=passes).action == "proxy"
    assert asked == [SECRET]


def test_a_redirect_keeps_the_query() -> None:
    assert at("http", host="a.b", path="/go", target="/go?x=1").location == "https://a.b/go?x=1"


def test_allowed_networks() -> None:
    assert at("http", host="a.b", path="/x", client="10.1.1.1").action == "proxy"
    assert at("http", host="a.b", path="/x", client="11.1.1.1").action == "deny"
    assert at("port:9", client="10.1.1.1").action == "proxy"
    assert at("port:9", client="11.1.1.1").action == "reset"


def test_other_ways_to_a_host() -> None:
    assert at("http", host="x.b").action == "unavailable"
    assert at("http", host="x.b").cluster == "/wild:1"
    assert at("http", host="c").host is None
    assert at("app_id", app_id="/A").cluster == "/a:1"
    assert at("port:8", host="whatever").cluster == "/a:1"


def test_a_cluster_that_is_missing() -> None:
    lost = Listener("port:7", "port:7", (":7",), "tcp", "none", "/none:7")
    assert resolve(TABLE, lost, Request()).action == "unavailable"


def test_it_says_why() -> None:
    assert at("http", host="a.b", path="/x/y").steps == (
        "'a.b' goes by 'a.b' in http",
        "route 1 of 3 (/x): to /x:1",
    )
    assert at("http", host="q.b").steps[0] == "'q.b' goes by '*.b' in http"
    assert at("http", host="a.b", path="/secret").steps[1] == "auth 1 of 1 (/secret): a password for 'R'"
    assert at("http", host="a.b").steps[1] == "redirect 2 of 2 (/): to /start"
    assert at("http", host="c").steps == ("no rule for 'c' in http",)
    assert at("http", host="a.b", path="/x", client="11.1.1.1").steps[-1] == "11.1.1.1 is in none of 10.0.0.0/8"


def test_explaining_asks_every_listener_that_goes_by_hosts() -> None:
    of = app("/web", {"0_VHOST": "a.b", "0_REDIRECT_TO_HTTPS": "true"})
    found = explain(table_of(of, *tasks(of)), "a.b", "/x")
    assert [(one.listener, one.action, one.location, one.cluster) for one in found] == [
        ("http", "redirect", "https://a.b/x", ""),
        ("https", "proxy", "", "/web:10000"),
    ]
    compat = table_of(of, *tasks(of), config=L7Config(compat="marathon-lb"))
    assert [one.action for one in explain(compat, "a.b", compat=True)] == ["redirect", "proxy"]


def test_hosts_in_marathon_lbs_rules() -> None:
    hosts = {("http", "a.b"): HostRules(), ("http", "c:"): HostRules(), ("http", "c"): HostRules()}
    table = RouteTable({}, hosts, {})

    def found(asked: str, case: bool = False) -> str | None:
        return find_host(table, "http", asked, exact=True, exact_case=case)

    assert (found("A.B"), found("a.b:80"), found("a.b.")) == ("a.b", None, None)
    assert (found("c"), found("C:80"), found("C")) == ("c", "c:", "c")
    assert (found("A.B", True), found("a.b", True), found("C", True)) == (None, "a.b", "c:")
    assert find_host(table, "http", "A.b.:80", exact=False) == "a.b"


def test_rules_for_one_path_alone() -> None:
    rules = (RedirectRule((PathPrefix("/x"),), location="/y", only_path="/x"), RedirectRule())
    assert first(rules, "/x", False) is rules[0]
    assert first(rules, "/x/y", False) is rules[1]
    assert first(rules, "//x", False) is rules[0]
    assert first(rules, "//x", True) is rules[1]
