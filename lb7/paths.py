"""How a request's path is read to decide about it: one normal form, so that no spelling of a path slips past a rule.

A server may decode, merge or resolve what stands in a path before it looks at it: "/public/../admin", "/public/%2e%2e/
admin", "//admin", "/admin;x=1" and "/%61dmin" are all "/admin" to some. So where safe rules hold, rules are compared
with the *matched* form (RFC 3986 §6.2.2 and beyond, as far as servers go): percent-encoding is decoded once, "\\" is
"/", parameters behind ";" are left out, empty segments are dropped and dot segments resolved. The request itself is
passed on as it came.

The normal form alone would open the opposite gap: "/admin/../public" is "/public" to us and "/admin/…" to a server
that resolves nothing. So on a host where who may pass depends on the path, a path is *ambiguous*, and refused, when it
has dot segments at all, or when its *literal* form (decoded, nothing else) meets another `auth` rule than the matched
one. Without dot segments every reading between these two meets the rules of one of them: each step only lets more
prefixes match.

In marathon-lb's order of rules (`compat`) nothing of this is done: paths are compared as they stand.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from lb7.table import PathPrefix

_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_SEPARATORS = {b"/": b"%2F", b"\\": b"%5C"}


class PathForms(NamedTuple):
    """What a path may be to a server; a character of `matched` and `literal` is an octet. `dots`: has dot segments."""

    matched: str
    literal: str
    dots: bool


def path_forms(path: str) -> PathForms:
    """All forms of a request's path (without its query). What does not begin with "/" has one form; "" is "/"."""
    octets = path.encode("utf-8", "replace") or b"/"
    if not octets.startswith(b"/"):
        return PathForms(octets.decode("latin-1"), octets.decode("latin-1"), False)
    matched, dots = _resolved(_decoded(octets).replace(b"\\", b"/"))
    return PathForms(matched.decode("latin-1"), _literal(octets).decode("latin-1"), dots)


def matched_path(path: str) -> str:
    """The form of a path that safe rules are compared with."""
    return path_forms(path).matched


def matched_prefix(prefix: PathPrefix) -> PathPrefix:
    """A rule's prefix in the form that fits matched paths."""
    if not prefix.prefix:
        return prefix
    forms = path_forms(prefix.prefix)
    return msgspec.structs.replace(prefix, prefix=forms.matched if prefix.whole else forms.literal)


def begins(path: str, prefix: PathPrefix) -> bool:
    """Whether a path begins as a prefix says; letters are those of ASCII. Both are taken as they are."""
    start = prefix.prefix
    if prefix.ignore_case:
        path, start = _lower(path), _lower(start)
    if not path.startswith(start):
        return False
    rest = path[len(start) :]
    return not prefix.whole or not rest or not start or start.endswith("/") or rest.startswith("/")


def _lower(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _decoded(octets: bytes) -> bytes:
    return _ENCODED.sub(lambda found: bytes.fromhex(found[1].decode()), octets)


def _literal(octets: bytes) -> bytes:
    """Decoded, but separators that were encoded stay so."""

    def decoded(found: re.Match[bytes]) -> bytes:
        octet = bytes.fromhex(found[1].decode())
        return _SEPARATORS.get(octet, octet)

    return _ENCODED.sub(decoded, octets)


def _resolved(octets: bytes) -> tuple[bytes, bool]:
    """Without parameters, empty and dot segments; and whether there were dot segments."""
    segments = [segment.partition(b";")[0] for segment in octets.split(b"/")]
    kept: list[bytes] = []
    dots = False
    for segment in segments:
        if segment in (b".", b".."):
            dots = True
            if segment == b".." and kept:
                kept.pop()
        elif segment:
            kept.append(segment)
    tail = b"" if not kept or segments[-1] not in (b"", b".", b"..") else b"/"
    return b"/" + b"/".join(kept) + tail, dots
