"""One connection to a server: its hello, all that differs, and then each change as it comes.

While the whole is told, what comes is said at once; what was said before and did not come is dropped only
when the server has told everything of a bucket. So a connection that breaks in the middle leaves what
was known and what has come, and no position to go on from: the next one compares digests.

An entity that is none (refused by watch_wire) is left out, counted and logged once; what was known by its key stays: a
name that may be old is better than no name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mesos_dns.catalog_file import KINDS
from mesos_dns.model import Entity, Key
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.pace import Pace
from mesos_dns.sources.relay_link import Link, RelayError
from mesos_dns.watch_wire import (
    Digests,
    Message,
    WireError,
    answer_message,
    bucket_of,
    decode_entities,
    decode_message,
    encode_entity,
)

_LATE = frozenset({"node", "framework"})
"""Kinds that go after the tasks that are joined with them."""


PROGRESS = 30.0
"""Seconds within which the next part of the whole must come; heartbeats alone are no progress."""

QUEUED = 600.0
"""Seconds within which the first part must come from a server that says that others are told first."""

NEVER = 86400.0
"""What was known until the first day of 1970 was never known; a clock may be off by this."""


@dataclass
class Past:
    """What outlives a connection: where a server's deltas can be resumed ("": nowhere), when what is known was
    last known to be right (epoch seconds), and the epochs of the servers that it came through.

    `sources` has when each of the server's sources was last known to be right (empty: `as_of` holds for all), `live`
    are those that are in sync at the server that is followed now.
    """

    position: str = ""
    as_of: float = 0.0
    via: tuple[str, ...] = ()
    sources: dict[str, float] = field(default_factory=dict)
    live: frozenset[str] = frozenset()


class RelaySession:
    """Follow one server. `greet` first, then `run`; `told` is called when the standing is another one.

    `synced_at` is when (loop time) all was known, 0 before; `stale` whether the server is out of date itself,
    `lost` the sources that it has lost, `late` whether either is so. `sources` are when each of them was last right
    (epoch seconds by our clock; "" where the server names none: all of it).
    """

    def __init__(
        self,
        link: Link,
        publish: Publisher,
        counters: SourceCounters,
        complain: Callable[[str], None],
        past: Past,
        told: Callable[[RelaySession], None],
        own_epoch: str = "",
    ) -> None:
        self.server = link.server
        self.synced_at = 0.0
        self.stale = self.late = False
        self.as_of = 0.0
        self.sources: dict[str, float] = {}
        self.lost: tuple[str, ...] = ()
        self._link = link
        self._publish = publish
        self._counters = counters
        self._complain = complain
        self._past = past
        self._told = told
        self._own_epoch = own_epoch
        self._loop = asyncio.get_running_loop()
        self._via: tuple[str, ...] = ()
        self._standing_at = 0.0
        self._late_at = 0.0
        self._asked_at = self._moved_at = self._loop.time()
        self._epoch = ""
        self._number = -1
        self._hello = Message("")
        self._seen: set[Key] | None = None
        self._spared: set[tuple[str, int]] = set()
        self._pace = Pace()

    async def greet(self, limit: float) -> None:
        """Hear the server's hello within `limit` seconds. Raises RelayError."""
        try:
            async with asyncio.timeout(limit):
                while (data := await self._link.receive(limit)) is None:
                    pass
        except TimeoutError:
            raise RelayError("stall", f"{self.server}: no hello within {limit:g} s") from None
        message = self._decoded(data)
        if not message.hello or message.stale is None:
            raise RelayError("document", f"{self.server}: its first word is no hello")
        self._hello = message
        self._epoch, number = message.position
        self._standing(message)
        if message.resume:
            if message.v != self._past.position:
                self._past.position = ""
                raise RelayError("document", f"{self.server}: resumes at {message.v[:80]}, which was not asked for")
            self._number = number

    async def run(self, patience: float) -> None:
        """Follow until that ends in RelayError; of kind "stale" when the server is late for `patience` seconds."""
        try:
            if self._hello.resume:
                self._counters.events["resume"] += 1
                self._all_known()
            else:
                await self._ask()
            while True:
                data = await self._link.receive()
                for line in data.split(b"\n") if data is not None else ():
                    await self._take(self._decoded(line))
                    await self._pace.turn()
                self._keep_time()
                self._judge(patience)
        except WireError as error:
            self._past.position = ""
            raise RelayError("document", f"{self.server}: {error}") from None

    def _judge(self, patience: float) -> None:
        """Raises RelayError when another server would do better."""
        now = self._loop.time()
        if not self.synced_at:
            if now - self._moved_at > PROGRESS:
                raise RelayError("stall", f"{self.server}: tells nothing of the whole for {PROGRESS:g} s")
        elif self.late and now - max(self._late_at, self.synced_at) > patience:
            what = f"out of date since {_clock(self.as_of)}" if self.stale else f"has lost {', '.join(self.lost)}"
            raise RelayError("stale", f"{self.server}: {what}")

    async def _ask(self) -> None:
        """Tell the server what is known, so that it tells what differs."""
        self._past.position = ""
        self._seen = set()
        said = self._publish.said()
        digests = await digests_of(said, self._epoch) if said else None
        self._pace.rested()
        self._asked_at = self._moved_at = self._loop.time()
        self._counters.events["full" if digests is None else "digests"] += 1
        await self._link.send(answer_message(digests))

    async def _take(self, message: Message) -> None:
        epoch, number = message.position
        if epoch != self._epoch or message.hello:
            raise WireError(f"speaks for {message.v[:80]} in the middle")
        if message.synced:
            await self._finish(message)
        elif message.kind and message.buckets is not None:
            self._counters.events["slice"] += 1
            if self._seen is None or self._number not in (-1, number):
                raise WireError(f"a slice at {message.v[:80]} that was not asked for")
            self._number = number
            self._apply(message)
        elif message.kind:
            self._counters.events["delta"] += 1
            if self._number not in (-1, number - 1) or (self._number == -1 and self._seen is None):
                raise WireError(f"{message.v[:80]} follows {self._number}: something was left out")
            self._number = number
            self._apply(message)
            if self._seen is None:
                self._past.position = message.v
        elif message.stale is not None:
            self._counters.events["status"] += 1
            self._standing(message)
            if self.synced_at:
                self._past.via = self._via
                self._keep_time()
                self._told(self)
        elif message.wait:
            self._counters.events["wait"] += 1
            if self._number == -1 and self._loop.time() - self._asked_at < QUEUED:
                self._moved_at = self._loop.time()
        else:
            self._counters.events["other"] += 1

    def _apply(self, message: Message) -> None:
        """Say what a delta or a slice says."""
        self._moved_at = self._loop.time()
        if message.kind not in KINDS:
            self._counters.events["other"] += 1
            return
        entities, refused = decode_entities(message.kind, message.put)
        for text in refused:
            self._counters.skipped_entities += 1
            self._complain(f"{self.server}: an entity is left out: {text}")
        if refused and message.buckets is not None:
            self._spared.update((message.kind, bucket) for bucket in message.buckets)
        for entity in entities:
            self._publish.put(entity)
            if self._seen is not None:
                self._seen.add(entity.key)
        for key in message.drop:
            if key and key[0] == message.kind:
                self._publish.drop(key)
        self._counters.last_event_at = time.time()

    async def _finish(self, message: Message) -> None:
        """All has been told of these buckets: what did not come is no more."""
        if self._seen is None or self._number not in (-1, message.position[1]):
            raise WireError(f"synced at {message.v[:80]} without having been asked")
        began = time.perf_counter()
        buckets, seen = frozenset(message.buckets or ()), self._seen
        gone: list[Key] = []
        for number, key in enumerate(list(self._publish.said())):
            if key not in seen and (bucket := bucket_of(key)) in buckets and (key[0], bucket) not in self._spared:
                gone.append(key)
            if number % 256 == 0:
                await self._pace.turn()
        gone.sort(key=lambda key: key[0] in _LATE)
        for number, key in enumerate(gone):
            self._publish.drop(key)
            if number % 64 == 0:
                await self._pace.turn()
        self._seen, self._spared = None, set()
        self._number = message.position[1]
        self._past.position = message.v
        self._counters.sync_seconds += time.perf_counter() - began
        self._all_known()

    def _all_known(self) -> None:
        self.synced_at = self._loop.time()
        self._past.via = self._via
        self._counters.syncs += 1
        self._counters.last_sync_at = time.time()
        self._keep_time()
        self._told(self)

    def _standing(self, message: Message) -> None:
        """The server says how far it can be trusted. Raises RelayError when it follows us itself."""
        if message.via is not None:
            self._via = message.via
        if self._own_epoch and self._own_epoch in (self._epoch, *self._via):
            raise RelayError("circle", f"{self.server}: follows this process itself")
        self.stale = bool(message.stale)
        ages = message.sources or {"": message.stale or 0.0}
        self.lost = tuple(sorted(name for name, age in ages.items() if age))
        late = self.stale or bool(self.lost)
        if late and not self.late:
            self._late_at = self._loop.time()
        self.late = late
        # By our clock: that of a server may be ahead, and all others would look old for a long time.
        now = time.time()
        self.as_of = _right_at(now - (message.stale or 0.0))
        self.sources = {name: _right_at(now - age) for name, age in ages.items()}
        self._standing_at = self._loop.time()

    def _keep_time(self) -> None:
        """Note until when what is known is known to be right: that of a server in sync is so while it shows life."""
        if not self.synced_at:
            return
        past, now = self._past, time.time()
        heard = max(0.0, self._link.heard_at - self._standing_at)
        past.as_of = min(self.as_of + (0.0 if self.stale else heard), now)
        past.live = frozenset(self.sources).difference(self.lost)
        past.sources = {
            name: min(as_of + (heard if name in past.live else 0.0), now) for name, as_of in self.sources.items()
        }

    def _decoded(self, data: bytes) -> Message:
        try:
            return decode_message(data)
        except WireError as error:
            self._counters.malformed += 1
            self._past.position = ""
            raise RelayError("document", f"{self.server}: {error}") from None


async def digests_of(entities: Mapping[Key, Entity], epoch: str) -> bytes:
    """The digests of what is known, for a server of this epoch; the loop gets its turns."""
    digests, pace = Digests(epoch), Pace()
    for number, (key, entity) in enumerate(list(entities.items())):
        encoded = encode_entity(entity) if key[0] in KINDS else None
        if encoded is not None:
            digests.toggle(bucket_of(key), digests.of(encoded))
        if number % 64 == 0:
            await pace.turn()
    return digests.octets()


def _right_at(when: float) -> float:
    return when if when > NEVER else 0.0


def _clock(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(when))
