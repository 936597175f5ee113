"""The relay source: follow one of several Pharos servers instead of the orchestrators.

A round tries the servers in random order and follows the first that is in sync with its own sources. When
none is, one of those that know the newest is followed, unless more is known here of one of its sources: what is
served does not go back in time, but for as long only as there is more to lose by going back than by staying behind
with everything else. When a server is lost the others are tried at once, the lost one last; what was
said stays. All that differs between two servers is found by digests, so a fail-over moves little.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping

from mesos_dns.config import RelayConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.relay_link import Connector, RelayError, server_url
from mesos_dns.sources.relay_session import Past, RelaySession

log = logging.getLogger(__name__)

BACKOFF_FIRST = 0.1
BACKOFF_MOST = 3.0
STEADY = 5.0
"""Seconds after which a connection counts as good and the back-off starts afresh."""

TOLERANCE = 60.0
"""Seconds by which servers' clocks and last words may differ and still count as equally new."""

LATE_MOST = 300.0
"""Seconds without any server after which also one that knows less is followed, however much less that is."""

PATIENCE = 10.0
PATIENCE_MOST = 160.0
"""Seconds after which a server that is out of date is left to look for a better one; it doubles while there is none."""


class _OutOfDate(Exception):
    """A server that is not followed as it is out of date itself; `sources` as in RelaySession."""

    def __init__(self, sources: Mapping[str, float]) -> None:
        super().__init__(sources)
        self.sources = sources


