"""The serversets source: registrations in ZooKeeper as tasks of frameworks of their own.

Aurora's announcer and Finagle services register as `member_N` znodes, SmartStack's Nerve as
`INSTANCE_N`; every folder below a configured root that holds such znodes is a set of one name
(`serverset_member.place_of`). The znodes are ephemeral: what is gone from ZooKeeper is gone.

Two things are not taken for news of the services:

- ZooKeeper is away: what it last said stays, and is read again when it is back.
- Our own session has ended, or a root is not there any more: then other sessions may have ended for
  the same reason, and their owners need a moment to register again. Members that vanish within
  `hold` of that stay until `hold` is over, or until the same endpoint is registered anew.

A registration that can't be read keeps what it last said well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TypeAlias

import msgspec

from mesos_dns.config import ServersetsConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import Framework, Key, Task
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.pace import Pace
from mesos_dns.sources.serverset_member import MEMBER_NAME, Member, decode, place_of, task_of
from mesos_dns.zookeeper import Session, Stat
from mesos_dns.zookeeper_tree import Kind, Tree

log = logging.getLogger(__name__)

_Endpoint: TypeAlias = tuple[tuple[str, str], str, int]

SETTLE = 2.0
"""Seconds that the first picture waits for the first answers about host names."""


class _Seen(msgspec.Struct, frozen=True):
    """A registration that was read: the member, its name and framework, and when it registered."""

    member: Member
    place: tuple[str, str]
    start_time: float

    @property
    def endpoint(self) -> _Endpoint:
        """What stays the same when a service registers anew."""
        return self.place, self.member.host, self.member.port


class _Root:
    """Reads the tree below one root for the source."""

    def __init__(self, source: ServersetsSource, session: Session, path: str, suffix: str) -> None:
        self.path = path
        self.suffix = suffix
        self.completed = False
        self._source = source
        self.tree = Tree(session, path, self, source.complain, limit=source.config.max_members)

    def kind(self, parent: str, name: str) -> Kind:
        """Sequential znodes are members; Finagle's weights are passed over; the rest is looked into."""
        if MEMBER_NAME.fullmatch(name):
            return Kind.LEAF
        return Kind.IGNORED if name.startswith("vector_") else Kind.BRANCH

    def leaf(self, path: str, data: bytes, stat: Stat) -> None:
        """A member, new or changed. Without data it is about to get some."""
        if data:
            place = place_of(self.path, self.suffix, path.rpartition("/")[0])
            self._source.read(path, place, data, stat.ctime / 1000)

    def gone(self, path: str) -> None:
        """A member's session has ended."""
        self._source.vanished(path, held=not self.tree.present)

    def complete(self) -> None:
        """Everything below the root was read."""
        self.completed = True
        self._source.completed()


