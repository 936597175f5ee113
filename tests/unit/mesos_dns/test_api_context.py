"""Readiness and the API's own counts."""

from __future__ import annotations

import pytest

from mesos_dns.api_context import LATENCY_BUCKETS, ApiContext, ApiCounters
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.zone import ZoneView


def test_counts_by_endpoint() -> None:
    counters = ApiCounters()
    counters.count("/v1/tasks", 200, 0.0005)
    counters.count("/v1/tasks", 200, LATENCY_BUCKETS[0])
    counters.count("/v1/tasks", 503, 100.0)
    assert counters.requests == {("/v1/tasks", 200): 2, ("/v1/tasks", 503): 1}
    assert counters.buckets["/v1/tasks"] == [2, 0, 0, 0, 0, 0, 0, 1]
    assert counters.seconds["/v1/tasks"] == pytest.approx(100.0015)


def test_ready_once_every_source_has_told_all() -> None:
    catalog = Catalog()
    context = ApiContext(ZoneView(DnsConfig()), catalog)
    assert context.readiness().ready
    for name in ("mesos", "file"):
        catalog.register(name)
    catalog.mark("file", connected=True, synced=True)
    assert not context.readiness().ready
    catalog.sources["mesos"].restored = True
    assert context.readiness().ready
    assert [row.stale for row in context.readiness().sources] == [True, False]
    context.draining = True
    assert not context.readiness().ready
