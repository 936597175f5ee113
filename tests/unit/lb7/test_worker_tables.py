"""A worker's tables: deltas in any sequence end as the table that they make, and what is in use stays in use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb7 import worker_tables
from lb7.settings import Settings
from lb7.table import HostKey, HostRules, Listener, PathPrefix, RouteRule, TableDelta
from lb7.worker_tables import Tables
from tests.fakes.edge_workers import cluster_at, route


async def no_pause() -> None:
    return None


def apply(tables: Tables, *deltas: TableDelta) -> None:
    for delta in deltas:
        asyncio.run(tables.apply(delta, no_pause))


def tables(faults: list[str] | None = None, **values: Any) -> Tables:
    said: list[str] = []
    return Tables(Settings(**values), lambda key, text: (said if faults is None else faults).append(f"{key}: {text}"))


def found(tables: Tables, host: str, path: str = "/", name: str = "http") -> str | None:
    """The cluster that serves."""
    decision = tables.table(name).decide(host.encode(), path.encode())
    return decision.cluster.name if decision is not None and decision.cluster is not None else None


def delta(hosts: dict[str, HostRules | None] | None = None, **clusters: Any) -> TableDelta:
    return TableDelta({}, {("http", host): rules for host, rules in (hosts or {}).items()}, clusters)


def test_a_host_and_its_cluster_come_and_go() -> None:
    here = tables()
    apply(here, delta({"a.example": route("a")}, a=cluster_at(1, name="a")))
    assert found(here, "a.example") == "a"
    assert found(here, "b.example") is None
    apply(here, delta({"a.example": None, "b.example": route("a")}))
    assert found(here, "a.example") is None
    assert found(here, "b.example") == "a"
    apply(here, delta({"b.example": None}, a=None))
    assert found(here, "b.example") is None
    assert not here.hosts
    assert not here.clusters


def test_a_cluster_that_changes_stays_the_same_object() -> None:
    here = tables()
    apply(here, delta({"a.example": route("a")}, a=cluster_at(1, name="a")))
    before = here.clusters["a"]
    apply(here, delta(a=cluster_at(1, 2, name="a")))
    assert here.clusters["a"] is before
    assert [server.port for server in before.servers] == [1, 2]


def test_a_cluster_that_comes_back_is_the_one_that_is_used() -> None:
    here = tables()
    apply(here, delta({"a.example": route("a")}, a=cluster_at(1, name="a")))
    first = here.clusters["a"]
    apply(here, delta(a=None))
    assert here.retiring == [first]
    apply(here, delta(a=cluster_at(2, name="a")))
    decision = here.table("http").decide(b"a.example", b"/")
    assert decision is not None
    assert decision.cluster is here.clusters["a"] is not first
    here.retired()
    assert not here.retiring


def test_one_that_is_gone_is_kept_as_long_as_it_has_requests() -> None:
    here = tables()
    apply(here, delta(a=cluster_at(1, name="a")))
    cluster = here.clusters["a"]
    assert cluster.admit()
    apply(here, delta(a=None))
    here.retired()
    assert here.retiring == [cluster]
    cluster.leave()
    here.retired()
    assert not here.retiring


def test_what_is_gone_counts_once_more() -> None:
    here = tables()
    apply(here, delta(a=cluster_at(1, name="a"), b=cluster_at(1, name="b")))
    first, second = here.clusters["a"], here.clusters["b"]
    assert first.admit()
    apply(here, delta(a=None))
    assert here.counting() == [second, first] == here.counting()
    first.leave()
    assert here.counting() == [second, first]
    assert here.counting() == [second]


def test_what_is_bad_blocks_nothing_else() -> None:
    faults: list[str] = []
    here = tables(faults)
    bad = HostRules(routes=(RouteRule((PathPrefix("/"),), 7),))  # type: ignore[arg-type]
    odd = HostRules(routes=(RouteRule((PathPrefix(3),), "a"),))  # type: ignore[arg-type]
    apply(here, delta({"bad.example": odd, "a.example": route("a"), "b.example": bad}, a=cluster_at(1, name="a")))
    assert found(here, "a.example") == "a"
    assert any(fault.startswith("host bad.example of http") for fault in faults)
    apply(here, delta({"bad.example": route("a")}))
    assert found(here, "bad.example") == "a"


def test_other_settings_make_clusters_anew_and_keep_rules() -> None:
    here = tables()
    apply(here, delta({"a.example": route("a")}, a=cluster_at(1, name="a")))
    before = here.clusters["a"]
    asyncio.run(here.configure(Settings(max_requests_per_server=7, compat=True), no_pause))
    assert here.clusters["a"].limit == 7
    assert here.retiring == [before]
    assert before.servers, "requests that it has may still be tried again"
    decision = here.table("http").decide(b"a.example", b"/")
    assert decision is not None
    assert decision.cluster is here.clusters["a"]
    assert here.table("http").exact_path


def test_clusters_of_a_name_and_what_they_tell_when_requests_are_held() -> None:
    class Waits:
        def room(self) -> None:
            raise AssertionError("there is no room")

    held: list[str] = []
    here = Tables(Settings(), print, held.append)
    apply(here, delta(a=cluster_at(name="a", hold=True), b=cluster_at(name="b")))
    (old,) = here.named(["a"])
    old.admit()
    assert old.wait(Waits())
    assert held == ["a"]
    asyncio.run(here.configure(Settings(max_held=1), no_pause))
    new, also_old = here.named({"a": None, "c": None})
    assert (new, also_old) == (here.clusters["a"], old)
    assert new.wait(Waits())
    assert not new.wait(Waits())
    assert held == ["a", "a"]


def test_requests_of_old_clusters_are_tried_again_at_the_servers_of_now() -> None:
    here = tables()
    apply(here, delta({"a.example": route("a")}, a=cluster_at(1, name="a")))
    before = here.clusters["a"]
    assert before.admit()
    asyncio.run(here.configure(Settings(retries=5), no_pause))
    apply(here, delta(a=cluster_at(2, name="a"), b=cluster_at(3, name="b")))
    assert [server.port for server in before.servers] == [2]
    apply(here, delta(a=None))
    assert here.retiring[0] is before
    apply(here, delta(a=cluster_at(4, name="a")))
    assert [server.port for server in before.servers] == [4]
    before.leave()
    here.retired()
    assert not here.retiring
    assert not before.servers


def test_old_clusters_do_not_retire_before_rules_lead_to_the_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_tables, "SLICE", 0.0)
    here = tables()
    names = [str(number) for number in range(20)]
    hosts: dict[HostKey, HostRules | None] = {("http", f"{name}.example"): route(name) for name in names}
    apply(here, TableDelta({}, hosts, {name: cluster_at(1, name=name) for name in names}))
    before = here.table("http")

    async def pause() -> None:
        here.retired()
        for name in names:
            decision = before.decide(f"{name}.example".encode(), b"/")
            assert decision is not None
            assert decision.cluster is not None
            assert decision.cluster.servers

    asyncio.run(here.configure(Settings(), pause))
    assert len(here.retiring) == 20
    assert here.renewed


def test_a_table_follows_how_it_is_looked_up() -> None:
    here = tables()
    apply(here, delta({"a.example:80": route("a")}, a=cluster_at(1, name="a")))
    assert not here.table("http").exact_host
    asyncio.run(here.configure(Settings(compat=True), no_pause))
    assert here.table("http").exact_host
    assert found(here, "a.example:80") == "a"
    assert found(here, "a.example") is None


def test_server_names_go_by_their_case_with_compat() -> None:
    here = tables(compat=True)
    apply(here, delta({"a.example": route("a")}, a=cluster_at(1, name="a")))
    assert found(here, "A.example") == "a"
    apply(here, TableDelta({"http": Listener("http", "http", (), by="sni", tls=True)}))
    assert found(here, "A.example") is None
    assert found(here, "a.example") == "a"


def test_tables_of_ports_that_are_gone_are_forgotten() -> None:
    here = tables()
    listener = Listener("port:1", "port:1", ())
    apply(here, TableDelta({"port:1": listener}, {("port:1", ""): route("a")}, {"a": cluster_at(1, name="a")}))
    assert set(here._tables) == {"port:1"}
    apply(here, TableDelta({"port:1": None}, {("port:1", ""): None}, {"a": None}))
    assert not here._tables
    assert not here._users
    assert not here.listeners


def test_a_large_delta_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_tables, "SLICE", 0.0)
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1
        # Rules are there no sooner than what they name.
        assert all(found(here, host) is not None for _, host in here.hosts)

    here = tables()
    hosts: dict[HostKey, HostRules | None] = {("http", f"{number}.example"): route(str(number)) for number in range(50)}
    clusters = {str(number): cluster_at(1, name=str(number)) for number in range(50)}
    asyncio.run(here.apply(TableDelta({}, hosts, dict(clusters)), pause))
    assert pauses >= 100


NAMES = st.sampled_from(["a", "b", "c"])
RULES = st.none() | st.lists(NAMES, min_size=1, max_size=2).map(
    lambda names: HostRules(routes=tuple(RouteRule((PathPrefix(f"/{i}"),), name) for i, name in enumerate(names)))
)
DELTAS = st.builds(
    TableDelta,
    st.just({}),
    st.dictionaries(st.tuples(st.sampled_from(["http", "port:1"]), st.sampled_from(["x", "y", ""])), RULES),
    st.dictionaries(NAMES, st.none() | st.just(())),
)


@settings(max_examples=200)
@given(st.lists(DELTAS, max_size=8))
def test_deltas_one_by_one_are_as_the_table_at_once(deltas: list[TableDelta]) -> None:
    here, whole = tables(), TableDelta({}, {}, {})
    for one in deltas:
        clusters = {name: None if it is None else cluster_at(1, name=name) for name, it in one.clusters.items()}
        apply(here, TableDelta({}, one.hosts, clusters))
        whole.hosts.update(one.hosts)
        whole.clusters.update(clusters)
    there = tables()
    apply(there, whole)
    for name in ("http", "port:1"):
        for host in ("x", "y", "z"):
            for path in ("/0", "/1", "/2"):
                assert found(here, host, path, name) == found(there, host, path, name)
    assert here.clusters.keys() == there.clusters.keys()
    assert here._users == there._users


def test_a_cluster_that_goes_holds_nothing_that_came_before_other_settings_either() -> None:
    class Waiter:
        woken = 0

        def room(self) -> None:
            self.woken += 1

    async def story() -> None:
        here, waiter = tables(), Waiter()
        await here.apply(delta({"a.example": route("a")}, a=cluster_at(name="a", hold=True)), no_pause)
        before = here.clusters["a"]
        assert before.admit()
        assert before.wait(waiter)
        await here.configure(Settings(retries=0), no_pause)
        await here.apply(delta({"a.example": None}, a=None), no_pause)
        await asyncio.sleep(0)
        assert (waiter.woken, before.hold, before.held) == (1, False, 0)

    asyncio.run(story())
