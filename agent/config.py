"""The configuration file: TOML in, one checked `Config` out, or every problem with it at once.

    config = load(Path("/etc/pharos.toml"))

An error names the file, the key's path, what was expected, and for an unknown key the nearest known
one. Keys are decoded one by one, so that one bad value does not hide the next.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from agent import checks
from agent.checks import Problem, advice
from agent.file_contents import content_problems
from agent.reference import redacted, reference_markdown, schema
from agent.sections import PLANNED, SECRETS, SECTIONS, AdminConfig, Config, LogConfig
from mesos_dns.config import decode_hook

__all__ = [
    "SECTIONS",
    "AdminConfig",
    "Config",
    "ConfigError",
    "LogConfig",
    "Problem",
    "advice",
    "load",
    "load_text",
    "redacted",
    "reference_markdown",
    "schema",
]

_MAX_BYTES = 1 << 20
_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_PLACE = re.compile(r"(?P<text>.*) - at `\$(?P<path>.*)`", re.DOTALL)


class ConfigError(Exception):
    """A configuration that can't be used. Its text has one line for each of `problems`."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{name}: {problem}" for problem in self.problems))


def load(path: Path) -> Config:
    """Read and check the file and the keys, certificates and tokens that it names. Raises ConfigError."""
    raw = read(path)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(str(path), [Problem("", f"line {line} is not UTF-8 text")]) from error
    config = load_text(text, str(path))
    if found := list(checks.file_problems(config)) or list(content_problems(config)):
        raise ConfigError(str(path), found)
    return config


def read(path: Path) -> bytes:
    """A configuration file's bytes, 1 MiB at most. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), [Problem("", f"can't read the file: {error.strerror}")]) from error
    if len(raw) > _MAX_BYTES:
        raise ConfigError(str(path), [Problem("", f"larger than {_MAX_BYTES} bytes: this is no configuration file")])
    return raw


def load_text(text: str, name: str) -> Config:
    """Check TOML text; `name` stands for the file in errors. Files it names are not looked at.

    Raises ConfigError with all problems of keys, types and values that can be found at once.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(name, [Problem("", f"not TOML: {error}")]) from error
    found: list[Problem] = []
    values: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for key, value in document.items():
        if key in PLANNED:
            found.append(Problem(key, f"section [{key}] is not available in this version"))
        elif key in SECTIONS and isinstance(value, dict):
            values[key] = _struct(SECTIONS[key], value, f"{key}.", (), found)
        elif key in SECTIONS:
            found.append(Problem(key, f"expected a section, [{key}], got {value!r}"))
        else:
            plain[key] = value
    config = _struct(Config, plain, "", SECTIONS, found, values)
    wrong = {problem.path.partition("[")[0] for problem in found}
    found += [p for p in checks.problems(config) if p.path.partition("[")[0] not in wrong]
    if found:
        raise ConfigError(name, found)
    return config


def _struct(
    kind: type[_Struct],
    table: Mapping[str, Any],
    prefix: str,
    also_known: Iterable[str],
    found: list[Problem],
    sections: Mapping[str, Any] | None = None,
) -> _Struct:
    """`kind` from the good keys of `table`; a bad key is added to `found` and keeps its default."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    good: dict[str, Any] = dict(sections or {})
    for key, value in table.items():
        if key not in fields:
            found.append(Problem(prefix + _quoted(key), _unknown(key, [*fields, *also_known], prefix)))
            continue
        try:
            good[key] = msgspec.convert(value, fields[key].type, dec_hook=decode_hook)
        except msgspec.ValidationError as error:
            found.append(_misfit(prefix + key, fields[key].type, value, str(error), secret=key in SECRETS))
    return kind(**good)


def _unknown(key: str, known: Iterable[str], prefix: str) -> str:
    """What to say of a key that nobody knows: the nearest one here, or where it belongs."""
    nearest = difflib.get_close_matches(key.lower().replace("-", "_"), list(known), n=1)
    if nearest:
        return f"unknown key; did you mean {nearest[0]!r}?"
    homes = [name for name, kind in SECTIONS.items() if key in kind.__struct_fields__ and f"{name}." != prefix]
    if homes:
        return "unknown key here; it belongs in " + " or ".join(f"[{name}]" for name in homes)
    return "unknown key" if prefix else "unknown key or section"


def _misfit(path: str, kind: Any, value: Any, error: str, *, secret: bool) -> Problem:
    """A value of the wrong type or out of its limits, from msgspec's text."""
    place = _PLACE.fullmatch(error)
    text, inner = (place["text"], place["path"]) if place else (error, "")
    choices = _choices(kind)
    if choices and text.startswith("Invalid enum value"):
        text = "expected one of " + ", ".join(f'"{choice}"' for choice in choices) + ", got" + text.split("value")[1]
    text = text[:1].lower() + text[1:]
    if "got " not in text and not secret:
        text += f", got {value!r}"
    return Problem(path + inner, text)


def _choices(kind: Any) -> tuple[str, ...]:
    """The texts that a Literal, or a list of a Literal, allows."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return next((found for part in get_args(kind) if (found := _choices(part))), ())


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
