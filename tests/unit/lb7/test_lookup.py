"""lb7._lookup: hosts, paths, and what a decision holds."""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import msgspec
import pytest

from lb7._balance import Cluster
from lb7._lookup import Decision, Table
from lb7.settings import Settings
from lb7.table import AuthRule, HostRules, PathPrefix, RedirectRule, RouteRule
from lb7.table import Cluster as Spec

USERS = (("me", "$1$abcdefgh$AAAAAAAAAAAAAAAAAAAAA."),)


def cluster(name: str, **values: Any) -> Cluster:
    return Cluster(Spec(name, name, 1, **values), Settings(), 0.0)


CLUSTERS = {name: cluster(name) for name in "abc"}


def routes(*rules: tuple[str, str]) -> HostRules:
    """From (prefix, cluster); the prefix "" means all paths."""
    return HostRules(routes=tuple(RouteRule((PathPrefix(prefix),) if prefix else (), name) for prefix, name in rules))


def table(hosts: dict[str, HostRules], **options: bool) -> Table:
    made = Table("http", **options)
    for host, rules in hosts.items():
        made.put(host, rules, CLUSTERS)
    return made


def found(made: Table, host: str, path: str = "/") -> Decision:
    decision = made.decide(host.encode(), path.encode())
    assert decision is not None
    return decision


def served(made: Table, host: str, path: str = "/") -> str | None:
    """The cluster's name, "503" when there is none, None when there is no rule."""
    decision = made.decide(host.encode(), path.encode())
    if decision is None:
        return None
    return decision.cluster.name if decision.cluster else "503"


# --- hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.example.com", "a"),
        ("A.Example.COM", "a"),
        ("a.example.com:8080", "a"),
        ("a.example.com:", "a"),
        ("a.example.com.", "a"),
        ("a.example.com.:80", "a"),
        ("b.example.com", "b"),
        ("x.b.example.com", "b"),
        ("x.a.example.com", "b"),
        ("x.c.example.com", "c"),
        ("y.x.c.example.com:1", "c"),
        ("c.example.com", "b"),
        ("example.com", None),
        ("xexample.com", None),
        ("..example.org", None),
        ("", None),
        (".", None),
        (":80", None),
        ("a.example.com:x", None),
    ],
)
def test_hosts(host: str, expected: str | None) -> None:
    made = table(
        {"a.example.com": routes(("", "a")), "*.example.com": routes(("", "b")), "*.c.example.com": routes(("", "c"))}
    )
    assert served(made, host) == expected


def test_others() -> None:
    made = table({"": routes(("", "a")), "b.example": routes(("", "b"))})
    assert [served(made, host) for host in ("b.example", "c.example", "", "x" * 5000)] == ["b", "a", "a", "a"]
    made.drop("")
    assert (served(made, "c.example"), len(made)) == (None, 1)


def test_exact_hosts() -> None:
    made = table({"a.example": routes(("", "a")), "a.example:80": routes(("", "b"))}, exact_host=True)
    assert [served(made, host) for host in ("A.example", "a.example:80", "a.example.", "a.example:81")] == [
        "a",
        "b",
        None,
        None,
    ]


def test_any_port_of_exact_hosts() -> None:
    rules = {"a.example": routes(("", "a")), "a.example:": routes(("", "b")), "": routes(("", "c"))}
    made = table(rules, exact_host=True)
    hosts = ("a.example", "A.example:80", "a.example.", "b.example:80")
    assert [served(made, host) for host in hosts] == ["a", "b", "c", "c"]
    made.drop("a.example:")
    assert served(made, "a.example:80") == "c"


def test_exact_case() -> None:
    rules = {"a.example": routes(("", "a")), "*.b.example": routes(("", "b")), "c.example:": routes(("", "c"))}
    made = table(rules, exact_host=True, exact_case=True)
    hosts = ("a.example", "A.example", "x.b.example", "X.b.example", "C.example")
    assert [served(made, host) for host in hosts] == ["a", None, "b", None, "c"]


def test_app_ids() -> None:
    made = table({"/prod/api": routes(("", "a")), f"/{'x' * 400}": routes(("", "b"))}, exact_host=True)
    assert [served(made, name) for name in ("/prod/API", f"/{'X' * 400}", f"/{'x' * 399}y", "/prod")] == [
        "a",
        "b",
        None,
        None,
    ]


