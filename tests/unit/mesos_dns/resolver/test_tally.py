"""Counters of one upstream."""

from __future__ import annotations

from mesos_dns.resolver.tally import BUCKETS, Tally


def test_borders_belong_to_the_bucket_below() -> None:
    tally = Tally()
    for seconds in (0.0005, 0.001, 0.0011, 5.0, 7.0):
        tally.took(seconds)
    assert tally.buckets == [2, 1, *[0] * 7, 1, 1]
    assert len(tally.buckets) == len(BUCKETS) + 1
    assert tally.seconds == 0.0005 + 0.001 + 0.0011 + 5.0 + 7.0
