"""Values of traffic's metrics, and percentiles as Prometheus has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7._balance import LATENCY_BOUNDS
from lb7.autoscale.demand_measures import QUANTILES, TRAFFIC, measured, quantile
from lb7.autoscale.demand_window import BUCKETS, Sums

COUNTS = st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS)


def buckets(**counts: int) -> list[int]:
    """`b3=5`: so many in the bucket with that number."""
    return [counts.get(f"b{at}", 0) for at in range(BUCKETS)]


def test_what_nobody_asked_for_is_nothing() -> None:
    for kind in TRAFFIC:
        assert measured(Sums(), kind) == 0


def test_each_kind() -> None:
    sums = Sums(requests=12.5, concurrency=3, queue=1, answers=200, errors=3, latency=buckets(b6=200))
    assert measured(sums, "rps") == 12.5
    assert measured(sums, "concurrency") == 3
    assert measured(sums, "queue") == 1
    assert measured(sums, "error_rate") == 0.015
    assert measured(sums, "latency_p50") == pytest.approx(0.075)
    assert measured(sums, "latency_p95") == pytest.approx(0.0975)
    assert measured(Sums(errors=4), "error_rate") == 1, "all were refused"


@pytest.mark.parametrize(
    ("counts", "part", "expected"),
    [
        (buckets(), 0.5, 0.0),
        (buckets(b0=10), 0.5, 0.0005),
        (buckets(b0=10), 0.99, 0.00099),
        (buckets(b0=50, b2=50), 0.5, 0.001),
        (buckets(b0=50, b2=50), 0.75, 0.00375),
        (buckets(b15=1), 0.5, 60.0),
        (buckets(b0=1, b15=99), 0.99, 60.0),
        (buckets(b14=1), 0.5, 45.0),
    ],
)
def test_percentiles(counts: list[int], part: float, expected: float) -> None:
    assert quantile(part, counts) == pytest.approx(expected)


@given(counts=COUNTS, part=st.sampled_from(sorted(QUANTILES.values())))
def test_it_is_what_prometheus_computes(counts: list[int], part: float) -> None:
    """Its bucketQuantile, word for word, over cumulative buckets."""
    cumulative = [(bound, sum(counts[: at + 1])) for at, bound in enumerate((*LATENCY_BOUNDS, float("inf")))]
    if not cumulative[-1][1]:
        assert quantile(part, counts) == 0
        return
    rank = part * cumulative[-1][1]
    b = next((at for at, (_, count) in enumerate(cumulative[:-1]) if count >= rank), len(cumulative) - 1)
    if b == len(cumulative) - 1:
        assert quantile(part, counts) == cumulative[-2][0]
        return
    start, count = 0.0, cumulative[b][1]
    if b > 0:
        start, count, rank = cumulative[b - 1][0], count - cumulative[b - 1][1], rank - cumulative[b - 1][1]
    assert quantile(part, counts) == pytest.approx(start + (cumulative[b][0] - start) * (rank / count))


@given(counts=COUNTS)
def test_more_of_the_values_is_never_less(counts: list[int]) -> None:
    found = [quantile(part, counts) for part in (0.1, 0.5, 0.9, 0.95, 0.99)]
    assert found == sorted(found)
