"""The Marathon source: what the apps and pods of one or several Marathons are, and how their tasks do.

One `Follower` for each Marathon: the one that `[marathon] urls` name, or those that are frameworks of the cluster,
which whoever sees frameworks tells (`set_marathons`). All speak as one source; entities carry their framework's id, so
that none speaks of another's. A Marathon that is no longer there takes what it said along; one that can't be reached
does not. One that is another framework all of a sudden has lost its store: its tasks of old run on, and stay until
the new ones serve.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from mesos_dns.config import MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import Framework
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.marathon_book import MarathonBook
from mesos_dns.sources.marathon_follow import Follower
from mesos_dns.sources.marathon_session import Timing
from mesos_dns.sources.mesos_auth import Authenticator

log = logging.getLogger(__name__)

HOLD = 600.0
"""Seconds for which what was said stays when no framework of the cluster is a Marathon any more: whoever tells that
may not have heard of them yet. The same for a framework that a Marathon was before, and one that was followed before
a restart and is not named since."""

LOOK = 5.0
"""Seconds between two looks whether what is held may go."""

CONFIGURED = ""
"""The name of the one Marathon that `urls` name, whose framework is not known beforehand."""


def marathons_among(frameworks: Iterable[Framework], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Framework id → URLs of those frameworks that are Marathons by their `names`; a Marathon registers with the URL
    of whichever of its instances leads."""
    return {item.id: (item.webui_url,) if item.webui_url else () for item in frameworks if item.name in names}


