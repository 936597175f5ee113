"""Shapes of metrics that several parts have: a counter by one label, a histogram's buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, Metric


def counter_by(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    """A counter with one label; `values` may grow meanwhile."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in list(values.items()):
        family.add_metric([value], count)
    return family


def cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """(upper bound, how many up to it) of counts per bucket, the last of which has what is above all bounds."""
    texts = [*map(str, bounds), "+Inf"]
    return [(bound, float(sum(counts[: number + 1]))) for number, bound in enumerate(texts)]