def test_known_names() -> None:
    made = table({"a.example": routes(("", "a")), "*.b.example": routes(), "": routes(("", "b"))})
    assert [made.knows(name) for name in ("a.example", "A.EXAMPLE", "x.b.example", "b.example", "", "\ud800")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_name_of_many_labels_is_no_name_below_a_wildcard() -> None:
    made = table({"*.example": routes(("", "a"))})
    assert served(made, "a." * 100 + "example") == "a"
    assert served(made, "a." * 5000 + "example") is None


def test_ten_thousand_hosts_come_and_go() -> None:
    made = Table("http")
    order = list(range(10_000))
    random.Random(7).shuffle(order)
    for number in order:
        made.put(f"h{number}.example", routes(("", "abc"[number % 3])), CLUSTERS)
    assert len(made) == 10_000
    for number in order[:5000]:
        made.drop(f"h{number}.example")
    gone = set(order[:5000])
    for number in range(10_000):
        assert served(made, f"h{number}.example") == (None if number in gone else "abc"[number % 3])
    made.drop("h0.other")
    assert len(made) == 5000


@pytest.mark.parametrize("length", [38, 39, 40, 41, 45, 80])
def test_names_that_differ_at_their_end(length: int) -> None:
    one, other = "n" * length + "x", "n" * length + "y"
    made = table({one: routes(("", "a")), other: routes(("", "b")), f"*.{one}": routes(("", "c"))})
    asked = (one.upper(), other, f"z.{one}", f"z.{other}", one[:-1], f"{one}x", f"{one}:80")
    assert [served(made, host) for host in asked] == ["a", "b", "c", None, None, None, "a"]
    made.drop(one)
    assert [served(made, host) for host in asked] == [None, "b", "c", None, None, None, None]


def test_a_host_that_is_gone_keeps_nothing() -> None:
    auth = (AuthRule((), "x", USERS),)
    made = table({host: HostRules(auth, (), (RouteRule((), "a"),)) for host in ("x", "y", "*.z", "")})
    for host in ("x", "*.z", ""):
        decision = found(made, host)
        before = sys.getrefcount(decision)
        made.drop(host)
        assert sys.getrefcount(decision) == before - 1
    assert found(made, "y").auth is not None


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api", "a"),
        ("/api/", "a"),
        ("/api/x", "a"),
        ("/apix", "c"),
        ("/API", "c"),
        ("/img/x", "b"),
        ("/IMG", "b"),
        ("/beg", "b"),
        ("/beginning", "b"),
        ("/", "c"),
        ("", "c"),
        ("*", "c"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    rules = HostRules(
        routes=(
            RouteRule((PathPrefix("/api"),), "a"),
            RouteRule((PathPrefix("/Img", ignore_case=True), PathPrefix("/beg", whole=False)), "b"),
            RouteRule((), "c"),
            RouteRule((PathPrefix("/apix"),), "a"),
        )
    )
    assert served(table({"h": rules}), "h", path) == expected


def test_first_rule_counts_not_the_longest() -> None:
    made = table({"h": routes(("/a", "a"), ("/a/b", "b")), "i": routes(("/a/b", "b"), ("/a", "a"))})
    assert [served(made, host, "/a/b/c") for host in "hi"] == ["a", "b"]


def test_no_rule_for_a_path_and_no_cluster_of_a_rule() -> None:
    made = table({"h": routes(("/a", "a"), ("/b", "none"))})
    assert [served(made, "h", path) for path in ("/a", "/b", "/c")] == ["a", "503", "503"]


def test_a_hundred_thousand_paths() -> None:
    rules = routes(*((f"/app{number}", "abc"[number % 3]) for number in range(100_000)))
    made = table({"h": rules})
    for number in (0, 1, 17, 4711, 99_999):
        assert served(made, "h", f"/app{number}/x") == "abc"[number % 3]
    assert served(made, "h", "/app100000") == "503"


def test_one_decision_for_all_requests_that_are_treated_alike() -> None:
    made = table({"h": routes(("/a", "a"), ("/b", "b"), ("/c", "a"))})
    assert found(made, "h", "/a/1") is found(made, "h", "/c")
    assert found(made, "h", "/a") is not found(made, "h", "/b")


# --- redirects and who may pass -------------------------------------------------------------------


def test_redirects() -> None:
    to_https = RedirectRule((PathPrefix("/plain"),), https=False)
    rules = HostRules(
        redirects=(
            RedirectRule(status=302, location="/home", only_path="/"),
            to_https,
            RedirectRule((PathPrefix("/old"),), location="/gone", only_path="/new"),
            RedirectRule(https=True),
        ),
        routes=(RouteRule((), "a"),),
    )
    made = table({"h": rules})
    told = {path: found(made, "h", path).redirect for path in ("/", "/plain/x", "/new", "/old")}
    assert told == {"/": rules.redirects[0], "/plain/x": None, "/new": rules.redirects[3], "/old": rules.redirects[3]}


def test_who_may_pass() -> None:
    rules = HostRules(
        auth=(AuthRule((PathPrefix("/open"),)), AuthRule((PathPrefix("/x"),), "x", USERS), AuthRule((), "y", USERS)),
        routes=(RouteRule((), "a"),),
    )
    made = table({"h": rules, "i": rules})
    assert found(made, "h", "/open").auth is None
    assert found(made, "h", "/open").plain
    credentials = found(made, "h", "/x/1").auth
    assert credentials is not None
    assert credentials.challenge == b'Basic realm="x"'
    assert found(made, "i", "/x/2").auth is credentials
    assert not found(made, "h", "/x").plain
    other = found(made, "h", "/").auth
    assert other is not None
    assert other.challenge == b'Basic realm="y"'


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/admin/x",
        "/%61dmin",
        "/%61%64%6D%69%6e/",
    ],
)
def test_spellings_of_a_protected_path(path: str) -> None:
    rules = HostRules(auth=(AuthRule((PathPrefix("/admin"),), "x", USERS),), routes=(RouteRule((), "a"),))
    assert found(table({"h": rules}), "h", path).auth is not None


