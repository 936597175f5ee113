"""All metrics of mesos_dns: what the running parts have counted, as Prometheus reads it.

Those of DNS are in `metrics_dns`. Nothing is counted here: the parts keep plain integers and are read
when somebody asks. Labels are bounded: names of sources, event types, record types, route templates,
never a task or a query name.
The process' own metrics (CPU, memory, file descriptors) are added from a thread, as they read files.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from mesos_dns.api_context import LATENCY_BUCKETS, ApiContext
from mesos_dns.metrics_dns import dns_metrics
from mesos_dns.model import Entity
from mesos_dns.sources.counters import SourceCounters

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

KINDS = ("task", "node", "framework", "leadership", "app", "health", "vip_address", "records")


async def exposition(context: ApiContext) -> bytes:
    """The text format of all metrics (content type CONTENT_TYPE)."""
    registry = CollectorRegistry()
    registry.register(PartsCollector(context))
    return generate_latest(registry) + await asyncio.to_thread(_process)


def _process() -> bytes:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def entity_counts(entities: Iterable[Entity]) -> dict[str, int]:
    """kind → how many, every kind named."""
    by_type = Counter(map(type, entities))
    by_name = {kind.__name__: count for kind, count in by_type.items()}
    names = {"health": "HealthOverlay", "vip_address": "VipAddress", "records": "StaticRecords"}
    return {kind: by_name.get(names.get(kind, kind.capitalize()), 0) for kind in KINDS}


class PartsCollector(Collector):
    """Reads the parts of a process."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def describe(self) -> list[Metric]:
        """Nothing: asking for names alone must not walk the tables."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, by part."""
        context = self._context
        yield from _source_standing(context)
        yield from _source_counts(
            {
                name: c
                for name, s in context.sources.items()
                if isinstance(c := getattr(s, "counters", None), SourceCounters)
            }
        )
        yield from _catalog(context)
        yield from dns_metrics(context)
        yield from _api(context)


def _source_standing(context: ApiContext) -> Iterator[Metric]:
    statuses = context.catalog.sources.values()
    now = time.time()
    connected = GaugeMetricFamily("pharos_source_connected", "1 while the source is connected", labels=["source"])
    synced = GaugeMetricFamily("pharos_source_synced", "1 once the source told all it knows", labels=["source"])
    restored = GaugeMetricFamily(
        "pharos_source_restored",
        "1 while what is served of the source was saved by an earlier process",
        labels=["source"],
    )
    stale = GaugeMetricFamily(
        "pharos_source_stale_seconds", "how long what is served may be out of date, 0 when it is not", labels=["source"]
    )
    entities = GaugeMetricFamily("pharos_source_entities", "entities that the source speaks of", labels=["source"])
    for status in statuses:
        labels = [status.name]
        connected.add_metric(labels, status.connected)
        synced.add_metric(labels, status.synced)
        restored.add_metric(labels, status.restored)
        stale.add_metric(labels, status.age(now))
        entities.add_metric(labels, len(context.catalog.said(status.name)))
    yield from (connected, synced, restored, stale, entities)


