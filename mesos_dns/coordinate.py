"""Coordination among Pharos processes: the Protocol that the packages use; agent connects it.

The semantics are ZooKeeper's, reduced to what the product needs. Keys are "/"-separated paths
without a leading slash; values are bytes, at most MAX_VALUE of them. Reads never need a coordinator: names,
VIPs and routes go on without it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

MAX_VALUE = (1 << 20) - 8192
"""Largest value in bytes.

ZooKeeper's default jute.maxbuffer, 1 MiB - 1, bounds whole packets: a server drops the connection over a
larger one. What is left holds the longest key, the ACL and what servers add among themselves.
"""

ABSENT = -1
"""The version of a key that does not exist; `put_if(key, value, ABSENT)` creates it."""


class Versioned(msgspec.Struct, frozen=True):
    """A value with the version that `put_if` compares."""

    value: bytes
    version: int


class CoordinatorLost(Exception):
    """The coordinator can't be reached now; nothing is known about the outcome of the call."""


class VersionConflict(Exception):
    """`put_if` found another version than the one named."""


class Election(Protocol):
    """One candidacy. `leading` is True only while this process may act as the one leader."""

    @property
    def leading(self) -> bool:
        """True while this process is the leader and its session is alive."""
        ...

    async def won(self) -> None:
        """Return when this process leads."""
        ...

    async def lost(self) -> None:
        """Return when this process no longer leads; the caller must have stopped acting by then."""
        ...


class Coordinator(Protocol):
    """Elections, compare-and-set, watches and ephemeral registrations (DESIGN: coordination)."""

    def elect(self, role: str) -> AbstractAsyncContextManager[Election]:
        """Stand for `role` while the context is open."""
        ...

    async def get(self, key: str) -> Versioned | None:
        """The value of a key, or None when it does not exist. Raises CoordinatorLost."""
        ...

    async def put_if(self, key: str, value: bytes, version: int) -> int:
        """Write when the key's version equals `version` (ABSENT: must not exist); the new version.

        Raises VersionConflict, CoordinatorLost, ValueError (key or value not allowed).
        """
        ...

    async def delete_if(self, key: str, version: int) -> None:
        """Delete when the key's version equals `version`. Raises as put_if."""
        ...

    def watch(self, prefix: str) -> AsyncIterator[dict[str, bytes]]:
        """All keys below `prefix` now, and again after each change (changes may be coalesced)."""
        ...

    def register(self, key: str, value: bytes) -> AbstractAsyncContextManager[None]:
        """Hold `key` while the context is open and this process lives (an ephemeral)."""
        ...
