"""The Mesos source: follow the leading master of a cluster and say what runs there.

Finds the leader through any listed master, subscribes to its event stream (or polls /state where a
master is too old), and starts again, from the next master, when the connection ends. Whatever goes
wrong outside changes nothing that was said; it is logged, counted and shown in the source's standing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from mesos_dns.config import MesosConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.mesos_auth import Authenticator, authenticator
from mesos_dns.sources.mesos_book import Book
from mesos_dns.sources.mesos_calls import V1, Calls, call, settle
from mesos_dns.sources.mesos_chores import Chores
from mesos_dns.sources.mesos_client import UNSUPPORTED, MasterClient, MasterError, base_url, place
from mesos_dns.sources.mesos_ledger import Ledger
from mesos_dns.sources.mesos_poll import Poll
from mesos_dns.sources.mesos_snapshot import Snapshot
from mesos_dns.sources.mesos_stream import EventStream

log = logging.getLogger(__name__)

BACKOFF_FIRST = 0.1
BACKOFF_KNOWN = 3.0
BACKOFF_UNKNOWN = 10.0
STEADY = 5.0
"""Seconds after which a connection counts as good and the back-off starts afresh."""


class MesosSource:
    """Follows one cluster. `counters` are read by the metrics; `run` until cancelled.

    `clock` (monotonic seconds), `dice` and `hosts` can be replaced in tests.
    """

    def __init__(
        self,
        config: MesosConfig,
        publish: Publisher,
        *,
        counters: SourceCounters | None = None,
        hosts: Hosts | None = None,
        auth: Authenticator | None = None,
        clock: Callable[[], float] = time.monotonic,
        dice: random.Random | None = None,
    ) -> None:
        self.config = config
        self.counters = counters or SourceCounters()
        self.leader = ""
        self._publish = publish
        self._hosts = hosts or Hosts()
        self._auth = auth or authenticator(config)
        self._dice = dice or random.Random()
        self._complain = Complaints(log)
        self._book = Book(publish, config.name, self._hosts)
        self._ledger = Ledger(self._book, self.counters, self._complain, config.reregister_timeout, clock)
        self._listed = [base_url(master) for master in config.masters]
        self._masters = tuple(place(base) for base in self._listed)
        self._attempts = 0
        self._good_since = 0.0
        self._reported = ""
        self._host_updates: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Follow the cluster until cancelled. Never raises for faults of the outside."""
        self._hosts.changed = self._host_changed
        try:
            while True:
                await self._pause(await self._session())
        finally:
            await self._hosts.close()
            async with self._ledger.lock:  # a document that is being applied is applied whole, and nothing follows
                pass

    async def _session(self) -> bool:
        """One round through the masters, with TLS files as they are now; True when a master is known."""
        try:
            async with MasterClient(self.config, self._hosts, self.counters, self._auth) as client:
                return await self._round(client)
        except OSError as error:
            self._lost(MasterError("connect", str(error)))
        except Exception as error:
            log.exception("the Mesos source failed and starts again")
            self._lost(MasterError("connect", f"internal error: {error!r}"))
        return False

    async def _pause(self, known: bool) -> None:
        cap = BACKOFF_KNOWN if known else BACKOFF_UNKNOWN
        await asyncio.sleep(self._dice.uniform(0, min(cap, BACKOFF_FIRST * 2 ** min(self._attempts, 10))))
        self._attempts += 1

    async def _round(self, client: MasterClient) -> bool:
        """Try the last leader and the listed masters until one was followed; True when any answered."""
        known = False
        for base in dict.fromkeys([self.leader, *self._listed] if self.leader else self._listed):
            loop = asyncio.get_running_loop()
            self._good_since = 0.0
            try:
                await self._follow(client, base)
            except MasterError as error:
                known = known or error.answered
                self._lost(error)
            if self._good_since:
                if loop.time() - self._good_since >= STEADY:
                    self._attempts = 0
                self.counters.reconnects += 1
                return True
        return known

    async def _follow(self, client: MasterClient, base: str) -> None:
        """Follow the leader that the master at `base` leads to, until that ends in MasterError."""
        try:
            async with client.request(base, V1, call("SUBSCRIBE")) as answer:
                self.counters.connects += 1
                calls = Calls(client, answer.base, self.config, self._ledger, self._hosts)
                chores = Chores(calls, self._ledger, self._book, self.counters, self.config.resync, self._dice)

                async def subscribed(snapshot: Snapshot) -> None:
                    await self._apply(snapshot, answer.base)
                    chores.synced()

                stream = EventStream(answer, self._ledger, self.counters, subscribed, chores.want, self.config.timeout)
                beside = asyncio.create_task(chores.run(self._masters), name="mesos chores")
                beside.add_done_callback(_report)
                try:
                    await stream.run()
                finally:
                    beside.cancel()
        except MasterError as error:
            if error.status not in UNSUPPORTED or error.kind != "status":
                raise
            log.info("no operator API; reading /state instead master=%s status=%d", base, error.status)
            poll = Poll(client, self.config, self._ledger, self._polled, self._dice)
            await poll.run(base)

    async def _polled(self, snapshot: Snapshot, base: str, leader: tuple[str, int]) -> None:
        await self._apply(snapshot, base)
        async with self._ledger.lock:
            self._book.lead(leader, self._masters)
            await self._ledger.expire()

    async def _apply(self, snapshot: Snapshot, base: str) -> None:
        """Make a leader's document the truth."""
        await settle(self._hosts, snapshot)
        began = time.perf_counter()
        await asyncio.shield(self._ledger.apply(snapshot, base))
        self.counters.sync_seconds += time.perf_counter() - began
        self.counters.last_sync_at = time.time()
        if not self._good_since or self.leader != base or self._reported:
            log.info("following the leading master master=%s agents=%d", base, len(snapshot.agents))
        self.leader = base
        self._reported = ""
        self._good_since = self._good_since or asyncio.get_running_loop().time()
        self._publish.mark(connected=True, synced=True, detail=f"following {base}")

    def _lost(self, error: MasterError) -> None:
        """Note why there is no connection; what was said stays."""
        self.counters.errors[error.kind] += 1
        self._publish.mark(connected=False, detail=str(error))
        level = logging.WARNING if str(error) != self._reported else logging.DEBUG
        self._reported = str(error)
        log.log(level, "not connected to a leading master error=%s", error)

    def _host_changed(self, host: str) -> None:
        task = asyncio.get_running_loop().create_task(self._update_host(host))
        self._host_updates.add(task)
        task.add_done_callback(self._host_updates.discard)

    async def _update_host(self, host: str) -> None:
        async with self._ledger.lock:
            self._ledger.host_changed(host)


def _report(task: asyncio.Task[None]) -> None:
    """Log a background task that failed for a reason that is not foreseen."""
    if not task.cancelled() and task.exception() is not None:
        log.error("a background task failed task=%s", task.get_name(), exc_info=task.exception())
