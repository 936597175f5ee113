"""Differences of counters: all of what was counted is told once, whatever happens in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb7.wire import Counts
from lb7.worker_counters import Increments, add

COUNTS = st.dictionaries(
    st.sampled_from("abc"), st.integers(0, 1000) | st.lists(st.integers(0, 10), min_size=3, max_size=3)
)


def grown(counts: Counts, by: int) -> Counts:
    return {key: [n + by for n in value] if isinstance(value, list) else value + by for key, value in counts.items()}


def test_only_what_is_new_is_told() -> None:
    increments = Increments()
    assert increments.since("a", {"x": 1, "y": 0, "z": [0, 2], "none": [0, 0]}) == {"x": 1, "z": [0, 2]}
    assert increments.since("a", {"x": 1, "y": 0, "z": [0, 2], "none": [0, 0]}) == {}
    assert increments.since("a", {"x": 3, "y": 0, "z": [1, 2], "none": [0, 0], "new": 4}) == {
        "x": 2,
        "z": [1, 0],
        "new": 4,
    }


def test_each_owner_has_its_own() -> None:
    increments = Increments()
    assert increments.since("a", {"x": 1}) == increments.since("b", {"x": 1}) == {"x": 1}
    increments.keep({"b"})
    assert len(increments) == 1
    assert increments.since("a", {"x": 1}) == {"x": 1}
    assert increments.since("b", {"x": 1}) == {}


@given(COUNTS, st.lists(st.integers(0, 5), max_size=5))
def test_the_sum_of_what_is_told_is_what_was_counted(counts: Counts, steps: list[int]) -> None:
    increments = Increments()
    told: Counts = {}
    now = counts
    add(told, increments.since("a", now))
    for step in steps:
        now = grown(now, step)
        add(told, increments.since("a", now))
    full: Counts = {key: [0, 0, 0] if isinstance(value, list) else 0 for key, value in now.items()}
    add(full, told)
    assert full == now


def test_adding_changes_nothing_that_is_added() -> None:
    buckets: list[int | float] = [1, 2]
    into: Counts = {}
    add(into, {"a": buckets, "b": 1})
    add(into, {"a": buckets, "b": 0.5})
    assert into == {"a": [2, 4], "b": 1.5}
    assert buckets == [1, 2]
