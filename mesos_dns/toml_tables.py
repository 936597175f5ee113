"""TOML files into structs, key by key, so that all that is wrong is told at once and not one thing after the other.

    document = parse(decode(read(path), name), name)
    found: list[Problem] = []
    value = TableReader(found).struct(Kind, document)     # from the good keys; a bad one keeps its default
    if found:
        raise TomlError(name, found)

A problem names the key's path ("vip[3].backends.port"), the value, what was expected, and for an unknown key the
nearest known one. Structs may hold structs, lists and tables of them. The outer one needs defaults for all keys; one
that it holds may have keys that are required, and check itself (a ValueError in `__post_init__`): then it is taken as
a whole or not at all. What a table leaves out is as in the default of the field that it stands for.
"""

from __future__ import annotations

import difflib
import json
import re
import reprlib
import tomllib
import types
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from mesos_dns.config import Duration, decode_hook, is_seconds

MAX_BYTES = 1 << 20
"""Bytes of the largest file that is taken."""
MAX_DEPTH = 32
"""Tables and lists within each other, at most: no file of ours has more than four."""

UNKNOWN = "unknown key"
"""What the text of such a problem begins with."""

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_PLACE = re.compile(r"(?P<text>.*) - at `\$(?P<path>.*)`", re.DOTALL)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = 200

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _LONGEST
_short.maxlist = _short.maxtuple = _short.maxdict = 16


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: the key's path ("dns.forward[1]", "" for the file) and what was expected."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


class TomlError(Exception):
    """A file that can't be used. Its text has one line for each of `problems`."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{name}: {problem}" for problem in self.problems))


def read(path: Path) -> bytes:
    """A file's bytes (blocks). Raises TomlError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TomlError(str(path), [Problem("", f"can't read the file: {error.strerror}")]) from error
    _check_size(raw, str(path))
    return raw


def decode(raw: bytes, name: str) -> str:
    """A file's text; `name` stands for the file in errors. Raises TomlError."""
    _check_size(raw, name)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TomlError(name, [Problem("", f"line {line} is not UTF-8 text")]) from error


def _check_size(raw: bytes, name: str) -> None:
    if len(raw) > MAX_BYTES:
        raise TomlError(name, [Problem("", f"larger than {MAX_BYTES} bytes: this is no configuration file")])


def parse(text: str, name: str) -> dict[str, Any]:
    """The tables of a TOML text, nested at most MAX_DEPTH deep, with integers of 64 bits. Raises TomlError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(name, [Problem("", f"not TOML: {error}")]) from error
    except RecursionError as error:
        raise TomlError(name, [_TOO_DEEP]) from error
    except ValueError as error:  # an integer of thousands of digits
        raise TomlError(name, [Problem("", "not TOML: a number is out of range")]) from error
    if fault := _beyond(document):
        raise TomlError(name, [fault])
    return document


_TOO_DEEP = Problem("", f"not a configuration: nested more than {MAX_DEPTH} deep")


def _beyond(document: dict[str, Any]) -> Problem | None:
    """What the parser lets through and others stumble over: endless nesting by dotted keys, huge integers."""
    waiting: list[tuple[Any, int, str]] = [(document, 0, "")]
    while waiting:
        value, depth, path = waiting.pop()
        if isinstance(value, dict | list) and depth > MAX_DEPTH:
            return _TOO_DEEP
        if isinstance(value, dict):
            dot = "." if path else ""
            waiting += [(part, depth + 1, f"{path}{dot}{quoted(key)}") for key, part in value.items()]
        elif isinstance(value, list):
            waiting += [(part, depth + 1, f"{path}[{index}]") for index, part in enumerate(value)]
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            return Problem(path, "expected an integer of 64 bits, got a larger one")
    return None


class TableReader:
    """Makes structs of tables; what is wrong is added to `found`.

    Values of keys in `secrets` are never shown. `sections` are those in which a key may belong that is unknown where
    it stands.
    """

    def __init__(
        self,
        found: list[Problem],
        *,
        secrets: frozenset[str] = frozenset(),
        sections: Mapping[str, type[msgspec.Struct]] = types.MappingProxyType({}),
    ) -> None:
        self._found = found
        self._secrets = secrets
        self._sections = sections

    def struct(
        self,
        kind: type[_Struct],
        table: Mapping[str, Any],
        prefix: str = "",
        *,
        also_known: Iterable[str] = (),
        values: Mapping[str, Any] | None = None,
    ) -> _Struct:
        """`kind` from the good keys of `table`; a bad one keeps its default.

        `prefix` is what paths begin with, with its dot; `also_known` are further keys that an unknown one may be meant
        for; `values` are fields that were read already.
        """
        return kind(**self._read(kind, table, prefix, also_known, values or {}))

    def _read(
        self,
        kind: type[msgspec.Struct],
        table: Mapping[str, Any],
        prefix: str,
        also_known: Iterable[str] = (),
        values: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> dict[str, Any]:
        """The good keys."""
        fields = _fields_of(kind)
        good: dict[str, Any] = dict(values)
        for key, value in table.items():
            if key not in fields:
                text = self._unknown(key, [*fields, *also_known], prefix)
                self._found.append(Problem(prefix + quoted(key), text))
                continue
            field = fields[key]
            read = self._value(field.type, value, prefix + key, secret=key in self._secrets, default=field.default)
            if read is not _BAD:
                good[key] = read
        return good

    def _held(self, kind: type[msgspec.Struct], table: Mapping[str, Any], path: str, default: Any) -> Any:
        """A struct within another; _BAD where it can't be made of the good keys."""
        known = len(self._found)
        good = self._read(kind, table, f"{path}.")
        if isinstance(default, kind):
            good = {**msgspec.structs.asdict(default), **good}
        missing = [field for name, field in _fields_of(kind).items() if field.required and name not in good]
        self._found += [
            Problem(f"{path}.{field.name}", "expected this key, got none")
            for field in missing
            if field.name not in table
        ]
        if missing or (len(self._found) > known and hasattr(kind, "__post_init__")):
            return _BAD
        try:
            return kind(**good)
        except ValueError as error:
            self._found.append(_refused(kind, path, str(error)))
            return _BAD

    def _value(self, kind: Any, value: Any, path: str, *, secret: bool, default: Any = None) -> Any:
        """A value of any type, _BAD when it is of another."""
        held = _holder(kind)
        if isinstance(value, dict) and isinstance(held, type) and issubclass(held, msgspec.Struct):
            return self._held(held, value, path, default)
        if isinstance(value, dict) and get_origin(held) is dict:
            part_kind = get_args(held)[1]
            read = {
                key: self._value(part_kind, part, f"{path}.{quoted(key)}", secret=secret) for key, part in value.items()
            }
            return {key: part for key, part in read.items() if part is not _BAD}
        if isinstance(value, list) and get_origin(held) is tuple:
            part_kind = get_args(held)[0]
            items = [self._value(part_kind, part, f"{path}[{n}]", secret=secret) for n, part in enumerate(value)]
            # Without the bad item, the numbers of the others would be wrong in what is said of them later.
            return _BAD if _BAD in items else tuple(items)
        try:
            if is_seconds(kind):
                return float(msgspec.convert(value, Duration, dec_hook=decode_hook))
            return msgspec.convert(value, kind, dec_hook=decode_hook)
        except msgspec.ValidationError as error:
            self._found.append(_misfit(path, kind, value, str(error), secret=secret))
            return _BAD

    def _unknown(self, key: str, known: Iterable[str], prefix: str) -> str:
        """What to say of a key that nobody knows (UNKNOWN first): the nearest one here, or where it belongs."""
        nearest = difflib.get_close_matches(key.lower().replace("-", "_")[:_LONGEST], list(known), n=1)
        if nearest:
            return f"{UNKNOWN}; did you mean {nearest[0]!r}?"
        homes = [
            name
            for name, kind in self._sections.items()
            if key in kind.__struct_fields__ and not prefix.startswith(f"{name}.")
        ]
        if homes:
            return f"{UNKNOWN} here; it belongs in " + " or ".join(f"[{name}]" for name in homes)
        return UNKNOWN if prefix or not self._sections else f"{UNKNOWN} or section"


