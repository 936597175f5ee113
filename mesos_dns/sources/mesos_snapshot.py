"""Collect one document (a SUBSCRIBED snapshot, GET_* answers, a /state) element by element.

`Splitter` hands out the elements of the listed arrays while the document arrives; each is decoded
at once and compared with what was said before, so an entity that did not change costs only its key.
Nothing here publishes: a document that turns out to be cut or broken is simply thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from mesos_dns.model import Entity, Framework, Key, Task
from mesos_dns.sources import mesos_decode as v1
from mesos_dns.sources import mesos_state as state
from mesos_dns.sources import mesos_wire as wire
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.mesos_tolerant import Malformed

MAX_ELEMENT = 16 << 20
MAX_SKELETON = 64 << 20

_STATE_V1 = {
    "get_tasks.tasks": "task",
    "get_tasks.launched_tasks": "task",
    "get_tasks.pending_tasks": "task",
    "get_tasks.orphan_tasks": "task",
    "get_tasks.unreachable_tasks": "unreachable",
    "get_tasks.completed_tasks": "",
    "get_executors.executors": "",
    "get_agents.agents": "agent",
    "get_agents.recovered_agents": "recovered",
    "get_frameworks.frameworks": "framework",
    "get_frameworks.completed_frameworks": "",
}

V1_PATHS = {
    prefix + path: meaning
    for prefix in ("", "get_state.", "subscribed.get_state.")
    for path, meaning in _STATE_V1.items()
}
"""Array path → what its elements are ("" = of no interest, but possibly large)."""

STATE_PATHS = {
    "slaves": "agent",
    "recovered_slaves": "recovered",
    "frameworks": "framework",
    "frameworks.tasks": "task",
    "frameworks.unreachable_tasks": "unreachable",
    "frameworks.completed_tasks": "",
    "frameworks.executors": "",
    "frameworks.offers": "",
    "completed_frameworks": "",
    "completed_frameworks.tasks": "",
    "completed_frameworks.unreachable_tasks": "",
    "completed_frameworks.completed_tasks": "",
    "completed_frameworks.executors": "",
    "unregistered_frameworks": "",
    "orphan_tasks": "task",
}

SUMMARY_PATHS = {path: "framework" if path == "frameworks" else "" for path in STATE_PATHS}
"""As STATE_PATHS, for documents that are read for their frameworks only."""


class Snapshot:
    """What one document said, reduced to what differs from `said`; `touched` keys were told otherwise meanwhile."""

    def __init__(
        self,
        kinds: frozenset[str],
        cluster: str,
        said: Mapping[Key, Entity],
        counters: SourceCounters,
        complain: Complaints,
    ) -> None:
        self.kinds = kinds
        self.cluster = cluster
        self.tasks: dict[Key, Task] = {}
        self.kept: set[Key] = set()
        self.agents: dict[str, wire.AgentSeen] = {}
        self.recovered: set[str] = set()
        self.frameworks: dict[str, wire.FrameworkSeen] = {}
        self.touched: set[Key] = set()
        self._said = said
        self._counters = counters
        self._complain = complain

    def lost(self, who: str, parts: list[str]) -> None:
        """Count and log what had to be left out of an entity."""
        self._counters.skipped_fields += len(parts)
        self._complain(f"a part of what Mesos says is malformed and left out {who} {'; '.join(parts)}")

    def skip(self, what: str, error: Malformed) -> None:
        """Count and log an entity that can't be read."""
        self._counters.malformed += 1
        self._counters.skipped_entities += 1
        self._complain(f"a malformed {what or 'entity'} is skipped: {error}")

    def hosts(self) -> set[str]:
        """The hosts whose addresses are needed, names and addresses."""
        agents = {agent.host for agent in self.agents.values()}
        return agents | {self._scheduler_host(framework) for framework in self.frameworks.values()}

    def _scheduler_host(self, seen: wire.FrameworkSeen) -> str:
        """A framework's host name, where its address does not come from its pid."""
        told = wire.pid_address(seen.pid or "")
        if told is not None:
            return told[0]
        before = self._said.get(("framework", self.cluster, seen.id))
        known = seen.pid is None and isinstance(before, Framework) and before.port
        return "" if known else seen.hostname

    def keep(self, task: Task, *, weak: bool = False) -> None:
        """Take a task in; a `weak` one (of the unreachable) never replaces one that is already there."""
        key = task.key
        if weak and (key in self.tasks or key in self.kept):
            return
        before = self._said.get(key)
        task = v1.inherit(task, before if isinstance(before, Task) else None)
        if before == task:
            self.tasks.pop(key, None)
            self.kept.add(key)
        else:
            self.kept.discard(key)
            self.tasks[key] = task

    def forget(self, key: Key) -> Task | None:
        """Take a task out again; what it was."""
        if key in self.kept:
            self.kept.discard(key)
            before = self._said.get(key)
            return before if isinstance(before, Task) else None
        return self.tasks.pop(key, None)


