"""The metrics of DNS: what Python counted and what workers counted, in one set of figures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from mesos_dns.api_context import ApiContext
from mesos_dns.catalog import Catalog
from mesos_dns.counters import Totals
from mesos_dns.metrics_dns import dns_metrics
from tests.fakes.questions import native_responder_of, packet, task, view_of

Labels = tuple[tuple[str, str], ...]


class _Once(Collector):
    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def collect(self):  # type: ignore[no-untyped-def]
        return dns_metrics(self._context)


def samples(context: ApiContext) -> dict[tuple[str, Labels], float]:
    """(name, sorted labels) → value."""
    registry = CollectorRegistry()
    registry.register(_Once(context))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def context_of() -> ApiContext:
    return ApiContext(view=view_of(task()), catalog=Catalog())


class Workers:
    """A table whose workers have counted."""

    def __init__(self) -> None:
        self.whole = Totals()
        self.whole.counts.update({"answered": 5, "truncated": 1, "dropped": 2, "limit_slipped": 3, "cookie_new": 4})
        self.whole.counts.update({"passed": 6, "overload": 7})
        self.whole.answers["mesos", "A", 0] = 5
        self.whole.queries[0] = 20
        self.whole.queries[1] = 30

    def totals(self) -> Totals:
        return self.whole

    def figures(self) -> dict[str, int]:
        return {"answers": 11, "memory": 12, "names": 13, "evicted": 14, "refused": 15, "flushed": 16}


def test_both_paths_are_counted_together() -> None:
    context = context_of()
    counts = context.dns_counters
    counts.queries["udp", "A"] = 7
    counts.response("udp", "mesos", "A", 3)
    counts.response("tcp", "", "other", 11)
    counts.response("udp", "mesos", "A", 0, "fast")
    counts.reused, counts.truncated, counts.dropped, counts.restarts = 8, 1, 1, 2
    counts.limited["slipped"], counts.cookies["valid"], counts.forwarded["timeout"] = 1, 12, 6
    counts.native = Workers()
    found = samples(context)

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert value("pharos_dns_queries_total", transport="udp", type="A") == 12
    responses = {"transport": "udp", "zone": "mesos", "type": "A"}
    assert value("pharos_dns_responses_total", **responses, rcode="NXDOMAIN", path="slow") == 1
    assert value("pharos_dns_responses_total", **responses, rcode="NOERROR", path="fast") == 6
    odd = {"transport": "tcp", "zone": "", "type": "other"}
    assert value("pharos_dns_responses_total", **odd, rcode="other", path="slow") == 1
    assert value("pharos_dns_answers_reused_total") == 13
    assert value("pharos_dns_truncated_total") == 2
    assert value("pharos_dns_dropped_total") == 3
    assert value("pharos_dns_limited_total", result="slipped") == 4
    assert value("pharos_dns_cookies_total", result="new") == 4
    assert value("pharos_dns_cookies_total", result="valid") == 12
    assert value("pharos_dns_forwarded_total", result="timeout") == 6
    assert value("pharos_dns_worker_queries_total", worker="0") == 20
    assert value("pharos_dns_worker_queries_total", worker="1") == 30
    assert value("pharos_dns_worker_passed_total") == 6
    assert value("pharos_dns_worker_overload_total") == 7
    assert value("pharos_dns_worker_restarts_total") == 2
    assert value("pharos_dns_table_memory_bytes") == 12
    assert value("pharos_dns_table_flushed_total") == 16


def test_without_workers_there_are_zeroes() -> None:
    found = samples(context_of())
    assert found["pharos_dns_table_answers", ()] == 0
    assert found["pharos_dns_worker_passed_total", ()] == 0


def test_what_an_earlier_table_counted_stays() -> None:
    context = context_of()
    context.dns_counters.serve(Workers())
    context.dns_counters.serve(Workers())
    found = samples(context)
    assert found["pharos_dns_worker_queries_total", (("worker", "1"),)] == 60
    assert found["pharos_dns_table_answers", ()] == 11


def test_answers_out_of_the_table_by_tcp_are_fast_ones() -> None:
    responder = native_responder_of(task())
    context = ApiContext(view=responder.view, catalog=Catalog(), dns_counters=responder.counters)
    for _ in range(3):
        responder.respond(packet("web.marathon.mesos"), "tcp", b"\x7f\0\0\1")
    found = samples(context)
    labels = {"transport": "tcp", "zone": "mesos", "type": "A", "rcode": "NOERROR"}
    assert found["pharos_dns_responses_total", tuple(sorted({**labels, "path": "slow"}.items()))] == 1
    assert found["pharos_dns_responses_total", tuple(sorted({**labels, "path": "fast"}.items()))] == 2