def quoted(key: str) -> str:
    """A key as it is written in a path: bare where TOML allows that, shortened where it is long."""
    if len(key) > _LONGEST:
        key = key[:_LONGEST] + "..."
    return key if _PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def shown(value: object) -> str:
    """A value for an error's text, shortened where it is long."""
    return _short.repr(value)


class _Bad:
    """The type of _BAD."""


_BAD = _Bad()


@lru_cache(maxsize=256)  # msgspec evaluates the annotations anew each time
def _fields_of(kind: type[msgspec.Struct]) -> Mapping[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(kind)}


@lru_cache(maxsize=1024)
def _holder(kind: Any) -> Any:
    """The struct, the list of structs or the table that a field's type is about; None for all others."""
    if get_origin(kind) in (types.UnionType, Union):
        held = [inner for part in get_args(kind) if (inner := _holder(part)) is not None]
        return held[0] if len(held) == 1 else None
    if hasattr(kind, "__metadata__"):
        return _holder(get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    origin, inner = get_origin(kind), get_args(kind)
    if origin is dict:
        return kind
    return kind if origin is tuple and _holder(inner[0]) is not None else None


def _refused(kind: type[msgspec.Struct], path: str, text: str) -> Problem:
    """What a struct says of itself; where that begins with one of its keys, and a colon, of that key."""
    key, colon, rest = text.partition(": ")
    if colon and key in kind.__struct_fields__:
        return Problem(f"{path}.{key}", rest)
    return Problem(path, text)


def _misfit(path: str, kind: Any, value: Any, error: str, *, secret: bool) -> Problem:
    """A value of the wrong type or out of its limits, from msgspec's text."""
    place = _PLACE.fullmatch(error)
    text, inner = (place["text"], place["path"]) if place else (error, "")
    choices = _choices(kind)
    if choices and text.startswith("Invalid enum value"):
        text = "expected one of " + ", ".join(f'"{choice}"' for choice in choices)
        if not secret:
            text += f", got {shown(_at(value, inner))}"
    text = (text[:1].lower() + text[1:]).replace(" | null`", "`").replace("`object`", "a table")
    if len(text) > 2 * _LONGEST:  # a duration's, with the value in it
        text = text[: 2 * _LONGEST] + "..."
    if "got " not in text and not secret:
        text += f", got {shown(value)}"
    return Problem(path + inner, text)


def _at(value: Any, inner: str) -> Any:
    """The item of a list that msgspec's path names."""
    number = re.fullmatch(r"\[([0-9]+)\]", inner)
    return value[int(number[1])] if number and isinstance(value, list) else value


def _choices(kind: Any) -> tuple[str, ...]:
    """The texts that a Literal, or a list of a Literal, allows."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return next((found for part in get_args(kind) if (found := _choices(part))), ())
