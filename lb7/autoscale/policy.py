"""How an app is scaled: its policy as plain values, that check themselves. ValueError says what was expected.

Names and defaults are those of Kubernetes' HPA v2 where it has them.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from lb7.autoscale.formula import INSTANCES, metrics_of, read_formula
from lb7.autoscale.schedule import Schedule
from mesos_dns.config import Seconds

Kind = Literal[
    "rps",
    "concurrency",
    "queue",
    "latency_p50",
    "latency_p95",
    "latency_p99",
    "error_rate",
    "prometheus",
    "cpu",
    "memory",
    "hook",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

MetricType = Literal["average", "value"]
"""`average`: the target is for each instance. `value`: the target is for the app as a whole."""

Select = Literal["max", "min", "disabled"]

MOST_INSTANCES = 100_000
"""Of one app; what is proposed beyond is cut."""

MOST_METRICS, MOST_RATES, MOST_SCHEDULES = 20, 10, 20
"""Of one policy (rates: of one direction)."""

LONGEST_WINDOW, LONGEST_PERIOD = 3600.0, 1800.0
"""Seconds of stabilization, and of a rate: what History keeps."""

OF_THE_WHOLE: frozenset[Kind] = frozenset({"latency_p50", "latency_p95", "latency_p99", "error_rate"})
"""Kinds that are not shared out among instances: their type is `value`, and only that."""

OF_INSTANCES: frozenset[Kind] = frozenset({"cpu", "memory"})
"""Kinds that only instances have: their type is `average`, and only that."""

SEEN_ASLEEP: frozenset[Kind] = frozenset({"rps", "concurrency", "queue", "prometheus", "hook"})
"""Kinds that say something while there is no instance; they alone put an app to sleep and wake it."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_RESERVED = {INSTANCES, "min", "max"}


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One metric and its target. `activation`: up to this value the app counts as idle. `query` is for prometheus,
    `url` for hook. Units: seconds, requests, ratios (0.01 is 1 %); cpu and memory as parts of what an instance has."""

    kind: Annotated[Kind, Meta(description="what is measured")]
    target: Annotated[float, Meta(description="what is right: requests (a second), seconds, or a part of 1")]
    type: Annotated[
        MetricType | None,
        Meta(description="the target is for each instance, or for the app as a whole; left out: as the kind has it"),
    ] = None
    name: Annotated[str, Meta(description="what it is called in formulas and answers; left out: its kind")] = ""
    activation: Annotated[float, Meta(description="up to this value the app counts as idle")] = 0.0
    query: Annotated[str, Meta(description="a PromQL query of one number, for kind `prometheus`")] = ""
    url: Annotated[str, Meta(description="who tells a number, for kind `hook`")] = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.target) and self.target > 0):
            raise ValueError(f"target: expected a number above 0, got {self.target:g}")
        if not (math.isfinite(self.activation) and self.activation >= 0):
            raise ValueError(f"activation: expected a number from 0, got {self.activation:g}")
        if not _NAME.fullmatch(self.key) or self.key in _RESERVED:
            raise ValueError(f"name: expected lower-case letters, digits and _, got {self.key[:100]!r}")
        if self.kind in OF_THE_WHOLE and self.type == "average":
            raise ValueError(f"type: expected value, for instances don't share {self.kind}")
        if self.kind in OF_INSTANCES and self.type == "value":
            raise ValueError(f"type: expected average, for {self.kind} is an instance's own")
        if bool(self.query) != (self.kind == "prometheus"):
            raise ValueError("query: expected with kind prometheus, and only there")
        if bool(self.url) != (self.kind == "hook"):
            raise ValueError("url: expected with kind hook, and only there")

    @property
    def key(self) -> str:
        """What it is called in formulas, readings and reasons."""
        return self.name or self.kind

    @property
    def averaged(self) -> bool:
        """Whether its target is for each instance."""
        return self.type == "average" if self.type else self.kind not in OF_THE_WHOLE


class Rate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most so many instances, or so many percent of them, within any `period` seconds."""

    type: Annotated[Literal["instances", "percent"], Meta(description="what is counted")]
    value: Annotated[int, Meta(description="how many, or how many percent of those that there were")]
    period: Annotated[Seconds, Meta(description="within this time")]

    def __post_init__(self) -> None:
        if self.value < 1:
            raise ValueError(f"value: expected 1 or more, got {self.value}")
        if not 1 <= self.period <= LONGEST_PERIOD:
            raise ValueError(f"period: expected 1 to {LONGEST_PERIOD:g} seconds, got {self.period:g}")