class ServersetsSource:
    """See the module. `run` until cancelled; the session stays the caller's."""

    def __init__(
        self,
        config: ServersetsConfig,
        publish: Publisher,
        session: Session,
        *,
        hosts: Hosts | None = None,
        counters: SourceCounters | None = None,
    ) -> None:
        self.config = config
        self.counters = counters or SourceCounters()
        self.complain = Complaints(log)
        self._publish = publish
        self._session = session
        self._hosts = hosts or Hosts()
        self._roots = [_Root(self, session, path.rstrip("/"), suffix) for path, suffix in config.roots.items()]
        self._seen: dict[str, _Seen] = {}
        self._said: dict[str, Key] = {}
        self._members_of: Counter[str] = Counter()
        self._users: dict[str, set[str]] = {}
        self._held: dict[str, float] = {}
        self._held_at: dict[_Endpoint, set[str]] = {}
        self._hold_until = 0.0
        self._expirations = session.expirations
        self._wake = asyncio.Event()
        self._first: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ServersetsSource roots={[root.path for root in self._roots]} members={len(self._seen)}>"

    async def run(self) -> None:
        """Follow the registrations until cancelled. Never raises for faults of the outside."""
        self._hosts.changed = self._host_changed
        self._session.attach(self)
        for root in self._roots:
            root.tree.start()
        self._mark()
        try:
            while True:
                await self._until_due()
                self._expire()
        finally:
            self._session.detach(self)
            for root in self._roots:
                await root.tree.close()
            if self._first is not None:
                self._first.cancel()
            await self._hosts.close()

    # --- the session ---------------------------------------------------------------------------------

    def touched(self, path: str) -> None:
        """The trees look after that."""

    def state_changed(self) -> None:
        """A new session begins a time in which those who vanish are held."""
        if self._session.connected and self._session.expirations != self._expirations:
            self._expirations = self._session.expirations
            self._hold_until = time.monotonic() + self.config.hold
            self.counters.reconnects += 1
        self._mark()

    def _mark(self, synced: bool | None = None) -> None:
        missing = [root.path or "/" for root in self._roots if root.completed and not root.tree.present]
        detail = f"ZooKeeper: {self._session.failure}" if self._session.failure else ""
        if not detail and missing:
            detail = f"ZooKeeper has no {', '.join(missing)}"
        self._publish.mark(connected=self._session.connected, synced=synced, detail=detail)

    # --- what the trees find -------------------------------------------------------------------------

    def read(self, path: str, place: tuple[str, str], data: bytes, start_time: float) -> None:
        """A registration is there, or says something else."""
        self.counters.bytes += len(data)
        self.counters.last_event_at = time.time()
        try:
            member, left_out = decode(data)
        except ValueError as error:
            self.counters.malformed += 1
            self.complain(f"serversets: {path} is left out: {error}")
            return
        for fault in left_out:
            self.counters.skipped_fields += 1
            self.complain(f"serversets: of {path} is left out: {fault}")
        self.counters.events["changed" if path in self._seen else "registered"] += 1
        seen = _Seen(member, place, start_time)
        if path in self._held and self._seen[path].endpoint != seen.endpoint:
            self._set_aside(path)
        self._release(path)
        self._let_go(path)
        self._seen[path] = seen
        self._users.setdefault(member.host, set()).add(path)
        self._say(path)
        for other in list(self._held_at.get(seen.endpoint, ())):  # it registered anew: the old one is over
            self._drop(other)

    def vanished(self, path: str, *, held: bool) -> None:
        """A registration is no more. `held`: it may come back, as its whole root is away."""
        if path not in self._seen:
            return
        self.counters.events["vanished"] += 1
        self.counters.last_event_at = time.time()
        now = time.monotonic()
        until = max(self._hold_until, now + self.config.hold if held else 0.0)
        if until > now:
            self._hold(path, until)
        else:
            self._drop(path)

    def completed(self) -> None:
        """A root was read whole; with the last one, what an earlier process said and is no more can go."""
        self.counters.syncs += 1
        self.counters.last_sync_at = time.time()
        self._mark()
        if self._first is None and all(root.completed for root in self._roots):
            self._first = asyncio.create_task(self._finish_first(), name="serversets first picture")

    async def _finish_first(self) -> None:
        await self._hosts.settle(sorted(self._users), SETTLE)
        waiting = {
            ("task", self.config.name, seen.place[1], path)
            for path, seen in self._seen.items()
            if path not in self._said
        }
        current, frameworks = {*self._said.values(), *waiting}, {key[2] for key in waiting}
        pace = Pace()
        for key in list(self._publish.said()):
            known = key in current if key[0] == "task" else self._members_of[key[2]] or key[2] in frameworks
            if not known:
                self._publish.drop(key)
            await pace.turn()
        self._mark(synced=True)
        log.info("serversets read members=%d frameworks=%d", len(self._seen), len(self._members_of))

    # --- saying it -----------------------------------------------------------------------------------

    def _say(self, path: str) -> None:
        """Publish a member, as soon as its host name was looked up once."""
        seen = self._seen[path]
        addresses = self._hosts.lookup(seen.member.host)
        if addresses is None and (addresses := self._known_before(path, seen)) is None:
            return  # `_host_changed` comes back to it
        task = task_of(seen.member, path, seen.place, addresses, seen.start_time, self.config.name)
        if path not in self._said:
            self._members_of[task.framework_id] += 1
            if self._members_of[task.framework_id] == 1:
                self._publish.put(Framework(task.framework_id, task.framework_id, cluster=self.config.name))
            self._said[path] = task.key
        self._publish.put(task)

    def _known_before(self, path: str, seen: _Seen) -> tuple[str, ...] | None:
        """The addresses that were said of this registration's endpoint, by an earlier process perhaps."""
        before = self._publish.said().get(("task", self.config.name, seen.place[1], path))
        if not isinstance(before, Task) or ("endpoint", f"{seen.member.host}:{seen.member.port}") not in before.labels:
            return None
        return before.networks[0].addresses if before.networks else None

    def _host_changed(self, host: str) -> None:
        for path in list(self._users.get(host, ())):
            self._say(path)

    def _release(self, path: str) -> None:
        """A registration no longer needs its host's addresses."""
        seen = self._seen.get(path)
        if seen is None:
            return
        users = self._users.get(seen.member.host, set())
        users.discard(path)
        if not users:
            self._users.pop(seen.member.host, None)
            self._hosts.forget(seen.member.host)

    def _drop(self, path: str) -> None:
        self._let_go(path)
        self._release(path)
        del self._seen[path]
        key = self._said.pop(path, None)
        if key is None:
            return
        self._publish.drop(key)
        self._members_of[key[2]] -= 1
        if not self._members_of[key[2]]:
            del self._members_of[key[2]]
            self._publish.drop(("framework", self.config.name, key[2]))

    # --- those who are held --------------------------------------------------------------------------

    def _set_aside(self, path: str) -> None:
        """A held member's znode name was given to another one (numbers start anew in an ensemble that lost all)."""
        until, seen, aside = self._held[path], self._seen[path], f"held:{path}"
        self._seen[aside] = seen
        self._users[seen.member.host].add(aside)
        self._say(aside)
        self._drop(path)
        self._hold(aside, until)

    def _hold(self, path: str, until: float) -> None:
        self._held[path] = until
        self._held_at.setdefault(self._seen[path].endpoint, set()).add(path)
        self.counters.held_tasks = len(self._held)
        self._wake.set()

    def _let_go(self, path: str) -> None:
        """A member is no longer held: it is back, or over."""
        if self._held.pop(path, None) is None:
            return
        self.counters.held_tasks = len(self._held)
        endpoint = self._seen[path].endpoint
        self._held_at[endpoint].discard(path)
        if not self._held_at[endpoint]:
            del self._held_at[endpoint]

    async def _until_due(self) -> None:
        """Until the next held member's time is over, or others are held."""
        self._wake.clear()
        wait = min(self._held.values()) - time.monotonic() if self._held else None
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _expire(self) -> None:
        now = time.monotonic()
        over = [path for path, until in self._held.items() if until <= now]
        for path in over:
            self._drop(path)
        if over:
            log.warning("serversets: members that did not register again are dropped members=%d", len(over))
