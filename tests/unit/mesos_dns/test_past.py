"""A dict as it was, while it goes on changing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.past import Past

Changes = list[tuple[int, str | None]]
changes = st.lists(st.tuples(st.integers(0, 5), st.none() | st.text(max_size=2)), max_size=20)


def change(now: dict[int, str], past: list[Past[int, str]], key: int, value: str | None) -> None:
    for each in past:
        each.keep(key)
    if value is None:
        now.pop(key, None)
    else:
        now[key] = value


@given(changes, changes, changes)
def test_it_is_what_a_copy_is(first: Changes, second: Changes, third: Changes) -> None:
    now: dict[int, str] = {}
    copies: list[dict[int, str]] = []
    past: list[Past[int, str]] = []
    for several in (first, second, third):
        for key, value in several:
            change(now, past, key, value)
        copies.append(dict(now))
        past.append(Past(now, list(now)))
    for several in (second, third):
        for key, value in several:
            change(now, past, key, value)
    for each, copy in zip(past, copies, strict=True):
        assert list(each) == list(copy)
        assert len(each) == len(copy)
        assert dict(each.items()) == copy
        assert [each.get(key) for key in range(7)] == [copy.get(key) for key in range(7)]
        assert each or not copy


def test_a_value_is_kept_once() -> None:
    now = {1: "a"}
    past = Past(now)
    assert past.keep(1)
    now[1] = "b"
    assert not past.keep(1)
    assert past[1] == "a"
    assert past.keep(2)
    now[2] = "c"
    assert 2 not in past
    assert len({past, Past(now), Past(now)}) == 3


def test_without_keys_it_can_only_be_asked() -> None:
    past = Past({1: "a"})
    assert past[1] == "a"
    for read in (list, len):
        with pytest.raises(TypeError):
            read(past)
