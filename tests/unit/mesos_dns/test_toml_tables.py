"""TOML into structs: every problem at once, with its path, its value and what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from mesos_dns.config import Duration, Seconds
from mesos_dns.toml_tables import MAX_BYTES, MAX_DEPTH, Problem, TableReader, TomlError, decode, parse, read, shown


class Part(msgspec.Struct):
    """A struct within another."""

    size: Annotated[int, Meta(ge=1)] = 1
    kind: Literal["a", "b"] = "a"


class Whole(msgspec.Struct):
    """One of each kind of field."""

    part: Part | None = None
    parts: tuple[Part, ...] = ()
    texts: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    kinds: tuple[Literal["a", "b"], ...] = ()
    wait: Duration = Duration(1)
    secret: str = ""
    number: int | str = 0


def reading(text: str, **options: Any) -> tuple[Whole, list[str]]:
    found: list[Problem] = []
    whole = TableReader(found, **options).struct(Whole, parse(text, "f"))
    return whole, [str(problem) for problem in found]


def test_good_values_of_every_kind() -> None:
    whole, found = reading(
        "part = { size = 2 }\nparts = [{ kind = 'b' }, {}]\ntexts = { x = 'y' }\nlists = { z = ['1'] }\n"
        "kinds = ['b']\nwait = '2m'\nsecret = 's'\nnumber = 'n'"
    )
    assert found == []
    parts = (Part(kind="b"), Part())
    assert whole == Whole(Part(2), parts, {"x": "y"}, {"z": ("1",)}, ("b",), Duration(120), "s", "n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sise = 1", "sise: unknown key"),
        ("part.sise = 1", "part.sise: unknown key; did you mean 'size'?"),
        ("part.'a b' = 1", 'part."a b": unknown key'),
        ("part = 5", "part: expected a table, got `int`"),
        ("part.size = 0", "part.size: expected `int` >= 1, got 0"),
        ("parts = {}", "parts: expected `array`, got a table"),
        ("parts = [{}, 5]", "parts[1]: expected a table, got `int`"),
        ("parts = [{}, { size = 'x' }]", "parts[1].size: expected `int`, got `str`"),
        ("parts = [{}, { kind = 'c' }]", 'parts[1].kind: expected one of "a", "b", got \'c\''),
        ("texts.'x.y' = 5", 'texts."x.y": expected `str`, got `int`'),
        ("lists.x = ['1', 2]", "lists.x[1]: expected `str`, got `int`"),
        ("kinds = ['a', 'my value']", 'kinds[1]: expected one of "a", "b", got \'my value\''),
        ("wait = 'x'", 'wait: expected a duration such as "500ms", "10s" or "15m", got \'x\''),
        ("number = 1.5", "number: expected `int | str`, got `float`"),
    ],
)
def test_one_problem(text: str, expected: str) -> None:
    assert reading(text)[1] == [expected]


def test_all_problems_are_told_and_the_good_values_are_there() -> None:
    whole, found = reading("part = { size = 0, kind = 'b' }\ntexts = { a = 1, b = 'c' }\nwait = -1\nnumber = 3")
    assert [line.partition(": ")[0] for line in found] == ["part.size", "texts.a", "wait"]
    assert whole == Whole(part=Part(kind="b"), texts={"b": "c"}, number=3)


def test_a_list_with_a_bad_item_is_left_out_so_that_numbers_stay_right() -> None:
    whole, found = reading("parts = [{ size = 2 }, 5, { size = 0 }]")
    assert [line.partition(": ")[0] for line in found] == ["parts[1]", "parts[2].size"]
    assert whole.parts == ()


def test_a_secret_is_not_shown() -> None:
    assert reading("secret = 4711", secrets=frozenset({"secret"}))[1] == ["secret: expected `str`, got `int`"]


def test_where_an_unknown_key_belongs() -> None:
    assert reading("size = 1", sections={"one": Part, "two": Whole})[1] == [
        "size: unknown key here; it belongs in [one]"
    ]
    assert reading("quite_else = 1", sections={"one": Part})[1] == ["quite_else: unknown key or section"]


def refused(text: str) -> str:
    with pytest.raises(TomlError) as caught:
        parse(text, "f")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = = 2", "f: not TOML: Invalid value (at line 1, column 5)"),
        ("a = " + "[" * 5000, "f: not a configuration: nested more than 32 deep"),
        ("a" + ".a" * 5000 + " = 1", "f: not a configuration: nested more than 32 deep"),
        ("a = " + "9" * 5000, "f: not TOML: a number is out of range"),
        ("a.b = [1, 0x8000000000000000]", "f: a.b[1]: expected an integer of 64 bits, got a larger one"),
        ("a = -9223372036854775809", "f: a: expected an integer of 64 bits, got a larger one"),
    ],
)
def test_what_is_no_toml(text: str, expected: str) -> None:
    assert refused(text) == expected


def test_the_limits_are_not_lower_than_they_say() -> None:
    assert parse("a" + ".a" * (MAX_DEPTH - 1) + " = 1", "f")
    assert parse("a = 0x7fffffffffffffff\nb = -9223372036854775808", "f")
    assert decode(b"x" * MAX_BYTES, "f")


def test_what_is_no_text_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(TomlError, match="f: line 2 is not UTF-8 text"):
        decode(b"a = 1\n\xff", "f")
    with pytest.raises(TomlError, match="f: larger than 1048576 bytes"):
        decode(b"x" * (MAX_BYTES + 1), "f")
    path = tmp_path / "f"
    with pytest.raises(TomlError, match="can't read the file: No such file"):
        read(path)
    path.write_bytes(b"x" * (MAX_BYTES + 5))
    with pytest.raises(TomlError, match="larger than"):
        read(path)
    path.write_bytes(b"x")
    assert read(path) == b"x"


def test_an_error_has_one_line_for_each_problem() -> None:
    error = TomlError("f", [Problem("a.b", "is bad"), Problem("", "is worse")])
    assert str(error) == "f: a.b: is bad\nf: is worse"
    assert error.problems == (Problem("a.b", "is bad"), Problem("", "is worse"))


def test_long_values_and_keys_are_shortened() -> None:
    assert shown("short") == "'short'"
    assert len(shown("x" * 10_000)) < 300
    found = reading(f"part.{'k' * 10_000} = 1\nwait = '{'x' * 10_000}'\nparts = [{{ kind = '{'x' * 10_000}' }}]")[1]
    assert len(found) == 3
    assert all(len(line) < 600 for line in found)


class Step(msgspec.Struct, frozen=True):
    """A struct that has a required key and checks itself."""

    size: int
    wait: Annotated[Seconds, Meta(description="a time")] = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: expected 1 or more, got {self.size}")
        if self.wait > 60:
            raise ValueError("expected less patience")


class Steps(msgspec.Struct):
    """Where such ones may stand."""

    first: Step = Step(7, 5.0)
    others: tuple[Step, ...] = ()
    named: dict[str, Step] = {}


def stepping(text: str) -> tuple[Steps, list[str]]:
    found: list[Problem] = []
    steps = TableReader(found).struct(Steps, parse(text, "f"))
    return steps, [str(problem) for problem in found]


def test_required_keys_and_seconds() -> None:
    steps, found = stepping("others = [{ size = 1 }, { size = 2, wait = '1m' }]\nnamed.a = { size = 3, wait = 2 }")
    assert found == []
    assert steps == Steps(others=(Step(1), Step(2, 60.0)), named={"a": Step(3, 2.0)})
    assert type(steps.others[1].wait) is float


def test_what_a_table_leaves_out_is_as_in_the_default() -> None:
    assert stepping("first = { size = 1 }") == (Steps(first=Step(1, 5.0)), [])
    assert stepping("first = { wait = 1 }") == (Steps(first=Step(7, 1.0)), [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("named.a = {}", "named.a.size: expected this key, got none"),
        ("named.'/a' = { size = 0 }", 'named."/a".size: expected 1 or more, got 0'),
        ("named.a = { size = 1, wait = 61 }", "named.a: expected less patience"),
        ("named.a = 5", "named.a: expected a table, got `int`"),
        ("others = [{ size = 1 }, { size = 'x' }]", "others[1].size: expected `int`, got `str`"),
        ("others = [{ size = 0, sise = 1 }]", "others[0].sise: unknown key; did you mean 'size'?"),
        (
            "first = { wait = '5x' }",
            'first.wait: expected a duration such as "500ms", "10s" or "15m", got \'5x\'',
        ),
    ],
)
def test_one_that_checks_itself_is_taken_whole_or_not_at_all(text: str, expected: str) -> None:
    steps, found = stepping(text)
    assert found == [expected]
    assert steps == Steps()
