"""The resolver's cache against a model, under random questions, answers, failures and jumps of the clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as tuned
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from mesos_dns.answer import Answer
from mesos_dns.resolver.cache import MEAN_OCTETS, MOST_FAILURE_TTL, Cache, Entry, aged, stale
from tests.fakes.resolving import record, shown

SIZE, STALE_MAX, FAILURE_TTL = 4, 50.0, 5
KEYS = [bytes((number,)) for number in range(8)]


class CacheMachine(RuleBasedStateMachine):
    """`said` is every answer that was kept last for a key: what the cache tells must be one of them."""

    answers = Bundle("answers")

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(SIZE, stale_max=STALE_MAX, failure_ttl=FAILURE_TTL)
        self.now = 0.0
        self.said: dict[bytes, Entry] = {}
        self.order: list[bytes] = []
        self.failed: dict[bytes, tuple[float, int]] = {}

    @rule(target=answers, lifetime=st.integers(0, 40), octets=st.sampled_from([40, 40, 300, 9000]))
    def make(self, lifetime: int, octets: int) -> tuple[int, int]:
        return lifetime, octets

    @rule(key=st.sampled_from(KEYS), made=answers)
    def keep(self, key: bytes, made: tuple[int, int]) -> None:
        lifetime, octets = made
        entry = Entry(Answer(0, [bytes(octets)], aa=False), "positive", lifetime, self.now)
        kept = self.cache.keep(key, entry)
        assert kept is (lifetime > 0)
        self.said.pop(key, None)
        self.failed.pop(key, None)
        if key in self.order:
            self.order.remove(key)
        if kept:
            self.said[key] = entry
            self.order.append(key)
            while len(self.order) > SIZE or sum(self.said[each].size for each in self.order) > SIZE * MEAN_OCTETS:
                del self.said[self.order.pop(0)]

    @rule(key=st.sampled_from(KEYS))
    def fail(self, key: bytes) -> None:
        failure = self.cache.fail(key, "timeout", self.now)
        until, ttl = self.failed.get(key, (-1e9, 0))
        expected = min(ttl * 2, MOST_FAILURE_TTL) if self.now < until + MOST_FAILURE_TTL else FAILURE_TTL
        assert (failure.ttl, failure.until) == (expected, self.now + expected)
        self.failed[key] = (failure.until, failure.ttl)

    @rule(seconds=st.floats(0, 60, allow_subnormal=False))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from(KEYS))
    def ask(self, key: bytes) -> None:
        found = self.cache.get(key, self.now)
        expected = self.said.get(key)
        if expected is not None and self.now - expected.made >= expected.lifetime + STALE_MAX + 1e-6:
            expected = None
            self.order.remove(key)
            del self.said[key]
        elif expected is not None and found is None:  # at the very border, where sums of floats differ
            assert self.now - expected.made >= expected.lifetime + STALE_MAX - 1e-6
            expected = None
            self.order.remove(key)
            del self.said[key]
        assert found is expected
        if found is not None:
            self.order.remove(key)
            self.order.append(key)
            age = self.now - found.made
            assert age < found.lifetime + STALE_MAX + 1e-6
            assert not found.fresh(self.now) or age < found.lifetime + 1e-6
            assert found.fresh(self.now) or age > found.lifetime - 1e-6
            assert not found.old(self.now) or found.fresh(self.now)

    @rule(key=st.sampled_from(KEYS))
    def ask_failure(self, key: bytes) -> None:
        holds = self.cache.failing(key, self.now) is not None
        assert holds is (key in self.failed and self.now < self.failed[key][0])

    @invariant()
    def bounded(self) -> None:
        assert len(self.cache) <= SIZE
        assert 0 <= self.cache.octets <= SIZE * MEAN_OCTETS


CacheMachine.TestCase.settings = tuned(max_examples=60, stateful_step_count=40, deadline=None)
TestCache = CacheMachine.TestCase


@given(
    st.lists(st.tuples(st.sampled_from(["a.", "b.example."]), st.integers(0, 0x7FFFFFFF)), max_size=8),
    st.lists(st.integers(0, 0x7FFFFFFF), max_size=3),
    st.integers(0, 0x7FFFFFFF),
)
def test_ttls(records: list[tuple[str, int]], authority: list[int], age: int) -> None:
    answer = Answer(
        0,
        [record(f"{owner} {ttl} TXT {number}") for number, (owner, ttl) in enumerate(records)],
        authority=[record(f"c. {ttl} NS ns.c.") for ttl in authority],
        aa=False,
    )
    told = [ttl for _, ttl in records] + authority
    older, past = shown(aged(answer, age), "q.example"), shown(stale(answer, 30, 3), "q.example")
    assert [each.ttl for each in (*older.answer, *older.authority)] == [max(ttl - age, 0) for ttl in told]
    assert [each.ttl for each in (*past.answer, *past.authority)] == [30] * len(told)
    assert [each.to_rdataset()[0] for each in older.answer] == [each.to_rdataset()[0] for each in past.answer]
