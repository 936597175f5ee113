"""What an edge counts of each app's port, told to those who follow it: once a second, and when a request is held.

    workers ─▶ Totals ─▶ rows that changed ─encoded once─▶ each follower's queue ─▶ its connection

With no follower nothing is encoded. One that does not keep up is dropped, and may come again: the first block that it
then gets has everything. Thousands of ports are looked through in slices.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import cast

import msgspec

from lb7.counters import Totals
from lb7.demand_shapes import MOST_KEYS, MOST_NAME, ROWS, DemandBlock, DemandRow
from lb7.table import Cluster, TableDelta
from mesos_dns.api_stream import encode
from mesos_dns.model import Key
from mesos_dns.sources.pace import Pace

EVERY = 1.0
"""Seconds between two blocks."""
URGENT_PAUSE = 0.02
"""Seconds between two urgent blocks at least."""
SWEEP = 10
"""In one block of so many all ports are looked at: what a port's apps are changes without a sign."""
HELD_FOR = 2.0
"""Seconds in which a request that has begun to be held counts, until the workers' figures have it."""
MOST_FOLLOWERS = 16
MOST_WAITING = 64
"""Lines that wait for a follower beside those of its first block; one that leaves more is dropped."""


class TooManyFollowers(Exception):
    """As many follow as may."""


