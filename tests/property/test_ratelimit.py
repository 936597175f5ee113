"""The rate limit over random stories: no network ever gets more than its share, and one that keeps to it gets all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.ratelimit import DROP, PASS, SLIP, WINDOW, RateLimiter

NOW = 1_700_000_000_000
CLIENT = bytes((198, 51, 100, 7))
BUCKET = b"\0\3web\5mesos\0\0\1"

pauses = st.lists(st.integers(-50, 2000), min_size=1, max_size=200)


@given(st.integers(1, 50), st.integers(0, 5), pauses)
def test_one_bucket_against_the_rule(rate: int, slip: int, story: list[int]) -> None:
    limiter = RateLimiter(rate, slip, 1)
    now, credit, before, over = NOW, rate * 1000, NOW, 0
    for pause in story:
        now += pause
        credit = min(credit + max(now - before, 0) * rate, rate * 1000) - 1000
        credit, before = max(credit, -WINDOW * rate * 1000), now
        expected = PASS
        if credit < 0:
            over += 1
            expected = SLIP if slip and over % slip == 0 else DROP
        assert limiter.check(BUCKET, CLIENT, now) == expected


@given(st.integers(1, 50), st.lists(st.integers(0, 300), min_size=1, max_size=300))
def test_no_second_has_more_than_the_rate_and_what_was_saved(rate: int, story: list[int]) -> None:
    limiter = RateLimiter(rate, 0, 1)
    now, passed = NOW, []
    for pause in story:
        now += pause
        if limiter.check(BUCKET, CLIENT, now) == PASS:
            passed.append(now)
    for start in passed:
        assert sum(1 for at in passed if start <= at < start + 1000) <= 2 * rate


@given(st.integers(1, 1000), st.lists(st.integers(0, 5), max_size=50))
def test_who_keeps_to_the_rate_gets_everything(rate: int, more: list[int]) -> None:
    limiter, now = RateLimiter(rate, 0, 1), NOW
    for late in more:
        assert limiter.check(BUCKET, CLIENT, now) == PASS
        now += -(-1000 // rate) + late


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(min_size=4, max_size=4)), max_size=100))
def test_any_names_and_networks(story: list[tuple[bytes, bytes]]) -> None:
    limiter = RateLimiter(1, 1, 1)
    seen: set[tuple[bytes, bytes]] = set()
    for bucket, client in story:
        expected = SLIP if (bucket, client[:3]) in seen else PASS
        assert limiter.check(bucket, client, NOW) == expected
        seen.add((bucket, client[:3]))
