"""TOML that an import prints, line by line: values with where they came from, comments, warnings."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from agent.config import ConfigError, load_text
from mesos_dns.toml_tables import Problem, TomlError

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Imported(msgspec.Struct, frozen=True):
    """The TOML text, and what the reader should know (key of the other product, and text)."""

    toml: str
    warnings: tuple[Problem, ...]


class TomlLines:
    """Lines of TOML, and which key of the other product each of their keys came from."""

    def __init__(self, warnings: list[Problem]) -> None:
        self.warnings = warnings
        self.origins: dict[str, str] = {}
        self._lines: list[str] = []
        self._section = ""

    def section(self, name: str) -> None:
        self._section = name
        self._lines += ["", f"[{name}]"]

    def put(self, key: str, value: Any, origin: str, remark: str = "") -> None:
        """`key = value  # origin: remark`."""
        self.origins[f"{self._section}.{key}"] = origin
        behind = f"{origin}: {remark}" if remark and origin else origin or remark
        self._lines.append(f"{key} = {toml(value)}" + (f"  # {one_line(behind)}" if behind else ""))

    def comment(self, text: str) -> None:
        self._lines.append(f"# {one_line(text)}")

    def blank(self) -> None:
        self._lines.append("")

    def warn(self, key: str, text: str) -> None:
        """Say it on standard error and at this place of the file."""
        self.warnings.append(Problem(key, text))
        self.comment(f"{key}: {text}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def imported(self, name: str) -> Imported:
        """What is printed; it loads as a configuration. Raises ConfigError by the keys of the other product, `name`."""
        text = self.text()
        try:
            load_text(text, name)
        except ConfigError as error:
            raise ConfigError(name, [self.as_given(problem) for problem in error.problems]) from error
        return Imported(text, tuple(self.warnings))

    def as_given(self, problem: Problem) -> Problem:
        """A problem of the TOML under the key of the other product that caused it."""
        for path in (problem.path, problem.path.partition("[")[0], ".".join(problem.path.split(".")[:2])):
            if self.origins.get(path):
                return Problem(self.origins[path], problem.text)
        return problem


def put_login(out: TomlLines, product: str, origin: str, text: str) -> None:
    """USER:PASSWORD for basic authentication, of a product's flag. What stands behind a second colon is left out, as
    marathon-lb and its autoscaler do. Raises TomlError."""
    parts = text.split(":")
    if len(parts) < 2 or not parts[0] or not parts[1]:
        raise TomlError(product, [Problem(origin, "expected USER:PASSWORD")])
    out.put("auth", "basic", origin)
    out.put("principal", parts[0], origin)
    out.put("secret", parts[1], origin)
    out.warn(origin, "move the password to a file of mode 0600 (secret_file), or give this file that mode")


def one_line(text: str) -> str:
    """What stands in a comment: nothing that could end it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def toml(value: Any) -> str:
    """A TOML value on one line. JSON's text escapes are TOML's, except for DEL and lone surrogates."""
    if isinstance(value, str):
        whole = value.encode("utf-8", "replace").decode()
        return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{k if _BARE.fullmatch(k) else toml(k)} = {toml(v)}" for k, v in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
