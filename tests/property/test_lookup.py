"""Native look-up of rules against lb7/resolve.py, which asks rule after rule: any table, host and path, any changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lb7._balance import Cluster
from lb7._lookup import Decision, Table
from lb7.paths import begins, matched_prefix, path_forms
from lb7.resolve import Request, resolve
from lb7.settings import Settings
from lb7.table import AuthRule, HostRules, Listener, PathPrefix, RedirectRule, RouteRule, RouteTable
from lb7.table import Cluster as Spec

NAMES = ("/a:1", "/b:2", "/c:3")
SPECS = {name: Spec(name, name, 1) for name in NAMES}
CLUSTERS = {name: Cluster(spec, Settings(), 0.0) for name, spec in SPECS.items()}
USERS = (("me", "$1$abcdefgh$AAAAAAAAAAAAAAAAAAAAA."),)

PIECES = st.sampled_from(
    [
        "/",
        "/",
        "a",
        "b",
        "A",
        "api",
        "API",
        "..",
        ".",
        "%2e",
        "%2F",
        "%5c",
        "\\",
        ";",
        ";x",
        "%61",
        "%",
        "%zz",
        "//",
        "é",
        "/segment",
        "/Segment",
        "/of-many-octets/",
    ]
)
PATHS = st.lists(PIECES, max_size=9).map("".join)
REQUEST_PATHS = st.one_of(PATHS.map(lambda path: f"/{path}"), st.sampled_from(["*", "", "/"]))
PREFIXES = st.one_of(
    st.builds(PathPrefix, PATHS.map(lambda path: f"/{path}"), st.booleans(), st.booleans()),
    st.builds(
        PathPrefix, st.sampled_from(["", "/", "/api", "/api/", "/a/b", "api", "/A"]), st.booleans(), st.booleans()
    ),
)
PREFIX_LISTS = st.lists(PREFIXES, max_size=2).map(tuple)

RULES = st.builds(
    HostRules,
    st.lists(
        st.builds(AuthRule, PREFIX_LISTS, st.sampled_from(["x", "y"]), st.sampled_from([(), USERS])), max_size=4
    ).map(tuple),
    st.lists(
        st.builds(
            RedirectRule,
            PREFIX_LISTS,
            st.sampled_from([301, 302]),
            st.booleans(),
            st.sampled_from(["", "/new"]),
            st.sampled_from(["", "", "/", "/a", "/api"]),
        ),
        max_size=3,
    ).map(tuple),
    st.lists(st.builds(RouteRule, PREFIX_LISTS, st.sampled_from([*NAMES, "/none:9"])), max_size=8).map(tuple),
)

LONG = "Long-Name-0123456789"  # several words of the hash, and of what is compared at once
LABELS = st.lists(st.sampled_from(["a", "b", "Com", "b2345678", LONG]), min_size=1, max_size=3).map(".".join)
HOSTS = st.one_of(LABELS, LABELS.map(lambda name: f"*.{name}"), LABELS.map(lambda name: f"{name}:"), st.just(""))
REQUEST_HOSTS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "", "*."]),
        st.one_of(LABELS, LABELS.map(str.upper), st.just("")),
        st.sampled_from(["", "."]),
        st.sampled_from(["", ":", ":80"]),
    ),
)


def expected(hosts: dict[str, HostRules], host: str, path: str, by: Any, compat: bool) -> tuple[str, ...] | None:
    """None: there is no rule; else what is refused or asked for, where it is sent, and who serves it."""
    listener = Listener("x", "x", (), by=by)
    table = RouteTable({"x": listener}, {("x", name): rules for name, rules in hosts.items()}, SPECS)
    asked = {
        "host": Request(host, path),
        "sni": Request(path=path, sni=host),
        "app_id": Request(path=path, app_id=host),
    }
    closed = resolve(table, listener, asked[by], compat=compat)
    if closed.host is None:
        return None
    if closed.action == "ambiguous":
        return "ambiguous", "", ""
    opened = resolve(table, listener, asked[by], compat=compat, passes=lambda rule: True)
    location = opened.location.partition(":")[0] if opened.action == "redirect" else ""
    return closed.realm, location, "" if location else opened.cluster


def told(decision: Decision) -> tuple[str, ...]:
    realm = decision.auth.challenge.decode().split('"')[1] if decision.auth else ""
    location = ""
    if decision.redirect is not None:
        location = "https" if decision.redirect.https else decision.redirect.location
    cluster = decision.cluster.name if decision.cluster and not location else ""
    return "ambiguous" if decision.ambiguous else realm, location, cluster


@given(
    st.sampled_from(["host", "sni", "app_id"]),
    st.booleans(),
    st.lists(st.tuples(HOSTS, st.one_of(st.none(), RULES)), max_size=12),
    st.lists(st.tuples(REQUEST_HOSTS, REQUEST_PATHS), min_size=1, max_size=8),
)
def test_first_rule_that_matches(
    by: str,
    compat: bool,
    changes: list[tuple[str, HostRules | None]],
    requests: list[tuple[str, str]],
) -> None:
    table = Table("http", exact_host=compat, exact_path=compat, exact_case=compat and by == "sni")
    hosts: dict[str, HostRules] = {}
    for host, rules in changes:
        if rules is None:
            table.drop(host)
            hosts.pop(host.lower(), None)
        else:
            table.put(host, rules, CLUSTERS)
            hosts[host.lower()] = rules
    assert len(table) == len(hosts)
    for host, path in requests:
        found = table.decide(host.encode(), path.encode())
        assert (told(found) if found is not None else None) == expected(hosts, host, path, by, compat)
        assert table.decide(host.encode(), path.encode()) is found


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=600))
def test_hosts_come_and_go(changes: list[tuple[bool, int]]) -> None:
    table = Table("http")
    there: set[int] = set()
    for put, number in changes:
        if put:
            table.put(f"h{number}", HostRules(routes=(RouteRule((), NAMES[number % 3]),)), CLUSTERS)
            there.add(number)
        else:
            table.drop(f"h{number}")
            there.discard(number)
    for number in range(301):
        found = table.decide(b"h%d" % number, b"/")
        assert (found is not None) == (number in there)
        assert found is None or (found.cluster and found.cluster.name == NAMES[number % 3])


STEMS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "", "*.", "x."]),
        st.sampled_from(["a", "q" * 38, "q" * 39, "q" * 40, "q" * 41, "q" * 47, f"{'q' * 40}.{'r' * 40}"]),
        st.sampled_from(["", "", "s", "t", ".s", "-1"]),
        st.sampled_from(["", "", ":", ":80"]),
    ),
)
NEAR_NAMES = st.one_of(STEMS, STEMS.map(str.upper), st.just(""))
"""Lengths about what a slot has of a name, which differ behind that, or not but for case."""

CHANGES = st.one_of(
    st.tuples(st.just("put"), NEAR_NAMES, st.sampled_from("abc"), st.integers(0, 3)),
    st.tuples(st.just("drop"), NEAR_NAMES),
    st.tuples(st.just("renew"), st.sampled_from("abc")),
    st.tuples(st.just("ask"), NEAR_NAMES),
)


def host_of(hosts: dict[str, Any], asked: str, exact: bool) -> str:
    """Which of them has the rules of a host, or "" for all others."""
    name = asked.lower()
    if not exact:
        bare = name.rstrip("0123456789")
        name = bare[:-1] if bare.endswith(":") else name
        name = name[:-1] if len(name) > 1 and name.endswith(".") else name
    below = (f"*{name[at:]}" for at in range(len(name)) if name[at] == ".")
    of_any_port = [f"{name.partition(':')[0]}:"] if exact and name else []
    return next((host for host in (name, *below, *of_any_port) if host and host in hosts), "")


@given(st.booleans(), st.lists(CHANGES, max_size=80))
def test_any_changes_of_hosts_and_clusters(exact: bool, changes: list[Any]) -> None:
    """What a slot has of a host is what the host has: of hosts that come, go and move, and of clusters that change."""
    table = Table("http", exact_host=exact)
    clusters = {name: Cluster(Spec(name, name, 1), Settings(), 0.0) for name in "abc"}
    ages = dict.fromkeys("abc", 0)
    hosts: dict[str, tuple[str, int]] = {}

    def ask(host: str) -> None:
        decision = table.decide(host.encode(), b"/")
        expected = hosts.get(host_of(hosts, host, exact))
        assert (decision is None) == (expected is None)
        if decision is None or expected is None:
            return
        name, kind = expected
        age = f"Strict-Transport-Security: max-age={ages[name]}\r\n".encode()
        assert decision.cluster is clusters[name]
        assert decision.hsts == (age if ages[name] else None)
        assert (decision.auth is not None) == bool(kind & 1)

    for what, which, *more in changes:
        if what == "put":
            name, kind = more
            paths = (PathPrefix("/"),) if kind & 2 else ()
            rules = HostRules((AuthRule((), "x", USERS),) * (kind & 1), (), (RouteRule(paths, name),))
            table.put(which, rules, clusters)
            hosts[which.lower()] = (name, kind)
        elif what == "drop":
            table.drop(which)
            hosts.pop(which.lower(), None)
        elif what == "renew":
            ages[which] += 1
            clusters[which].change(Spec(which, which, 1, hsts=f"max-age={ages[which]}"), 0.0)
        else:
            ask(which)
    assert len(table) == len(hosts)
    for host in [*hosts, *(change[1] for change in changes if change[0] in ("drop", "ask"))]:
        ask(host)
        ask(f"x.{host.upper()}")


@given(REQUEST_PATHS, st.lists(PREFIXES, min_size=1, max_size=6))
def test_no_spelling_slips_past_auth(path: str, prefixes: list[PathPrefix]) -> None:
    """Whatever a server makes of a path, whoever passes on it would pass on what the server makes of it."""
    rules = HostRules(auth=(AuthRule(tuple(prefixes), "x", USERS), AuthRule()))
    table = Table("http")
    table.put("h", rules, CLUSTERS)
    found = table.decide(b"h", path.encode())
    assert found is not None
    if found.ambiguous or not path.startswith("/") or any(not prefix.whole for prefix in prefixes):
        return
    for reading in readings(path):
        protected = any(begins(reading, matched_prefix(prefix)) for prefix in prefixes)
        assert protected == (found.auth is not None)


def readings(path: str) -> set[str]:
    """What servers make of a path that do some of this and leave the rest: the forms of lb7/paths.py among them."""
    forms = path_forms(path)
    found = {forms.literal, forms.matched}
    for separators in (False, True):
        for parameters in (False, True):
            for merged in (False, True):
                read = forms.literal
                if separators:
                    read = read.replace("%2F", "/").replace("%5C", "\\").replace("\\", "/")
                if parameters:
                    read = "/".join(segment.partition(";")[0] for segment in read.split("/"))
                while merged and "//" in read:
                    read = read.replace("//", "/")
                found.add(read)
    return found


ALPHABET = "aAzZ@[`{-.*\xe9"
TEXTS = st.text(ALPHABET, min_size=1, max_size=60)
NEAR = st.tuples(st.integers(0, 7), st.sampled_from([str, str.swapcase]), st.sampled_from([None, *range(60)]), TEXTS)


def near(texts: list[str], how: tuple[int, Callable[[str], str], int | None, str]) -> str:
    """One of them in any case, with or without one character that is another."""
    number, cased, place, other = how
    text = cased(texts[number % len(texts)])
    return text if place is None else text[:place] + other[:1] + text[place + 1 :]


@given(st.lists(TEXTS, min_size=1, max_size=8), NEAR, st.sampled_from(["", "a"]))
def test_names_are_told_apart_by_all_their_octets(names: list[str], how: Any, below: str) -> None:
    table = Table("http", exact_host=True)
    for name in names:
        table.put(name, HostRules(), CLUSTERS)
    asked = (below + near(names, how).removeprefix("*" * len(below))).encode()
    known = {name.encode().lower() for name in names}
    wild = {name[1:] for name in known if name.startswith(b"*.")}
    octets = asked.lower()
    expected = octets in known or any(octets[at:] in wild for at in range(len(octets)))
    assert (table.decide(asked, b"/") is not None) == expected


@given(st.lists(TEXTS, min_size=1, max_size=8), NEAR, TEXTS, st.booleans())
def test_prefixes_are_told_apart_by_all_their_octets(prefixes: list[str], how: Any, rest: str, fold: bool) -> None:
    rules = tuple(RouteRule((PathPrefix(f"/{prefix}", fold, False),), NAMES[0]) for prefix in prefixes)
    table = Table("http", exact_path=True)
    table.put("h", HostRules(routes=rules), CLUSTERS)
    path = (near(prefixes, how) + rest).encode()
    begins = [prefix.encode().lower() if fold else prefix.encode() for prefix in prefixes]
    found = table.decide(b"h", b"/" + path)
    assert found is not None
    assert (found.cluster is not None) == (path.lower() if fold else path).startswith(tuple(begins))
