"""marathon-lb's rules: what the recordings (tests/conversation/test_marathon_lb_truth.py) do not say alone."""

from __future__ import annotations

from lb7.claims import Claim, Listened
from lb7.compat_rules import app_id_key, app_id_rules, host_keys, host_rules, port_rules
from lb7.config import L7Config
from lb7.labels import read_app
from lb7.port_spec import UnitKey
from lb7.table import AuthRule, HostRules, PathPrefix, RedirectRule, RouteRule
from lb7.task_servers import cluster_of
from tests.fakes.marathon_apps import app

ALL = Listened()
PLAIN = L7Config(compat="marathon-lb")
MAPPED = L7Config(compat="marathon-lb", haproxy_map=True)
USERS = (("bob", "h"),)


def claims(name: str, labels: dict[str, str], *ports: int) -> list[Claim]:
    of = app(name, labels, ports=ports or (10000,))
    specs = read_app(of, PLAIN, UnitKey(of.cluster, of.framework_id, of.id)).ports
    return [Claim(spec, f"{name}:{spec.port}") for spec in specs]


def claim(name: str, path: str = "", vhost: str = "a.b", port: int = 10000, **labels: str) -> Claim:
    named = {f"0_{key}": value for key, value in ({"VHOST": vhost, "PATH": path} | labels).items() if value}
    return claims(name, named, port)[0]


def rules(*given: Claim, table: str = "http", host: str = "a.b", config: L7Config = PLAIN) -> HostRules:
    found = host_rules((table, host), given, config).rules
    assert found is not None
    return found


def prefix(path: str) -> tuple[PathPrefix, ...]:
    return (PathPrefix(path, whole=False),)


def clusters(found: HostRules) -> list[str]:
    return [rule.cluster for rule in found.routes]


def test_the_order_is_by_weight_then_app_then_service_port() -> None:
    given = [
        claim("/c", port=3),
        claim("/b", port=2),
        claim("/b", port=1),
        claim("/z", "/x"),
        claim("/y", BACKEND_WEIGHT="5"),
        claim("/a", BACKEND_WEIGHT="-1"),
    ]
    for order in (given, given[::-1]):
        assert clusters(rules(*order)) == ["/y:10000", "/z:10000", "/b:1", "/b:2", "/c:3", "/a:10000"]


def test_passwords_then_redirects_then_routes() -> None:
    given = [
        claim("/auth", "/x", AUTH="R:bob:h"),
        claim("/to-https", "/y", REDIRECT_TO_HTTPS="true", AUTH="S:bob:h"),
        claim("/root"),
    ]
    over_http = rules(*given)
    assert over_http.auth == (AuthRule(prefix("/x"), "R", USERS),)
    assert over_http.redirects == (RedirectRule(prefix("/y"), https=True),)
    assert clusters(over_http) == ["/auth:10000", "/root:10000"]
    over_https = rules(*given, table="https")
    assert over_https.auth == (AuthRule(prefix("/x"), "R", USERS), AuthRule(prefix("/y"), "S", USERS))
    assert over_https.redirects == ()
    assert clusters(over_https) == ["/auth:10000", "/to-https:10000", "/root:10000"]


def test_a_redirect_of_a_host_takes_all_its_paths() -> None:
    found = rules(claim("/plain", "/plain", BACKEND_WEIGHT="9"), claim("/root", REDIRECT_TO_HTTPS="true"))
    assert found.redirects == (RedirectRule(https=True),)


def test_the_root_is_sent_on_by_the_servers_side() -> None:
    root = claim("/b", HTTP_BACKEND_REDIR="/start")
    assert rules(root, claim("/x", "/x")).redirects == ()
    cluster = cluster_of(root.spec, root.cluster, ())
    assert (cluster.root_redirect, cluster.root_redirect_hosts) == ("/start", ("a.b",))


def test_ports_of_an_app_share_their_hosts_where_the_first_is_the_same() -> None:
    both = claims("/a", {"0_VHOST": "x.y,z", "1_VHOST": "x.y", "2_VHOST": "z"}, 1, 2, 3)
    assert host_keys(both[1], both, ALL, PLAIN) == [("http", "x.y"), ("http", "z"), ("https", "x.y")]
    assert host_keys(both[2], both, ALL, PLAIN) == [("http", "z"), ("https", "z")]


def test_hosts_are_not_shared_where_that_would_be_very_many() -> None:
    names = ",".join(f"h{number}" for number in range(40))
    many = claims("/a", {f"{index}_VHOST": f"x.y,{index}.z,{names}" for index in range(20)}, *range(1, 21))
    assert len(host_keys(many[1], many, Listened(https=False), PLAIN)) == 42
    assert len(host_keys(many[1], many[:5], Listened(https=False), PLAIN)) == 46


