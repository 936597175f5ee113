"""What each event and each document of a Mesos master means for what is said of its cluster.

No I/O: events and documents go in, calls of the publisher come out, so recordings replay without
sockets. The rules (each seen with a real master):

- TASK_ADDED inserts or replaces; TASK_UPDATED changes a task that is known. The event's `state` is
  the truth. A task goes with a terminal state, never because its agent or framework was removed.
- An agent's removal or loss is not always told: such events ask the caller to read the agents (or
  everything) again, see `Want`.
- A snapshot of a fresh leader lacks agents that have not registered again: they and their tasks
  are held (`mesos_holds`), as are all known agents when a snapshot has none at all.
- An event that arrives while a document is being read wins over it.

`lock` must be held around `event`, `expire` and `host_changed`; `apply` takes it itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from enum import Flag, auto

from mesos_dns.model import Entity, Key, Sync, Task
from mesos_dns.sources import mesos_decode as v1
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.mesos_book import Book
from mesos_dns.sources.mesos_holds import Holds
from mesos_dns.sources.mesos_snapshot import Snapshot
from mesos_dns.sources.mesos_tolerant import Malformed
from mesos_dns.sources.mesos_wire import TERMINAL
from mesos_dns.sources.pace import Pace

EVERYTHING = frozenset({"task", "node", "framework"})

_VANISHED = frozenset({"TASK_UNREACHABLE", "TASK_LOST", "TASK_GONE_BY_OPERATOR"})


class Want(Flag):
    """What an event makes necessary to read again, soon."""

    NOTHING = 0
    AGENTS = auto()
    SCHEDULERS = auto()
    EVERYTHING = auto()


class Ledger:
    """See the module. `clock` is monotonic seconds."""

    def __init__(
        self,
        book: Book,
        counters: SourceCounters,
        complain: Complaints,
        reregister_timeout: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lock = asyncio.Lock()
        self.holds = Holds(reregister_timeout)
        self._book = book
        self._counters = counters
        self._complain = complain
        self._clock = clock
        self._indexed = False
        self._handlers: dict[str, Callable[[v1.Event], Want]] = {
            "TASK_ADDED": self._task_added,
            "TASK_UPDATED": self._task_updated,
            "AGENT_ADDED": self._agent_added,
            "AGENT_REMOVED": self._agent_removed,
            "FRAMEWORK_ADDED": self._framework_seen,
            "FRAMEWORK_UPDATED": self._framework_seen,
            "FRAMEWORK_REMOVED": self._framework_removed,
        }

    def begin(self, kinds: frozenset[str] = EVERYTHING) -> Snapshot:
        """Start to collect a document that tells everything of `kinds`; `end` or `apply` it."""
        snapshot = Snapshot(kinds, self._book.cluster, self._book.said(), self._counters, self._complain)
        self._book.reads.append(snapshot.touched)
        return snapshot

    def end(self, snapshot: Snapshot) -> None:
        """Stop noting events for a document (also one that was thrown away)."""
        self._book.reads = [read for read in self._book.reads if read is not snapshot.touched]

    # --- events

    def event(self, data: bytes) -> Want:
        """One record of the stream that is not SUBSCRIBED. What can't be read is skipped and counted."""
        kind = v1.event_type(data)
        if not kind:
            self._counters.malformed += 1
            self._complain(f"a record of the event stream is not valid JSON and is skipped: {data[:120]!r}")
            return Want.NOTHING
        self._counters.last_event_at = time.time()
        handler = self._handlers.get(kind)
        self._counters.events[kind if handler is not None or kind == "HEARTBEAT" else "other"] += 1
        if handler is None:
            return Want.NOTHING
        try:
            return handler(v1.decode(v1.event_decoder, data, v1.Event, self._lost))
        except Malformed as error:
            self._counters.malformed += 1
            self._counters.skipped_entities += 1
            self._complain(f"a malformed {kind} is skipped: {error}")
            return Want.NOTHING

    def _lost(self, who: str, parts: list[str]) -> None:
        self._counters.skipped_fields += len(parts)
        self._complain(f"a part of what Mesos says is malformed and left out {who} {'; '.join(parts)}")

    def _task_added(self, event: v1.Event) -> Want:
        if event.task_added is None:
            raise Malformed("task_added: missing or malformed")
        task = v1.task(event.task_added.task, self._book.cluster, self._lost)
        self.holds.seen(task.node_id, task.key)
        if task.state in TERMINAL:
            self._book.drop_task(task.key)
        else:
            self._book.put_task(v1.inherit(task, self._book.task(task.framework_id, task.id)))
        return Want.NOTHING

    def _task_updated(self, event: v1.Event) -> Want:
        update = event.task_updated
        if update is None:
            raise Malformed("task_updated: missing or malformed")
        before = self._book.task(update.framework_id.value, update.status.task_id.value)
        if before is None:
            self._counters.unknown_tasks += 1
            return Want.NOTHING
        self.holds.seen(before.node_id, before.key)
        state = update.state or update.status.state
        if state in TERMINAL:
            self._book.drop_task(before.key)
        else:
            self._book.put_task(v1.updated(before, update))
        return Want.AGENTS if state in _VANISHED and before.node_id in self._book.nodes else Want.NOTHING

    def _agent_added(self, event: v1.Event) -> Want:
        if event.agent_added is None:
            raise Malformed("agent_added: missing or malformed")
        agent = v1.agent(event.agent_added.agent)
        self._book.put_agent(agent)
        self._release(agent.id)
        return Want.NOTHING

    def _agent_removed(self, event: v1.Event) -> Want:
        if event.agent_removed is None:
            raise Malformed("agent_removed: missing or malformed")
        agent_id = event.agent_removed.agent_id.value
        if agent_id in self._book.nodes:
            self._book.leaving_nodes.add(agent_id)
        self._release(agent_id)
        return self._leave(agent_id)

    def _leave(self, agent_id: str) -> Want:
        """Drop a leaving agent unless tasks are left that only the master can tell about."""
        if agent_id not in self._book.nodes:
            return Want.NOTHING
        if agent_id in self._book.node_tasks:
            return Want.EVERYTHING
        self._book.drop_node(agent_id)
        return Want.NOTHING

    def _release(self, agent_id: str) -> None:
        for key in self.holds.release(agent_id) or ():
            self._book.drop_task(key)
        self._counters.held_agents = len(self.holds)

    def _framework_seen(self, event: v1.Event) -> Want:
        member = event.framework_added or event.framework_updated
        if member is None:
            raise Malformed("framework: missing or malformed")
        framework = v1.framework(member.framework)
        self.holds.release_framework(framework.id)
        self._book.put_framework(framework)
        return Want.SCHEDULERS

    def _framework_removed(self, event: v1.Event) -> Want:
        if event.framework_removed is None:
            raise Malformed("framework_removed: missing or malformed")
        framework_id = event.framework_removed.framework_info.id.value
        self.holds.release_framework(framework_id)
        if self._book.framework_tasks.get(framework_id):
            self._book.deactivate_framework(framework_id)
            return Want.EVERYTHING
        self._book.drop_framework(framework_id)
        return Want.NOTHING

    async def expire(self) -> Want:
        """End the holds whose time is over, which may be those of a whole cluster at once."""
        agents, frameworks = self.holds.due(self._clock())
        want, pace = Want.NOTHING, Pace()
        for agent_id in agents:
            self._complain(
                f"an agent did not register with the new leader in time; its tasks are dropped agent={agent_id}"
            )
            if agent_id in self._book.nodes:
                self._book.leaving_nodes.add(agent_id)
            self._release(agent_id)
            want |= self._leave(agent_id)
            await pace.turn()
        for framework_id in frameworks:
            if not self._book.framework_tasks.get(framework_id):
                self._book.drop_framework(framework_id)
        return want

    def host_changed(self, host: str) -> None:
        """A host name that is in use has other addresses."""
        self._book.host_changed(host)

    # --- documents

    async def apply(self, snapshot: Snapshot, leader: str = "") -> Want:
        """Make a complete document the truth, through one Sync. `leader` names the master that told it."""
        async with self.lock:
            try:
                return await self._apply(snapshot, leader)
            finally:
                self.end(snapshot)

    async def _apply(self, snapshot: Snapshot, leader: str) -> Want:
        if not self._indexed:
            await self._book.index()
        want = Want.NOTHING
        changed: list[Entity] = []
        kept = snapshot.kept
        if "node" in snapshot.kinds:
            await self._hold_agents(snapshot, leader)
            want |= await self._sync_nodes(snapshot, changed, kept)
        in_use = await self._sync_tasks(snapshot, kept) if "task" in snapshot.kinds else self._book.framework_tasks
        if "framework" in snapshot.kinds:
            self._sync_frameworks(snapshot, in_use, changed, kept)
        await asyncio.sleep(0)  # each of these lines takes some milliseconds with 100,000 tasks
        changed += [task for key, task in snapshot.tasks.items() if key not in snapshot.touched]
        said = self._book.said()
        kept.update(key for key in snapshot.touched if key in said)
        await asyncio.sleep(0)
        change = Sync(tuple(changed), frozenset(kept), snapshot.kinds)
        await asyncio.sleep(0)
        self._indexed = False
        await self._book.sync(change)
        await self._book.index()
        self._indexed = True
        self._book.forget_hosts(snapshot.hosts())
        self._counters.syncs += 1
        self._counters.held_agents = len(self.holds)
        return want

    async def _hold_agents(self, snapshot: Snapshot, leader: str) -> None:
        """Decide which agents are waited for, before anything of them is dropped."""
        now, book, pace = self._clock(), self._book, Pace()
        for agent_id, hold in self.holds.agents().items():
            returned = agent_id in snapshot.agents
            struck = hold.listed and snapshot.agents and agent_id not in snapshot.recovered
            if "task" in snapshot.kinds and (returned or struck):
                self.holds.release(agent_id)
            await pace.turn()
        waited = {agent_id for agent_id in snapshot.recovered if agent_id in book.nodes or agent_id in book.node_tasks}
        if not snapshot.agents:
            waited |= book.nodes
        for agent_id in waited - snapshot.agents.keys():
            if ("node", book.cluster, agent_id) not in snapshot.touched:
                self.holds.hold(agent_id, now, leader, listed=agent_id in snapshot.recovered)
            await pace.turn()

    async def _sync_nodes(self, snapshot: Snapshot, changed: list[Entity], kept: set[Key]) -> Want:
        want, book, said, pace = Want.NOTHING, self._book, self._book.said(), Pace()
        for agent in snapshot.agents.values():
            key = ("node", book.cluster, agent.id)
            if key not in snapshot.touched:
                book.leaving_nodes.discard(agent.id)
                node = book.node(agent)
                if said.get(key) == node:
                    kept.add(key)
                else:
                    changed.append(node)
            await pace.turn()
        for agent_id in book.nodes - snapshot.agents.keys():
            key = ("node", book.cluster, agent_id)
            if agent_id in self.holds:
                kept.add(key)
            elif self._has_live_tasks(agent_id, snapshot):
                kept.add(key)
                want |= Want.NOTHING if "task" in snapshot.kinds else Want.EVERYTHING
            elif key not in snapshot.touched:
                book.forget_node(agent_id)
            await pace.turn()
        return want

    def _has_live_tasks(self, agent_id: str, snapshot: Snapshot) -> bool:
        """True when tasks that are not unreachable are on an agent that a document does not list."""
        said, told = self._book.said(), "task" in snapshot.kinds
        for key in self._book.node_tasks.get(agent_id, ()):
            task = snapshot.tasks.get(key) or (said.get(key) if not told or key in snapshot.kept else None)
            if isinstance(task, Task) and task.state != "TASK_UNREACHABLE":
                return True
        return False

    async def _sync_tasks(self, snapshot: Snapshot, kept: set[Key]) -> set[str]:
        """Keep the tasks of held agents that the document does not tell of; the frameworks of all tasks that stay."""
        tasks, said, pace = snapshot.tasks, self._book.said(), Pace()
        for agent_id in self.holds.agents():
            for key in list(self._book.node_tasks.get(agent_id, ())):
                if key not in tasks and key not in kept and key not in snapshot.touched:
                    kept.add(key)
                    self.holds.keep(agent_id, key)
                elif key in tasks or key in kept:
                    self.holds.seen(agent_id, key)
            await pace.turn()
        frameworks = {key[2] for key in tasks}
        await asyncio.sleep(0)
        frameworks.update(key[2] for key in kept if key[0] == "task")
        await asyncio.sleep(0)
        frameworks.update(key[2] for key in snapshot.touched if key[0] == "task" and key in said)
        return frameworks

    def _sync_frameworks(
        self, snapshot: Snapshot, in_use: Collection[str], changed: list[Entity], kept: set[Key]
    ) -> None:
        now, book, said = self._clock(), self._book, self._book.said()
        for seen in snapshot.frameworks.values():
            key = ("framework", book.cluster, seen.id)
            self.holds.release_framework(seen.id)
            if key in snapshot.touched:
                continue
            book.leaving_frameworks.discard(seen.id)
            framework = book.framework(seen)
            if said.get(key) == framework:
                kept.add(key)
            else:
                changed.append(framework)
        for framework_id in book.frameworks - snapshot.frameworks.keys():
            key = ("framework", book.cluster, framework_id)
            if len(self.holds) and framework_id not in book.leaving_frameworks:
                self.holds.hold_framework(framework_id, now)
            if framework_id in in_use or self.holds.holds_framework(framework_id):
                kept.add(key)
            elif key not in snapshot.touched:
                book.forget_framework(framework_id)