class RelaySource:
    """Follows `[relay] servers`. `counters` are read by the metrics; `run` until cancelled.

    `own_epoch` is that of this process' own Watch: a server that follows us is not followed. `as_of` (epoch
    seconds) is when restored state was last known to be right, `right` the same by source (what `right` was before,
    if that is known). `hosts` and `dice` can be replaced in tests.
    """

    def __init__(
        self,
        config: RelayConfig,
        publish: Publisher,
        *,
        hosts: Hosts | None = None,
        own_epoch: str = "",
        as_of: float = 0.0,
        right: Mapping[str, float] | None = None,
        counters: SourceCounters | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self.config = config
        self.counters = counters or SourceCounters()
        self.server = ""
        self._publish = publish
        self._hosts = hosts or Hosts()
        self._own_epoch = own_epoch
        self._dice = dice or random.Random()
        self._complain = Complaints(log)
        self._past = Past(as_of=as_of, sources=dict(right or {}))
        self._connector = Connector(config, self._hosts, self.counters)
        self._servers = list(dict.fromkeys(server_url(server) for server in config.servers))
        self._patience = PATIENCE
        self._attempts = 0
        self._alone_at: float | None = None
        self._reported: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<RelaySource servers={len(self._servers)} following={self.server!r}>"

    @property
    def as_of(self) -> float:
        """When what is known was last known to be right (epoch seconds); 0 when that is not known."""
        return self._past.as_of

    @property
    def via(self) -> tuple[str, ...]:
        """The epochs of the servers that what is known came through, the nearest first."""
        return self._past.via

    @property
    def right(self) -> dict[str, float]:
        """When what is known of each source of the server was last known to be right (epoch seconds); to be saved."""
        return dict(self._past.sources)

    @property
    def sources(self) -> dict[str, float | None]:
        """See watch.Upstream: None for a source that is in sync at the server, else since when it is not."""
        past = self._past
        return {name: None if name in past.live else as_of for name, as_of in past.sources.items() if name}

    async def run(self) -> None:
        """Follow until cancelled. Never raises for faults of the outside."""
        self._alone_at = asyncio.get_running_loop().time()
        try:
            while True:
                held = 0.0
                try:
                    held = await self._round()
                except Exception as error:
                    log.exception("the relay source failed and starts again")
                    self._lost("", RelayError("internal", f"internal error: {error!r}"))
                await self._pause(held)
        finally:
            await self._hosts.close()

    async def _round(self) -> float:
        """Try every server until one was followed; for how many seconds that went well."""
        order = self._order()
        late: dict[str, Mapping[str, float]] = {}
        for server in order:
            try:
                held = await self._follow(server, late_too=False)
            except _OutOfDate as found:
                late[server] = found.sources
                continue
            if held:
                return held
        if not late:
            return 0.0
        server = self._newest(late)
        if not server:
            self._lost("", RelayError("stale", "every server is out of date for longer than what is known here"))
            return 0.0
        return await self._follow(server, late_too=True)

    def _order(self) -> list[str]:
        """All servers in random order, the one that was followed last at the end."""
        order = [server for server in self._servers if server != self.server]
        self._dice.shuffle(order)
        return [*order, self.server] if self.server else order

    def _newest(self, late: Mapping[str, Mapping[str, float]]) -> str:
        """Which of servers that are out of date to follow; "" for none, as more is known here.

        Not simply the very newest: all nodes would go to that one.
        """
        best: dict[str, float] = {}
        for sources in late.values():
            for name, as_of in sources.items():
                best[name] = max(best.get(name, 0.0), as_of)
        behind = {server: _behind(sources, best) for server, sources in late.items() if self._can_follow(sources)}
        if not behind:
            return ""
        most = min(behind.values()) + TOLERANCE
        good = [server for server, seconds in behind.items() if seconds <= most]
        return self.server if self.server in good else good[0]

    def _can_follow(self, sources: Mapping[str, float]) -> bool:
        """True unless a server knows clearly less of a source than is known here.

        It may when nobody was followed for as long as that: all other sources have gone on meanwhile.
        """
        past, now = self._past, time.time()
        here = {"": past.as_of, **past.sources} if past.sources else dict.fromkeys(sources, past.as_of)
        lost = _behind(sources, {name: min(now, as_of) for name, as_of in here.items()})
        alone = asyncio.get_running_loop().time() - self._alone_at if self._alone_at is not None else 0.0
        return lost <= TOLERANCE or alone >= min(lost, LATE_MOST)

    async def _follow(self, server: str, *, late_too: bool) -> float:
        """Follow one server until it is lost; for how many seconds that went well. Raises _OutOfDate."""
        loop = asyncio.get_running_loop()
        session: RelaySession | None = None
        try:
            async with self._connector.open(server, self._past.position) as link:
                session = RelaySession(
                    link, self._publish, self.counters, self._complain, self._past, self._told, self._own_epoch
                )
                await session.greet(float(self.config.connect_timeout))
                if session.late and not late_too:
                    raise _OutOfDate(session.sources)
                self.counters.connects += 1
                await session.run(self._patience * self._dice.uniform(1.0, 1.5))
        except RelayError as error:
            self._lost(server, error)
            if error.kind == "stale":
                self._patience = min(PATIENCE_MOST, self._patience * 2)
        if session is None or not session.synced_at:
            return 0.0
        self.counters.reconnects += 1
        self._alone_at = loop.time()
        return max(0.001, loop.time() - session.synced_at)

    def _told(self, session: RelaySession) -> None:
        """A session knows all, or the standing of its server is another one."""
        complained = bool(self._reported.pop(session.server, ""))
        if self.server != session.server or complained:
            log.info("following a server server=%s out_of_date=%s", session.server, session.stale)
        self.server = session.server
        if session.stale:
            late = max(0.0, time.time() - session.as_of)
            detail = f"following {session.server}, which is out of date itself (by {late:.0f} s)"
            self._publish.mark(connected=False, synced=True, detail=detail, since=session.as_of)
        else:
            lost = f", which has lost {', '.join(session.lost)}" if session.lost else ""
            self._publish.mark(connected=True, synced=True, detail=f"following {session.server}{lost}")
        if not session.late:
            self._patience = PATIENCE

    def _lost(self, server: str, error: RelayError) -> None:
        """Note why a server is not followed; what was said stays."""
        text = str(error)
        self.counters.errors[error.kind] += 1
        if server and error.kind == "stale":  # still followed, as it were: only a look around
            return
        self._past.live = frozenset()
        self._publish.mark(connected=False, detail=text)
        level = logging.WARNING if self._reported.get(server) != text else logging.DEBUG
        self._reported[server] = text
        log.log(level, "not following a server error=%s", text)

    async def _pause(self, held: float) -> None:
        """Wait before the next round: not at all after a good connection."""
        if held >= STEADY:
            self._attempts = 0
            return
        limit = min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(self._attempts, 10))
        self._attempts += 1
        await asyncio.sleep(self._dice.uniform(0, limit))


def _behind(sources: Mapping[str, float], best: Mapping[str, float]) -> float:
    """By how many seconds less is known of one of these sources than is known best; of others nothing is known."""
    return max((best[name] - as_of for name, as_of in sources.items() if name in best), default=0.0)
