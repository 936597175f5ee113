"""The splitter gives the elements and the skeleton that a whole-document parse gives, at any piece borders."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.sources._split import SplitError, Splitter

PATHS = ("tasks", "frameworks", "frameworks.tasks", "a.b.tasks")

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
names = st.sampled_from(["tasks", "frameworks", "a", "b", "x", 'q"uote', "\\"]) | st.text(max_size=5)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5))
documents = st.dictionaries(names, values, max_size=6)
# Nested arrays inside a listed one are listed as well (array levels do not count), which `reference` does not model.
flat = documents.filter(lambda document: not _nested(document, ()))


def _nested(value: Any, path: tuple[str, ...]) -> bool:
    if isinstance(value, dict):
        return any(_nested(item, (*path, name)) for name, item in value.items())
    if isinstance(value, list):
        listed = ".".join(path) in PATHS
        return any((listed and isinstance(item, list)) or _nested(item, path) for item in value)
    return False


def reference(value: Any, path: tuple[str, ...], out: list[tuple[str, Any]]) -> Any:
    """`value` with its listed arrays emptied; their elements, emptied too, go to `out`."""
    if isinstance(value, dict):
        return {name: reference(item, (*path, name), out) for name, item in value.items()}
    if isinstance(value, list):
        name = ".".join(path)
        if name in PATHS:
            for item in value:
                emptied = reference(item, path, out)
                out.append((name, emptied))
            return []
        return [reference(item, path, out) for item in value]
    return value


def split(data: bytes, cuts: list[int], **limits: int) -> tuple[list[tuple[str, bytes]], bytes]:
    splitter, out, at = Splitter(PATHS, **limits), [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        out += splitter.feed(data[at:cut])
        at = cut
    return out, splitter.finish()


@given(document=flat, cuts=st.lists(st.integers(0, 10**6), max_size=20), indent=st.none() | st.integers(0, 2))
def test_equals_a_whole_parse(document: dict[str, Any], cuts: list[int], indent: int | None) -> None:
    expected: list[tuple[str, Any]] = []
    skeleton = reference(document, (), expected)
    out, rest = split(json.dumps(document, indent=indent).encode(), cuts)
    assert [(path, json.loads(data)) for path, data in out] == expected
    assert json.loads(rest) == skeleton


@given(document=flat)
def test_byte_by_byte(document: dict[str, Any]) -> None:
    data = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert split(data, list(range(len(data)))) == split(data, [])


@given(document=documents, at=st.integers(0, 10**6), byte=st.binary(max_size=3))
def test_damage_is_refused_or_harmless(document: dict[str, Any], at: int, byte: bytes) -> None:
    data = json.dumps(document).encode()
    at %= len(data)
    splitter = Splitter(PATHS)
    try:
        splitter.feed(data[:at] + byte + data[at + 1 :])
        splitter.finish()
    except SplitError:
        pass


@given(data=st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    splitter = Splitter(PATHS)
    try:
        splitter.feed(data)
        splitter.finish()
    except SplitError:
        pass


@given(document=documents, at=st.integers(0, 10**6))
def test_a_cut_document_has_no_skeleton(document: dict[str, Any], at: int) -> None:
    data = json.dumps(document).encode()
    splitter = Splitter(PATHS)
    splitter.feed(data[: at % len(data)])
    assert not splitter.done
    with pytest.raises(SplitError, match="too early"):
        splitter.finish()


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"1",
        b'"a"',
        b"x",
        b",",
        b"{}{}",
        b"{} x",
        b'{"tasks":[1,]}',
        b'{"tasks":[,1]}',
        b"{]",
        b"}",
        b'{"tasks":[}}',
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(SplitError):
        split(data, [])


def test_nested_arrays_of_a_listed_one() -> None:
    out, rest = split(b'{"tasks": [[1,2],3]}', [])
    assert out == [("tasks", b"1"), ("tasks", b"2"), ("tasks", b"[]"), ("tasks", b"3")]
    assert json.loads(rest) == {"tasks": []}


def test_a_value_of_a_listed_name_that_is_no_array() -> None:
    assert split(b'{"tasks": {"tasks": [1]}, "a": {"tasks": [2]}}', []) == (
        [],
        b'{"tasks": {"tasks": [1]}, "a": {"tasks": [2]}}',
    )


def test_limits() -> None:
    with pytest.raises(SplitError, match="nested"):
        split(b'{"x":' + b"[" * 64, [])
    with pytest.raises(SplitError, match="larger"):
        split(b'{"tasks":["' + b"x" * 101 + b'"]}', [5, 50], max_element=100)
    with pytest.raises(SplitError, match="larger"):
        split(b'{"x":"' + b"x" * 101 + b'"}', [5, 50], max_skeleton=100)
    with pytest.raises(SplitError, match="name"):
        split(b'{"' + b"x" * 1025 + b'":1}', [])
    assert split(b'{"tasks":["' + b"x" * 98 + b'"]}', [20, 60], max_element=100)[0][0][1][:1] == b'"'
