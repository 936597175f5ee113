"""Shapes of metrics."""

from __future__ import annotations

from mesos_dns.metric_families import counter_by, cumulative


def test_a_counter_by_one_label() -> None:
    family = counter_by("pharos_dns_tcp_refused_total", "refused", "reason", {"full": 2, "client": 3})
    found = {(sample.name, sample.labels["reason"]): sample.value for sample in family.samples}
    assert found == {("pharos_dns_tcp_refused_total", "full"): 2, ("pharos_dns_tcp_refused_total", "client"): 3}


def test_buckets_hold_what_is_below_them_too() -> None:
    assert cumulative((0.1, 1.0), [1, 2, 4]) == [("0.1", 1.0), ("1.0", 3.0), ("+Inf", 7.0)]
