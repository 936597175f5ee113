"""Safe rules: hosts, paths, passwords, redirects and service ports of several apps."""

from __future__ import annotations

from lb7.claims import Claim, Listened
from lb7.config import L7Config
from lb7.labels import read_app
from lb7.port_spec import UnitKey
from lb7.safe_rules import app_id_rules, host_keys, host_rules, overlap, port_rules
from lb7.table import (
    AuthRule,
    HostRules,
    Listener,
    PathPrefix,
    RedirectRule,
    RouteRule,
)
from tests.fakes.marathon_apps import app

ALL = Listened()
BOB = AuthRule((), "R", (("bob", "h"),))


def claim(
    name: str,
    path: str = "",
    vhost: str = "a.b",
    changed: float = 1.0,
    port: int = 10000,
    framework: str = "m",
    **labels: str,
) -> Claim:
    named = {f"0_{key}": value for key, value in ({"VHOST": vhost, "PATH": path} | labels).items() if value}
    of = app(name, named, changed=changed, ports=(port,), framework=framework)
    spec = read_app(of, L7Config(), UnitKey(of.cluster, of.framework_id, of.id)).ports[0]
    return Claim(spec, f"{name}:{port}")


def routes(*claims: Claim) -> list[tuple[str, str]]:
    """(path, cluster) of each route."""
    rules = host_rules(("http", "a.b"), claims, ALL).rules
    assert rules is not None
    return [(rule.paths[0].prefix if rule.paths else "", rule.cluster) for rule in rules.routes]


def test_where_a_port_is_looked_for() -> None:
    one = claim("/a", vhost="a.b,*.c")
    tables = [("http", "a.b"), ("http", "*.c"), ("https", "a.b"), ("https", "*.c")]
    assert host_keys(one, ALL) == tables
    assert host_keys(one, Listened(http=False)) == tables[2:]
    assert host_keys(claim("/a", vhost=""), ALL) == []


def test_the_longest_path_comes_first_whatever_the_order_of_apps() -> None:
    claims = [claim("/root"), claim("/api", "/api"), claim("/v2", "/api/v2"), claim("/both", "/x /api/v2/x")]
    expected = [("/api/v2/x", "/both:10000"), ("/api/v2", "/v2:10000"), ("/api", "/api:10000"), ("/x", "/both:10000")]
    for given in (claims, claims[::-1]):
        assert routes(*given) == [*expected, ("", "/root:10000")]


def test_paths_are_of_whole_segments() -> None:
    rules = host_rules(("http", "a.b"), [claim("/a", "-i /x/")], ALL).rules
    assert rules == HostRules(routes=(RouteRule((PathPrefix("/x", True, True),), "/a:10000"),))


def test_of_two_that_ask_for_one_path_the_older_serves() -> None:
    old, new = claim("/z", "/x", changed=1.0), claim("/a", "/x /y", changed=2.0)
    result = host_rules(("http", "a.b"), [new, old], ALL)
    assert routes(new, old) == [("/x", "/z:10000"), ("/y", "/a:10000")]
    assert [(p.app, p.reason, p.text) for p in result.problems] == [
        ("/a", "route-conflict", "a.b/x is served by /z:10000")
    ]


def test_equal_paths_are_equal_in_whatever_form() -> None:
    assert routes(claim("/a", "/x%79"), claim("/b", "/xy")) == [("/x%79", "/a:10000")]
    assert len(routes(claim("/a", "-i /X"), claim("/b", "-i /x"), claim("/c", "/x"))) == 2


def test_then_the_lesser_id_serves() -> None:
    assert routes(claim("/b"), claim("/a")) == [("", "/a:10000")]


def test_a_host_of_both_tables_has_its_problems_once() -> None:
    two = [claim("/a"), claim("/b")]
    assert host_rules(("http", "a.b"), two, ALL).problems
    assert not host_rules(("https", "a.b"), two, ALL).problems
    assert host_rules(("https", "a.b"), two, Listened(http=False)).problems


def test_each_path_has_the_password_of_its_route() -> None:
    open_path = claim("/open", "/secret/open")
    closed = claim("/closed", "/secret", AUTH="R:bob:h")
    rules = host_rules(("http", "a.b"), [open_path, closed, claim("/root")], ALL).rules
    assert rules is not None
    assert rules.auth == (AuthRule((PathPrefix("/secret/open"),)), AuthRule((PathPrefix("/secret"),), "R", BOB.users))


def test_only_a_ports_own_paths_go_to_https_and_only_over_http() -> None:
    claims = [claim("/plain", "/plain"), claim("/root", REDIRECT_TO_HTTPS="true")]
    rules = host_rules(("http", "a.b"), claims, ALL).rules
    assert rules is not None
    assert rules.redirects == (RedirectRule((PathPrefix("/plain"),)), RedirectRule(https=True))
    over_https = host_rules(("https", "a.b"), claims, ALL).rules
    assert over_https is not None
    assert over_https.redirects == ()
    nowhere = host_rules(("http", "a.b"), claims, Listened(https=False))
    assert nowhere.rules is not None
    assert nowhere.rules.redirects == ()
    assert [problem.reason for problem in nowhere.problems] == ["redirect"]


