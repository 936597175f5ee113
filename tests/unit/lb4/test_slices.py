"""lb4.slices: how much is done before the loop gets a turn."""

from __future__ import annotations

from lb4.slices import DESTINATIONS, SLICE, Slices, first, slices


def test_a_slice_ends_after_some_items_or_many_destinations() -> None:
    part = Slices()
    assert [part.ends(1) for _ in range(2 * SLICE)].count(True) == 2
    assert not part.ends(DESTINATIONS - 1)
    assert part.ends(1)
    assert part.ends(5 * DESTINATIONS)
    assert not part.ends(1)


def test_the_first_slice() -> None:
    assert list(first([], lambda item: 1)) == []
    assert list(first(range(2 * SLICE), lambda item: 1)) == list(range(SLICE))
    assert list(first([1, 2, 3], lambda item: DESTINATIONS // 2)) == [1, 2]
    assert list(first([1, 2], lambda item: 5 * DESTINATIONS)) == [1]
    assert list(first([1, 2], lambda item: 5 * DESTINATIONS if item == 2 else 1)) == [1]


def test_slices_by_number() -> None:
    assert [len(part) for part in slices(range(2 * SLICE + 1))] == [SLICE, SLICE, 1]