@pytest.mark.parametrize(
    "path",
    [
        "/public/../admin",
        "/public/%2e%2E/admin",
        "/public/.%2e/admin",
        "/public%2f..%2fadmin",
        "/public\\..\\admin",
        "/public/..;x=1/admin",
        "/./admin",
        "//admin",
        "/admin;x=1",
        "/admin%2fx",
        "/admin/../public",
        "/public/./x",
    ],
)
def test_paths_with_readings_that_differ_in_who_may_pass(path: str) -> None:
    rules = HostRules(auth=(AuthRule((PathPrefix("/admin"),), "x", USERS),), routes=(RouteRule((), "a"),))
    made = table({"h": rules})
    decision = found(made, "h", path)
    assert decision.ambiguous
    assert (decision.plain, decision.cluster, made.ambiguous) == (False, None, 1)
    exact = table({"h": rules}, exact_path=True)
    assert not found(exact, "h", path).ambiguous


@pytest.mark.parametrize("path", ["/public//x", "/public/x;y=1", "/public/a%2fb", "/x/%c3%a4", "/admin/a%2Fb", "//x"])
def test_odd_paths_that_are_none_the_less_clear(path: str) -> None:
    rules = HostRules(auth=(AuthRule((PathPrefix("/admin"),), "x", USERS),), routes=(RouteRule((), "a"),))
    assert (found(table({"h": rules}), "h", path).auth is not None) == path.startswith("/admin")


def test_routes_go_by_what_the_path_means() -> None:
    made = table({"h": routes(("/a", "a"), ("/caf%C3%A9", "b"), ("", "c"))})
    exact = table({"h": routes(("/a", "a"), ("/caf%C3%A9", "b"), ("", "c"))}, exact_path=True)
    paths = ["/x/../a", "//a", "/%61;y", "/caf%c3%a9/x", "/café", "/a/../x", "/a%zz", "/a%2"]
    assert [served(made, "h", path) for path in paths] == ["a", "a", "a", "b", "b", "c", "c", "c"]
    assert [served(exact, "h", path) for path in paths] == ["c", "c", "c", "c", "c", "a", "c", "c"]


# --- what a decision holds ------------------------------------------------------------------------


