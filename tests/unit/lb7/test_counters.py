"""Totals of all workers: they only grow, and what is now is what the living say."""

from __future__ import annotations

from typing import TypeAlias

import pytest

from lb7 import counters
from lb7.counters import Totals, servers_together
from lb7.table import Cluster, Listener, TableDelta
from lb7.wire import Counters
from tests.fakes.cluster_counts import grown

Server: TypeAlias = dict[str, str | int | float]


def block(requests: int, active: int = 0, connections: int = 1) -> Counters:
    return Counters(
        {"requests": requests},
        {"http": {"requests": requests}},
        [("/a:1", grown({"requests": requests, "latency": [requests]}))],
        {"connections": connections},
        {"/a:1": {"active": active}},
    )


def counted(totals: Totals) -> dict[str, object]:
    """What was counted of clusters."""
    return {name: tally.counts_dict() for name, tally in totals.clusters.items()}


def test_totals_of_two_workers() -> None:
    totals = Totals()
    totals.count(0, block(1, active=2))
    totals.count(1, block(2, active=3))
    totals.count(1, block(4, active=1))
    assert totals.worker == {"requests": 7}
    assert totals.workers == {0: {"requests": 1}, 1: {"requests": 6}}
    assert totals.listeners == {"http": {"requests": 7}}
    assert counted(totals) == {"/a:1": {"requests": 7, "latency": [7] + [0] * 15}}
    assert totals.now == {"connections": 2}
    assert totals.clusters_now == {"/a:1": {"active": 3}}
    assert totals.number("requests") == 7
    assert totals.number("unknown") == 0
    assert totals.blocks == 3


def test_one_that_ends_takes_nothing_away() -> None:
    totals = Totals()
    totals.count(0, block(1, active=1, connections=5))
    totals.ended(0)
    assert totals.number("requests") == 1
    assert totals.now == totals.clusters_now == totals.now_of(0) == {}
    totals.count(0, block(1))
    assert totals.number("requests") == 2
    assert totals.now_of(0) == {"connections": 1}


def test_what_changed_is_noted_for_who_asks() -> None:
    totals = Totals()
    totals.count(0, block(1, active=1))
    assert totals.touched is None
    totals.touched = set()
    totals.count(0, Counters({"requests": 1}))
    assert totals.touched == set()
    totals.count(1, block(1, active=2))
    assert totals.touched == {"/a:1"}
    assert totals.figures_of("/a:1") == {"active": 3}
    assert totals.figures_of("/b:1") == {}
    totals.touched.clear()
    totals.ended(0)
    assert totals.touched == {"/a:1"}
    assert totals.figures_of("/a:1") == {"active": 2}


def test_a_block_in_parts() -> None:
    """Further parts are of clusters alone."""
    totals = Totals()
    totals.count(0, block(1, connections=5))
    totals.count(0, Counters(clusters=[("/b:1", grown({"requests": 1}))], clusters_now={"/b:1": {"active": 1}}))
    assert totals.now == {"connections": 5}
    totals.count(0, Counters(clusters_now={"/b:1": {"active": 0}}))
    assert totals.clusters_now == {}


def told(*names: str) -> Counters:
    one = grown({"resets": 1})
    return Counters(listeners={name: {"accepted": 1} for name in names}, clusters=[(name, one) for name in names])


def test_two_clusters_of_one_name_in_a_block() -> None:
    totals = Totals()
    totals.count(0, Counters(clusters=[("/a:1", grown({"requests": 2})), ("/a:1", grown({"requests": 3}))]))
    assert counted(totals) == {"/a:1": {"requests": 5}}


def test_what_no_cluster_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="counted"):
        Totals().count(0, Counters(clusters=[("/a:1", b"?")]))


def test_of_what_is_gone_some_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "CLUSTERS_KEPT", 2)
    monkeypatch.setattr(counters, "LISTENERS_KEPT", 1)
    totals = Totals()
    listener, cluster = Listener("", "", ()), Cluster("", "", 0)
    totals.table_changed(TableDelta(dict.fromkeys("abcd", listener), {}, dict.fromkeys("abcd", cluster)))
    totals.count(0, told(*"abcd"))
    totals.table_changed(TableDelta(dict.fromkeys("abc"), {}, dict.fromkeys("abc")))
    assert set(totals.clusters) == {"b", "c", "d"}
    assert set(totals.listeners) == {"c", "d"}
    totals.table_changed(TableDelta({"c": listener}, {}, {"b": cluster}))
    totals.table_changed(TableDelta({"d": None}, {}, {"d": None}))
    totals.count(0, told(*"bcd"))
    assert counted(totals) == {name: {"resets": 2} for name in "bcd"}
    assert totals.listeners == {"c": {"accepted": 2}, "d": {"accepted": 1}}, "b was forgotten again for d"


def test_what_is_told_of_later_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "CLUSTERS_KEPT", 3)
    monkeypatch.setattr(counters, "LISTENERS_KEPT", 3)
    totals = Totals()
    for number in range(50):
        totals.table_changed(TableDelta({str(number): None}, {}, {str(number): None}))
        for late in range(number):
            totals.count(0, told(str(late)))
    assert len(totals.listeners) == len(totals.clusters) == 3


def test_servers_as_all_workers_see_them() -> None:
    one: Server = {
        "id": "a",
        "state": "up",
        "active": 1,
        "connections": 2,
        "requests": 3,
        "failures": 0,
        "latency": 0.1,
    }
    other: Server = {
        "id": "a",
        "state": "ejected",
        "active": 1,
        "connections": 0,
        "requests": 4,
        "failures": 5,
        "latency": 0.3,
    }
    alone: Server = {
        "id": "b",
        "state": "up",
        "active": 0,
        "connections": 0,
        "requests": 0,
        "failures": 0,
        "latency": 0.0,
    }
    both: Server = {
        "id": "a",
        "state": "ejected",
        "active": 2,
        "connections": 2,
        "requests": 7,
        "failures": 5,
        "latency": 0.3,
    }
    assert servers_together([{"/a:1": [one]}, {"/a:1": [other, alone]}, {}]) == {"/a:1": [both, alone]}
    assert one["active"] == 1
