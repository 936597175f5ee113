"""The values of PHAROS_SCALE labels: how each kind of text is read. All raise ValueError with what was expected."""

from __future__ import annotations

import math
import re
from typing import cast, get_args

from lb7.autoscale.policy import KINDS, LONGEST_PERIOD, Kind, Metric, MetricType, Rate, Select
from lb7.autoscale.schedule import Schedule
from lb7.label_values import MAX_VALUE, read_number, short

_NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(%|[a-z]*)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_RATIO = {"%": 0.01, "": 1.0}
_PLAIN = {"": 1.0, "k": 1000.0}
_RATE = re.compile(r"(\d{1,6})(%?)/(\w+)", re.ASCII)
_SCHEDULE = re.compile(r"(?P<start>\S+(?: \S+){4}) to (?P<end>\S+(?: \S+){4})(?P<rest>(?: \S+)*)")
_URL = re.compile(r"https?://[^\s/]+(/\S*)?", re.ASCII)

_UNITS: dict[Kind, tuple[dict[str, float], str]] = {
    kind: (
        (_SECONDS, "a time as 250ms or 1.5s")
        if kind.startswith("latency")
        else (_RATIO, "a ratio as 0.01 or 1%")
        if kind in ("error_rate", "cpu", "memory")
        else (_PLAIN, "a number as 100, 0.5 or 2k")
    )
    for kind in KINDS
}


def read_seconds(text: str) -> float:
    """A time: a number of seconds, or one with ms, s, m or h."""
    return _quantity(text, _SECONDS, "a time as 90s, 5m or 1h")


def read_ratio(text: str) -> float:
    """A ratio, or a percentage."""
    return _quantity(text, _RATIO, "a ratio as 0.1 or 10%")


def read_select(text: str) -> Select:
    """Which of several rates holds."""
    word = text.strip().lower()
    if word not in get_args(Select):
        raise ValueError(f"expected max, min or disabled, got {short(text)}")
    return cast("Select", word)


def read_rates(text: str) -> tuple[Rate, ...]:
    """Rates as "4/15s, 100%/1m"; "none" is no limit."""
    if text.strip().lower() == "none":
        return ()
    rates = []
    for part in text[:MAX_VALUE].split(","):
        match = _RATE.fullmatch(part.strip().lower())
        if match is None:
            raise ValueError(f"expected rates as 4/15s or 100%/1m, or none, got {short(part.strip())}")
        period = read_seconds(match[3])
        if not 1 <= period <= LONGEST_PERIOD:
            raise ValueError(f"expected a period of 1s to {LONGEST_PERIOD / 60:g}m, got {short(match[3])}")
        value = read_number(match[1], 1, 1_000_000)
        rates.append(Rate(type="percent" if match[2] else "instances", value=value, period=period))
    return tuple(rates)


def read_metric(kind: Kind, text: str, *, name: str = "", query: str = "", url: str = "") -> Metric:
    """A target and what may follow it: "100", "250ms", "5 value activation=1"."""
    words = text[:MAX_VALUE].split()
    units, what = _UNITS[kind]
    if not words:
        raise ValueError(f"expected {what}, got nothing")
    target = _quantity(words[0], units, what)
    kept: MetricType | None = None
    activation = 0.0
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if word in get_args(MetricType):
            kept = cast("MetricType", word)
        elif key == "activation" and equals:
            activation = _quantity(value, units, f"activation={what}")
        else:
            raise ValueError(f"expected average, value or activation=N after the target, got {short(word)}")
    return Metric(kind=kind, target=target, type=kept, name=name, activation=activation, query=query, url=url)


def read_url(text: str) -> str:
    """The address of a hook."""
    if len(text) > MAX_VALUE or not _URL.fullmatch(text.strip()):
        raise ValueError("expected a URL as http://host/path")  # not repeated: it may hold what is secret
    return text.strip()


def read_query(text: str) -> str:
    """A query of Prometheus'; it says itself whether it can be read."""
    if len(text) > MAX_VALUE or not text.strip():
        raise ValueError(f"expected a query of at most {MAX_VALUE} characters, got {short(text)}")
    return text.strip()


def read_schedule(text: str, name: str = "") -> Schedule:
    """ "0 8 * * mon-fri to 0 18 * * mon-fri Europe/Berlin min=5 max=20": the zone is UTC where none is given."""
    match = _SCHEDULE.fullmatch(" ".join(text[:MAX_VALUE].split()))
    if match is None:
        raise ValueError(f"expected CRON to CRON [ZONE] [min=N] [max=N], got {short(text)}")
    timezone = "UTC"
    bounds: dict[str, int] = {}
    for word in match["rest"].split():
        key, equals, value = word.partition("=")
        if equals and key in ("min", "max") and key not in bounds:
            bounds[key] = read_number(value, 0, 1_000_000)
        elif not equals and timezone == "UTC":
            timezone = word
        else:
            raise ValueError(f"expected one zone, min=N and max=N after the times, got {short(word)}")
    return Schedule(
        start=match["start"],
        end=match["end"],
        timezone=timezone,
        min=bounds.get("min"),
        max=bounds.get("max"),
        name=name,
    )


def _quantity(text: str, units: dict[str, float], what: str) -> float:
    match = _NUMBER.fullmatch(text.strip().lower())
    if match is None or match[2] not in units:
        raise ValueError(f"expected {what}, got {short(text)}")
    number = float(match[1]) * units[match[2]]
    # 250 · 0.001 and the like: no more digits than were given.
    return float(f"{number:.12g}") if math.isfinite(number) else number
