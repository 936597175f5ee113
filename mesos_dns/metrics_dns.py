"""The metrics of the DNS server, of its workers and of the zones that it serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mesos_dns.api_context import ApiContext
from mesos_dns.counters import DnsCounters, Totals
from mesos_dns.metric_families import counter_by

_RCODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    9: "NOTAUTH",
    16: "BADVERS",
    23: "BADCOOKIE",
}


def dns_metrics(context: ApiContext) -> Iterator[Metric]:
    """Every metric of the part "dns"."""
    counts = DnsCounters.together([context.dns_counters, context.resolver_dns_counters])
    totals = counts.native_totals()
    yield from _answers(counts, totals)
    yield from _manners(counts, totals)
    yield from _workers(counts, totals)
    yield from _streams(counts)
    yield from _zones(context)


def _answers(counts: DnsCounters, totals: Totals) -> Iterator[Metric]:
    queries, responses = Counter(counts.queries), Counter(counts.responses)
    for (zone, kind, rcode), count in totals.answers.items():
        queries["udp", kind] += count
        responses["udp", zone, kind, rcode, "fast"] += count
    family = CounterMetricFamily("pharos_dns_queries_total", "questions by record type", labels=["transport", "type"])
    for labels, count in queries.items():
        family.add_metric(labels, count)
    yield family
    family = CounterMetricFamily(
        "pharos_dns_responses_total",
        "own answers by zone, record type, code, and whether they came out of the workers' table",
        labels=["transport", "zone", "type", "rcode", "path"],
    )
    for (transport, zone, kind, rcode, path), count in responses.items():
        family.add_metric([transport, zone, kind, _RCODES.get(rcode, "other"), path], count)
    yield family
    reused = counts.reused + totals.counts["answered"]
    yield CounterMetricFamily("pharos_dns_answers_compiled_total", "answers made from records", value=counts.compiled)
    yield CounterMetricFamily("pharos_dns_answers_reused_total", "answers that were ready", value=reused)
    yield CounterMetricFamily(
        "pharos_dns_truncated_total",
        "answers that did not fit (TC)",
        value=counts.truncated + totals.counts["truncated"],
    )
    yield CounterMetricFamily(
        "pharos_dns_faults_total", "questions that failed by a fault of ours", value=counts.faults
    )
    yield CounterMetricFamily(
        "pharos_dns_dropped_total", "packets that were no questions", value=counts.dropped + totals.counts["dropped"]
    )


def _manners(counts: DnsCounters, totals: Totals) -> Iterator[Metric]:
    limited, cookies = Counter(counts.limited), Counter(counts.cookies)
    for result in ("dropped", "slipped", "badcookie"):
        limited[result] += totals.counts[f"limit_{result}"]
    for result in ("new", "valid", "invalid"):
        cookies[result] += totals.counts[f"cookie_{result}"]
    for name, text, by_result in (
        ("pharos_dns_forwarded_total", "forwarded questions by what came of them", counts.forwarded),
        ("pharos_dns_limited_total", "answers over the rate limit by what went out instead", limited),
        ("pharos_dns_cookies_total", "questions with a cookie by what it was worth", cookies),
        ("pharos_dns_transfers_total", "zone transfers by how they ended", counts.transfers),
        ("pharos_dns_notifies_total", "notifications of secondaries by what came of them", counts.notifies),
    ):
        yield counter_by(name, text, "result", by_result)


def _workers(counts: DnsCounters, totals: Totals) -> Iterator[Metric]:
    by_worker = {str(number): count for number, count in totals.queries.items()}
    yield counter_by("pharos_dns_worker_queries_total", "datagrams that a native worker read", "worker", by_worker)
    for name, key, text in (
        ("pharos_dns_worker_passed_total", "passed", "questions that workers handed to Python"),
        (
            "pharos_dns_worker_overload_total",
            "overload",
            "questions that were lost because Python had too many to answer",
        ),
        ("pharos_dns_worker_send_errors_total", "send_errors", "answers that the system did not send"),
        ("pharos_dns_worker_batches_total", "batches", "times that workers read one or more datagrams"),
    ):
        yield CounterMetricFamily(name, text, value=totals.counts[key])
    yield CounterMetricFamily(
        "pharos_dns_worker_restarts_total", "workers that ended or hung and were replaced", value=counts.restarts
    )
    figures = counts.native.figures() if counts.native is not None else {}
    for name, key, text in (
        ("pharos_dns_table_answers", "answers", "answers in the workers' table"),
        ("pharos_dns_table_memory_bytes", "memory", "octets that the workers' table takes"),
        ("pharos_dns_table_names", "names", "names that the workers know to exist"),
    ):
        yield GaugeMetricFamily(name, text, value=figures.get(key, 0))
    for name, key, text in (
        ("pharos_dns_table_evicted_total", "evicted", "answers that made room for others"),
        ("pharos_dns_table_refused_total", "refused", "answers that there was no room for"),
        (
            "pharos_dns_table_flushed_total",
            "flushed",
            "times that the table was emptied because no free piece was large enough",
        ),
    ):
        yield CounterMetricFamily(name, text, value=figures.get(key, 0))


def _streams(counts: DnsCounters) -> Iterator[Metric]:
    for name, text, label, by_label in (
        ("pharos_dns_tcp_connections_total", "TCP and TLS connections taken", "transport", counts.tcp_connections),
        ("pharos_dns_tcp_refused_total", "TCP and TLS connections over a limit", "reason", counts.tcp_refused),
        ("pharos_dns_tcp_closed_total", "TCP and TLS connections that the server ended", "reason", counts.tcp_closed),
    ):
        yield counter_by(name, text, label, by_label)
    family = GaugeMetricFamily("pharos_dns_tcp_connections", "TCP and TLS connections now", labels=["transport"])
    for transport, count in list(counts.tcp_open.items()):
        family.add_metric([transport], count)
    yield family


def _zones(context: ApiContext) -> Iterator[Metric]:
    view = context.view
    owners = GaugeMetricFamily(
        "pharos_dns_zone_owners", "names with records, a task's canonical names not counted", labels=["zone"]
    )
    tasks = GaugeMetricFamily("pharos_dns_zone_tasks", "tasks with names", labels=["zone"])
    for zone in list(view.zones.values()):
        if zone.alias:
            continue
        named = sum(1 for _ in zone.tasks.owners()) if zone.tasks is not None else 0
        owners.add_metric([zone.origin], len(zone.store) + named)
        if zone.tasks is not None:
            tasks.add_metric([zone.origin], len(zone.tasks))
    yield from (owners, tasks)
    yield GaugeMetricFamily("pharos_dns_zone_serial", "SOA serial of the cluster's zones", value=view.serial)
    yield GaugeMetricFamily("pharos_dns_reverse_names", "addresses with a reverse name", value=len(view.pointers))
    yield CounterMetricFamily(
        "pharos_dns_refused_names_total",
        "records left out because their names can't stand on the wire",
        value=view.refused,
    )
