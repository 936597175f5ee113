"""JSON values as text for people: aligned tables and indented facts, safe to show on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def safe(text: str) -> str:
    """`text` on one line without what could steer a terminal (names come from whoever starts tasks)."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def cell(value: Any) -> str:
    """One value in one line: lists joined by commas, nothing as "-"."""
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return ",".join(f"{safe(str(key))}={cell(part)}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(cell, value))
    return safe(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], indent: str = "") -> list[str]:
    """Lines of an aligned table."""
    lines = [list(head), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [indent + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def facts(value: Mapping[str, Any], indent: str = "") -> list[str]:
    """Lines of a JSON object: plain values first, then nested objects and tables under their name."""
    plain = {key: part for key, part in value.items() if not _is_nested(part)}
    width = max((len(safe(key)) for key in plain), default=0)
    lines = [f"{indent}{safe(key):<{width}}  {cell(part)}" for key, part in plain.items()]
    for key, part in value.items():
        if key in plain:
            continue
        lines.append(f"{indent}{safe(key)}:")
        if isinstance(part, Mapping):
            lines += _objects(part, indent + "  ")
        else:
            head = list(dict.fromkeys(name for row in part for name in row))
            lines += table(
                [safe(name) for name in head], ([row.get(name) for name in head] for row in part), indent + "  "
            )
    return lines


def _objects(value: Mapping[str, Any], indent: str) -> list[str]:
    """An object of flat objects is a table with their names in front; anything else is facts."""
    rows = [part for part in value.values() if isinstance(part, Mapping) and not any(map(_is_nested, part.values()))]
    if not rows or len(rows) != len(value):
        return facts(value, indent)
    head = list(dict.fromkeys(key for row in rows for key in row))
    named = ([name, *(part.get(key) for key in head)] for name, part in value.items())
    return table(["", *map(safe, head)], named, indent)


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
