"""Counts with bounded labels."""

from __future__ import annotations

from mesos_dns.resolver.counters import REASONS, ResolverCounters


def test_reasons_are_bounded() -> None:
    counters = ResolverCounters()
    for reason in (*REASONS, "something new", "something else"):
        counters.failed(reason)
    assert counters.failures == {**dict.fromkeys(REASONS, 1), "other": 2}
