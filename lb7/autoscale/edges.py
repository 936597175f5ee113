"""What all edges see of an app's traffic: the decider's provider of traffic's metrics.

    [autoscale] edges, coordinator edges/ ─▶ KnownEdges ─▶ a feed for each ─▶ windows ─▶ sums ─▶ Reading

Every edge is followed by a task of its own, so that one that hangs costs its own share alone; a reading without it says
that it is `partial`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.demand_measures import TRAFFIC, measured
from lb7.autoscale.demand_window import Sums
from lb7.autoscale.edge_client import EdgeClient, EdgeError
from lb7.autoscale.edge_feed import EdgeFeed
from lb7.autoscale.edge_loads import EdgeLoads, ask, together
from lb7.autoscale.known_edges import PREFIX, KnownEdges
from lb7.autoscale.policy import Kind, Metric
from lb7.autoscale.provider import Loads
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.coordinate import Coordinator, CoordinatorLost
from mesos_dns.hosts import Hosts
from mesos_dns.model import Key

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks at which edges there are."""
NAMED = 5
"""Edges that an error names at most."""
SAME = 0.05
"""Seconds in which what was found out is taken for what is."""
ASKED = 32
"""Edges whose routes are asked for at once."""


class _Standing(msgspec.Struct):
    """How the edges are at one time (the loop's): those that tell, each once, and the age of the oldest of what they
    told; what is missing, and why; the traffic of apps that were asked for, as `EdgesDemand._traffic` has it."""

    at: float
    live: list[EdgeFeed]
    missing: list[str]
    oldest: float
    traffic: dict[Key, tuple[Sums | None, list[str], bool]]


