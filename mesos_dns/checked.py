"""What is checked: a backend and a check of it, and the limits of what a check may say.

The limits are told to who writes a VIP file, and kept where checks are run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from mesos_dns.config import Duration
from mesos_dns.model import VipCheck

TYPES = ("tcp", "http")
SHORTEST, LONGEST = 0.1, 3600.0
"""Seconds of an interval and of a timeout."""
MOST_IN_A_ROW = 100
LONGEST_PATH = 2048

_PATH = re.compile(r"/[!-~]*")


class BackendKey(NamedTuple):
    """Where a connection is sent."""

    address: str
    port: int


class Checked(NamedTuple):
    """A backend and how it is checked: two services may check one backend in two ways."""

    backend: BackendKey
    check: VipCheck


def check_faults(check: VipCheck) -> Iterator[tuple[str, str]]:
    """Each key with a value that no check can have, and what was expected."""
    if check.type not in TYPES:
        yield "type", f"expected one of {', '.join(TYPES)}, got {check.type!r}"
    if len(check.path) > LONGEST_PATH or not _PATH.fullmatch(check.path):
        text = f"expected a path that begins with / and is at most {LONGEST_PATH} characters of ASCII, without spaces"
        yield "path", f"{text}, got {check.path[:80]!r}"
    for key, seconds in (("interval", check.interval), ("timeout", check.timeout)):
        if not SHORTEST <= seconds <= LONGEST:
            yield key, f"expected {Duration(SHORTEST)} to {Duration(LONGEST)}, got {_told(seconds)}"
    for key, count in (("fall", check.fall), ("rise", check.rise)):
        if not 1 <= count <= MOST_IN_A_ROW:
            yield key, f"expected 1 to {MOST_IN_A_ROW}, got {count}"


def _told(seconds: float) -> str:
    try:
        return str(Duration.parse(seconds))
    except ValueError:  # of a VIP that was not read from a file
        return repr(seconds)
