"""What followers of /v1/watch are told: a journal of encoded changes, digests of the whole, and the standing.

No I/O: sessions (api_watch) read from here. A catalog delta is encoded once for all followers, into
messages of one kind and at most MOST_ENTITIES entities each; every message has a number of its own in the
journal, so a follower that was cut off anywhere goes on behind the last message that it applied. Within
a delta nodes and frameworks come first and go last: no follower ever sees a task without its node
that had one here.

The journal is bounded. Who asks for what is no longer in it compares digests instead, and is sent the
buckets that differ. Work per change is proportional to the change.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from mesos_dns.catalog import Catalog, Delta, SourceStatus
from mesos_dns.catalog_file import KINDS
from mesos_dns.hearing import Hearing
from mesos_dns.model import Key
from mesos_dns.watch_journal import Journal
from mesos_dns.watch_whole import Turns, Whole
from mesos_dns.watch_wire import (
    MOST_ENTITIES,
    ORDER,
    SLICE_OCTETS,
    Digests,
    WireError,
    bucket_of,
    delta_message,
    encode,
    encode_entity,
    position_text,
    read_position,
)

log = logging.getLogger(__name__)

MOST_FOLLOWERS = 20_000

HOLD = ((1000, 0.25), (200, 0.05))
"""With more followers than this a change is told after so many seconds, together with what comes meanwhile."""

KEPT = 30.0
"""Seconds for which what was encoded is kept after the last follower was told everything."""

_LATE_DROPS = frozenset({"node", "framework"})
"""Kinds that go after the tasks that are joined with them have gone."""


class WatchCounters:
    """Plain counts: followers that are there `now`, how they `began` ("resume", "digests", "full"), what was
    sent (`octets` without framing), why they `ended`, and why others were `refused`."""

    def __init__(self) -> None:
        self.now = 0
        self.began: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.messages = 0
        self.octets = 0
        self.deltas = 0
        self.untold = 0


class Standing(msgspec.Struct, frozen=True):
    """How far what is told can be trusted: seconds without a source, when it was last known right (epoch
    seconds), and the epochs of the servers it came through.

    `sources` says so of each source by its name: since when it has been lost (epoch seconds), None while it is in
    sync, 0 when it has never been heard: followers then know more than this process, if anybody ever heard of it.
    """

    stale: float
    as_of: float
    via: tuple[str, ...] = ()
    sources: Mapping[str, float | None] = {}


class Upstream(Protocol):
    """A source that follows a server itself (sources.relay)."""

    @property
    def as_of(self) -> float:
        """When what it said was last known to be right (epoch seconds)."""

    @property
    def via(self) -> tuple[str, ...]:
        """The epochs of the servers in its chain, the nearest first."""

    @property
    def sources(self) -> Mapping[str, float | None]:
        """The sources of the first server in the chain, as in a Standing."""


def standing_of(
    statuses: Iterable[SourceStatus],
    now: float,
    upstream: Upstream | None = None,
    *,
    beside: Iterable[SourceStatus] = (),
    unheard: Collection[str] = (),
) -> Standing:
    """The standing of a process whose sources of what runs are these; `upstream` is the one named "relay".

    `beside` are its other sources (files): followers hear of them by name, but what runs is not out of date for their
    sake. `unheard` are sources that have not said all that they are to say, though they count as synced.
    """
    as_of, stale = now, False
    sources: dict[str, float | None] = {}
    for status in statuses:
        relayed = upstream is not None and status.name == "relay"
        if status.stale:
            stale = True
            as_of = min(as_of, upstream.as_of if upstream is not None and relayed else status.since)
        if not relayed:
            sources[status.name] = _lost_since(status, unheard)
    for status in beside:
        sources[status.name] = _lost_since(status, unheard)
    via: tuple[str, ...] = ()
    if upstream is not None:
        via = upstream.via
        sources = {**upstream.sources, **sources}
    return Standing(max(0.001, round(now - as_of, 3)) if stale else 0.0, round(as_of, 3), via, sources)


def _lost_since(status: SourceStatus, unheard: Collection[str]) -> float | None:
    if status.name in unheard or not (status.synced or status.restored):
        return 0.0
    return status.since if status.stale else None


class Session(Protocol):
    """One follower, as the watch sees it."""

    def wake(self) -> None:
        """There is more in the journal."""

    def dismiss(self) -> None:
        """Say good-bye and end."""


class Watch:
    """One process' side of /v1/watch. The first follower starts it (nodes mostly have none, and pay for none).

    `known` tells whether there is anything to tell (an empty catalog that nobody has filled yet is told to
    nobody), `standing` how far it can be trusted.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        known: Callable[[], bool] = lambda: True,
        standing: Callable[[], Standing] | None = None,
        journal: Journal | None = None,
        version: str = "",
        most_followers: int = MOST_FOLLOWERS,
    ) -> None:
        self.catalog = catalog
        self.known = known
        self.epoch = secrets.token_hex(8)
        self.journal = journal if journal is not None else Journal()
        self.counters = WatchCounters()
        self.hearing = Hearing()
        self.most_followers = most_followers
        self.digests = Digests(self.epoch)
        self.turns = Turns()
        self.whole = Whole(self._encoded)
        self._standing = standing or (lambda: Standing(0.0, time.time()))
        self._version = version
        self._sessions: set[Session] = set()
        self._complaints = 0
        self._waking: asyncio.TimerHandle | None = None
        self._clearing: asyncio.TimerHandle | None = None
        self._starting = asyncio.Lock()
        self._started = False

    def __repr__(self) -> str:
        return f"<Watch position={self.position} followers={len(self._sessions)}>"

    @property
    def position(self) -> str:
        """Where the journal ends: "EPOCH.N"."""
        return position_text(self.epoch, self.journal.head)

    async def start(self) -> None:
        """Hear of every change from now on, and take in all that is, in slices. Again: no more than wait for that."""
        async with self._starting:
            if self._started:
                return
            self.catalog.listen(self.apply, replay=False)
            for number, entity in enumerate(self.catalog.entities(), 1):
                key = entity.key
                if key[0] in KINDS and (now := self.catalog.get(key)) is not None:
                    self._learn(key, encode_entity(now))
                if number % MOST_ENTITIES == 0:
                    await asyncio.sleep(0)
            self._started = True

    def stop(self) -> None:
        """Hear of no more changes, for good; followers are dismissed."""
        self.catalog.unlisten(self.apply)
        self.dismiss()
        for timer in (self._waking, self._clearing):
            if timer is not None:
                timer.cancel()
        self._waking = self._clearing = None

    def apply(self, delta: Delta) -> None:
        """Take a catalog delta into the digests and the journal, and wake the followers."""
        put: dict[str, list[bytes]] = {}
        drop: dict[str, list[bytes]] = {}
        for key, (_, after) in delta.changes.items():
            if key[0] not in KINDS:
                continue
            encoded = encode_entity(after) if after is not None else None
            if encoded is None and after is not None:
                self._complain(key)
            if self._learn(key, encoded):
                if encoded is not None:
                    put.setdefault(key[0], []).append(encoded)
                else:
                    drop.setdefault(key[0], []).append(encode(key))
        for kind, entities, keys in _messages(put, drop):
            position = position_text(self.epoch, self.journal.head + 1)
            self.journal.append(delta_message(position, kind, entities, keys))
            self.counters.deltas += 1
        hold = next((seconds for more, seconds in HOLD if len(self._sessions) > more), 0.0)
        if not hold:
            self._wake()
        elif self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(hold, self._wake)

    def told(self, session: Session) -> None:
        """A follower has been told everything, or has gone: the next one's turn."""
        self.turns.leave(session)
        if not self.turns.now and self.whole.octets and self._clearing is None:
            self._clearing = asyncio.get_running_loop().call_later(KEPT, self._clear)

    def resumes(self, since: str) -> int | None:
        """The number behind which a follower can go on that has applied all up to `since`; None: it can't."""
        try:
            epoch, number = read_position(since)
        except WireError:
            return None
        return number if epoch == self.epoch and self.journal.follows(number) else None

    def standing(self) -> Standing:
        """How far what is told can be trusted now; `via` begins with this server."""
        now = self._standing()
        return msgspec.structs.replace(now, via=(self.epoch, *now.via))

    def hello(self, number: int, *, resume: bool, standing: Standing) -> bytes:
        """The first message to a follower, whose next delta is `number` + 1 when it resumes."""
        fields = {"hello": 1, "v": position_text(self.epoch, number), "resume": resume}
        return encode({**fields, **_told(standing), "version": self._version})

    def status(self, number: int, standing: Standing) -> bytes:
        """A heartbeat with words to a follower that has been sent all up to `number`."""
        return encode({"v": position_text(self.epoch, number), **_told(standing)})

    def enter(self, session: Session) -> None:
        """A follower is there."""
        self._sessions.add(session)
        self.counters.now += 1

    def leave(self, session: Session, reason: str) -> None:
        """A follower has gone."""
        self.told(session)
        self._sessions.discard(session)
        self.counters.now -= 1
        self.counters.ended[reason] += 1

    def dismiss(self) -> None:
        """Send every follower away; they will look for another server."""
        for session in tuple(self._sessions):
            session.dismiss()

    def _wake(self) -> None:
        """There is something for every follower."""
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        for session in tuple(self._sessions):
            session.wake()

    def _clear(self) -> None:
        self._clearing = None
        if not self.turns.now:
            self.whole.clear()

    def _encoded(self, key: Key) -> bytes | None:
        entity = self.catalog.get(key)
        return encode_entity(entity) if entity is not None else None

    def _learn(self, key: Key, encoded: bytes | None) -> bool:
        """Bring one key's share of the digests up to date; False when nothing changes for a follower."""
        bucket = bucket_of(key)
        after = self.digests.of(encoded) if encoded is not None else None
        before = self.whole.swap(bucket, key, after)
        for value in (before, after) if before != after else ():
            if value is not None:
                self.digests.toggle(bucket, value)
        return before != after

    def _complain(self, key: Key) -> None:
        self.counters.untold += 1
        if self._complaints < 100:
            self._complaints += 1
            log.warning("an entity can't be told to followers: no Unicode, or too large key=%s", ascii(key)[:300])


