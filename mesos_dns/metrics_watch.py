"""The metrics of those who follow this process by /v1/watch."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mesos_dns.api_context import ApiContext
from mesos_dns.metric_families import counter_by


def watch_metrics(context: ApiContext) -> Iterator[Metric]:
    """Every metric of the part "watch"."""
    watch = context.watch
    if watch is None:
        return
    counts = watch.counters
    yield GaugeMetricFamily("pharos_watch_followers", "followers now", value=counts.now)
    yield GaugeMetricFamily(
        "pharos_watch_waiting", "followers that wait to be told everything", value=watch.turns.waiting
    )
    for name, text, label, values in (
        ("pharos_watch_followers_total", "followers by how they began", "began", counts.began),
        ("pharos_watch_ended_total", "followers that left, by why", "reason", counts.ended),
        ("pharos_watch_refused_total", "followers that were not taken, by why", "reason", counts.refused),
    ):
        yield counter_by(name, text, label, values)
    for name, text, value in (
        ("pharos_watch_messages_total", "messages sent", counts.messages),
        ("pharos_watch_sent_bytes_total", "bytes of them", counts.octets),
        ("pharos_watch_deltas_total", "messages of changes, each made once for all followers", counts.deltas),
        ("pharos_watch_untold_entities_total", "entities that can't be told", counts.untold),
    ):
        yield CounterMetricFamily(name, text, value=value)
    yield GaugeMetricFamily(
        "pharos_watch_journal_bytes", "bytes of changes that followers may resume from", value=watch.journal.octets
    )