def test_what_is_done_besides() -> None:
    rich = cluster(
        "a",
        allow=("10.0.0.0/8",),
        hsts="max-age=9",
        host="inner.example",
        strip_path="/api",
        location="/there",
        sticky="id",
        root_redirect="/start",
        root_redirect_hosts=("a.b", "é"),
    )
    made = Table("http")
    made.put("h", routes(("", "a")), {"a": rich})
    decision = found(made, "h")
    assert decision.allow is not None
    assert decision.allow.contains("10.1.2.3")
    assert not decision.plain
    assert decision.hsts == b"Strict-Transport-Security: max-age=9\r\n"
    assert decision.host_line == b"Host: inner.example\r\n"
    assert (decision.strip_path, decision.location) == (b"/api", b"/there")
    assert (decision.sticky, decision.root_redirect) == (b"id", b"/start")
    assert decision.root_hosts == {b"a.b", "é".encode()}
    assert found(table({"h": routes(("", "b"))}), "h").plain


def test_no_label_ends_a_header_line() -> None:
    bad = cluster("a", hsts="x\r\nSet-Cookie: y", host="x\ny", location="\0", sticky="a\rb", strip_path="\x7f")
    made = Table("http")
    made.put("h", routes(("", "a")), {"a": bad})
    assert found(made, "h").plain


@pytest.mark.parametrize("rules", [routes(("", "a")), routes(("/x", "b"), ("", "a"))])
@pytest.mark.parametrize("auth", [(), (AuthRule((), "x", USERS),)])
def test_decisions_follow_their_cluster(rules: HostRules, auth: tuple[AuthRule, ...]) -> None:
    changing = cluster("a")
    made = Table("http")
    made.put("h", msgspec.structs.replace(rules, auth=auth), {"a": changing})
    before = found(made, "h")
    assert before.hsts is None
    changing.change(msgspec.structs.replace(changing.spec, hsts="max-age=1"), time.monotonic())
    after = found(made, "h")
    assert after.hsts == b"Strict-Transport-Security: max-age=1\r\n"
    assert (after.auth, after.cluster) == (before.auth, changing)
    assert before.hsts is None
    assert found(made, "h") is after


def test_rules_are_replaced_whole() -> None:
    made = table({"h": routes(("/a", "a"), ("", "b"))})
    before = found(made, "h", "/a")
    made.put("H", routes(("", "c")), CLUSTERS)
    assert (served(made, "h", "/a"), len(made)) == ("c", 1)
    assert before.cluster is CLUSTERS["a"]


def test_what_a_cluster_was_is_not_kept() -> None:
    here = cluster("a")
    made = Table("http")
    made.put("h", HostRules((AuthRule((), "x", USERS),), (), (RouteRule((), "a"),)), {"a": here})
    old = found(made, "h")
    before = sys.getrefcount(old)
    here.change(Spec("a", "a", 1, hsts="max-age=1"), 1.0)
    for number in range(100):  # so that the slot moves
        made.put(f"h{number}", routes(("", "a")), {"a": here})
    assert found(made, "h").hsts == b"Strict-Transport-Security: max-age=1\r\n"
    assert sys.getrefcount(old) == before - 1


# --- decisions that are shared --------------------------------------------------------------------


def test_hosts_share_what_leads_to_one_cluster() -> None:
    made = table({"x": routes(("", "a")), "y": routes(("", "a")), "z": routes(("/p", "a"), ("", "b"))})
    one = found(made, "x")
    assert found(made, "y") is found(made, "z", "/p") is one
    assert found(made, "z") is not one


def test_what_is_shared_is_made_anew_for_all_when_the_cluster_changes() -> None:
    here = cluster("a")
    made = Table("http")
    for host in "xy":
        made.put(host, routes(("", "a")), {"a": here})
    before = found(made, "x")
    here.change(Spec("a", "a", 1, hsts="max-age=1"), 1.0)
    one = found(made, "x")
    assert one is not before
    assert (one.plain, one.hsts) == (False, b"Strict-Transport-Security: max-age=1\r\n")
    assert found(made, "y") is one


def test_a_cluster_that_is_gone_is_not_kept_by_what_leads_to_it() -> None:
    here = cluster("a")
    made = Table("http")
    made.put("x", routes(("", "a")), {"a": here})
    one = found(made, "x")
    before = sys.getrefcount(one)
    here.close()
    assert sys.getrefcount(one) == before - 1
