"""Tolerant conversion: wrong parts are left out and named, identities are not negotiable."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.sources.mesos_decode import Event, WireTask
from mesos_dns.sources.mesos_tolerant import MAX_LOST, Malformed, convert


class Inner(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=0, le=9)]
    text: str | None = None


class Outer(msgspec.Struct):
    id: str
    inner: Inner | None = None
    items: list[Inner] | None = None
    either: Inner | list[Inner] | None = None
    flag: bool = True


def test_what_is_right_stays() -> None:
    lost: list[str] = []
    value = {"id": "a", "inner": {"number": 1}, "items": [{"number": 2, "text": "x"}], "either": [{"number": 3}]}
    assert convert(value, Outer, lost) == Outer("a", Inner(1), [Inner(2, "x")], [Inner(3)])
    assert lost == []


def test_wrong_parts_cost_only_themselves() -> None:
    lost: list[str] = []
    value = {
        "id": "a",
        "inner": {"number": 99},
        "items": [{"number": 1}, 5, {"number": "x"}, {"number": 2, "text": 7}],
        "either": "x",
        "flag": "yes",
        "unknown": object,
    }
    assert convert(value, Outer, lost) == Outer("a", None, [Inner(1), Inner(2)], None, True)
    assert [reason.split(":")[0] for reason in lost] == [
        "inner.number",
        "items[1]",
        "items[2].number",
        "items[3].text",
        "either",
        "flag",
    ]


def test_null_is_absent() -> None:
    lost: list[str] = []
    assert convert({"id": "a", "inner": None, "items": None, "flag": None}, Outer, lost) == Outer("a")
    assert lost == []


@pytest.mark.parametrize("value", [None, [], "x", 5, {}, {"id": None}, {"id": 5}])
def test_without_its_identity_nothing(value: object) -> None:
    with pytest.raises(Malformed):
        convert(value, Outer, [])


def test_the_list_of_losses_is_bounded() -> None:
    lost: list[str] = []
    convert({"id": "a", "items": list(range(1000))}, Outer, lost)
    assert len(lost) == MAX_LOST


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "task_id",
                    "framework_id",
                    "agent_id",
                    "value",
                    "state",
                    "statuses",
                    "labels",
                    "discovery",
                    "ports",
                    "task",
                    "task_added",
                    "type",
                    "resources",
                    "ranges",
                    "range",
                    "name",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@given(value=json_values, kind=st.sampled_from([WireTask, Event]))
def test_any_json_is_converted_or_malformed(value: Any, kind: type[msgspec.Struct]) -> None:
    try:
        assert isinstance(convert(value, kind, []), kind)
    except Malformed:
        pass
