"""An app under a load, and who scales it: what is not served, what is too much, how often it changes.

A second at a time. An instance serves `CAPACITY` requests a second, `START` seconds after it was asked for; it ends at
once. The target of all autoscalers is `TARGET` for each instance, which leaves them the rest to react.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from lb7.autoscale.decide import decide
from lb7.autoscale.history import History
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.samples import Reading, Samples
from tests.bench.autoscale_peers import HpaFormula, MarathonLbAutoscale
from tests.bench.autoscale_shapes import Shape

TARGET, CAPACITY, START = 70.0, 100.0, 20
LEAST, MOST = 1, 100
MEAN_OF = 15
"""Seconds that a rate is the mean of, where the autoscaler does not look at one second alone."""


class Scaler(Protocol):
    """An autoscaler: what it makes of the load so far."""

    interval: int

    def poll(self, shape: Shape, second: int, current: int) -> int:
        """How many instances it wants."""


class Pharos:
    """`decide` with its defaults."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._policy = Policy(min=LEAST, max=MOST, metrics=(Metric(kind="rps", target=TARGET),))
        self._history = History()

    def poll(self, shape: Shape, second: int, current: int) -> int:
        """A part of the metrics is told as a part; none as a failure."""
        seen = shape.seen(second)
        value = _mean(shape, second) * seen
        reading = Reading(value=value, at=second, partial=seen < 1) if seen else Reading(error="no edge answers")
        decision = decide(Samples(instances=current, readings={"rps": reading}), self._policy, self._history, second)
        self._history = decision.history.scaled(current, decision.instances, second)
        return decision.instances


class Hpa:
    """The reference formula: it can't tell a part of the metrics from all of them."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._formula = HpaFormula(TARGET, LEAST, MOST)

    def poll(self, shape: Shape, second: int, current: int) -> int:
        """No metrics are a failure."""
        seen = shape.seen(second)
        return self._formula.poll(_mean(shape, second) * seen if seen else None, current, second)


class Mlb:
    """marathon-lb-autoscale: HAProxy's rate of the last second; rows that are missing are 0."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._program = MarathonLbAutoscale(("web_10000",), target=TARGET, least=LEAST, most=MOST)

    def poll(self, shape: Shape, second: int, current: int) -> int:
        """Its own arithmetic."""
        rates = {"web_10000": shape.demand[max(0, second - 1)] * shape.seen(second)}
        return self._program.poll(rates, {"web": current}).get("web", current)


SCALERS: dict[str, Callable[[], Scaler]] = {
    "Pharos, every 5 s": lambda: Pharos(5),
    "Pharos, every 15 s": lambda: Pharos(15),
    "HPA's formula, every 15 s": lambda: Hpa(15),
    "marathon-lb-autoscale, every 60 s": lambda: Mlb(60),
    "marathon-lb-autoscale, every 15 s": lambda: Mlb(15),
}
"""By name; marathon-lb-autoscale's own default is 60 s."""


class Outcome(NamedTuple):
    """`unmet` requests that found nobody to serve them, `wasted` instance-seconds beyond what the target needs,
    `actions` changes of the number; `instances` by second."""

    unmet: float
    requests: float
    wasted: int
    actions: int
    instances: tuple[int, ...]

    @property
    def unmet_ratio(self) -> float:
        """Of all requests."""
        return self.unmet / self.requests


def simulate(shape: Shape, scaler: Scaler) -> Outcome:
    """One load under one autoscaler, from the right number on."""
    current = ready = needed(shape.demand[0])
    starting: list[int] = []  # when those asked for will be ready
    unmet, wasted, actions = 0.0, 0, 0
    path = []
    for second, demand in enumerate(shape.demand):
        if second % scaler.interval == 0 and second:
            wanted = scaler.poll(shape, second, current)
            actions += wanted != current
            if wanted > current:
                starting += [second + START] * (wanted - current)
            else:
                dropped = current - wanted
                kept = max(0, len(starting) - dropped)
                ready -= dropped - (len(starting) - kept)
                starting = starting[:kept]
            current = wanted
        while starting and starting[0] <= second:
            starting.pop(0)
            ready += 1
        unmet += max(0.0, demand - CAPACITY * ready)
        wasted += max(0, current - needed(demand))
        path.append(current)
    return Outcome(unmet, math.fsum(shape.demand), wasted, actions, tuple(path))


def needed(demand: float) -> int:
    """How many instances the target asks for."""
    return max(LEAST, math.ceil(demand / TARGET - 1e-9))


def _mean(shape: Shape, second: int) -> float:
    lately = shape.demand[max(0, second - MEAN_OF) : second] or shape.demand[:1]
    return math.fsum(lately) / len(lately)
