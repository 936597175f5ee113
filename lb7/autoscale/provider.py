"""Where readings come from: the Protocols that the decider goes by.

A provider reads in the background what is wanted of it; `reading` tells what it knows now and never waits, so that a
server that does not answer costs its own metric and no other app's decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from lb7.autoscale.policy import Kind, Metric
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.model import Key


class Provider(Protocol):
    """Reads metrics of some kinds."""

    kinds: frozenset[Kind]

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        """These apps are scaled now; what others needed is no longer read."""
        ...

    def reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        """What is known now (`now`: seconds since 1970); one with `error` where that is nothing yet."""
        ...

    async def run(self) -> None:
        """Read until cancelled."""
        ...


class Loads(msgspec.Struct, frozen=True):
    """Requests and connections of an app's tasks now, by task id, all edges together; `draining` are those to which no
    edge sends anything new, `down` those of which the checks of edges say so where they do not say that they drain.
    `complete`: every edge told."""

    active: dict[str, int] = {}
    draining: frozenset[str] = frozenset()
    complete: bool = False
    down: frozenset[str] = frozenset()


class Demand(Provider, Protocol):
    """What the edges tell: the provider of traffic's metrics."""

    def held(self, app: ScaledApp) -> int:
        """Requests that wait for the app to wake, as the edges last said."""
        ...

    async def loads(self, app: ScaledApp) -> Loads:
        """Ask the edges how busy each task is. Raises nothing: who does not answer in time makes it incomplete."""
        ...
