"""What is known of an app when it is decided about: one reading of each of its metrics, from who reads such."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from lb7.autoscale.policy import Kind, Metric
from lb7.autoscale.provider import Demand, Provider
from lb7.autoscale.samples import Instance, Reading, Samples
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.model import Key
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

SAID_AGAIN = 300.0


class Sampling:
    """See the module. What a provider does wrong costs its own metrics."""

    def __init__(self, demand: Demand, providers: Iterable[Provider]) -> None:
        self.providers: list[Provider] = []
        self._demand = demand
        self._by_kind: dict[Kind, Provider] = {}
        self._seldom = Seldom(log, SAID_AGAIN)
        for provider in (*providers, demand):
            if all(provider is not known for known in self.providers):
                self.providers.append(provider)
            for kind in provider.kinds:
                self._by_kind.setdefault(kind, provider)

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        """Have read what these apps need."""
        for provider in self.providers:
            try:
                provider.want(apps)
            except Exception as error:
                self._seldom("a reader of metrics failed reader=%s error=%r", type(provider).__name__, error)

    def samples(self, app: ScaledApp, instances: int, locked: str, now: float) -> Samples:
        """All that is known now (seconds since 1970) of an app of so many instances; `locked` as in Samples."""
        return Samples(
            instances=instances,
            running=tuple(Instance(task.id, task.ready) for task in app.tasks),
            readings={metric.key: self._reading(app, metric, now) for metric in app.policy.metrics},
            held=self._held(app),
            locked=locked,
        )

    def _reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        provider = self._by_kind.get(metric.kind)
        if provider is None:
            return Reading(error=f"nobody reads {metric.kind} here")
        try:
            return provider.reading(app, metric, now)
        except Exception as error:
            self._seldom("a reader of metrics failed reader=%s error=%r", type(provider).__name__, error)
            return Reading(error=f"its reader failed: {error!r}"[:200])

    def _held(self, app: ScaledApp) -> int:
        try:
            return self._demand.held(app)
        except Exception as error:
            self._seldom("a reader of metrics failed reader=%s error=%r", type(self._demand).__name__, error)
            return 0