def test_other_apps_never_share_hosts() -> None:
    one, other = claim("/team/prod/svc", vhost="x.y"), claim("/team/prod_svc", vhost="x.y")
    assert host_keys(one, [one], ALL, PLAIN) == host_keys(other, [other], ALL, PLAIN)
    assert app_id_key("/team/prod/svc", PLAIN) != app_id_key("/team/prod_svc", PLAIN)


def test_names_below_a_host_are_for_http_alone() -> None:
    rule = "acl x hdr_end(host) -i {hostname}\nuse_backend {backend} if x"
    one = claim("/a", HTTP_FRONTEND_ACL=rule)
    assert host_keys(one, [one], ALL, PLAIN) == [("http", "a.b"), ("http", "*.a.b"), ("https", "a.b")]


def test_tables_that_nobody_listens_for() -> None:
    one = claim("/a")
    assert host_keys(one, [one], Listened(False, False), PLAIN) == []
    assert host_keys(claim("/a", vhost="", MODE="http"), [], ALL, PLAIN) == []


# --- with haproxy_map -----------------------------------------------------------------------------


def test_in_the_map_hosts_have_any_port() -> None:
    plain, path = claim("/a"), claim("/b", "/x")
    assert host_keys(plain, [plain], ALL, MAPPED) == [
        ("http", "a.b"),
        ("https", "a.b"),
        ("http", "a.b:"),
        ("https", "a.b:"),
    ]
    assert host_keys(path, [path], ALL, MAPPED) == [("http", "a.b"), ("https", "a.b")]


def test_the_map_comes_last_and_its_first_entry_counts() -> None:
    given = [claim("/b"), claim("/a"), claim("/z", "/x"), claim("/y", "/y", BACKEND_WEIGHT="-2")]
    assert clusters(rules(*given, config=MAPPED)) == ["/z:10000", "/a:10000"]
    assert rules(*given, host="a.b:", config=MAPPED) == HostRules(routes=(RouteRule((), "/a:10000"),))


def test_with_any_port_there_is_no_password_nor_redirect() -> None:
    given = [claim("/auth", AUTH="R:bob:h"), claim("/b", REDIRECT_TO_HTTPS="true")]
    found = rules(*given, config=MAPPED)
    assert (len(found.auth), len(found.redirects)) == (1, 1)
    assert rules(*given, host="a.b:", config=MAPPED) == HostRules(routes=(RouteRule((), "/b:10000"),))
    assert host_rules(("http", "a.b:"), given[:1], MAPPED).rules is None


def test_app_ids_with_capitals_are_not_in_the_map() -> None:
    assert app_id_key("/A", MAPPED) is None
    assert app_id_key("/A", PLAIN) == ("app_id", "/a")
    assert app_id_key("/a", MAPPED) == ("app_id", "/a")


# --- ports ----------------------------------------------------------------------------------------


def test_by_app_id_no_password_is_asked_for() -> None:
    assert app_id_rules([claim("/a", AUTH="R:bob:h")]).rules == HostRules(routes=(RouteRule((), "/a:10000"),))


def test_apps_at_one_service_port_share_it() -> None:
    result = port_rules(10000, [claim("/b"), claim("/a", AUTH="R:bob:h")], ())
    assert {name: result.hosts[one.table, ""].routes[0].cluster for name, one in result.listeners.items()} == {
        "port:10000": "/a:10000",
        "port:10000#2": "/b:10000",
    }
    assert all(not found.auth for found in result.hosts.values())
    assert [(problem.app, problem.reason) for problem in result.problems] == [
        ("/a", "port-conflict"),
        ("/b", "port-conflict"),
    ]


def test_apps_at_different_addresses_of_a_service_port_keep_their_names() -> None:
    given = [claim("/a", BIND_ADDR="10.0.0.1"), claim("/b", BIND_ADDR="10.0.0.2"), claim("/c"), claim("/d")]
    names = ["port:10000@10.0.0.1", "port:10000@10.0.0.2", "port:10000", "port:10000#2"]
    assert list(port_rules(10000, given, ()).listeners) == names
    assert list(port_rules(10000, given[1:], ()).listeners) == names[1:]


def test_the_ports_of_http_are_not_shared() -> None:
    result = port_rules(80, [claim("/a", port=80)], (":80",))
    assert not result.listeners
    assert [problem.reason for problem in result.problems] == ["port-conflict"]


def test_a_service_port_has_one_rule() -> None:
    result = port_rules(10000, [claim("/a", HTTP_BACKEND_REDIR="/x")], ())
    assert result.listeners["port:10000"].by == "none"
    assert set(result.hosts) == {("port:10000", "")}
