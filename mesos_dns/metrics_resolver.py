"""The metrics of the node's resolver: its cache, its upstreams, and what it keeps on the machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from mesos_dns.api_context import ApiContext
from mesos_dns.counters import DnsCounters, Totals
from mesos_dns.fastpath import CACHE_ZONE
from mesos_dns.message import NXDOMAIN
from mesos_dns.metric_families import counter_by, cumulative
from mesos_dns.resolver.tally import BUCKETS
from mesos_dns.resolver.upstreams import UpstreamStatus

_UPSTREAM = ["upstream", "zone"]
_STATES = ("ours", "paused", "original")


def resolver_metrics(context: ApiContext) -> Iterator[Metric]:
    """Every metric of the part "resolver"; none while it is off."""
    resolving = context.resolving()
    if resolving is None:
        return
    status = resolving.status()
    counts = context.resolver_dns_counters
    totals = counts.native_totals()
    yield from _cache(status["cache"], totals, counts)
    yield CounterMetricFamily(
        "pharos_resolver_prohibited_total",
        "questions of clients that `allow` does not name",
        value=counts.prohibited + totals.counts["prohibited"],
    )
    yield from _upstreams(resolving.upstreams.status())
    yield from _machine(status)


def _cache(status: Mapping[str, Any], totals: Totals, counts: DnsCounters) -> Iterator[Metric]:
    results = Counter(status["results"])
    fast = [(zone, rcode, count) for (zone, _, rcode), count in totals.answers.items()]
    fast += [(zone, rcode, n) for (_, zone, _, rcode, path), n in list(counts.responses.items()) if path == "fast"]
    for zone, rcode, count in fast:
        if zone == CACHE_ZONE:
            results["negative" if rcode == NXDOMAIN else "hit"] += count
    results["overload"] += totals.counts["held_back"]
    results["stale"] += totals.counts["stale"]  # which are hits or negative as well: the table does not tell apart
    yield counter_by(
        "pharos_resolver_cache_total", "questions beyond our own zones by how they were answered", "result", results
    )
    failures = status["failures"]
    yield counter_by("pharos_resolver_failures_total", "questions that no upstream answered", "reason", failures)
    yield counter_by("pharos_resolver_kept_total", "answers of upstreams that were kept", "kind", status["kept"])
    for name, key, text in (
        ("pharos_resolver_cache_entries", "entries", "answers that are kept"),
        ("pharos_resolver_cache_bytes", "octets", "octets of their records"),
        ("pharos_resolver_kept_failures", "kept_failures", "failures that are kept"),
        ("pharos_resolver_in_flight", "in_flight", "questions that upstreams are being asked"),
        ("pharos_resolver_waiting", "waiting", "clients that wait for an upstream"),
    ):
        yield GaugeMetricFamily(name, text, value=status[key])
    yield CounterMetricFamily(
        "pharos_resolver_cache_evicted_total", "answers that made room for others", value=status["evicted"]
    )


def _upstreams(upstreams: Sequence[UpstreamStatus]) -> Iterator[Metric]:
    sent = CounterMetricFamily(
        "pharos_resolver_upstream_queries_total", "questions sent", labels=[*_UPSTREAM, "transport"]
    )
    results = CounterMetricFamily(
        "pharos_resolver_upstream_results_total", "what came of them", labels=[*_UPSTREAM, "result"]
    )
    seconds = HistogramMetricFamily(
        "pharos_resolver_upstream_seconds", "time that upstreams took to answer", labels=_UPSTREAM
    )
    score = GaugeMetricFamily(
        "pharos_resolver_upstream_score_seconds", "what an upstream is ranked by, the lowest first", labels=_UPSTREAM
    )
    looping = GaugeMetricFamily(
        "pharos_resolver_upstream_looping", "1 while questions to it come back to us", labels=_UPSTREAM
    )
    connections = GaugeMetricFamily("pharos_resolver_upstream_connections", "open connections to it", labels=_UPSTREAM)
    for each in upstreams:
        labels = [each.label, each.zone]
        for transport, count in each.sent.items():
            sent.add_metric([*labels, transport], count)
        for result, count in each.results.items():
            results.add_metric([*labels, result], count)
        seconds.add_metric(labels, buckets=cumulative(BUCKETS, each.buckets), sum_value=each.seconds)
        score.add_metric(labels, each.score / 1000)
        looping.add_metric(labels, each.looping)
        connections.add_metric(labels, each.connections)
    yield from (sent, results, seconds, score, looping, connections)


def _machine(status: Mapping[str, Any]) -> Iterator[Metric]:
    addresses, file = status["addresses"], status["resolv_conf"]
    if addresses is not None:
        yield GaugeMetricFamily(
            "pharos_resolver_addresses_missing",
            "addresses of `listen` that the machine lacks",
            value=len(addresses["missing"]),
        )
        yield CounterMetricFamily(
            "pharos_resolver_addresses_restored_total", "changes of others put right", value=addresses["restored"]
        )
    if file is not None:
        state = GaugeMetricFamily("pharos_resolver_resolv_conf", "1 for the state that it is in", labels=["state"])
        for name in _STATES:
            state.add_metric([name], name == file["state"])
        yield state
        yield CounterMetricFamily(
            "pharos_resolver_resolv_conf_replaced_total", "changes of others taken back", value=file["replaced"]
        )
        yield CounterMetricFamily(
            "pharos_resolver_resolv_conf_given_total",
            "times that the watchdog gave the original back",
            value=file["given_back"],
        )
