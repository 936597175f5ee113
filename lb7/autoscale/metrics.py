"""All metrics of autoscaling: who decides, what is decided and done, what is read.

Labels are bounded: an app's id, a metric's name in its policy, words of ours. Apps are told by the process that
decides, so that each is there once; where several Marathons have an app of one id, its instances are added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, get_args, runtime_checkable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from lb7.autoscale.app_state import AppState
from lb7.autoscale.outcome import Result
from lb7.autoscale.provider import Provider
from lb7.autoscale.scaler import Scaler
from mesos_dns.sources.pace import Pace

UNDECIDED = "undecided"
"""State of an app that was not decided about yet."""

GIVEN_UP = "given-up"
"""Result of a change that was no longer wanted while tasks drained."""

KINDS = ("current", "wanted", "min", "max")


@runtime_checkable
class Counting(Protocol):
    """A provider that counts: what it has read, and by a word what went wrong."""

    @property
    def reads(self) -> int | Mapping[str, int]:
        """Answers that could be used."""

    @property
    def failures(self) -> Mapping[str, int]:
        """Others, by what was wrong."""


class AutoscaleMetrics:
    """Gives the metrics of what `scaler` returns; None: nothing is scaled by this process, and there are none."""

    def __init__(self, scaler: Callable[[], Scaler | None]) -> None:
        self._scaler = scaler

    async def collect(self) -> list[Metric]:
        """All of them now. Thousands of apps are looked through in slices."""
        scaler = self._scaler()
        if scaler is None:
            return []
        term = scaler.term if scaler.leading else None
        states = list(term.states.values()) if term is not None else []
        apps = scaler.around.apps()
        scaled = [state for state in states if state.key in apps]
        return [*_whole(scaler), *_reads(scaler.around.sampling.providers), *await _apps(scaled, scaler.around.clock())]


def _whole(scaler: Scaler) -> Iterator[Metric]:
    """What is not of one app."""
    counts = scaler.counts
    # All from the beginning: to Prometheus a counter that appears with 1 has not grown.
    results = {**dict.fromkeys((*get_args(Result), GIVEN_UP), 0), **counts.results}
    yield GaugeMetricFamily("pharos_autoscale_leading", "1 where this process decides", value=int(scaler.leading))
    yield _counter("pharos_autoscale_decisions_total", "decisions, by reason", "reason", counts.decisions)
    yield _counter("pharos_autoscale_actions_total", "changes, by what became of them", "result", results)
    yield CounterMetricFamily("pharos_autoscale_terms_total", "times that this process began to decide", counts.terms)
    yield CounterMetricFamily(
        "pharos_autoscale_wakes_total", "times that waiting requests asked for a decision at once", counts.wakes
    )
    edges = GaugeMetricFamily("pharos_autoscale_edges", "edges that are asked for what they count", labels=["state"])
    for state, number in Counter(str(edge.get("state", "")) for edge in scaler.demand.status()).items():
        edges.add_metric([state], number)
    yield edges


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for word, number in list(counts.items()):
        family.add_metric([word], number)
    return family


def _reads(providers: Iterable[Provider]) -> Iterator[Metric]:
    """What is read, and what could not be."""
    reads: Counter[str] = Counter()
    failed: dict[tuple[str, str], int] = {}
    for provider in providers:
        if not isinstance(provider, Counting):
            continue
        kind = kind_of(provider)
        reads[kind] += provider.reads if isinstance(provider.reads, int) else sum(provider.reads.values())
        for reason, number in list(provider.failures.items()):
            failed[kind, reason] = failed.get((kind, reason), 0) + number
    yield _counter("pharos_autoscale_reads_total", "readings of metrics", "kind", reads)
    failures = CounterMetricFamily(
        "pharos_autoscale_read_failures_total", "readings that failed, by what was wrong", labels=["kind", "reason"]
    )
    for (kind, reason), number in failed.items():
        failures.add_metric([kind, reason], number)
    yield failures


def kind_of(provider: Provider) -> str:
    """What a provider reads, in one word."""
    for kind, word in (("rps", "edges"), ("cpu", "agents")):
        if kind in provider.kinds:
            return word
    return min(provider.kinds, default="")


async def _apps(states: Iterable[AppState], now: float) -> list[Metric]:
    """What is of apps."""
    reasons: Counter[str] = Counter()
    numbers: Counter[tuple[str, str]] = Counter()
    at_most: dict[str, bool] = {}
    missing: dict[tuple[str, str], bool] = {}
    oldest = now
    pace = Pace()
    for state in states:
        await pace.turn()
        app, decision = state.key[3], state.decision
        reasons[decision.reason if decision is not None else UNDECIDED] += 1
        if decision is None:
            continue
        oldest = min(oldest, decision.at)
        given = (decision.current, decision.wanted, decision.low, decision.high)
        numbers.update({(app, kind): number for kind, number in zip(KINDS, given, strict=True)})
        at_most[app] = at_most.get(app, False) or decision.reason == "maximum"
        for proposal in decision.proposals:
            name = app, proposal.metric
            missing[name] = missing.get(name, False) or proposal.instances is None
    return [*_families(reasons, numbers, at_most, missing), _age(now - oldest)]


def _families(
    reasons: Mapping[str, int],
    numbers: Mapping[tuple[str, str], int],
    at_most: Mapping[str, bool],
    missing: Mapping[tuple[str, str], bool],
) -> Iterator[Metric]:
    states = GaugeMetricFamily("pharos_autoscale_apps", "scaled apps, by reason of the last decision", labels=["state"])
    instances = GaugeMetricFamily("pharos_autoscale_instances", "instances of apps", labels=["app", "kind"])
    maximum = GaugeMetricFamily(
        "pharos_autoscale_at_maximum", "1 where metrics ask for more than the most allowed", labels=["app"]
    )
    without = GaugeMetricFamily(
        "pharos_autoscale_metric_missing", "1 where a metric of the policy can't be used", labels=["app", "metric"]
    )
    for reason, number in reasons.items():
        states.add_metric([reason], number)
    for names, number in numbers.items():
        instances.add_metric(list(names), number)
    for app, is_so in at_most.items():
        maximum.add_metric([app], int(is_so))
    for names, is_so in missing.items():
        without.add_metric(list(names), int(is_so))
    yield from (states, instances, maximum, without)


def _age(seconds: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "pharos_autoscale_decision_age_seconds", "time since the decision that is the oldest of all apps", value=seconds
    )
