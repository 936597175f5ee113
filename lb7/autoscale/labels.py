"""An app's policy as its labels say: `PHAROS_SCALE_…`.

One bad label costs what it says, or is taken for the careful choice, and is told as a Problem:

- what the policy stands on (MIN, MAX, metrics, FORMULA, MAX_AGE), and a label that is not known and may be one of
  these: there is no policy, the app is left as it is;
- what holds scaling down back: no scaling down; what holds scaling up back: as if it were not there;
- PAUSE and DRY_RUN: taken as true; IDLE and WAKE: never to zero; a schedule: that schedule.

What does not fit together (min above max, a formula of unknown names) means no policy.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from lb7.autoscale.formula import read_formula
from lb7.autoscale.label_words import (
    read_metric,
    read_query,
    read_rates,
    read_ratio,
    read_schedule,
    read_seconds,
    read_select,
    read_url,
)
from lb7.autoscale.policy import DOWN, KINDS, MOST_INSTANCES, UP, Direction, Kind, Metric, Policy
from lb7.autoscale.schedule import Schedule
from lb7.label_values import MAX_VALUE, MOST_LABELS, MOST_TEXT, read_boolean, read_number, short
from lb7.table import Problem
from mesos_dns.model import App

_T = TypeVar("_T")

PREFIX = "PHAROS_SCALE_"

REASONS = {
    "scale-policy": "an app's policy can't be carried out: it is not scaled",
    "scale-label": "a label that can't be read: the careful choice is taken",
    "scale-limit": "more instances than labels may ask for: as many as they may",
}
"""Words of problems, and what they mean."""

PLAIN_METRICS: dict[str, Kind] = {kind.upper(): kind for kind in KINDS if kind not in ("prometheus", "hook")}
"""Labels of metrics that need nothing but a target."""

DIRECTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "WINDOW": ("window", read_seconds),
    "RATES": ("rates", read_rates),
    "SELECT": ("select", read_select),
    "TOLERANCE": ("tolerance", read_ratio),
    "COOLDOWN": ("cooldown", read_seconds),
}
"""Labels of a direction, after UP_ and DOWN_."""

SINGLE = ("MIN", "MAX", "FORMULA", "IDLE", "WAKE", "MAX_AGE", "PAUSE", "DRY_RUN")
NAMED = ("PROMETHEUS", "HOOK", "TARGET", "SCHEDULE")
"""Labels that are one each; labels that a name follows."""

_NAMED = re.compile(f"({'|'.join(NAMED)})_(\\w{{1,63}})", re.ASCII)


class Scaling(NamedTuple):
    """The policy (None: the app is not scaled) and what of its labels is not carried out."""

    policy: Policy | None = None
    problems: tuple[Problem, ...] = ()


def read_scaling(app: App) -> Scaling:
    """What an app's labels ask for. Without any `PHAROS_SCALE_…`, nothing."""
    labels = [(name.removeprefix(PREFIX), text) for name, text in app.labels if name.startswith(PREFIX)]
    if not labels:
        return Scaling()
    reader = _Reader(app.id, dict(labels))
    if len(labels) > MOST_LABELS or sum(len(name) + len(text) for name, text in labels) > MOST_TEXT:
        reader.fail("…", f"expected at most {MOST_LABELS} labels and {MOST_TEXT} characters")
        return Scaling(None, tuple(reader.problems))
    policy = reader.policy()
    return Scaling(policy, tuple(reader.problems))