def test_the_root_is_sent_on_by_the_port_that_serves_it() -> None:
    root = claim("/root", HTTP_BACKEND_REDIR="/start")
    rules = host_rules(("http", "a.b"), [root, claim("/x", "/x", HTTP_BACKEND_REDIR="/never")], ALL).rules
    assert rules is not None
    assert rules.redirects == (
        RedirectRule((PathPrefix("/x"),)),
        RedirectRule(location="/start", only_path="/"),
    )


def test_no_claims_no_rules() -> None:
    assert host_rules(("http", "a.b"), [], ALL).rules is None


def test_an_app_id_is_the_older_apps_and_asks_for_its_password() -> None:
    one, other = claim("/a", AUTH="R:bob:h", changed=2.0), claim("/a", changed=3.0, framework="n")
    result = app_id_rules([other, one])
    assert result.rules == HostRules((BOB,), (), (RouteRule((), "/a:10000"),))
    assert [(problem.app, problem.reason) for problem in result.problems] == [("/a", "app-conflict")]
    assert app_id_rules([one]).problems == ()


def test_an_app_id_is_never_a_groups_where_there_is_such_an_app() -> None:
    of = app("/a", {"0_MODE": "http"}, changed=0.5)
    group = UnitKey(of.cluster, of.framework_id, of.id, group=True)
    posing = Claim(read_app(of, L7Config(), group).ports[0], "posing")
    result = app_id_rules([posing, claim("/a", changed=9.0)])
    assert result.rules == HostRules(routes=(RouteRule((), "/a:10000"),))
    assert [problem.reason for problem in result.problems] == ["app-conflict"]
    assert app_id_rules([posing]).rules == HostRules(routes=(RouteRule((), "posing"),))


def test_a_service_port_asks_for_the_password_too() -> None:
    result = port_rules(10000, [claim("/a", AUTH="R:bob:h")], ())
    assert result.listeners == {"port:10000": Listener("port:10000", "port:10000", (":10000",), by="none")}
    assert result.hosts == {("port:10000", ""): HostRules((BOB,), (), (RouteRule((), "/a:10000"),))}


def test_tcp_and_tls_service_ports() -> None:
    tcp = port_rules(10000, [claim("/a", vhost="", MODE="tcp")], ())
    assert tcp.listeners["port:10000"] == Listener("port:10000", "port:10000", (":10000",), "tcp", "none", "/a:10000")
    assert tcp.hosts == {}
    (tls,) = port_rules(10000, [claim("/a", SSL_CERT="a.pem", BIND_ADDR="fd00::1")], ()).listeners.values()
    assert tls.name == tls.table == "port:10000@[fd00::1]"
    assert (tls.tls, tls.cert, tls.addresses, tls.by) == (True, "a.pem", ("[fd00::1]:10000",), "none")


def test_at_a_service_port_the_root_is_sent_on_for_the_virtual_host_alone() -> None:
    result = port_rules(10000, [claim("/a", HTTP_BACKEND_REDIR="/start")], ())
    assert result.listeners["port:10000"].by == "host"
    route = (RouteRule((), "/a:10000"),)
    assert result.hosts == {
        ("port:10000", ""): HostRules(routes=route),
        ("port:10000", "a.b"): HostRules((), (RedirectRule(location="/start", only_path="/"),), route),
    }


def test_of_two_apps_at_one_port_the_older_listens() -> None:
    result = port_rules(10000, [claim("/a", changed=2.0), claim("/b", changed=1.0)], ())
    assert list(result.listeners) == ["port:10000"]
    assert result.hosts["port:10000", ""].routes == (RouteRule((), "/b:10000"),)
    assert [(p.app, p.reason, p.text) for p in result.problems] == [
        ("/a", "port-conflict", "service port :10000 is that of /b")
    ]


def test_two_apps_at_different_addresses_both_listen() -> None:
    """By names that stay the same when the other one goes: clients of one never get to the other."""
    older, younger = claim("/a", BIND_ADDR="10.0.0.1"), claim("/b", BIND_ADDR="10.0.0.2")
    result = port_rules(10000, [older, younger], ())
    assert [(one.name, one.table, one.addresses) for one in result.listeners.values()] == [
        ("port:10000@10.0.0.1", "port:10000@10.0.0.1", ("10.0.0.1:10000",)),
        ("port:10000@10.0.0.2", "port:10000@10.0.0.2", ("10.0.0.2:10000",)),
    ]
    assert not result.problems
    for left in (older, younger):
        alone = port_rules(10000, [left], ())
        assert alone.listeners.items() < result.listeners.items()
        assert alone.hosts.items() < result.hosts.items()


def test_nobody_gets_the_ports_of_http_and_https() -> None:
    result = port_rules(443, [claim("/a", port=443)], (":80", ":443"))
    assert (result.listeners, result.hosts) == ({}, {})
    assert [problem.reason for problem in result.problems] == ["port-conflict"]


def test_addresses_that_have_something_in_common() -> None:
    assert overlap(":80", "10.0.0.1:80")
    assert overlap("0.0.0.0:80", "[::]:80")
    assert overlap("[::1]:80", "[::1]:80")
    assert not overlap(":80", ":81")
    assert not overlap("10.0.0.1:80", "10.0.0.2:80")
