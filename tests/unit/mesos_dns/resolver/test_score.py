"""Scores of upstreams: who is asked first, and that everything is forgotten with time."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.resolver import score
from mesos_dns.resolver.score import FAILING, LONGEST, MOST_PENALTY, SHORTEST, UNKNOWN, Score

seconds = st.floats(0, 100)
events = st.lists(st.tuples(st.sampled_from(["answered", "outrun", "failed"]), seconds, seconds), max_size=12)


def lived(story: list[tuple[str, float, float]], start: float = 1000.0) -> tuple[Score, float]:
    """(the score after a story, when that is)."""
    state, now = UNKNOWN, start
    for kind, pause, took in story:
        now += pause
        if kind == "failed":
            state = score.failed(state, now)
        else:
            state = (score.answered if kind == "answered" else score.outrun)(state, now, took)
    return state, now


@given(events, seconds)
def test_scores_are_bounded(story: list[tuple[str, float, float]], pause: float) -> None:
    state, now = lived(story)
    assert SHORTEST <= score.value(state, now + pause) <= LONGEST + MOST_PENALTY
    assert 0 <= score.penalty(state, now + pause) <= MOST_PENALTY
    assert 0.02 <= score.hedge_delay(state) <= 0.4
    assert score.value(state, now - 5) <= LONGEST + MOST_PENALTY  # a clock that went back


@given(events, events, seconds, seconds)
def test_a_failing_one_is_never_preferred_to_one_that_works(
    story: list[tuple[str, float, float]], other: list[tuple[str, float, float]], took: float, pause: float
) -> None:
    bad, now = lived([*story, ("failed", 0, 0)])
    good, _ = lived([event for event in other if event[0] != "failed"])
    good = score.answered(good, now, took)
    later = now + pause
    if score.penalty(bad, later) >= FAILING:
        assert score.rank(good, later) < score.rank(bad, later)
    assert score.penalty(bad, now + score.HALF_LIFE - 0.01) > FAILING or bad.penalty < 1.0


@given(events)
def test_a_failure_counts_for_a_half_life_at_least(story: list[tuple[str, float, float]]) -> None:
    bad, now = lived([*story, ("failed", 0, 0)])
    assert score.rank(bad, now + score.HALF_LIFE * 0.99)[0]


@given(events)
def test_one_answer_ends_the_failing(story: list[tuple[str, float, float]]) -> None:
    state, now = lived(story)
    healed = score.answered(state, now, 0.01)
    assert not score.rank(healed, now)[0]
    assert healed.failures == 0


@given(events)
def test_everything_is_forgotten(story: list[tuple[str, float, float]]) -> None:
    state, now = lived(story)
    values = [score.value(state, now + later) for later in range(0, 1200, 50)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 2 * SHORTEST
    assert not score.rank(state, now + 100)[0]


def test_failures_in_a_row_last_longer() -> None:
    once = score.failed(UNKNOWN, 0.0)
    often = reduce(lambda state, _: score.failed(state, 0.0), range(10), UNKNOWN)
    assert score.penalty(once, 15.0) < FAILING < score.penalty(often, 15.0)
    assert (once.failures, often.failures) == (1, 10)


def test_times_are_smoothed() -> None:
    first = score.answered(UNKNOWN, 0.0, 0.1)
    assert (first.rtt, first.deviation) == (0.1, 0.05)
    second = score.answered(first, 1.0, 0.5)
    assert 0.1 < second.rtt < 0.3
    assert second.deviation > first.deviation


def test_who_was_outrun_is_at_least_that_slow() -> None:
    quick = score.answered(UNKNOWN, 0.0, 0.01)
    assert score.outrun(quick, 1.0, 0.005) == quick
    assert score.outrun(quick, 1.0, 0.4).rtt > 0.1
    assert score.outrun(UNKNOWN, 1.0, 0.4).rtt == 0.4


def test_the_next_is_asked_after_what_nearly_all_answers_take() -> None:
    assert score.hedge_delay(UNKNOWN) == 0.1
    assert score.hedge_delay(Score(rtt=0.001, deviation=0.0)) == 0.02
    assert score.hedge_delay(Score(rtt=0.05, deviation=0.01)) == 0.14
    assert score.hedge_delay(Score(rtt=3.0, deviation=1.0)) == 0.4