class _Reader:
    """The labels of one app, without their prefix."""

    def __init__(self, app: str, labels: dict[str, str]) -> None:
        self.problems: list[Problem] = []
        self._app, self._labels = app, labels
        self._failed = False

    def fail(self, name: str, error: object) -> None:
        """A label without which there is no policy."""
        self._failed = True
        self._tell("scale-policy", name, f"{error}: the app is not scaled")

    def _tell(self, reason: str, name: str, text: str) -> None:
        self.problems.append(Problem(self._app, reason, f"{PREFIX}{name[:100]}: {text}"))

    def _read(self, name: str, read: Callable[[str], _T], otherwise: _T) -> _T:
        """The value of a label that the policy stands on."""
        text = self._labels.get(name)
        if text is None:
            return otherwise
        try:
            return read(_bounded(text))
        except ValueError as error:
            self.fail(name, error)
            return otherwise

    def _read_careful(self, name: str, read: Callable[[str], _T], otherwise: _T, careful: _T, what: str) -> _T:
        """The value of a label that has a careful choice: where it can't be read, that, and what it means."""
        text = self._labels.get(name)
        if text is None:
            return otherwise
        try:
            return read(_bounded(text))
        except ValueError as error:
            self._tell("scale-label", name, f"{error}: {what}")
            return careful

    def policy(self) -> Policy | None:
        """All of it."""
        self._unknown()
        low = self._read("MIN", lambda text: read_number(text, 0, MOST_INSTANCES), 1)
        high = self._read("MAX", lambda text: read_number(text, 1, MOST_INSTANCES), 0)
        if "MAX" not in self._labels:
            self.fail("MAX", "expected the most instances that the app may have, got no such label")
        formula = self._read("FORMULA", lambda text: read_formula(text).text, "")
        metrics = self._metrics()
        max_age = self._read("MAX_AGE", read_seconds, 60.0)
        idle, wake = self._sleep()
        if idle is None or wake is None:
            low = max(1, low)
        schedules = self._schedules(never_zero=idle is None or wake is None)
        values: dict[str, Any] = {
            "min": low,
            "max": high,
            "metrics": metrics,
            "formula": formula,
            "up": self._direction("UP", UP),
            "down": self._direction("DOWN", DOWN),
            "schedules": schedules,
            "idle_time": 300.0 if idle is None else idle,
            "wake": wake or 1,
            "max_age": max_age,
            "paused": self._read_careful("PAUSE", read_boolean, False, True, "taken as true"),
            "dry_run": self._read_careful("DRY_RUN", read_boolean, False, True, "taken as true"),
        }
        if self._failed:
            return None
        try:
            return Policy(**values)
        except ValueError as error:
            self.fail("…", error)
            return None

    def _metrics(self) -> tuple[Metric, ...]:
        found = []
        for label, kind in PLAIN_METRICS.items():
            if label in self._labels:
                found.append(self._read(label, partial(read_metric, kind), None))
        for label, name in self._named("PROMETHEUS", "HOOK"):
            found.append(self._named_metric(label, name))
        for label, name in self._named("TARGET"):
            if not {f"PROMETHEUS_{name}", f"HOOK_{name}"} & set(self._labels):
                self.fail(label, f"expected {PREFIX}PROMETHEUS_{name} or {PREFIX}HOOK_{name} beside it, got none")
        return tuple(metric for metric in found if metric is not None)

    def _named_metric(self, label: str, name: str) -> Metric | None:
        """A query or a hook, with the target that is a label of its own."""
        target = f"TARGET_{name}"
        if target not in self._labels:
            self.fail(label, f"expected {PREFIX}{target} beside it, got none")
            return None
        hook = label.startswith("HOOK")
        url = self._read(label, read_url, "") if hook else ""
        query = "" if hook else self._read(label, read_query, "")
        if not url and not query:
            return None
        kind: Kind = "hook" if hook else "prometheus"
        return self._read(target, partial(read_metric, kind, name=name.lower(), query=query, url=url), None)

    def _sleep(self) -> tuple[float | None, int | None]:
        """The idle time, and how many it wakes to; None where it is not to sleep for it."""
        what = "never to zero"
        idle = self._read_careful("IDLE", read_seconds, 300.0, None, what)
        wake = self._read_careful("WAKE", lambda text: read_number(text, 1, MOST_INSTANCES), 1, None, what)
        return idle, wake

    def _direction(self, which: str, otherwise: Direction) -> Direction:
        """One direction. What holds scaling down back and can't be read means that there is none."""
        direction, readable = otherwise, True
        for word, (field, read) in DIRECTIONS.items():
            name = f"{which}_{word}"
            if name not in self._labels:
                continue
            try:
                value = read(_bounded(self._labels[name]))
                direction = msgspec.structs.replace(direction, **{field: value})
            except ValueError as error:
                what = "no scaling down" if which == "DOWN" else "as if it were not there"
                self._tell("scale-label", name, f"{error}: {what}")
                readable = False
                direction = msgspec.structs.replace(direction, **{field: getattr(otherwise, field)})
        if which == "DOWN" and not readable:
            direction = msgspec.structs.replace(direction, select="disabled")
        return direction

    def _schedules(self, *, never_zero: bool) -> tuple[Schedule, ...]:
        found = []
        for label, name in self._named("SCHEDULE"):
            read = partial(read_schedule, name=name.lower())
            schedule = self._read_careful(label, read, None, None, "this schedule is left out")
            if schedule is not None and schedule.min == 0 and never_zero:
                schedule = msgspec.structs.replace(schedule, min=1)
            if schedule is not None:
                found.append(schedule)
        return tuple(found)

    def _named(self, *words: str) -> list[tuple[str, str]]:
        """Labels of these words, by name: all of it, and the name that follows."""
        matches = [match for match in map(_NAMED.fullmatch, sorted(self._labels)) if match]
        return [(match[0], match[2]) for match in matches if match[1] in words]

    def _unknown(self) -> None:
        """Labels that say nothing. One may be meant as a bound or a metric that would be missed: there is no policy."""
        known = [*SINGLE, *PLAIN_METRICS, *(f"{way}_{word}" for way in ("UP", "DOWN") for word in DIRECTIONS)]
        for name in self._labels:
            if name in known or _NAMED.fullmatch(name):
                continue
            near = difflib.get_close_matches(name[:100], known, 1)
            text = f"expected {PREFIX}{near[0]}" if near else "expected a label that is known"
            self.fail(name, f"{text}, got this one with {short(self._labels[name])}")


def _bounded(text: str) -> str:
    if len(text) > MAX_VALUE:
        raise ValueError(f"expected at most {MAX_VALUE} characters")
    return text
