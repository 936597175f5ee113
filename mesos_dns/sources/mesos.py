"""The Mesos source: follow the leading master of a cluster and say what runs there.

Finds the leader through ZooKeeper or any listed master, subscribes to its event stream (or polls
/state where a master is too old), and starts again, from the next master, when the connection ends.
When ZooKeeper names another leader, that one is followed at once. Whatever goes wrong outside changes
nothing that was said; it is logged, counted and shown in the source's standing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine

from mesos_dns.config import MesosConfig, host_port_text
from mesos_dns.hosts import Hosts
from mesos_dns.model import Leadership
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.mesos_auth import Authenticator, authenticator
from mesos_dns.sources.mesos_book import Book
from mesos_dns.sources.mesos_calls import V1, Calls, call, settle
from mesos_dns.sources.mesos_chores import Chores
from mesos_dns.sources.mesos_client import UNSUPPORTED, MasterClient, MasterError, base_url, place
from mesos_dns.sources.mesos_ledger import Ledger
from mesos_dns.sources.mesos_masters import MasterGroup, SeenMaster
from mesos_dns.sources.mesos_poll import Poll
from mesos_dns.sources.mesos_snapshot import Snapshot
from mesos_dns.sources.mesos_stream import EventStream
from mesos_dns.zookeeper import Session

log = logging.getLogger(__name__)

BACKOFF_FIRST = 0.1
BACKOFF_KNOWN = 3.0
BACKOFF_UNKNOWN = 10.0
STEADY = 5.0
"""Seconds after which a connection counts as good and the back-off starts afresh."""


class MesosSource:
    """Follows one cluster. `counters` are read by the metrics; `run` until cancelled.

    `zookeeper` is a session and the path of the masters' election in it; it stays the caller's.
    `clock` (monotonic seconds), `dice` and `hosts` can be replaced in tests.
    """

    def __init__(
        self,
        config: MesosConfig,
        publish: Publisher,
        *,
        zookeeper: tuple[Session, str] | None = None,
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
        self._listed = [base_url(master, config.scheme) for master in config.masters]
        self._group: MasterGroup | None = None
        if zookeeper is not None:
            self._group = MasterGroup(*zookeeper, self._group_changed, self._complain)
        self._following = ""
        self._moved = asyncio.Event()
        self._attempts = 0
        self._good_since = 0.0
        self._reported = ""
        self._updates: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Follow the cluster until cancelled. Never raises for faults of the outside."""
        self._hosts.changed = lambda host: self._update(lambda: self._ledger.host_changed(host))
        if self._group is not None:
            self._group.start()
        try:
            while True:
                await self._pause(await self._session())
        finally:
            if self._group is not None:
                await self._group.close()
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
        """Wait before the next round, unless ZooKeeper names another leader meanwhile."""
        cap = BACKOFF_KNOWN if known else BACKOFF_UNKNOWN
        try:
            async with asyncio.timeout(self._dice.uniform(0, min(cap, BACKOFF_FIRST * 2 ** min(self._attempts, 10)))):
                await self._moved.wait()
            self._attempts = 0
        except TimeoutError:
            self._attempts += 1

    def _candidates(self) -> list[str]:
        """Where to look for the leader: first whom ZooKeeper names, then the last one, then all that are known.

        The last one is no candidate while ZooKeeper is there and names another: it may still answer as if it led.
        While ZooKeeper is the only way to find masters and does not answer, those that were said before are tried.
        """
        named = [base] if (base := self._named_base()) else []
        last = [self.leader] if self.leader and self._word(None) is None else []
        others = [self._base_of(master) for master in self._unlisted()]
        found = [*named, *last, *self._listed, *others]
        if not found and self._group is not None:
            said = self._book.said().get(("leadership", self.config.name))
            if isinstance(said, Leadership):
                known = [said.leader, *said.masters] if said.leader is not None else [*said.masters]
                found = [base_url(host_port_text(at.address, at.port), self.config.scheme) for at in known]
        return list(dict.fromkeys(found))

    def _word(self, told: tuple[str, int] | None) -> tuple[str, int] | None:
        """Who leads: whom ZooKeeper names while it is there, else whom a master has `told`."""
        named = self._named
        if named is None or self._group is None or not self._group.session.connected:
            return told
        return named.host, named.port

    def _lead(self, told: tuple[str, int] | None) -> None:
        """Say who leads and which masters there are (under the ledger's lock)."""
        self._book.lead(self._word(told), self._masters())

    @property
    def _named(self) -> SeenMaster | None:
        """The leader that ZooKeeper named last."""
        return self._group.leader if self._group is not None else None

    def _named_base(self) -> str:
        """Its URL; "" when there is none."""
        return self._base_of(self._named) if self._named is not None else ""

    def _base_of(self, seen: SeenMaster) -> str:
        """A registered master's URL: by address, or by name where a certificate must fit."""
        secure = self.config.scheme == "https"
        host = (seen.hostname or seen.address) if secure else seen.host
        return base_url(host_port_text(host, seen.port), self.config.scheme)

    def _masters(self) -> tuple[tuple[str, int], ...]:
        """All masters: those listed in their order, then those that only ZooKeeper names."""
        return (*map(place, self._listed), *((master.host, master.port) for master in self._unlisted()))

    def _unlisted(self) -> list[SeenMaster]:
        """Masters that ZooKeeper alone names."""
        listed = [place(base) for base in self._listed]
        seen = self._group.masters if self._group is not None else ()
        return [master for master in seen if not self._is_any(master, listed)]

    def _is_any(self, master: SeenMaster, places: list[tuple[str, int]]) -> bool:
        """True when one of the places is this master's, as far as names are resolved."""
        for host, port in places:
            if port == master.port and (
                host in (master.address, master.hostname) or master.address in (self._hosts.lookup(host) or ())
            ):
                return True
        return False

    def _group_changed(self, moved: bool) -> None:
        """ZooKeeper knows of other masters, or (`moved`) names another leader: say so, and follow that one."""
        self._update(lambda: self._lead(self._book.leader))
        if moved and (named := self._named) is not None:
            at = [place(self._following)] if self._following else []
            if self._following and self._book.leader is not None:
                at.append(self._book.leader)
            if not self._is_any(named, at):
                self._moved.set()

    async def _round(self, client: MasterClient) -> bool:
        """Try the candidates until one was followed; True when any answered."""
        known = False
        self._moved.clear()
        candidates = self._candidates()
        if not candidates and self._group is not None:
            self._lost(MasterError("connect", self._group.failure or "no master is known"))
        for base in candidates:
            loop = asyncio.get_running_loop()
            self._good_since = 0.0
            try:
                await self._until_moved(self._follow(client, base))
            except MasterError as error:
                known = known or error.answered
                self._lost(error)
            if self._good_since:
                if loop.time() - self._good_since >= STEADY:
                    self._attempts = 0
                self.counters.reconnects += 1
                return True
            if self._moved.is_set() or (known and base == self._named_base()):
                return True  # whom ZooKeeper names and who answers is the leader, ready or not
        return known

    async def _until_moved(self, work: Coroutine[None, None, None]) -> None:
        """Follow until that ends in MasterError, or until ZooKeeper names another leader, which is one too."""
        following = asyncio.create_task(work, name="mesos follow")
        moved = asyncio.create_task(self._moved.wait(), name="mesos moved")
        try:
            await asyncio.wait([following, moved], return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            raise MasterError("moved", "ZooKeeper names another leader")
        finally:
            self._following = ""
            for task in (following, moved):
                task.cancel()
            await asyncio.gather(following, moved, return_exceptions=True)

    async def _follow(self, client: MasterClient, base: str) -> None:
        """Follow the leader that the master at `base` leads to, until that ends in MasterError."""
        try:
            async with client.request(base, V1, call("SUBSCRIBE")) as answer:
                self.counters.connects += 1
                self._following = answer.base
                calls = Calls(client, answer.base, self.config, self._ledger, self._hosts)
                chores = Chores(calls, self._ledger, self._book, self.counters, self.config.resync, self._dice)

                async def subscribed(snapshot: Snapshot) -> None:
                    await self._apply(snapshot, answer.base)
                    chores.synced()

                stream = EventStream(answer, self._ledger, self.counters, subscribed, chores.want, self.config.timeout)
                beside = asyncio.create_task(chores.run(self._lead), name="mesos chores")
                beside.add_done_callback(_report)
                try:
                    await stream.run()
                finally:
                    beside.cancel()
        except MasterError as error:
            if error.status not in UNSUPPORTED or error.kind != "status":
                raise
            log.info("no operator API; reading /state instead master=%s status=%d", base, error.status)
            self._following = base
            poll = Poll(client, self.config, self._ledger, self._polled, self._dice)
            await poll.run(base)

    async def _polled(self, snapshot: Snapshot, base: str, leader: tuple[str, int]) -> None:
        await self._apply(snapshot, base)
        async with self._ledger.lock:
            self._lead(leader)
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

    def _update(self, change: Callable[[], None]) -> None:
        """Change the book as soon as nothing else is changing it."""
        task = asyncio.get_running_loop().create_task(self._updated(change))
        self._updates.add(task)
        task.add_done_callback(self._updates.discard)

    async def _updated(self, change: Callable[[], None]) -> None:
        async with self._ledger.lock:
            change()


def _report(task: asyncio.Task[None]) -> None:
    """Log a background task that failed for a reason that is not foreseen."""
    if not task.cancelled() and task.exception() is not None:
        log.error("a background task failed task=%s", task.get_name(), exc_info=task.exception())
