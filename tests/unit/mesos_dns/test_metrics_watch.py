"""Metrics of followers."""

from __future__ import annotations

import pytest

from mesos_dns.api_context import ApiContext
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.metrics_watch import watch_metrics
from mesos_dns.watch import Watch
from mesos_dns.watch_whole import Turns
from mesos_dns.zone import ZoneView

pytestmark = pytest.mark.asyncio


class Waiter:
    def wake(self) -> None:
        pass


def samples(watch: Watch | None) -> dict[tuple[str, ...], float]:
    context = ApiContext(ZoneView(DnsConfig()), Catalog(), watch=watch)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in watch_metrics(context)
        for sample in family.samples
    }


async def test_every_count_has_its_metric() -> None:
    watch = Watch(Catalog())
    watch.counters.now = 3
    watch.counters.began["digests"] = 2
    watch.counters.ended["slow"] = 1
    watch.counters.refused["limit"] = 4
    watch.counters.messages, watch.counters.octets, watch.counters.deltas, watch.counters.untold = 5, 6, 7, 8
    watch.journal.append(b"12345")
    watch.turns = Turns(1)
    for _ in range(4):
        watch.turns.granted(Waiter())
    assert samples(watch) == {
        ("pharos_watch_followers",): 3,
        ("pharos_watch_waiting",): 3,
        ("pharos_watch_followers_total", "digests"): 2,
        ("pharos_watch_ended_total", "slow"): 1,
        ("pharos_watch_refused_total", "limit"): 4,
        ("pharos_watch_messages_total",): 5,
        ("pharos_watch_sent_bytes_total",): 6,
        ("pharos_watch_deltas_total",): 7,
        ("pharos_watch_untold_entities_total",): 8,
        ("pharos_watch_journal_bytes",): 5,
    }


async def test_nothing_without_a_watch() -> None:
    assert samples(None) == {}
