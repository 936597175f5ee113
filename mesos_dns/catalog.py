"""The catalog: one versioned set of who runs where, merged from every source.

Rules (they are what keeps names alive when the outside breaks):

1. A source speaks only through `publish` (one Put or Drop) or `sync` (everything it knows). A Sync
   is diffed against what that same source said before, so a reconnect or a fail-over that changes
   nothing yields nothing.
2. Several sources may speak of one key; the source that was registered first wins.
3. Listeners get deltas, coalesced: one call per listener and loop turn, however much was published.
   A delta maps each key to (before, after); a key whose value returned to what the listener last
   saw is left out.
4. A source that is lost keeps what it said; it is only marked stale. Nothing is ever dropped
   because a source is silent.
5. A single change that arrives while a sliced Sync of the same source is under way is newer than the
   Sync, which then leaves that key alone. Two Syncs of one source follow each other.
6. A listener that raises loses that one delta (logged and counted); the others get theirs.

The catalog belongs to one event loop and is not thread-safe.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from mesos_dns.model import Change, Drop, Entity, Key, Put, Sync

log = logging.getLogger(__name__)

SYNC_SLICE = 500
"""Entities applied per loop turn by `sync`: about 10 ms of work for all listeners together."""

Changes: TypeAlias = Mapping[Key, tuple[Entity | None, Entity | None]]


class Delta(msgspec.Struct, frozen=True):
    """What changed for one listener since its last delta: key → (before, after), None = absent."""

    version: int
    changes: Changes


Listener: TypeAlias = Callable[[Delta], None]


class SourceStatus(msgspec.Struct):
    """One source's standing, as /readyz, /status and the metrics show it (times: epoch seconds)."""

    name: str
    connected: bool = False
    synced: bool = False
    restored: bool = False
    since: float = 0.0
    detail: str = ""

    @property
    def stale(self) -> bool:
        """True when what is served from this source may be out of date."""
        return not (self.connected and self.synced)

    def age(self, now: float | None = None) -> float:
        """Seconds that the source has been stale; 0 when it is not."""
        return max(0.0, (time.time() if now is None else now) - self.since) if self.stale else 0.0


