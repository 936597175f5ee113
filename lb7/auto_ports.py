"""Service ports for apps that have none: marathon-lb's numbers, from a hash of app and port."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from lb7.port_spec import PortKey

MOST_OF_APP = 8
"""Ports that one app is given; with `compat` there is no limit."""

_TRIES = 50
"""Hashes that are tried before the first free port is taken."""


class Wanted(NamedTuple):
    """Whose port: the app's id, and the container's port (or its index). `since`: who wants it longer comes first."""

    since: float
    app: str
    port: int


class AutoPorts:
    """All ports that were asked for, and what they get. One that comes later in the order of time and apps never takes
    the port of an earlier one; so a change can move those behind it. `before`: what was given there holds until
    `assign`."""

    def __init__(self, first: int, end: int, before: AutoPorts | None = None) -> None:
        self._first, self._size = first, max(0, end - first)
        self._wanted: dict[PortKey, Wanted] = {}
        held = before._given if before is not None else {}
        self._given: dict[PortKey, int] = {key: port for key, port in held.items() if first <= port < end}
        self._fresh: set[PortKey] = set()

    @property
    def changed(self) -> bool:
        """Whether `assign` has something to do."""
        return bool(self._fresh)

    def is_fresh(self, key: PortKey) -> bool:
        """Whether `assign` has to look at a port again; what it has holds until then."""
        return key in self._fresh

    def ask(self, key: PortKey, wanted: Wanted | None) -> None:
        """A port wants one, or none any more."""
        if self._wanted.get(key) == wanted:
            return
        self._fresh.add(key)
        if wanted is not None:
            self._wanted[key] = wanted
        else:
            del self._wanted[key]

    def get(self, key: PortKey) -> int:
        """The port that was given; 0: none yet, or none is left."""
        return self._given.get(key, 0)

    def assign(self) -> set[PortKey]:
        """Give ports to all; those that waited for it, or have another one now."""
        taken: dict[tuple[str, int], int] = {}
        used: set[int] = set()
        given = {}
        for key, wanted in sorted(self._wanted.items(), key=lambda item: (item[1], item[0])):
            port = taken.get(wanted[1:], 0)
            if not port and len(used) < self._size:
                port = taken[wanted[1:]] = self._pick(wanted, used)
                used.add(port)
            if port:
                given[key] = port
        before, self._given = self._given, given
        fresh, self._fresh = self._fresh, set()
        return fresh | {key for key in before.keys() | given.keys() if before.get(key) != given.get(key)}

    def _pick(self, wanted: Wanted, used: set[int]) -> int:
        for number in range(_TRIES):
            digest = hashlib.sha1(f"{wanted.app}-{wanted.port}-{number}".encode(), usedforsecurity=False).hexdigest()
            port = self._first + int(digest[:8], 16) % self._size
            if port not in used:
                return port
        return next(port for port in range(self._first, self._first + self._size) if port not in used)
