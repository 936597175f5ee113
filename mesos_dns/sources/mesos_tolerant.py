"""Convert a decoded JSON value to a typed struct, losing only the parts that are wrong.

The fast path of a decoder is `msgspec.json.decode(data, type=T)`, which refuses the whole value for
one wrong field. Values that it refuses come here: a field with a default that cannot be converted is
left at its default, an item of a list that cannot be converted is left out, and only a field without
a default makes its struct fail. null counts as absent, as protobuf's JSON form has it.
"""

from __future__ import annotations

import types
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

T = TypeVar("T")

MAX_LOST = 8
"""Wrong parts that are named at most per value."""


class Malformed(ValueError):
    """A value lacks something that it cannot do without. Says where and what was expected."""


def convert(value: object, kind: type[T], lost: list[str], path: str = "") -> T:
    """`value` as `kind`; what had to be left out is appended to `lost` as "path: reason". Raises Malformed."""
    result: T = _convert(value, kind, lost, path)
    return result


def _convert(value: object, kind: Any, lost: list[str], path: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _convert_union(value, get_args(kind), lost, path)
    if origin is list:
        if not isinstance(value, list):
            raise Malformed(f"{path}: expected an array")
        return _convert_items(value, get_args(kind)[0], lost, path)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(value, dict):
            raise Malformed(f"{path or kind.__name__}: expected an object")
        return _convert_struct(value, kind, lost, path)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Malformed(f"{path}: {error}") from None


def _convert_union(value: object, kinds: tuple[Any, ...], lost: list[str], path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    for kind in kinds:
        if (get_origin(kind) is list) == isinstance(value, list):
            return _convert(value, kind, lost, path)
    return _convert(value, kinds[0], lost, path)


def _convert_items(values: list[object], kind: Any, lost: list[str], path: str) -> list[Any]:
    items = []
    for number, value in enumerate(values):
        try:
            items.append(_convert(value, kind, lost, f"{path}[{number}]"))
        except Malformed as error:
            _lose(lost, str(error))
    return items


def _convert_struct(value: dict[str, object], kind: type[msgspec.Struct], lost: list[str], path: str) -> Any:
    fields = {}
    for field in msgspec.structs.fields(kind):
        inner = f"{path}.{field.encode_name}" if path else field.encode_name
        item = value.get(field.encode_name)
        if item is None:
            if field.required:
                raise Malformed(f"{inner}: missing")
            continue
        try:
            fields[field.name] = _convert(item, field.type, lost, inner)
        except Malformed as error:
            if field.required:
                raise
            _lose(lost, str(error))
    return kind(**fields)


def _lose(lost: list[str], reason: str) -> None:
    if len(lost) < MAX_LOST:
        lost.append(reason)