class EdgesDemand:
    """See the module: `run` until cancelled; all else from memory, but `loads`. `woken` hears of an app at once when
    requests begin to wait for it. The hosts stay the caller's.

    `reads` counts blocks, `failures` connections that were lost or not made, by what was wrong.
    """

    kinds: frozenset[Kind] = TRAFFIC

    def __init__(
        self,
        config: AutoscaleConfig,
        coordinator: Coordinator | None,
        hosts: Hosts,
        woken: Callable[[Key], None],
    ) -> None:
        self._config, self._coordinator, self._hosts, self._woken = config, coordinator, hosts, woken
        self._known = KnownEdges(config.edges, heard=coordinator is None)
        self._feeds: dict[str, EdgeFeed] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended_blocks = 0
        self._ended_failures: Counter[str] = Counter()
        self._asking = asyncio.Semaphore(ASKED)
        self._known_standing: _Standing | None = None

    def __repr__(self) -> str:
        return (
            f"<EdgesDemand edges={len(self._feeds)} connected={sum(feed.connected for feed in self._feeds.values())}>"
        )

    @property
    def reads(self) -> int:
        """Blocks that were told."""
        return self._ended_blocks + sum(feed.blocks for feed in self._feeds.values())

    @property
    def failures(self) -> Counter[str]:
        """Connections that could not be made, or were lost, by what was wrong."""
        return sum((feed.failures for feed in self._feeds.values()), self._ended_failures)

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        """Edges tell of all apps, whatever is wanted."""

    async def run(self) -> None:
        """Follow all edges until cancelled."""
        hearing = asyncio.create_task(self._hear(), name="pharos-autoscale-edges")
        try:
            while True:
                self._known.look(asyncio.get_running_loop().time())
                await self._follow_known()
                await asyncio.sleep(LOOK_EVERY)
        finally:
            tasks = [hearing, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.clear()

    def reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        """See provider.Provider."""
        there = self._standing()
        sums, beside, routed = self._traffic(there, app.key)
        missing = there.missing + beside if beside else there.missing
        if sums is None:
            return Reading(at=now, partial=bool(missing), error=self._no_reading(missing, bool(there.live), routed))
        return Reading(at=now - there.oldest, value=measured(sums, metric.kind), partial=bool(missing))

    def held(self, app: ScaledApp) -> int:
        """See provider.Demand: of edges that are connected."""
        return sum(feed.window.held(app.key) for feed in self._standing().live)

    async def loads(self, app: ScaledApp) -> Loads:
        """See provider.Demand."""
        there = self._standing()
        feeds, missing = there.live, there.missing
        asked = [self._ask(feed, routed) for feed in feeds if (routed := feed.window.routed_as(app.key))]
        told = await asyncio.gather(*asked, return_exceptions=True)
        answers = [each for each in told if not isinstance(each, BaseException)]
        for each in told:
            if isinstance(each, BaseException) and not isinstance(each, EdgeError):
                log.error("an edge could not be asked for its routes app=%s", app.app.id, exc_info=each)
        return together(answers, not missing and bool(feeds) and len(answers) == len(told))

    async def _ask(self, feed: EdgeFeed, routed: set[str]) -> EdgeLoads:
        async with self._asking:
            return await ask(feed.client, routed)

    def status(self) -> list[dict[str, Any]]:
        """Each edge, for people: `url`, `edge` (which one it is), `state` and `age` (seconds since it told anything;
        None: never); `error` where it is lost."""
        found: list[dict[str, Any]] = []
        for url in self._known.urls:
            feed = self._feeds.get(url)
            if feed is None:
                found.append({"url": url, "edge": "", "state": "lost", "age": None})
                continue
            age = round(feed.age, 3) if feed.blocks else None
            row = {"url": url, "edge": feed.window.edge, "state": feed.state, "age": age}
            found.append(row if feed.connected else {**row, "error": feed.error})
        for name, text in self._known.unreadable.items():
            found.append({"url": name, "edge": "", "state": "unreadable", "age": None, "error": text})
        return found

    # --- which edges ---

    def _standing(self) -> _Standing:
        """How the edges are now, or were a moment ago: thousands of apps are read in one go."""
        now = asyncio.get_running_loop().time()
        known = self._known_standing
        if known is None or now - known.at > SAME:
            live = self._live()
            oldest = max((feed.age for feed in live), default=0.0)
            known = self._known_standing = _Standing(now, live, self._missing(), oldest, {})
        return known

    def _traffic(self, there: _Standing, key: Key) -> tuple[Sums | None, list[str], bool]:
        """An app's traffic; the edges that route it and know too little of it; whether any routes it."""
        if (found := there.traffic.get(key)) is not None:
            return found
        whole: Sums | None = None
        beside: list[str] = []
        routed = False
        for feed in there.live:
            sums = feed.window.sums(key)
            if sums is None:
                continue
            routed = True
            if not feed.window.ready:
                beside.append(f"{feed.client.url}: connected a moment ago")
            elif whole is None:
                whole = sums
            else:
                whole.add(sums)
        there.traffic[key] = whole, beside, routed
        return there.traffic[key]

    def _wake(self, key: Key) -> None:
        """Requests begin to wait for an app: who hears it asks at once how many."""
        self._known_standing = None
        self._woken(key)

    def _live(self) -> list[EdgeFeed]:
        """Those that tell now, each edge once however many URLs lead to it."""
        found: dict[str, EdgeFeed] = {}
        for feed in self._feeds.values():
            if feed.connected:
                found.setdefault(feed.window.epoch, feed)
        return list(found.values())

    def _missing(self) -> list[str]:
        """What is known of and does not tell, and why."""
        live = {feed.window.edge for feed in self._feeds.values() if feed.connected}
        missing = [f"{name}: {text}" for name, text in self._known.unreadable.items()]
        for url in self._known.urls:
            feed = self._feeds.get(url)
            if feed is None:
                missing.append(f"{url}: not asked yet")
            elif not feed.connected and feed.window.edge not in live:
                missing.append(f"{url}: {feed.error}")
        if self._known.left_out:
            missing.append(f"{self._known.left_out} edges more than can be followed")
        if not self._known.heard:
            missing.append("the coordinator has not told yet which edges there are")
        return missing

    def _no_reading(self, missing: list[str], live: bool, routed: bool) -> str:
        """Why there is none."""
        if not self._known.urls and not missing:
            return "no edge is known: set [autoscale] edges, or run edges with [api] and the same [zookeeper]"
        if not live or routed:
            return f"no edge tells: {_some(missing)}"
        beside = f"; and nothing is known of others: {_some(missing)}" if missing else ""
        return f"no edge routes it: is HAPROXY_GROUP set, to a group that edges have?{beside}"

    async def _follow_known(self) -> None:
        urls = self._known.urls
        for url in [url for url in self._tasks if url not in urls]:
            task, feed = self._tasks.pop(url), self._feeds.pop(url)
            self._ended_blocks += feed.blocks
            self._ended_failures += feed.failures
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            log.info("an edge is gone edge=%s", url)
        for url in urls:
            if url not in self._tasks:
                client = EdgeClient(url, self._config, self._hosts, named=self._known.is_named(url))
                feed = self._feeds[url] = EdgeFeed(client, float(self._config.window), self._wake)
                self._tasks[url] = asyncio.create_task(feed.run(), name=f"pharos-edge {url}")

    async def _hear(self) -> None:
        """Keep up with the coordinator; while it is lost, the edges stay."""
        complaint = ""
        while self._coordinator is not None:
            try:
                async for values in self._coordinator.watch(PREFIX):
                    self._known.told(values, asyncio.get_running_loop().time())
            except CoordinatorLost as error:
                log.debug("edges in the coordinator are not known now reason=%s", error)
            except Exception as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.exception("edges in the coordinator can't be looked at")
            await asyncio.sleep(1)


def _some(texts: list[str]) -> str:
    more = f"; and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return "; ".join(texts[:NAMED]) + more
