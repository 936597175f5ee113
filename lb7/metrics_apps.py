"""What goes to each app's port, as metrics: a line for each port in each family.

With thousands of apps these are nearly all lines there are. So only their numbers are gathered, in slices; a sample is
made when it is read, which is done in a thread, and is gone once it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, cast

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from lb7._balance import LATENCY_BOUNDS, Tally
from lb7.counters import Totals
from lb7.table import Cluster
from lb7.wire import Counts, Value
from lb7.worker_counters import add
from mesos_dns.sources.pace import Pace

CODES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
"""Statuses by hundreds; none: the client got no answer."""

REQUESTS = ("pharos_l7_requests_total", "answers to requests, by status; none: the client went away before")
LATENCY = ("pharos_l7_request_latency_seconds", "time from sending a request to the head of the server's answer")
SERVERS = ("pharos_l7_servers", "servers of routed ports, by state")

COUNTERS = {
    "requests": ("pharos_l7_admitted_total", "requests (of TCP: connections) for this port"),
    "received": ("pharos_l7_received_bytes_total", "octets from clients"),
    "sent": ("pharos_l7_sent_bytes_total", "octets to clients"),
    "retries": ("pharos_l7_retries_total", "further tries of requests"),
    "retries_refused": ("pharos_l7_retries_refused_total", "further tries that the budget had no room for"),
    "connect_failures": ("pharos_l7_connect_failures_total", "connections to servers that could not be made"),
    "resets": ("pharos_l7_resets_total", "servers that ended a connection instead of answering"),
    "timeouts": ("pharos_l7_server_timeouts_total", "servers that did not answer in time"),
    "ejections": ("pharos_l7_ejections_total", "times that a server was left alone for its failures"),
    "overflow": ("pharos_l7_overflow_total", "requests refused because there were too many"),
    "waited": ("pharos_l7_waited_total", "requests that waited for a server with room"),
    "queue_timeouts": ("pharos_l7_queue_timeouts_total", "requests that waited for too long"),
    "unavailable": ("pharos_l7_unavailable_total", "requests for which there was no server"),
    "denied": ("pharos_l7_denied_total", "requests of clients that are in no allowed network"),
    "unauthorized": ("pharos_l7_unauthorized_total", "requests without the right password"),
    "held": ("pharos_l7_held_total", "requests that were held for a sleeping app"),
    "hold_timeouts": ("pharos_l7_hold_timeouts_total", "requests that were held for too long"),
}
"""What workers count for each port, and its metric."""

FIGURES = {
    "active": ("pharos_l7_active_requests", "requests (of TCP: connections) now, those that wait included"),
    "waiting": ("pharos_l7_waiting", "requests that wait for a server with room"),
    "held": ("pharos_l7_held_requests", "requests that are held for a sleeping app"),
}

STATES = ("up", "down", "draining")

_NAME = re.compile(r"([^:]*):(\d+)")


class Row(NamedTuple):
    """Labels and counts."""

    labels: dict[str, str]
    counts: Mapping[str, Value]


async def apps(totals: Totals, clusters: Mapping[str, Cluster]) -> list[Metric]:
    """What was counted for each port, and how its servers are. `clusters` with `down` as checks have it."""
    counted = await _rows(totals.clusters)
    now = await _rows(totals.clusters_now)
    servers = await _rows({name: _states(cluster) for name, cluster in clusters.items()})
    found = [_metric(*REQUESTS, "counter", _Requests(REQUESTS[0], counted))]
    found.append(_metric(*LATENCY, "histogram", _Latencies(LATENCY[0], counted)))
    found += [_metric(*family, "counter", _Samples(family[0], counted, word)) for word, family in COUNTERS.items()]
    found += [_metric(*family, "gauge", _Samples(family[0], now, word)) for word, family in FIGURES.items()]
    found.append(_metric(*SERVERS, "gauge", _Servers(SERVERS[0], servers)))
    return found


def labels_of(cluster: str) -> dict[str, str]:
    """The app and the service port that a cluster's name begins with."""
    match = _NAME.match(cluster)
    return {"app": match[1], "port": match[2]} if match is not None else {"app": cluster, "port": ""}


async def _rows(counts: Mapping[str, Mapping[str, Value] | Tally]) -> list[Row]:
    """One row for each app and port: several Marathons may have an app of one id."""
    pace = Pace()
    rows: dict[tuple[str, ...], tuple[dict[str, str], Counts]] = {}
    for name, values in list(counts.items()):
        await pace.turn()
        labels = labels_of(name)
        if isinstance(values, Tally):
            values = cast("Counts", values.counts_dict())
        add(rows.setdefault(tuple(labels.values()), (labels, {}))[1], values)
    return [Row(labels, values) for labels, values in rows.values()]


def _states(cluster: Cluster) -> dict[str, Value]:
    counts: dict[str, int] = dict.fromkeys(STATES, 0)
    for server in cluster.servers:
        counts["down" if server.down else "draining" if server.draining else "up"] += 1
    return {**counts}


def _metric(name: str, text: str, kind: str, samples: _Samples) -> Metric:
    metric = Metric(name.removesuffix("_total"), text, kind)
    metric.samples = cast("list[Sample]", samples)
    return metric


class _Samples:
    """The samples of a family, each made when it is read; what is zero and was never anything else is left out."""

    def __init__(self, name: str, rows: Iterable[Row], word: str = "") -> None:
        self._name, self._rows, self._word = name, rows, word

    def __iter__(self) -> Iterator[Sample]:
        for row in self._rows:
            value = row.counts.get(self._word, 0)
            if value and not isinstance(value, list):
                yield Sample(self._name, row.labels, value)


class _Requests(_Samples):
    """By status."""

    def __iter__(self) -> Iterator[Sample]:
        for row in self._rows:
            for code, count in zip(CODES, _list(row.counts, "status"), strict=False):
                if count:
                    yield Sample(self._name, {**row.labels, "code": code}, count)


class _Latencies(_Samples):
    """A histogram for each port that has answered."""

    def __iter__(self) -> Iterator[Sample]:
        for row in self._rows:
            counts = _list(row.counts, "latency")
            so_far: int | float = 0
            for bound, count in zip((*map(str, LATENCY_BOUNDS), "+Inf"), counts, strict=False):
                so_far += count
                yield Sample(f"{self._name}_bucket", {**row.labels, "le": bound}, so_far)
            if counts:
                total = row.counts.get("latency_sum", 0.0)
                yield Sample(f"{self._name}_count", row.labels, so_far)
                yield Sample(f"{self._name}_sum", row.labels, total if not isinstance(total, list) else 0.0)


class _Servers(_Samples):
    """By state."""

    def __iter__(self) -> Iterator[Sample]:
        for row in self._rows:
            for state in STATES:
                value = row.counts[state]
                yield Sample(self._name, {**row.labels, "state": state}, value if not isinstance(value, list) else 0)


def _list(counts: Mapping[str, Value], word: str) -> list[int | float]:
    value = counts.get(word)
    return value if isinstance(value, list) else []
