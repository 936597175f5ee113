"""What the configuration looks like to others: JSON Schema, markdown reference, redacted values.

All three are made from the structs' types, defaults and descriptions, so none can fall behind.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from agent.sections import LOGINS, QUERIES, SECRETS, SECTIONS, Config
from lb7.autoscale.hook_urls import without_query
from mesos_dns.config import Duration, is_seconds, schema_hook


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the configuration file (as if its TOML were JSON)."""
    sections = {name: _writable(kind) for name, kind in SECTIONS.items()}
    document = msgspec.json.schema(_writable(Config, sections), schema_hook=schema_hook)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pharos configuration",
        **_with_texts(document),
    }


def _with_texts(part: Any) -> Any:
    """A schema in which numbers that have a pattern (Seconds) may be texts, too: msgspec can't say so."""
    if isinstance(part, list):
        return [_with_texts(item) for item in part]
    if not isinstance(part, dict):
        return part
    told = {key: _with_texts(value) for key, value in part.items()}
    return {**told, "type": ["string", "number"]} if told.get("type") == "number" and "pattern" in told else told


def reference_markdown(sections: Iterable[str]) -> str:
    """The reference of some sections as markdown, "" meaning the keys above all sections.

    One heading and one table (key, type, default, meaning) for each and for each kind of table within it, ending in a
    newline.
    """
    parts = []
    for name in sections:
        kind = SECTIONS[name] if name else Config
        heading = f"`[{name}]`" if name else "Above all sections"
        said = _cell((kind.__doc__ or "").partition(": ")[2]) if name else "keys that belong to no section."
        fields = [f for f in msgspec.structs.fields(kind) if name or f.name not in SECTIONS]
        parts.append(_part(heading, said, fields))
        for inner, path in tables_within(kind, name).items() if name else ():
            parts.append(_part(f"`{path}`", _cell(inner.__doc__ or ""), msgspec.structs.fields(inner)))
    return "\n".join(parts)


def tables_within(kind: type[msgspec.Struct], path: str) -> dict[type[msgspec.Struct], str]:
    """The kinds of tables that a section's keys hold, each with where it first stands: "autoscale.apps.ID.metrics"."""
    found: dict[type[msgspec.Struct], str] = {}
    for field in msgspec.structs.fields(kind):
        for held, below in _held(field.type, f"{path}.{field.name}"):
            found |= {
                inner: place
                for inner, place in {held: below, **tables_within(held, below)}.items()
                if inner not in found
            }
    return found


def _held(kind: Any, path: str) -> Iterator[tuple[type[msgspec.Struct], str]]:
    """The structs of a field's type."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind, path
        return
    below = f"{path}.ID" if get_origin(kind) is dict else path
    for part in get_args(kind):
        yield from _held(part, below)


def _part(heading: str, said: str, fields: Iterable[msgspec.structs.FieldInfo]) -> str:
    lines = [f"#### {heading}", "", said[:1].upper() + said[1:], ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|", *map(_row, fields)]
    return "\n".join(lines) + "\n"


def redacted(config: Config) -> dict[str, Any]:
    """The values in force as plain JSON types; absent sections left out, secrets as "***"."""
    shown: dict[str, Any] = {}
    for key, value in _plain(config).items():
        if isinstance(value, dict):
            shown[key] = {k: _shown(k, v) for k, v in value.items()}
        elif value is not None:
            shown[key] = value
    return shown


def _shown(key: str, value: Any) -> Any:
    """A value without its secret; those within tables as well."""
    if isinstance(value, dict):
        return {k: _shown(k, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(key, each) for each in value]
    if key in QUERIES and isinstance(value, str):
        return without_query(value)
    if key in LOGINS and isinstance(value, str) and "@" in value:
        return f"{value.partition('://')[0]}://***@{value.rpartition('@')[2]}"
    return "***" if key in SECRETS and value else value


def type_text(kind: Any) -> str:
    """A type for people: "duration", "list of text", "integer 0 to 65535", "`a` or `b`"."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_seconds(kind):
        return "duration"
    if metas := getattr(kind, "__metadata__", ()):
        return type_text(inner[0]) + "".join(_limits(meta) for meta in metas)
    if origin in (types.UnionType, Union):
        return " or ".join(type_text(part) for part in inner if part is not type(None))
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if origin is tuple:
        return f"list of {_several(inner[0])}"
    if origin is dict:
        return f"table of {_several(inner[1])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "table"
    return {Duration: "duration", int: "integer", float: "number", bool: "boolean", str: "text"}.get(kind, str(kind))


def _several(kind: Any) -> str:
    return "tables" if (text := type_text(kind)) == "table" else text


def _row(field: msgspec.structs.FieldInfo) -> str:
    value = field.default_factory() if _is_made(field) else None if field.required else field.default
    if is_seconds(field.type) and value is not None:
        value = Duration(value)
    default = "" if value is None else f"`{json.dumps(_plain(value), ensure_ascii=False)}`"
    return f"| `{field.name}` | {type_text(field.type)} | {default} | {_cell(_description(field.type))} |"


def _limits(meta: Meta) -> str:
    if meta.ge is not None and meta.le is not None:
        return f" {meta.ge:g} to {meta.le}"
    return f" from {meta.ge:g}" if meta.ge is not None else ""


def _description(kind: Any) -> str:
    return next((meta.description for meta in getattr(kind, "__metadata__", ()) if meta.description), "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _is_made(field: msgspec.structs.FieldInfo) -> bool:
    return field.default_factory is not msgspec.NODEFAULT


def _plain(value: Any) -> Any:
    """JSON types of a value; durations as they are written in the file."""
    return msgspec.to_builtins(value, enc_hook=str)


def _writable(
    kind: type[msgspec.Struct], sections: dict[str, type[msgspec.Struct]] | None = None
) -> type[msgspec.Struct]:
    """A copy of a struct whose defaults are JSON types, which is what msgspec can put into a schema."""
    fields: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(kind):
        if sections and field.name in sections:
            fields.append((field.name, sections[field.name], msgspec.UNSET))
        elif _is_made(field):
            fields.append((field.name, field.type, msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, field.type, _plain(field.default)))
    return msgspec.defstruct(
        kind.__name__, fields, namespace={"__doc__": kind.__doc__}, forbid_unknown_fields=True, kw_only=True
    )
