"""Values of labels: what is read, and what is said of others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
from lb7.autoscale.policy import Metric, Rate


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("250ms", 0.25), ("1.5s", 1.5), (" 5m ", 300), ("1H", 3600), ("0", 0)]
)
def test_times(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


def test_ratios_and_choices() -> None:
    assert (read_ratio("10%"), read_ratio("0.05"), read_ratio("0.1%")) == (0.1, 0.05, 0.001)
    assert read_select(" Min ") == "min"


def test_rates() -> None:
    assert read_rates("none") == ()
    assert read_rates("4/15s, 100%/1m") == (
        Rate(type="instances", value=4, period=15),
        Rate(type="percent", value=100, period=60),
    )


def test_metrics() -> None:
    assert read_metric("rps", "2k") == Metric(kind="rps", target=2000)
    assert read_metric("latency_p95", "250ms") == Metric(kind="latency_p95", target=0.25)
    assert read_metric("error_rate", "1%") == Metric(kind="error_rate", target=0.01)
    assert read_metric("queue", "5 value activation=2") == Metric(kind="queue", target=5, type="value", activation=2)


def test_schedules() -> None:
    schedule = read_schedule("0 8 * * mon-fri  to 0 18 * * mon-fri Europe/Berlin min=5 max=20", "office")
    assert (schedule.start, schedule.end) == ("0 8 * * mon-fri", "0 18 * * mon-fri")
    assert (schedule.timezone, schedule.min, schedule.max, schedule.name) == ("Europe/Berlin", 5, 20, "office")
    assert read_schedule("0 8 * * * to 0 18 * * * min=5").timezone == "UTC"


def test_addresses_and_queries() -> None:
    assert read_url("http://jobs.example/depth") == "http://jobs.example/depth"
    assert read_query(" sum(jobs) ") == "sum(jobs)"


@pytest.mark.parametrize(
    ("read", "text", "error"),
    [
        (read_seconds, "5 parsecs", "expected a time as 90s, 5m or 1h, got '5 parsecs'"),
        (read_seconds, "-5", "expected a time"),
        (read_seconds, "1e9", "expected a time"),
        (read_seconds, "9" * 30, "expected a time"),
        (read_ratio, "10ms", "expected a ratio as 0.1 or 10%"),
        (read_select, "most", "expected max, min or disabled, got 'most'"),
        (read_rates, "4", "expected rates as 4/15s or 100%/1m, or none, got '4'"),
        (read_rates, "4/2h", "expected a period of 1s to 30m, got '2h'"),
        (read_rates, "0/15s", "expected a number from 1 to 1000000, got '0'"),
        (lambda text: read_metric("rps", text), "", "expected a number as 100, 0.5 or 2k, got nothing"),
        (lambda text: read_metric("rps", text), "many", "expected a number as 100, 0.5 or 2k, got 'many'"),
        (lambda text: read_metric("rps", text), "0", "target: expected a number above 0, got 0"),
        (lambda text: read_metric("rps", text), "5 each", "expected average, value or activation=N"),
        (lambda text: read_metric("cpu", text), "5s", "expected a ratio as 0.01 or 1%, got '5s'"),
        (lambda text: read_metric("latency_p50", text), "10%", "expected a time as 250ms or 1.5s, got '10%'"),
        (read_url, "file:///etc/passwd", "expected a URL as http://host/path"),
        (read_query, " ", "expected a query of at most"),
        (read_schedule, "0 8 * * *", "expected CRON to CRON [ZONE] [min=N] [max=N], got '0 8 * * *'"),
        (read_schedule, "0 8 * * * to 0 9 * * * UTC", "expected min, max or both"),
        (read_schedule, "0 8 * * * to 0 9 * * * min=x", "expected a number from 0 to 1000000, got 'x'"),
        (read_schedule, "0 8 * * * to 0 9 * * * min=1 min=2", "expected one zone, min=N and max=N"),
        (read_schedule, "0 8 * * * to 0 9 * * * Nowhere min=1", "expected a time zone"),
    ],
)
def test_what_is_said_of_others(read: Callable[[str], object], text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(text)
    assert error in str(caught.value)