class Direction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How changes in one direction are held back. `select` says which of the rates holds: the one that allows most
    (max), the one that allows least (min), or no change at all (disabled). No rates: no limit."""

    window: Annotated[
        Seconds, Meta(description="stabilization: up to the lowest, down to the highest of what was right for so long")
    ] = 0.0
    rates: Annotated[tuple[Rate, ...], Meta(description="at most so many, or so much, within a time")] = ()
    select: Annotated[
        Select, Meta(description="the rate that allows most, the one that allows least, or no change at all")
    ] = "max"
    tolerance: Annotated[float, Meta(description="how far from the target nothing is done, as a part of 1")] = 0.1
    cooldown: Annotated[
        Seconds, Meta(description="time since the last change, of either direction, without another in this one")
    ] = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.window <= LONGEST_WINDOW:
            raise ValueError(f"window: expected 0 to {LONGEST_WINDOW:g} seconds, got {self.window:g}")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance: expected a ratio from 0 to less than 1, got {self.tolerance:g}")
        if not 0 <= self.cooldown <= LONGEST_WINDOW:
            raise ValueError(f"cooldown: expected 0 to {LONGEST_WINDOW:g} seconds, got {self.cooldown:g}")
        if len(self.rates) > MOST_RATES:
            raise ValueError(f"rates: expected at most {MOST_RATES}, got {len(self.rates)}")


UP = Direction(
    window=0.0,
    rates=(Rate(type="instances", value=4, period=15.0), Rate(type="percent", value=100, period=15.0)),
)
DOWN = Direction(window=300.0, rates=(Rate(type="percent", value=100, period=15.0),))
"""HPA's own: up at once by 4 or by all there are every 15 s; down to the highest of what was right for 5 minutes."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one app is scaled. `min` 0 is scale to zero: after `idle_time` seconds without activity; `wake` is how many
    it wakes to at least. Readings older than `max_age` seconds count as failed."""

    max: Annotated[int, Meta(description="the most instances")]
    min: Annotated[int, Meta(description="the fewest instances; 0 is scale to zero")] = 1
    metrics: Annotated[tuple[Metric, ...], Meta(description="what is measured, and what is right")] = ()
    formula: Annotated[str, Meta(description="how metrics are combined; left out: the highest proposal")] = ""
    up: Annotated[Direction, Meta(description="how scaling up is held back; what the table leaves out is as here")] = UP
    down: Annotated[Direction, Meta(description="how scaling down is held back; likewise")] = DOWN
    schedules: Annotated[tuple[Schedule, ...], Meta(description="other bounds for a time")] = ()
    idle_time: Annotated[Seconds, Meta(description="time without activity before it goes to zero")] = 300.0
    wake: Annotated[int, Meta(description="how many it wakes to at least")] = 1
    max_age: Annotated[Seconds, Meta(description="older readings have failed")] = 60.0
    paused: Annotated[bool, Meta(description="nothing is changed; what would be is told")] = False
    dry_run: Annotated[bool, Meta(description="the same, and it is told as a dry run")] = False

    def __post_init__(self) -> None:
        if not 0 <= self.min <= MOST_INSTANCES:
            raise ValueError(f"min: expected 0 to {MOST_INSTANCES}, got {self.min}")
        if not max(1, self.min) <= self.max <= MOST_INSTANCES:
            raise ValueError(f"max: expected {max(1, self.min)} (min) to {MOST_INSTANCES}, got {self.max}")
        if not self.metrics and not self.schedules:
            raise ValueError("metrics: expected one at least, or a schedule")
        if len(self.metrics) > MOST_METRICS or len(self.schedules) > MOST_SCHEDULES:
            raise ValueError(f"expected at most {MOST_METRICS} metrics and {MOST_SCHEDULES} schedules")
        if not 0 < self.max_age < math.inf:
            raise ValueError(f"max_age: expected more than 0 seconds, got {self.max_age:g}")
        if not 0 <= self.idle_time < math.inf:
            raise ValueError(f"idle_time: expected 0 or more seconds, got {self.idle_time:g}")
        self._check_names()
        self._check_schedules()
        if self.sleeps:
            self._check_sleep()

    @property
    def sleeps(self) -> bool:
        """Whether it may ever have no instance."""
        return self.min == 0 or any(schedule.min == 0 for schedule in self.schedules)

    def _check_names(self) -> None:
        keys = [metric.key for metric in self.metrics]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"metrics: expected each name once, got {twice[0]!r} twice")
        if self.formula and (unknown := sorted(metrics_of(read_formula(self.formula)) - set(keys))):
            raise ValueError(f"formula: expected names of metrics ({', '.join(keys) or 'none'}), got {unknown[0]!r}")

    def _check_schedules(self) -> None:
        for schedule in self.schedules:
            if schedule.max is None and schedule.min is not None and schedule.min > self.max:
                raise ValueError(f"schedules: expected min up to max, which is {self.max}, got {schedule.min}")
            if max(schedule.min or 0, schedule.max or 0) > MOST_INSTANCES:
                raise ValueError(f"schedules: expected at most {MOST_INSTANCES} instances")

    def _check_sleep(self) -> None:
        if not any(metric.kind in SEEN_ASLEEP for metric in self.metrics):
            raise ValueError(f"min: 0 needs a metric of an app without instances: {', '.join(sorted(SEEN_ASLEEP))}")
        if self.up.select == "disabled":
            raise ValueError("min: 0 needs a way up, and up.select is disabled")
        if not 1 <= self.wake <= self.max:
            raise ValueError(f"wake: expected 1 to max, which is {self.max}, got {self.wake}")
