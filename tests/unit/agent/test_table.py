"""JSON values as text for people."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.table import cell, facts, safe, table

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (0, "0"),
        (False, "no"),
        (True, "yes"),
        (1.5, "1.5"),
        (2.0, "2"),
        (["a", 1], "a,1"),
        ({"a": [1]}, "a=1"),
        ("a\x1b[31mb", "a\N{REPLACEMENT CHARACTER}[31mb"),
    ],
)
def test_cell(value: object, text: str) -> None:
    assert cell(value) == text


def test_table_is_aligned() -> None:
    assert table(["A", "B"], [["long", 1], [None, 22]]) == ["A     B", "long  1", "-     22"]
    assert table(["A", "B"], []) == ["A  B"]


def test_facts_nest() -> None:
    value = {
        "ready": True,
        "name": "x",
        "sources": {"mesos": {"connected": True, "age": 1.25}, "file": {"connected": False}},
        "dns": {"addresses": ["127.0.0.1:53"], "counts": {"udp": 1}},
        "listeners": [{"part": "api", "port": 1}, {"part": "dns"}],
    }
    assert facts(value) == [
        "ready  yes",
        "name   x",
        "sources:",
        "         connected  age",
        "  mesos  yes        1.25",
        "  file   no         -",
        "dns:",
        "  addresses  127.0.0.1:53",
        "  counts:",
        "    udp  1",
        "listeners:",
        "  part  port",
        "  api   1",
        "  dns   -",
    ]


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_json_is_printable_lines(value: dict[str, object]) -> None:
    lines = facts(json.loads(json.dumps(value)))
    assert all(safe(line) == line for line in lines)