class Document(Protocol):
    """How the elements of a kind of document are read."""

    snapshot: Snapshot
    paths: Mapping[str, str]

    def add(self, path: str, data: bytes) -> None:
        """Take one element in; a malformed one is skipped and counted."""


class V1Document:
    """SUBSCRIBED, GET_STATE, GET_TASKS, GET_AGENTS, GET_FRAMEWORKS."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.paths: Mapping[str, str] = V1_PATHS

    def add(self, path: str, data: bytes) -> None:
        """See Document."""
        meaning = self.paths[path]
        if not meaning:
            return
        try:
            self._add(meaning, data)
        except Malformed as error:
            self.snapshot.skip(meaning, error)

    def _add(self, meaning: str, data: bytes) -> None:
        snapshot = self.snapshot
        if meaning in ("task", "unreachable"):
            wired = v1.decode(v1.task_decoder, data, v1.WireTask, snapshot.lost)
            if wired.state not in wire.TERMINAL:
                snapshot.keep(v1.task(wired, snapshot.cluster, snapshot.lost), weak=meaning == "unreachable")
        elif meaning == "agent":
            agent = v1.agent(v1.decode(v1.agent_decoder, data, v1.WireAgent, snapshot.lost))
            snapshot.agents[agent.id] = agent
        elif meaning == "recovered":
            snapshot.recovered.add(v1.decode(v1.info_decoder, data, v1.AgentInfo, snapshot.lost).id.value)
        else:
            framework = v1.framework(v1.decode(v1.framework_decoder, data, v1.WireFramework, snapshot.lost))
            snapshot.frameworks[framework.id] = framework


class StateDocument:
    """/state, /state-summary and /frameworks.

    Tasks of one id more than once are all kept, numbered in order (mesos-dns publishes each). A task
    belongs to the framework whose tasks it is among, whatever id it names itself (mesos-dns does not
    look at that). A framework's id is known only after its tasks, so those that named another one are
    moved then.
    """

    def __init__(self, snapshot: Snapshot, paths: Mapping[str, str] = STATE_PATHS) -> None:
        self.snapshot = snapshot
        self.paths = paths
        self._times: dict[Key, int] = {}
        self._claims: dict[str, list[tuple[Key, bool]]] = {}

    def add(self, path: str, data: bytes) -> None:
        """See Document."""
        meaning = self.paths[path]
        if not meaning:
            return
        try:
            self._add(meaning, data)
        except Malformed as error:
            self.snapshot.skip(meaning, error)
            if meaning == "framework":
                self._claims.clear()

    def _add(self, meaning: str, data: bytes) -> None:
        snapshot = self.snapshot
        if meaning in ("task", "unreachable"):
            wired = v1.decode(state.task_decoder, data, state.StateTask, snapshot.lost)
            if wired.state in wire.TERMINAL:
                return
            self._task(state.task(wired, snapshot.cluster, snapshot.lost), weak=meaning == "unreachable")
        elif meaning == "agent":
            agent = state.agent(v1.decode(state.agent_decoder, data, state.StateAgent, snapshot.lost))
            snapshot.agents[agent.id] = agent
        elif meaning == "recovered":
            snapshot.recovered.add(v1.decode(state.agent_decoder, data, state.StateAgent, snapshot.lost).id)
        else:
            framework = state.framework(v1.decode(state.framework_decoder, data, state.StateFramework, snapshot.lost))
            snapshot.frameworks[framework.id] = framework
            claims, self._claims = self._claims, {}
            for claimed, keys in claims.items():
                if claimed != framework.id:
                    self._move(keys, framework.id)

    def _task(self, task: Task, *, weak: bool) -> None:
        number = 0
        if not weak:
            number = self._times.get(task.key, 0)
            self._times[task.key] = number + 1
        task = v1.numbered(task, number)
        self._claims.setdefault(task.framework_id, []).append((task.key, weak))
        self.snapshot.keep(task, weak=weak)

    def _move(self, keys: list[tuple[Key, bool]], framework_id: str) -> None:
        """Tasks that named another framework than the one they were found in."""
        for key, weak in keys:
            task = self.snapshot.forget(key)
            if task is not None:
                self._times.pop(key, None)
                self._task(msgspec.structs.replace(task, framework_id=framework_id, duplicate=0), weak=weak)
        self._claims.clear()