class Catalog:
    """See the module's rules. `version` grows by at least one with every real change."""

    def __init__(self) -> None:
        self.version = 0
        self.sources: dict[str, SourceStatus] = {}
        self._order: list[str] = []
        self._said: dict[str, dict[Key, Entity]] = {}
        self._current: dict[Key, Entity] = {}
        self._owner: dict[Key, str] = {}
        self._pending: dict[Listener, dict[Key, Entity | None]] = {}
        self._flush: asyncio.Handle | None = None
        self._overtaken: dict[str, set[Key]] = {}
        self._sync_locks: dict[str, asyncio.Lock] = {}
        self.listener_errors = 0

    def __len__(self) -> int:
        return len(self._current)

    def __repr__(self) -> str:
        return f"<Catalog version={self.version} entities={len(self)} sources={list(self.sources)}>"

    def register(self, source: str) -> SourceStatus:
        """Make a source known; earlier registered sources win where two speak of one key."""
        if source not in self.sources:
            self.sources[source] = SourceStatus(source, since=time.time())
            self._order.append(source)
            self._said[source] = {}
        return self.sources[source]

    async def forget(self, source: str) -> None:
        """A source is no longer configured: what it said goes, and it is no longer listed."""
        await self.sync(source, Sync())
        self._order.remove(source)
        del self.sources[source], self._said[source]

    def mark(
        self,
        source: str,
        *,
        connected: bool,
        synced: bool | None = None,
        detail: str = "",
        since: float | None = None,
    ) -> None:
        """Record a source's standing; what it said stays as it is. `since` (epoch seconds): what it says has been out
        of date for longer than we have seen it so."""
        status = self.sources[source]
        was = status.stale
        status.connected = connected
        if synced is not None:
            status.synced = synced
        if synced:
            status.restored = False
        status.detail = detail
        if status.stale and since is not None:
            status.since = since
        elif status.stale != was:
            status.since = time.time()

    def get(self, key: Key) -> Entity | None:
        """The merged value of a key, or None."""
        return self._current.get(key)

    def said(self, source: str) -> Mapping[Key, Entity]:
        """What one source says now (a live view; do not change it)."""
        return self._said[source]

    def entities(self, kind: str | None = None) -> Iterator[Entity]:
        """Every entity, or those of one kind. A whole-table pass: not for the path of a change."""
        if kind is None:
            yield from list(self._current.values())
            return
        for key, entity in list(self._current.items()):
            if key[0] == kind:
                yield entity

    def listen(self, listener: Listener, *, replay: bool = True) -> None:
        """Call `listener` with coalesced deltas from now on; `replay` first sends all that is.

        Listening again starts afresh: what was waiting for this listener is forgotten.
        """
        self._pending[listener] = {}
        if replay and self._current:
            self._pending[listener] = dict.fromkeys(self._current)
            self._schedule()

    async def follow(self, listener: Listener) -> None:
        """Call `listener` from now on, and with all that is, in slices between which the loop has turns.

        It may hear of an entity twice: who goes by what it knows, not by the delta, takes no harm. What tasks are
        joined with comes first.
        """
        self.listen(listener, replay=False)
        keys = list(self._current)
        keys.sort(key=lambda key: key[0] == "task")
        for start in range(0, len(keys), SYNC_SLICE):
            changes = {key: (None, self.get(key)) for key in keys[start : start + SYNC_SLICE]}
            listener(Delta(self.version, changes))
            await asyncio.sleep(0)

    def unlisten(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        self._pending.pop(listener, None)

    def publish(self, source: str, change: Change) -> None:
        """Apply one change of a source at once (a large Sync belongs into `sync`).

        Raises KeyError when the source was never registered.
        """
        if isinstance(change, Put):
            self._single(source, change.entity.key)
            self._put(source, change.entity.key, change.entity)
        elif isinstance(change, Drop):
            self._single(source, change.key)
            self._drop(source, change.key)
        else:
            named = set()
            for entity in change.changed:
                key = entity.key
                named.add(key)
                self._single(source, key)
                self._put(source, key, entity)
            for key in list(self._said[source]):
                if not _vouched(change, key, named):
                    self._single(source, key)
                    self._drop(source, key)

    async def sync(self, source: str, change: Sync, slice_size: int = SYNC_SLICE) -> None:
        """Apply a Sync in slices, giving the loop a turn between them (rule 5 says what may come between)."""
        async with self._sync_locks.setdefault(source, asyncio.Lock()):
            overtaken = self._overtaken[source] = set()
            try:
                named = set()
                for number, entity in enumerate(change.changed, 1):
                    key = entity.key
                    named.add(key)
                    if key not in overtaken:
                        self._put(source, key, entity)
                    if number % slice_size == 0:
                        await asyncio.sleep(0)
                for number, key in enumerate(list(self._said[source]), 1):
                    if key not in overtaken and not _vouched(change, key, named):
                        self._drop(source, key)
                    if number % slice_size == 0:
                        await asyncio.sleep(0)
            finally:
                del self._overtaken[source]

    def flush(self) -> None:
        """Deliver every pending delta now instead of at the next loop turn."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        for listener in list(self._pending):
            waiting = self._pending.get(listener)
            if not waiting:
                continue
            self._pending[listener] = {}
            current = self._current
            changes = {key: (before, after) for key, before in waiting.items() if (after := current.get(key)) != before}
            if not changes:
                continue
            try:
                listener(Delta(self.version, changes))
            except Exception:
                self.listener_errors += 1
                log.exception("a catalog listener failed listener=%r changes=%d", listener, len(changes))

    def _single(self, source: str, key: Key) -> None:
        """Note a change that a running sync of this source must not undo."""
        overtaken = self._overtaken.get(source)
        if overtaken is not None:
            overtaken.add(key)

    def _put(self, source: str, key: Key, entity: Entity) -> None:
        said = self._said[source]
        if said.get(key) == entity:
            return
        said[key] = entity
        owner = self._owner.get(key)
        if owner is None or owner == source or self._order.index(source) < self._order.index(owner):
            self._owner[key] = source
            self._set(key, entity)

    def _drop(self, source: str, key: Key) -> None:
        if self._said[source].pop(key, None) is None or self._owner.get(key) != source:
            return
        for other in self._order:
            if (entity := self._said[other].get(key)) is not None:
                self._owner[key] = other
                self._set(key, entity)
                return
        del self._owner[key]
        self._set(key, None)

    def _set(self, key: Key, entity: Entity | None) -> None:
        before = self._current.get(key)
        if before == entity:
            return
        if entity is None:
            del self._current[key]
        else:
            self._current[key] = entity
        self.version += 1
        for waiting in self._pending.values():
            waiting.setdefault(key, before)
        self._schedule()

    def _schedule(self) -> None:
        if self._flush is None and self._pending:
            self._flush = asyncio.get_running_loop().call_soon(self.flush)


def _vouched(change: Sync, key: Key, named: set[Key]) -> bool:
    """True when a Sync that names the keys `named` leaves `key` as it is."""
    return key in named or key in change.kept or (bool(change.kinds) and key[0] not in change.kinds)
