"""Ratios are made within a round, then their median is taken."""

from __future__ import annotations

from tests.bench.dns_rounds import Row, summary


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
