"""Texts of others that shape autoscaling: formulas, labels, crontabs. They are read or refused, and nothing else."""

from __future__ import annotations

import datetime
import math

from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale.formula import read_formula
from lb7.autoscale.labels import DIRECTIONS, NAMED, PLAIN_METRICS, PREFIX, SINGLE, read_scaling
from lb7.autoscale.schedule import last_time, read_cron
from mesos_dns.model import App

TOKENS = st.sampled_from(["1", "0", "2.5", "rps", "rps.value", "instances", "+", "-", "*", "/", "(", ")", ",", "max("])
TEXTS = st.lists(TOKENS, max_size=30).map(" ".join) | st.text(max_size=40)
VALUES = {"rps": 3.0, "rps.value": 250.0, "instances": 2.0}


@given(TEXTS)
def test_a_formula_gives_a_number_or_says_why_not(text: str) -> None:
    try:
        formula = read_formula(text)
    except ValueError as caught:
        error = str(caught)
    else:
        error = "expected nothing else"
        if formula.names <= set(VALUES):
            try:
                assert math.isfinite(formula.evaluate(VALUES))
            except ValueError as caught:
                error = f"expected {caught}"
                assert "division by zero" in error or "too large a number" in error
    assert "expected" in error


NAMES = [
    *SINGLE,
    *PLAIN_METRICS,
    *(f"{way}_{word}" for way in ("UP", "DOWN") for word in DIRECTIONS),
    *(f"{word}_JOBS" for word in NAMED),
]
WORDS = st.sampled_from(
    ["", "0", "1", "10", "5m", "10%", "2k", "true", "max", "none", "4/15s", "rps + 1", "up", "http://a.example/"]
) | st.text(max_size=20)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=10), WORDS, max_size=12))
def test_labels_give_a_policy_or_say_why_not(labels: dict[str, str]) -> None:
    found = read_scaling(App("/web", tuple((PREFIX + name, text) for name, text in labels.items())))
    refused = [problem for problem in found.problems if problem.reason == "scale-policy"]
    assert (found.policy is None) == (bool(refused) or not labels)
    assert all("expected" in problem.text for problem in found.problems)


FIELD = st.sampled_from(["*", "0", "5", "1-3", "*/2", "2,4"])
DAY = st.sampled_from(["*", "1", "5", "1-3", "*/2", "2,4"])


@given(st.tuples(FIELD, FIELD, DAY, DAY, DAY).map(" ".join), st.integers(0, 3 * 365 * 1440))
def test_the_last_time_is_the_last_minute_that_matches(text: str, minute: int) -> None:
    cron, now = read_cron(text), minute * 60.0 + 1_700_000_040
    found = last_time(cron, now, datetime.UTC)
    assert found is not None
    assert found <= now
    at = datetime.datetime.fromtimestamp(found, datetime.UTC)
    assert cron.on(at.date())
    assert at.hour * 60 + at.minute in cron.times
    # Nothing later matches, as far as two days show.
    later = range(int(found) + 60, min(int(now), int(found) + 2 * 86400) + 1, 60)
    for seconds in later:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        assert not (cron.on(moment.date()) and moment.hour * 60 + moment.minute in cron.times)
