"""Ratios are made within a round, then their median is taken."""

from __future__ import annotations

import pytest

from tests.bench import dns_rounds
from tests.bench.dns_rounds import Row, differences, summary
from tests.bench.dns_servers import Server


def row(cpu: float, worker: float = 0.0, lost: int = 0) -> Row:
    """A burst's figures."""
    return {"cpu_us": cpu, "worker_cpu_us": worker, "lost": lost, "wrong": 0, "unexpected": 0, "truncated": 0}


def test_ratios_are_of_the_same_round() -> None:
    # The third round was slow for all: the median of ratios is not the ratio of medians.
    found = summary({"pharos": [row(2, 1), row(3, 1), row(8, 1)], "knot": [row(4), row(4), row(16, lost=2)]})
    assert found["ratio_of_cpu_to"] == {"knot": 0.5}
    assert found["ratio_of_worker_cpu_to"] == {"knot": 0.25}
    assert found["knot"]["lost"] == 2
    assert found["pharos"]["cpu_us"] == 3


def test_no_ratio_without_workers_or_without_pharos() -> None:
    assert summary({"pharos": [row(2)], "knot": [row(4)]})["ratio_of_worker_cpu_to"] == {}
    assert summary({"knot": [row(4)], "nsd": [row(4)]})["ratio_of_cpu_to"] == {}


def test_ratio_of_what_lies_beyond_the_echo() -> None:
    rows = {"pharos": [row(2), row(3)], "knot": [row(5), row(6)], "nsd": [row(1), row(9)], "echo": [row(1), row(2)]}
    found = summary(rows)
    assert found["ratio_of_cpu_beyond_echo_to"] == {"knot": 0.25}  # NSD took no more than the echo once
    assert "ratio_of_cpu_beyond_echo_to" not in summary({"pharos": [row(2)], "knot": [row(4)]})


def test_ttl_and_aa_are_no_difference_between_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "a": (0, True, ["x. 100 a 192.0.2.1", "x. 20 a 192.0.2.2"]),
        "b": (0, False, ["x. 30 a 192.0.2.2", "x. 90 a 192.0.2.1"]),
        "c": (0, False, ["x. 90 a 192.0.2.1"]),
        "d": (3, False, ["x. 90 a 192.0.2.1"]),
    }
    monkeypatch.setattr(dns_rounds, "said_by", lambda server, *_: said[server.name])

    def different(names: str, of_a_cache: bool) -> int:
        servers = [Server(name, 0, ("", 0)) for name in names]
        found: int = differences(servers, [("x.", "A")], 1, of_a_cache)["different"]
        return found

    assert (different("ab", True), different("ab", False)) == (0, 1)
    assert (different("bc", True), different("cd", True)) == (1, 1)
