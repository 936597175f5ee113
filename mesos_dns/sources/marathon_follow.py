"""Follow one Marathon by the URLs of its instances: find who leads, and start again when the connection ends.

A stand-by leads to the leader, or passes on what we ask; while there is no leader all answer 503. The URLs are tried
in turn, the one whose connection was lost last of all, with full-jitter back-off between rounds. Whatever goes wrong
outside changes nothing that was said.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence

from mesos_dns.config import MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.marathon_book import MarathonBook
from mesos_dns.sources.marathon_calls import MarathonCalls
from mesos_dns.sources.marathon_client import MarathonClient, MarathonError, base_url
from mesos_dns.sources.marathon_session import MarathonSession, Timing
from mesos_dns.sources.mesos_auth import Authenticator

log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_MOST = 0.1, 3.0
BACKOFF_AUTH_FIRST, BACKOFF_AUTH_MOST = 1.0, 30.0
"""Seconds after our login was refused: trying often helps nobody, and locks accounts."""

STEADY = 5.0
"""Seconds after which a connection counts as good and the back-off starts afresh."""


class Follower:
    """Follows one Marathon. `changed` is called when its standing (`connected`, `synced`, `detail`) did.

    `framework_id` is what the Marathon must be where that is known beforehand; later what it is.
    """

    def __init__(
        self,
        config: MarathonConfig,
        urls: Sequence[str],
        book: MarathonBook,
        hosts: Hosts,
        counters: SourceCounters,
        complain: Complaints,
        changed: Callable[[], None],
        *,
        framework_id: str = "",
        auth: Authenticator | None = None,
        timing: Timing | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self.framework_id = framework_id
        self.connected = False
        self.synced = False
        self.detail = "not connected yet"
        self.leader = ""
        self._expected = framework_id
        self._config = config
        self._book = book
        self._hosts = hosts
        self._counters = counters
        self._complain = complain
        self._changed = changed
        self._auth = auth
        self._timing = timing
        self._dice = dice or random.Random()
        self._urls: tuple[str, ...] = ()
        self._via = ""
        self._lost_via = ""
        self._moved = asyncio.Event()
        self._attempts = 0
        self._refused = False
        self._good_since = 0.0
        self._reported = ""
        self.set_urls(urls)
        self._moved.clear()

    def __repr__(self) -> str:
        return f"<Follower framework={self.framework_id!r} leader={self.leader!r} urls={len(self._urls)}>"

    @property
    def urls(self) -> tuple[str, ...]:
        """The bases of the instances' URLs."""
        return self._urls

    def set_urls(self, urls: Sequence[str]) -> None:
        """Other instances from now on. A connection through one that is none of them any more is given up."""
        found = []
        for url in urls:
            try:
                found.append(base_url(url))
            except ValueError as error:
                self._complain(f"a Marathon's URL is not used framework={self.framework_id}: {error}")
        fresh = tuple(dict.fromkeys(found))
        if fresh == self._urls:
            return
        self._urls = fresh
        if self._via not in fresh:
            self._moved.set()

    async def run(self) -> None:
        """Follow until cancelled. Never raises for faults of the outside."""
        while True:
            self._moved.clear()
            self._refused = False
            await self._round()
            await self._pause()

    async def _pause(self) -> None:
        """Wait before the next round, unless other URLs come meanwhile."""
        first, most = (BACKOFF_AUTH_FIRST, BACKOFF_AUTH_MOST) if self._refused else (BACKOFF_FIRST, BACKOFF_MOST)
        try:
            async with asyncio.timeout(self._dice.uniform(0, min(most, first * 2 ** min(self._attempts, 10)))):
                await self._moved.wait()
            self._attempts = 0
        except TimeoutError:
            self._attempts += 1

    async def _round(self) -> None:
        """Try the instances until one was followed, with TLS files as they are now."""
        if not self._urls:
            self._lost(MarathonError("connect", "no URL of this Marathon is known"))
            return
        try:
            async with MarathonClient(self._config, self._urls, self._hosts, self._counters, self._auth) as client:
                for base in sorted(self._urls, key=lambda url: url == self._lost_via):
                    if await self._try(client, base) or self._moved.is_set():
                        return
        except OSError as error:
            self._lost(MarathonError("connect", str(error)))
        except Exception as error:
            log.exception("following a Marathon failed and starts again")
            self._lost(MarathonError("internal", f"internal error: {error!r}"))

    async def _try(self, client: MarathonClient, base: str) -> bool:
        """Follow through one instance until that ends; True when it was followed at all."""
        loop = asyncio.get_running_loop()
        self._good_since = 0.0
        self._via = base
        session = MarathonSession(
            client,
            self._config,
            self._book,
            self._hosts,
            self._counters,
            self._complain,
            self._followed,
            framework_id=self._expected,
            timing=self._timing,
            dice=self._dice,
        )
        try:
            await self._until_moved(session.run(base))
        except MarathonError as error:
            self._refused = self._refused or error.kind == "auth"
            self._lost(error)
        finally:
            self._via = ""
        if not self._good_since:
            return False
        self._lost_via = base
        if loop.time() - self._good_since >= STEADY:
            self._attempts = 0
        self._counters.reconnects += 1
        return True

    async def _until_moved(self, work: Coroutine[None, None, None]) -> None:
        """Follow until that ends in MarathonError, or until this instance is none any more, which is one too."""
        following = asyncio.create_task(work, name="marathon follow")
        moved = asyncio.create_task(self._moved.wait(), name="marathon moved")
        try:
            await asyncio.wait([following, moved], return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            raise MarathonError("moved", "this Marathon is somewhere else now")
        finally:
            for task in (following, moved):
                task.cancel()
            await asyncio.gather(following, moved, return_exceptions=True)

    def _followed(self, calls: MarathonCalls) -> None:
        """A whole document was told."""
        if self.framework_id and self.framework_id != calls.framework_id:
            log.warning("a Marathon is another framework now was=%s is=%s", self.framework_id, calls.framework_id)
        if not self._good_since or self._reported or self.leader != calls.base:
            log.info("following a Marathon at=%s framework=%s", calls.base, calls.framework_id)
        self.framework_id = calls.framework_id
        self.leader = calls.base
        self.connected = self.synced = True
        self.detail = f"following {calls.base}"
        self._good_since = self._good_since or asyncio.get_running_loop().time()
        self._reported = ""
        self._changed()

    def _lost(self, error: MarathonError) -> None:
        """Note why there is no connection; what was said stays."""
        self._counters.errors[error.kind] += 1
        self.connected = False
        self.detail = str(error)
        level = logging.WARNING if self.detail != self._reported else logging.DEBUG
        self._reported = self.detail
        log.log(level, "not connected to a leading Marathon error=%s", error)
        self._changed()