class MarathonSource:
    """Follows Marathons. `counters` are read by the metrics; `run` until cancelled.

    `publish_tasks`: no other source tells of the cluster's tasks, so they are said here. `auth`, `timing` and `dice`
    can be replaced in tests; `hosts` is closed at the end.
    """

    def __init__(
        self,
        config: MarathonConfig,
        publish: Publisher,
        *,
        counters: SourceCounters | None = None,
        hosts: Hosts | None = None,
        auth: Authenticator | None = None,
        timing: Timing | None = None,
        dice: random.Random | None = None,
        publish_tasks: bool = False,
    ) -> None:
        self.config = config
        self.counters = counters or SourceCounters()
        self._publish = publish
        self._hosts = hosts or Hosts()
        self._auth = auth
        self._timing = timing
        self._dice = dice or random.Random()
        self._complain = Complaints(log)
        self._book = MarathonBook(publish, config.cluster, self._hosts, publish_tasks=publish_tasks)
        self._wanted: dict[str, tuple[str, ...]] | None = None
        self._followers: dict[str, Follower] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stir = asyncio.Event()
        self._none_since: float | None = None
        self._named: set[str] = set()
        self._former: dict[str, float] = {}
        self._look: asyncio.TimerHandle | None = None
        if config.urls:
            self._wanted = {CONFIGURED: config.urls}

    def __repr__(self) -> str:
        return f"<MarathonSource followers={list(self._followers.values())}>"

    @property
    def leaders(self) -> dict[str, str]:
        """Framework id → URL of the leader that is, or was last, followed."""
        return {item.framework_id: item.leader for item in self._followers.values() if item.leader}

    def set_marathons(self, marathons: Mapping[str, Sequence[str]]) -> None:
        """Framework id → URLs of all Marathons that there are now; without effect where `urls` are configured.

        One that is not named any more is no more (the last one: after HOLD). One without a URL is kept as it is.
        """
        if self.config.urls:
            return
        fresh = {name: tuple(urls) for name, urls in marathons.items()}
        if fresh != self._wanted:
            self._wanted = fresh
            self._stir.set()

    async def run(self) -> None:
        """Follow until cancelled. Never raises for faults of the outside."""
        self._hosts.changed = self._book.host_changed
        try:
            await self._book.index()
            while True:
                self._stir.clear()
                await self._arrange()
                await self._tidy()
                self._mark()
                await self._stir.wait()
        finally:
            if self._look is not None:
                self._look.cancel()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await self._hosts.close()

    async def _arrange(self) -> None:
        """One follower for each Marathon that is wanted."""
        wanted = self._wanted or {}
        self._named.update(wanted)
        self._book.kept_hosts = frozenset(host for urls in wanted.values() for url in urls if (host := _host_of(url)))
        for name in [name for name in self._followers if name not in wanted]:
            log.info("a Marathon is no more framework=%s", name)
            task = self._tasks.pop(name)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del self._followers[name]
        for name, urls in wanted.items():
            follower = self._followers.get(name)
            if follower is not None:
                if urls:  # else it is registered, but does not say where: the old URLs may still do
                    follower.set_urls(urls)
                continue
            follower = Follower(
                self.config,
                urls,
                self._book,
                self._hosts,
                self.counters,
                self._complain,
                self._stir.set,
                framework_id=name,
                auth=self._auth,
                timing=self._timing,
                dice=self._dice,
            )
            self._followers[name] = follower
            self._tasks[name] = asyncio.create_task(follower.run(), name=f"marathon {name or 'configured'}")

    async def _tidy(self) -> None:
        """Drop what was said of Marathons that are none of those that there are, once all of these have spoken.

        One that was named and is not any more goes at once; others are held.
        """
        if self._wanted is None or not all(item.synced for item in self._followers.values()) or self._holds():
            return
        known = {item.framework_id for item in self._followers.values()}
        former = self._book.frameworks() - known
        self._former = {name: since for name, since in self._former.items() if name in former}
        for framework_id in former:
            if framework_id not in self._named and await self._is_held(framework_id, known):
                continue
            log.info("what a former Marathon said is dropped framework=%s", framework_id)
            await self._book.drop_framework(framework_id)
            self._former.pop(framework_id, None)
        await self._book.tidy()
        self._look_again()

    async def _is_held(self, framework_id: str, known: set[str]) -> bool:
        """Whether a former framework still serves apps, and not for long.

        Where there is one Marathon only, those do not count that it serves as another framework now.
        """
        left = await self._book.serving(framework_id)
        for name in known if left and self.config.urls else ():
            left -= await self._book.serving(name)
        if not left:
            return False
        now = asyncio.get_running_loop().time()
        if framework_id not in self._former:
            log.warning("what a former Marathon said is held framework=%s apps=%d", framework_id, len(left))
        return now - self._former.setdefault(framework_id, now) < HOLD

    def _look_again(self) -> None:
        """Have looked again whether what is held may go."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._former:
            loop = asyncio.get_running_loop()
            left = min(self._former.values()) + HOLD - loop.time()
            self._look = loop.call_later(max(0.01, min(LOOK, left)), self._stir.set)

    def _holds(self) -> bool:
        """Whether there is no Marathon any more, and that is not so for long."""
        loop = asyncio.get_running_loop()
        if self._followers or not self._book.frameworks():
            self._none_since = None
            return False
        if self._none_since is None:
            self._none_since = loop.time()
            loop.call_later(HOLD, self._stir.set)
        return loop.time() - self._none_since < HOLD

    def _mark(self) -> None:
        """The standing of the source: that of the worst of its Marathons."""
        if self._wanted is None:
            self._publish.mark(connected=False, detail="which frameworks are Marathons is not known yet")
            return
        followers = list(self._followers.values())
        if not followers:
            held = bool(self._book.frameworks())
            detail = f"no framework of the cluster is named {', '.join(self.config.frameworks)}"
            self._publish.mark(connected=not held, synced=None if held else True, detail=detail)
            return
        lost = [item for item in followers if not item.connected]
        detail = "; ".join([item.detail for item in lost or followers])
        if self._former:
            detail += f"; what was said of a former framework is held: {', '.join(sorted(self._former))}"
        synced = all(item.synced for item in followers)
        self._publish.mark(connected=not lost, synced=True if synced else None, detail=detail)


def _host_of(url: str) -> str:
    """The host of a URL; "" when it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
