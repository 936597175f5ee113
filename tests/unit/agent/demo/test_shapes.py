"""The comparison that the other tests rely on sees a wrong name, a wrong type and a wrong place."""

from __future__ import annotations

from tests.unit.agent.demo.shapes import recordio, shape, unknown


def test_shape_is_paths_and_types() -> None:
    found = shape({"a": [1, {"b": None}], "c": True})
    assert found == {"": {"dict"}, ".a": {"list"}, ".a[]": {"int", "dict"}, ".a[].b": {"NoneType"}, ".c": {"bool"}}


def test_unknown_names_what_the_recording_has_not() -> None:
    recorded = shape({"a": 1.0, "b": [{"c": "x"}]})
    assert unknown(shape({"a": 2.0, "b": []}), recorded) == {}
    assert unknown(shape({"a": 2}), recorded) == {".a": "int"}
    assert unknown(shape({"b": [{"d": "x"}]}), recorded) == {".b[].d": "str"}


def test_recordio() -> None:
    assert recordio(b'7\n{"a":1}2\n{}') == [{"a": 1}, {}]
