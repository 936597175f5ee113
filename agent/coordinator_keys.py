"""Which keys, roles and values every coordinator takes: what may stand in a path of files and of znodes."""

from __future__ import annotations

import re

from mesos_dns.coordinate import MAX_VALUE

MAX_KEY = 512
"""Characters of the longest key."""

_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,200}")


def is_legal(key: str) -> bool:
    """True for a key whose every segment may stand in a path; "." and ".." may not."""
    segments = key.split("/")
    return len(key) <= MAX_KEY and all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in segments)


def check_key(key: str) -> None:
    """Raise ValueError for a key that is not allowed."""
    if not is_legal(key):
        raise ValueError(f"key {key!r}: expected segments of letters, digits, '.', '_', '-' between single '/'")


def check_role(role: str) -> None:
    """Raise ValueError for a role that is not one legal segment."""
    if not is_legal(role) or "/" in role:
        raise ValueError(f"role {role!r}: expected one segment of letters, digits, '.', '_', '-'")


def check_value(key: str, value: bytes) -> None:
    """Raise ValueError for a value that is too large."""
    if len(value) > MAX_VALUE:
        raise ValueError(f"value of {key!r}: {len(value)} bytes, at most {MAX_VALUE} are allowed")