class DemandFollower:
    """Who follows: the lines for it, in order. `cut` is called when it is dropped."""

    def __init__(self, cut: Callable[[], None] = lambda: None) -> None:
        self.dropped = False
        self._cut = cut
        self._lines: list[bytes] = []
        self._waits = asyncio.Event()
        self._room = 0

    def begin(self, lines: list[bytes]) -> None:
        """Its first block, before all else."""
        self._room = MOST_WAITING + len(lines)
        self.put(lines)

    def put(self, lines: Iterable[bytes]) -> None:
        """Lines to be told; one that has not taken enough of those before is dropped."""
        if self.dropped or not self._room:  # or it has not begun: all this will be in its first block
            return
        self._lines += lines
        if len(self._lines) > self._room:
            self.drop()
        self._waits.set()

    def drop(self) -> None:
        """Tell it nothing more."""
        self.dropped = True
        self._lines.clear()
        self._waits.set()
        self._cut()

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines as they come, until it is dropped."""
        while not self.dropped:
            self._waits.clear()
            while self._lines:
                yield self._lines.pop(0)
            self._room = max(MOST_WAITING, len(self._lines))
            await self._waits.wait()


class EdgeDemand:
    """See the module. `clusters` are those of the table now, `apps_behind` the keys of the apps of one.

    A new one has a new epoch: make one whenever the counters begin anew. `dropped` counts followers that were too slow.
    """

    def __init__(
        self,
        identity: str,
        totals: Callable[[], Totals],
        clusters: Callable[[], Mapping[str, Cluster]],
        apps_behind: Callable[[str], tuple[Key, ...]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity, self.epoch = identity, secrets.token_hex(8)
        self.dropped = 0
        self._totals, self._clusters, self._apps_behind, self._clock = totals, clusters, apps_behind, clock
        self._began = time.monotonic()
        self._numbers = itertools.count(1)
        self._followers: set[DemandFollower] = set()
        self._told: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}
        self._just_held: dict[str, float] = {}
        self._urgent: dict[str, None] = {}
        self._has_urgent = asyncio.Event()
        self._last = self._head()
        self._making = asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<EdgeDemand edge={self.identity} followers={len(self._followers)}>"

    @property
    def followers(self) -> int:
        """How many follow now."""
        return len(self._followers)

    def held(self, cluster_name: str) -> None:
        """A request of this cluster waits for its app to wake, and none did before: followers hear it at once."""
        if self._followers:
            self._just_held[cluster_name] = time.monotonic()
            self._urgent[cluster_name] = None
            self._has_urgent.set()

    def routed(self, delta: TableDelta) -> None:
        """The table has changed."""
        if self._followers:
            self._changed.update(dict.fromkeys(delta.clusters))

    async def document(self) -> AsyncIterator[bytes]:
        """All of it now, as pieces of one JSON document."""
        pace = Pace()
        yield encode(self._head())[: -len(b'],"gone":[]}')]
        between = b""
        for name in list(self._clusters()):
            await pace.turn()
            if (row := self._encoded(name)) is not None:
                yield between + row
                between = b","
        yield b'],"gone":[]}'

    @contextlib.asynccontextmanager
    async def follow(self, cut: Callable[[], None] = lambda: None) -> AsyncIterator[DemandFollower]:
        """Follow while the context is open; `cut` is called when the follower is dropped. Raises TooManyFollowers."""
        if len(self._followers) >= MOST_FOLLOWERS:
            raise TooManyFollowers
        follower = DemandFollower(cut)
        self._followers.add(follower)
        try:
            async with self._making:
                if self._telling is None:
                    await self._begin()
                follower.begin(list(_lines(self._last, list(self._told.values()), (), whole=True)))
            yield follower
        finally:
            self._leave(follower)

    def close(self) -> None:
        """Send all followers away."""
        for follower in list(self._followers):
            follower.drop()

    def _leave(self, follower: DemandFollower) -> None:
        self._followers.discard(follower)
        if not self._followers:
            if self._telling is not None:
                self._telling.cancel()
                self._telling = None
            self._totals().touched = None
            for kept in (self._told, self._changed, self._just_held, self._urgent):
                kept.clear()

    async def _begin(self) -> None:
        """Look at everything for the first follower, and go on."""
        self._totals().touched = set()
        self._last = self._head()
        await self._look(list(self._clusters()))
        self._telling = asyncio.get_running_loop().create_task(self._tell(), name="pharos-demand")

    async def _tell(self) -> None:
        """A block a second; urgent ones between."""
        loop = asyncio.get_running_loop()
        due = loop.time() + EVERY
        for number in itertools.count(1):
            while loop.time() < due:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._has_urgent.wait()
                        self._tell_urgent()
                        await asyncio.sleep(URGENT_PAUSE)
            due = max(due + EVERY, loop.time() + EVERY / 2)
            async with self._making:
                await self._block(sweep=number % SWEEP == 0)

    async def _block(self, sweep: bool) -> None:
        head = self._head()
        names = self._taken()
        if sweep:
            names.update(dict.fromkeys((*self._clusters(), *self._told)))
        rows, gone = await self._look(names)
        self._last = head
        self._send(list(_lines(head, rows, gone)))

    def _taken(self) -> dict[str, None]:
        """What may be others than it was told."""
        totals = self._totals()
        names, self._changed = self._changed, {}
        names.update(dict.fromkeys(totals.touched or ()))
        totals.touched = set()
        oldest = time.monotonic() - HELD_FOR
        for name in [name for name, at in self._just_held.items() if at < oldest]:
            del self._just_held[name]
            names[name] = None
        return names

    def _tell_urgent(self) -> None:
        names, self._urgent = self._urgent, {}
        self._has_urgent.clear()
        rows: list[bytes] = []
        for name in names:
            row = self._encoded(name)
            if row is not None and name in self._told:  # else the next block has it
                self._told[name] = row
                rows.append(row)
        if rows:
            self._last = self._head()
            self._send(list(_lines(self._last, rows, (), urgent=True)))

    async def _look(self, names: Iterable[str]) -> tuple[list[bytes], list[str]]:
        """Rows that are others than they were told, and names of those that are gone; from now on they are told."""
        pace = Pace()
        rows: list[bytes] = []
        gone: list[str] = []
        for name in names:
            await pace.turn()
            row = self._encoded(name)
            if row is None:
                if self._told.pop(name, None) is not None:
                    gone.append(name)
            elif self._told.get(name) != row:
                self._told[name] = row
                rows.append(row)
        return rows, gone

    def _send(self, lines: list[bytes]) -> None:
        for follower in self._followers:
            before = follower.dropped
            follower.put(lines)
            self.dropped += follower.dropped and not before

    def _encoded(self, name: str) -> bytes | None:
        """A port's row; None: it is no longer there, or can't be told, which costs no other port."""
        row = self._row(name)
        if row is None or any(len(text) > MOST_NAME for text in (name, row.app, *itertools.chain(*row.keys))):
            return None
        try:
            return msgspec.json.encode(row)
        except UnicodeEncodeError:
            return None

    def _row(self, name: str) -> DemandRow | None:
        cluster = self._clusters().get(name)
        keys = self._apps_behind(name) if cluster is not None else ()
        if cluster is None or not keys:
            return None
        totals = self._totals()
        tally, figures = totals.clusters.get(name), totals.figures_of(name)
        counts = tally.counts_dict() if tally is not None else {}
        held = _int(figures.get("held", 0))
        return DemandRow(
            cluster_name=name,
            keys=tuple(cast("tuple[str, str, str]", key[1:]) for key in keys[:MOST_KEYS]),
            app=cluster.app,
            port=cluster.service_port,
            mode=cluster.mode,
            status=_ints(counts.get("status")),
            latency=_ints(counts.get("latency")),
            latency_sum=round(_float(counts.get("latency_sum", 0.0)), 6),
            **{word: _int(counts.get(word, 0)) for word in _COUNTERS},
            held_total=_int(counts.get("held", 0)),
            active=_int(figures.get("active", 0)),
            waiting=_int(figures.get("waiting", 0)),
            held=max(held, 1) if name in self._just_held else held,
        )

    def _head(self) -> DemandBlock:
        return DemandBlock(
            edge=self.identity,
            epoch=self.epoch,
            at=round(self._clock(), 3),
            uptime=round(time.monotonic() - self._began, 6),
            n=next(self._numbers),
        )


_COUNTERS = ("requests", "unavailable", "overflow", "queue_timeouts", "hold_timeouts")


def _lines(
    head: DemandBlock, rows: list[bytes], gone: Iterable[str], *, whole: bool = False, urgent: bool = False
) -> Iterable[bytes]:
    """A block as one line or several."""
    starts = range(0, max(1, len(rows)), ROWS)
    for start in starts:
        more = start != starts[-1]
        fields = {
            **{name: getattr(head, name) for name in ("edge", "epoch", "at", "uptime", "n")},
            **{name: True for name, told in (("whole", whole), ("more", more), ("urgent", urgent)) if told},
            "gone": [] if more else list(gone),
        }
        yield encode(fields)[:-1] + b',"apps":[' + b",".join(rows[start : start + ROWS]) + b"]}\n"


def _int(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _ints(value: object) -> list[int]:
    return list(map(_int, value)) if isinstance(value, list) else []
