"""What a metric of traffic is, from what the edges counted: pure.

| kind | value |
|---|---|
| rps | requests (of TCP: connections) a second |
| concurrency | mean of those in flight: at servers, or waiting |
| queue | mean of those that wait: for a server with room, or for the app to wake |
| latency_p50, _p95, _p99 | seconds to the head of the server's answer, by interpolation within the histogram's bucket |
| error_rate | answers of 500 or more, ours among them, of all answers; of TCP: connections that no server got |
"""

from __future__ import annotations

from collections.abc import Sequence

from lb7._balance import LATENCY_BOUNDS
from lb7.autoscale.demand_window import Sums
from lb7.autoscale.policy import Kind

QUANTILES: dict[Kind, float] = {"latency_p50": 0.5, "latency_p95": 0.95, "latency_p99": 0.99}
TRAFFIC: frozenset[Kind] = frozenset({"rps", "concurrency", "queue", "error_rate", *QUANTILES})
"""Kinds that edges know."""


def measured(sums: Sums, kind: Kind) -> float:
    """The value of a metric of TRAFFIC; latencies and error rate are 0 where there was no request."""
    if kind == "rps":
        return sums.requests
    if kind == "concurrency":
        return sums.concurrency
    if kind == "queue":
        return sums.queue
    if kind == "error_rate":
        answers = max(sums.answers, sums.errors)
        return sums.errors / answers if answers else 0.0
    return quantile(QUANTILES[kind], sums.latency)


def quantile(part: float, buckets: Sequence[int]) -> float:
    """What so large a part of the values is below, as Prometheus' histogram_quantile has it: `buckets` are by
    LATENCY_BOUNDS, values are spread evenly within one; of the last, which has no end, it is where that begins."""
    total = sum(buckets)
    if not total:
        return 0.0
    rank, below, lower = part * total, 0, 0.0
    for bound, count in zip(LATENCY_BOUNDS, buckets, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return lower
