"""How long answers and failures are kept, and what goes first."""

from __future__ import annotations

import pytest

from mesos_dns.answer import Answer
from mesos_dns.resolver.cache import (
    MEAN_OCTETS,
    MOST_FAILURES,
    MOST_PASSED,
    VARIANTS,
    Cache,
    Entry,
    aged,
    stale,
    variant,
)
from tests.fakes.resolving import SOA, lines, record, shown

NAME = "www.example.com"


def entry(lifetime: int = 60, made: float = 0.0, kind: str = "positive", records: int = 1) -> Entry:
    return Entry(Answer(0, [record(f"{NAME}. {lifetime} A 192.0.2.1")] * records, aa=False), kind, lifetime, made)


def cache(size: int = 10, *, stale_max: float = 100.0, failure_ttl: int = 5) -> Cache:
    return Cache(size, stale_max=stale_max, failure_ttl=failure_ttl)


def test_fresh_then_stale_then_gone() -> None:
    kept = cache()
    assert kept.keep(b"k", entry(60, made=10.0))
    for now, fresh in ((10.0, True), (69.9, True), (70.0, False), (169.9, False)):
        found = kept.get(b"k", now)
        assert found is not None
        assert found.fresh(now) is fresh
    assert kept.get(b"k", 170.0) is None
    assert (len(kept), kept.octets) == (0, 0)


@pytest.mark.parametrize(
    ("lifetime", "age", "expected"), [(100, 89.9, False), (100, 90, True), (100, 100, False), (9, 8.9, False)]
)
def test_the_last_tenth(lifetime: int, age: float, expected: bool) -> None:
    assert entry(lifetime, made=5.0).old(5.0 + age) is expected


def test_what_lives_for_no_time_is_not_kept_and_takes_the_older_one_away() -> None:
    kept = cache()
    kept.keep(b"k", entry(60))
    assert not kept.keep(b"k", entry(0, made=1.0))
    assert kept.get(b"k", 1.0) is None


def test_least_recently_used_goes_first() -> None:
    kept = cache(3)
    for key in (b"a", b"b", b"c"):
        kept.keep(key, entry())
    kept.get(b"a", 1.0)
    kept.keep(b"d", entry())
    assert [key for key in (b"a", b"b", b"c", b"d") if kept.get(key, 1.0)] == [b"a", b"c", b"d"]
    assert (len(kept), kept.evicted) == (3, 1)


def test_large_answers_leave_room_for_fewer() -> None:
    kept = cache(4)
    for number in range(4):
        kept.keep(bytes((number,)), entry(records=MEAN_OCTETS * 2 // 31))
    assert len(kept) == 2
    assert kept.octets <= 4 * MEAN_OCTETS
    assert not kept.keep(b"x", entry(records=MEAN_OCTETS * 4 // 31 + 1))


def test_without_room_nothing_is_kept_but_failures() -> None:
    kept = cache(0)
    assert not kept.keep(b"k", entry())
    kept.fail(b"k", "timeout", 0.0)
    assert kept.failing(b"k", 1.0) is not None


def test_other_limits() -> None:
    kept = cache(3)
    for key in (b"a", b"b", b"c"):
        kept.keep(key, entry(10))
    kept.set_limits(1, stale_max=0.0, failure_ttl=1)
    assert kept.get(b"c", 1.0) is not None
    assert (len(kept), kept.evicted) == (1, 2)
    assert kept.get(b"c", 10.0) is None


def test_failures_last_longer_each_time_until_something_answers() -> None:
    kept = cache()
    now, waited = 0.0, []
    for _ in range(6):
        failure = kept.fail(b"k", "timeout", now)
        waited.append(failure.ttl)
        assert kept.failing(b"k", failure.until - 0.1) is failure
        assert kept.failing(b"k", failure.until) is None
        now = failure.until
    assert waited == [5, 10, 20, 40, 60, 60]
    kept.keep(b"k", entry(made=now))
    assert kept.failing(b"k", now) is None
    assert kept.fail(b"k", "timeout", now).ttl == 5


def test_an_old_failure_is_forgotten() -> None:
    kept = cache()
    assert kept.fail(b"k", "timeout", 0.0).ttl == 5
    assert kept.fail(b"k", "timeout", 5.0 + 60.0).ttl == 5


def test_a_configured_time_above_the_usual_limit() -> None:
    kept = cache(failure_ttl=200)
    assert [kept.fail(b"k", "timeout", now).ttl for now in (0.0, 200.0, 400.0)] == [200, 200, 200]


def test_a_failure_takes_no_answer_away() -> None:
    kept = cache(1)
    kept.keep(b"k", entry(60))
    for number in range(MOST_FAILURES + 10):
        kept.fail(b"k%d" % number, "timeout", 1.0)
    kept.fail(b"k", "timeout", 61.0)
    assert kept.failures == MOST_FAILURES
    assert kept.get(b"k", 61.0) is not None


def test_variants_differ() -> None:
    found = [variant(dnssec_ok=do, checking_disabled=cd) for do in (False, True) for cd in (False, True)]
    assert sorted(found) == sorted(VARIANTS)
    assert variant(dnssec_ok=False, checking_disabled=False) == b""


def test_ttls_of_a_kept_answer() -> None:
    answer = Answer(
        3,
        [b"\xc0\x0c" + record(". 60 CNAME a.example.com.")[1:], record("a.example.com. 300 TXT x")],
        authority=[record(SOA), record("example.com. 5 NS ns.example.com.")],
        rotate=False,
        aa=False,
    )
    older, past = shown(aged(answer, 10), NAME), shown(stale(answer, 30, 19), NAME)
    assert [rrset.ttl for rrset in (*older.answer, *older.authority)] == [50, 290, 590, 0]
    assert [rrset.ttl for rrset in (*past.answer, *past.authority)] == [30] * 4
    assert [line.split(" ")[2:] for line in lines(older.answer)] == [line.split(" ")[2:] for line in lines(past.answer)]
    assert (older.rcode(), past.rcode()) == (3, 3)
    assert (aged(answer, 10).extended_error, stale(answer, 30, 19).extended_error) == (None, 19)
    assert [rrset.ttl for rrset in shown(answer, NAME).answer] == [60, 300]


def test_what_others_give_out_of_it_is_passed_over() -> None:
    kept = cache(3)
    asked: list[bytes] = []

    def in_use(key: bytes) -> bool:
        asked.append(key)
        return key == b"a" and asked.count(b"a") == 1

    kept.in_use = in_use
    for key in (b"a", b"b", b"c", b"d"):
        kept.keep(key, entry())
    assert [key for key in (b"a", b"b", b"c", b"d") if kept.get(key, 1.0)] == [b"a", b"c", b"d"]
    assert asked == [b"a", b"b"]


def test_room_is_made_although_all_is_in_use() -> None:
    kept = cache(200)
    kept.in_use = lambda key: True
    for number in range(205):
        kept.keep(b"%d" % number, entry())
    assert (len(kept), kept.evicted) == (200, 5)
    assert MOST_PASSED < 200