def _source_counts(counters: Mapping[str, SourceCounters]) -> Iterator[Metric]:
    def counter(name: str, text: str, read: Callable[[SourceCounters], float]) -> Metric:
        family = CounterMetricFamily(name, text, labels=["source"])
        for source, counts in counters.items():
            family.add_metric([source], read(counts))
        return family

    events = CounterMetricFamily("pharos_source_events_total", "events received", labels=["source", "type"])
    errors = CounterMetricFamily("pharos_source_errors_total", "attempts that failed", labels=["source", "kind"])
    held = GaugeMetricFamily(
        "pharos_source_held_agents", "agents that a new leader has not heard of, whose tasks stay", labels=["source"]
    )
    held_tasks = GaugeMetricFamily(
        "pharos_source_held_tasks", "registrations that vanished with a lost session and stay", labels=["source"]
    )
    event_at = GaugeMetricFamily(
        "pharos_source_last_event_timestamp_seconds", "when the last event came, 0 before the first", labels=["source"]
    )
    sync_at = GaugeMetricFamily(
        "pharos_source_last_sync_timestamp_seconds", "when the last sync ended, 0 before the first", labels=["source"]
    )
    for source, counts in counters.items():
        for kind, count in list(counts.events.items()):
            events.add_metric([source, kind], count)
        for kind, count in list(counts.errors.items()):
            errors.add_metric([source, kind], count)
        held.add_metric([source], counts.held_agents)
        held_tasks.add_metric([source], counts.held_tasks)
        event_at.add_metric([source], counts.last_event_at)
        sync_at.add_metric([source], counts.last_sync_at)
    yield from (events, errors, held, held_tasks, event_at, sync_at)
    yield counter("pharos_source_received_bytes_total", "bytes read", lambda c: c.bytes)
    yield counter("pharos_source_connects_total", "connections made", lambda c: c.connects)
    yield counter("pharos_source_reconnects_total", "connections lost and tried again", lambda c: c.reconnects)
    yield counter("pharos_source_syncs_total", "times that everything was told", lambda c: c.syncs)
    yield counter("pharos_source_sync_seconds_total", "time spent on syncs", lambda c: c.sync_seconds)
    yield counter(
        "pharos_source_malformed_total", "documents, events or lines that could not be read", lambda c: c.malformed
    )
    yield counter(
        "pharos_source_skipped_entities_total", "tasks, agents or frameworks left out", lambda c: c.skipped_entities
    )
    yield counter("pharos_source_skipped_fields_total", "fields left out of an entity", lambda c: c.skipped_fields)
    yield counter("pharos_source_unknown_tasks_total", "updates of tasks nobody had told of", lambda c: c.unknown_tasks)


def _catalog(context: ApiContext) -> Iterator[Metric]:
    catalog = context.catalog
    entities = GaugeMetricFamily("pharos_catalog_entities", "entities that are known", labels=["kind"])
    for kind, count in entity_counts(catalog.entities()).items():
        entities.add_metric([kind], count)
    yield entities
    yield CounterMetricFamily("pharos_catalog_changes_total", "real changes of entities", value=catalog.version)
    yield CounterMetricFamily(
        "pharos_catalog_listener_errors_total", "changes that a part failed to take in", value=catalog.listener_errors
    )
    saved = context.saved
    if saved is not None:
        yield CounterMetricFamily("pharos_catalog_saves_total", "times that it was saved", value=saved.saves)
        yield CounterMetricFamily(
            "pharos_catalog_save_errors_total", "times that it could not be saved", value=saved.errors
        )
        yield GaugeMetricFamily(
            "pharos_catalog_last_save_timestamp_seconds",
            "when this process last saved it, 0 before the first time",
            value=saved.last_save_at,
        )


def _api(context: ApiContext) -> Iterator[Metric]:
    counts = context.counters
    requests = CounterMetricFamily("pharos_api_requests_total", "HTTP requests", labels=["endpoint", "status"])
    for (endpoint, status), count in list(counts.requests.items()):
        requests.add_metric([endpoint, str(status)], count)
    seconds = HistogramMetricFamily("pharos_api_request_seconds", "time to answer HTTP requests", labels=["endpoint"])
    for endpoint, buckets in list(counts.buckets.items()):
        bounds = [*map(str, LATENCY_BUCKETS), "+Inf"]
        cumulative = [(bound, float(sum(buckets[: number + 1]))) for number, bound in enumerate(bounds)]
        seconds.add_metric([endpoint], buckets=cumulative, sum_value=counts.seconds[endpoint])
    yield from (requests, seconds)
    yield GaugeMetricFamily("pharos_api_requests_in_flight", "HTTP requests being answered", value=counts.in_flight)
    yield CounterMetricFamily(
        "pharos_api_connections_refused_total", "HTTP connections over the limit", value=counts.connections_refused
    )
    build = GaugeMetricFamily("pharos_api_build_info", "always 1; the version that runs", labels=["version"])
    build.add_metric([context.version], 1)
    yield build