def _told(standing: Standing) -> dict[str, object]:
    """A standing in the words of the protocol: seconds, which mean the same whatever the clocks say."""
    now = time.time()
    sources = {
        name: 0.0 if since is None else max(0.001, round(now - since, 3)) for name, since in standing.sources.items()
    }
    return {"stale": standing.stale, "as_of": standing.as_of, "via": standing.via, "sources": sources}


def _messages(
    put: Mapping[str, list[bytes]], drop: Mapping[str, list[bytes]]
) -> Iterator[tuple[str, list[bytes], list[bytes]]]:
    """(kind, entities, keys) of each message of a delta, in the order in which they are told."""
    for kind in ORDER:
        for part in parts(put.get(kind, [])):
            yield kind, part, []
        if kind not in _LATE_DROPS:
            for part in parts(drop.get(kind, [])):
                yield kind, [], part
    for kind in ("framework", "node"):
        for part in parts(drop.get(kind, [])):
            yield kind, [], part


def parts(encoded: Iterable[bytes]) -> Iterator[list[bytes]]:
    """What is to be told, in portions for one message each."""
    portion: list[bytes] = []
    size = 0
    for item in encoded:
        portion.append(item)
        size += len(item)
        if len(portion) >= MOST_ENTITIES or size >= SLICE_OCTETS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
