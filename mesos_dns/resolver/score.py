"""Which upstream is asked first: a score from round-trip times and failures, both of which are forgotten with time.

Pure functions over `Score`; times are seconds of one monotonic clock that the caller reads. A failure puts an
upstream behind all that work until half of its penalty is gone, twice as long for each further failure in a row.
What an upstream that is not asked was like counts less and less, so that it is tried now and then.
"""

from __future__ import annotations

import math

import msgspec

SHORTEST, LONGEST = 0.001, 5.0
"""Seconds: round-trip times are taken to be between these."""
PENALTY, MOST_PENALTY = 1.0, 32.0
"""Seconds that the first failure adds, and the most that failures in a row add."""
FAILING = 0.5
"""Seconds of penalty from which on an upstream is failing: asked only after those that work."""
HALF_LIFE = 10.0
"""Seconds in which half of a penalty is forgotten."""
IDLE_HALF_LIFE = 60.0
"""Seconds without a question in which half of the round-trip time is forgotten."""
_HEDGE_MIN, _HEDGE_MAX, _HEDGE_UNKNOWN = 0.02, 0.4, 0.1


class Score(msgspec.Struct, frozen=True, gc=False):
    """What is known of an upstream: smoothed round-trip time (0: not known) and its deviation, penalty and failures
    in a row. `at`: when that was so."""

    rtt: float = 0.0
    deviation: float = 0.0
    penalty: float = 0.0
    failures: int = 0
    at: float = 0.0


UNKNOWN = Score()


def answered(score: Score, now: float, seconds: float) -> Score:
    """It answered within `seconds`: one answer is enough not to be failing any more."""
    sample = min(max(seconds, SHORTEST), LONGEST)
    if not score.rtt:
        rtt, deviation = sample, sample / 2  # as RFC 6298 §2 begins
    else:
        rtt = score.rtt + (sample - score.rtt) / 4
        deviation = score.deviation + (abs(sample - score.rtt) - score.deviation) / 4
    return Score(rtt, deviation, min(penalty(score, now), PENALTY) / 4, 0, now)


def outrun(score: Score, now: float, seconds: float) -> Score:
    """Another one answered while it had not for `seconds`: it takes at least as long as that."""
    if seconds <= score.rtt:
        return score
    raised = score.rtt + (min(seconds, LONGEST) - score.rtt) / 4 if score.rtt else min(max(seconds, SHORTEST), LONGEST)
    return Score(raised, score.deviation, penalty(score, now), score.failures, now)


def failed(score: Score, now: float) -> Score:
    """It did not answer, or not with what an upstream is for."""
    more = PENALTY * 2.0 ** min(score.failures, 5)
    total = min(penalty(score, now) + more, MOST_PENALTY)
    return Score(score.rtt, score.deviation, total, score.failures + 1, now)


def penalty(score: Score, now: float) -> float:
    """Seconds of penalty that are left."""
    if not score.penalty:
        return 0.0
    return score.penalty * _left(now - score.at, HALF_LIFE)


def value(score: Score, now: float) -> float:
    """The score in seconds: the less the better, from SHORTEST to LONGEST + MOST_PENALTY."""
    return max(score.rtt * _left(now - score.at, IDLE_HALF_LIFE), SHORTEST) + penalty(score, now)


def rank(score: Score, now: float) -> tuple[bool, float]:
    """What upstreams are sorted by: those that work before those that fail, then by score."""
    return penalty(score, now) >= FAILING, value(score, now)


def hedge_delay(score: Score) -> float:
    """Seconds after which another upstream is asked as well; what nearly all answers take, within limits."""
    if not score.rtt:
        return _HEDGE_UNKNOWN
    return min(max(2 * score.rtt + 4 * score.deviation, _HEDGE_MIN), _HEDGE_MAX)


def _left(seconds: float, half_life: float) -> float:
    """Which part of something is left."""
    return math.exp2(-max(seconds, 0.0) / half_life)
