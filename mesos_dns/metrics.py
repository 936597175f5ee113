"""All metrics of mesos_dns: what the running parts have counted, as Prometheus reads it.

Those of DNS are in `metrics_dns`. Nothing is counted here: the parts keep plain integers and are read
when somebody asks. Labels are bounded: names of sources, event types, record types, route templates,
never a task or a query name.
What is told is read on the loop, part by part. The text is made in a thread, as are the process' own metrics (CPU,
memory, file descriptors), which read files.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from mesos_dns.api_context import LATENCY_BUCKETS, ApiContext
from mesos_dns.metric_families import counter_by, cumulative
from mesos_dns.metrics_dns import dns_metrics
from mesos_dns.metrics_resolver import resolver_metrics
from mesos_dns.metrics_watch import watch_metrics
from mesos_dns.model import Entity
from mesos_dns.sources.counters import SourceCounters

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

KINDS = (
    *("task", "node", "framework", "leadership", "app", "health"),
    *("vip_address", "vip", "reachability", "draining", "records"),
)


KEPT_FOR, KEPT_MOST = 4.0, 1.0
"""An answer is given again for so many times as long as it took to make, at most for so many seconds: however many ask,
they cost a fifth of the processor's time. A small one is made anew for all but those who ask at once."""

_CHUNK = 10_000
"""Entities that are counted at a stretch: below a millisecond."""


async def exposition(context: ApiContext) -> bytes:
    """The text format of all metrics (content type CONTENT_TYPE). It is made once for all who ask at a time."""
    page = context.metrics_page
    async with page.making:
        began = time.monotonic()
        if began >= page.good_until:
            page.text = await asyncio.to_thread(_text, await collected(context))
            now = time.monotonic()
            page.good_until = now + min(KEPT_MOST, KEPT_FOR * (now - began))
        return page.text


def _text(metrics: Iterable[Metric]) -> bytes:
    process = CollectorRegistry()
    ProcessCollector(registry=process)
    # One by one: the loop waits while a long text is put together.
    return b"".join([*(generate_latest(_Collected(metric)) for metric in metrics), generate_latest(process)])


class _Collected(Collector):
    """A metric that was read already."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Just this."""
        return (self._metric,)


def entity_counts(entities: Iterable[Entity]) -> dict[str, int]:
    """kind → how many, every kind named."""
    return _by_kind(Counter(map(type, entities)))


def _by_kind(counts: Mapping[type[Entity], int]) -> dict[str, int]:
    by_name = {kind.__name__: count for kind, count in counts.items()}
    names = {
        "health": "HealthOverlay",
        "vip_address": "VipAddress",
        "reachability": "Suspect",
        "records": "StaticRecords",
    }
    return {kind: by_name.get(names.get(kind, kind.capitalize()), 0) for kind in KINDS}


async def _sliced_counts(entities: Iterator[Entity]) -> dict[str, int]:
    """As `entity_counts`, in slices."""
    counts: Counter[type[Entity]] = Counter()
    while chunk := list(islice(entities, _CHUNK)):
        counts.update(map(type, chunk))
        await asyncio.sleep(0)
    return _by_kind(counts)


async def collected(context: ApiContext) -> list[Metric]:
    """Every metric of the process' parts as it is now, but those that the process itself has."""
    more = await context.more_metrics() if context.more_metrics is not None else ()
    kinds = await _sliced_counts(context.catalog.entities())
    found: list[Metric] = []
    for part in (
        _source_standing(context),
        _source_counts(
            {
                name: c
                for name, s in context.sources.items()
                if isinstance(c := getattr(s, "counters", None), SourceCounters)
            }
        ),
        _catalog(context, kinds),
        dns_metrics(context),
        resolver_metrics(context),
        watch_metrics(context),
        _hosts(context),
        _api(context),
    ):
        found += part  # each looks at tables that may change while the loop has its turn
        await asyncio.sleep(0)
    return [*found, *more]


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
    yield counter("pharos_source_reads_total", "single things that were read again after an event", lambda c: c.reads)
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


def _catalog(context: ApiContext, kinds: Mapping[str, int]) -> Iterator[Metric]:
    catalog = context.catalog
    entities = GaugeMetricFamily("pharos_catalog_entities", "entities that are known", labels=["kind"])
    for kind, count in kinds.items():
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


def _hosts(context: ApiContext) -> Iterator[Metric]:
    """How the hosts of masters, ZooKeeper and servers got their addresses."""
    boot = context.boot
    if boot is None:
        return
    yield counter_by(
        "pharos_source_host_lookups_total", "host names by where their addresses came from", "from", boot.counters
    )
    yield GaugeMetricFamily(
        "pharos_source_remembered_hosts", "host names whose last addresses are kept", value=len(boot.remembered)
    )
    yield CounterMetricFamily(
        "pharos_source_remembered_hosts_errors_total",
        "times that they could not be saved",
        value=boot.remembered.errors,
    )


def _api(context: ApiContext) -> Iterator[Metric]:
    counts = context.counters
    requests = CounterMetricFamily("pharos_api_requests_total", "HTTP requests", labels=["endpoint", "status"])
    for (endpoint, status), count in list(counts.requests.items()):
        requests.add_metric([endpoint, str(status)], count)
    seconds = HistogramMetricFamily("pharos_api_request_seconds", "time to answer HTTP requests", labels=["endpoint"])
    for endpoint, buckets in list(counts.buckets.items()):
        seconds.add_metric([endpoint], buckets=cumulative(LATENCY_BUCKETS, buckets), sum_value=counts.seconds[endpoint])
    yield from (requests, seconds)
    yield GaugeMetricFamily("pharos_api_requests_in_flight", "HTTP requests being answered", value=counts.in_flight)
    yield CounterMetricFamily(
        "pharos_api_connections_refused_total", "HTTP connections over the limit", value=counts.connections_refused
    )
    build = GaugeMetricFamily("pharos_api_build_info", "always 1; the version that runs", labels=["version"])
    build.add_metric([context.version], 1)
    yield build
