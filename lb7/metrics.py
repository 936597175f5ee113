"""All metrics of lb7: listeners and workers, the routes, what goes to each app's port.

What workers count comes from `lb7/counters.py`, a second old at most. Labels are bounded: an app's id and its service
port, a listener's name, words of ours; never a task, a host or a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from lb7._http1 import FAULTS
from lb7.counters import Totals
from lb7.demand import EdgeDemand
from lb7.metrics_apps import apps
from lb7.server_checks import ServerChecks
from lb7.table import Cluster
from lb7.view import RouteView
from lb7.wire import Value
from mesos_dns.sources.pace import Pace

BAD_REQUESTS = frozenset({*FAULTS, "ambiguous", "bad_chunks", "bad_redirect", "connect", "expectation", "long_body"})
"""Words of listeners for what clients may not ask for; those beside FAULTS are of requests that could be read."""

TURNED_AWAY = frozenset({"max_connections", "max_connections_per_client", "closed"})
"""Words for connections that were not served."""

_OWN = frozenset({"accepted", "requests", "received", "sent", "no_route", "open"})


class Carriers(Protocol):
    """The workers, as lb7.workers.Workers."""

    @property
    def replaced(self) -> int:
        """How often one had to be started again."""

    @property
    def problems(self) -> Mapping[str, str]:
        """Listeners that are not listened on."""

    def totals(self) -> Totals:
        """What they have counted."""

    def status(self) -> Mapping[str, Any]:
        """How they are: `workers`, `certificates`."""


@dataclass
class L7Parts:
    """What is looked at; None: there are no workers, no checks, or nobody to tell of demand, in this process."""

    view: RouteView
    workers: Carriers | None = None
    checks: ServerChecks | None = None
    demand: EdgeDemand | None = None


class L7Metrics:
    """Gives the metrics of what `parts` returns; None: `[l7]` is off, and there are none."""

    def __init__(self, parts: Callable[[], L7Parts | None]) -> None:
        self._parts = parts

    async def collect(self) -> list[Metric]:
        """All of them now. Thousands of apps are looked through in slices."""
        parts = self._parts()
        if parts is None:
            return []
        found = list(_routes(parts))
        totals = parts.workers.totals() if parts.workers is not None else Totals()
        if parts.workers is not None:
            found += _workers(parts.workers, totals)
        if parts.checks is not None:
            found += _checks(parts.checks)
        if parts.demand is not None:
            found += _demand(parts.demand)
        return found + await apps(totals, await _marked(parts))


async def _marked(parts: L7Parts) -> dict[str, Cluster]:
    """The clusters, with `down` as checks have it."""
    clusters = parts.view.table.clusters
    if parts.checks is None:
        return clusters
    pace = Pace()
    found = {}
    for name, cluster in clusters.items():
        await pace.turn()
        found[name] = parts.checks.marked(cluster)
    return found


def _routes(parts: L7Parts) -> Iterator[Metric]:
    table = parts.view.table
    routes = sum(len(rules.routes) for rules in table.hosts.values())
    yield GaugeMetricFamily("pharos_l7_listeners", "listeners of the route table", value=len(table.listeners))
    yield GaugeMetricFamily("pharos_l7_hosts", "hosts that have rules, each in each table", value=len(table.hosts))
    yield GaugeMetricFamily("pharos_l7_routes", "rules that lead to an app's port", value=routes)
    yield GaugeMetricFamily("pharos_l7_clusters", "ports of apps that are routed", value=len(table.clusters))
    problems = GaugeMetricFamily("pharos_l7_unsupported", "what of apps is not carried out", labels=["reason"])
    for reason, count in list(parts.view.problem_counts.items()):
        problems.add_metric([reason], count)
    yield problems
    yield CounterMetricFamily(
        "pharos_l7_faults_total", "apps and changes that could not be taken in by a fault", value=parts.view.faults
    )


def _workers(workers: Carriers, totals: Totals) -> Iterator[Metric]:
    status = workers.status()
    serving = sum(1 for worker in status["workers"] if worker["version"] >= 0)
    yield GaugeMetricFamily("pharos_l7_workers", "processes that carry traffic", value=serving)
    yield CounterMetricFamily("pharos_l7_worker_restarts_total", "workers that were started again", workers.replaced)
    yield GaugeMetricFamily(
        "pharos_l7_failed_listeners", "listeners that are not listened on", value=len(workers.problems)
    )
    left_out = len(status.get("left_out", ()))
    yield GaugeMetricFamily("pharos_l7_left_out", "hosts and apps' ports too large to be served", value=left_out)
    expiry = GaugeMetricFamily(
        "pharos_l7_certificate_expiry_seconds", "when a certificate expires, UNIX time", labels=["file"]
    )
    for name, certificate in status["certificates"].items():
        if certificate["expires"] is not None:
            expiry.add_metric([name], certificate["expires"])
    yield expiry
    now = totals.now
    yield GaugeMetricFamily("pharos_l7_open_connections", "connections of clients", value=_one(now, "connections"))
    yield GaugeMetricFamily("pharos_l7_open_requests", "requests in hand", value=_one(now, "requests_open"))
    yield GaugeMetricFamily("pharos_l7_server_connections", "connections to servers", value=_one(now, "pooled"))
    dropped = totals.number("log_dropped") + totals.number("log_lost")
    yield CounterMetricFamily("pharos_l7_access_log_dropped_total", "records of the access log that were lost", dropped)
    yield CounterMetricFamily("pharos_l7_errors_total", "connections ended by a fault of ours", totals.number("error"))
    yield CounterMetricFamily(
        "pharos_l7_idle_gave_way_total",
        "idle and silent connections that were closed to make room for new ones",
        totals.number("idle_gave_way"),
    )
    yield CounterMetricFamily(
        "pharos_l7_own_limit_total",
        "connections to servers that could not be made for want of files or ports here",
        totals.number("own_limit"),
    )
    yield from _listeners(totals)


def _listeners(totals: Totals) -> Iterator[Metric]:
    """What listeners count: totals, and a word for whatever seldom happens."""
    families = {
        "accepted": _by_listener("pharos_l7_connections_total", "connections of clients"),
        "requests": _by_listener("pharos_l7_listener_requests_total", "requests, those included that were refused"),
        "received": _by_listener("pharos_l7_listener_received_bytes_total", "octets of clients' requests"),
        "sent": _by_listener("pharos_l7_listener_sent_bytes_total", "octets of answers"),
        "no_route": _by_listener("pharos_l7_no_route_total", "requests for which there is no rule, or no route"),
    }
    bad = _by_listener("pharos_l7_bad_requests_total", "requests that were refused for what they say", "reason")
    slow = _by_listener("pharos_l7_timeouts_total", "requests and connections that ended by a time-out", "kind")
    away = _by_listener("pharos_l7_refused_connections_total", "connections that were not served", "reason")
    broken = _by_listener("pharos_l7_bad_answers_total", "answers of servers that are none, or broke off", "reason")
    ends = _by_listener(
        "pharos_l7_outcomes_total", "requests that ended otherwise than with a server's whole answer", "reason"
    )
    for name, counts in list(totals.listeners.items()):
        for word, value in list(counts.items()):
            if isinstance(value, list):
                continue
            if word in _OWN:
                if word in families:
                    families[word].add_metric([name], value)
            elif word.startswith("timeout_") or word.endswith("_timeout"):
                kind = word.removeprefix("timeout_").removesuffix("_timeout")
                slow.add_metric([name, kind], value)
            elif word.startswith("answer_"):
                broken.add_metric([name, word.removeprefix("answer_")], value)
            else:
                family = bad if word in BAD_REQUESTS else away if word in TURNED_AWAY else ends
                family.add_metric([name, word], value)
    yield from families.values()
    yield from (bad, slow, away, broken, ends)


def _by_listener(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=["listener", *labels])


def _checks(checks: ServerChecks) -> Iterator[Metric]:
    yield GaugeMetricFamily("pharos_l7_checked_servers", "checks of servers that run", value=checks.checked)
    yield GaugeMetricFamily("pharos_l7_failing_servers", "checks of servers that fail", value=checks.down)
    family = CounterMetricFamily("pharos_l7_checks_total", "own checks of servers", labels=["type", "result"])
    for (kind, result), count in list(checks.results.items()):
        family.add_metric([kind, str(result)], count)
    yield family


def _demand(demand: EdgeDemand) -> Iterator[Metric]:
    yield GaugeMetricFamily("pharos_l7_demand_followers", "who follows /v1/demand", value=demand.followers)
    yield CounterMetricFamily(
        "pharos_l7_demand_dropped_total", "followers of /v1/demand that did not keep up", value=demand.dropped
    )


def _one(counts: Mapping[str, Value], word: str) -> int | float:
    value = counts.get(word, 0)
    return 0 if isinstance(value, list) else value
