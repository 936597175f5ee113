"""Who is kept after a fail-over: agents that a fresh master has not heard of yet, and their tasks.

A fresh leader knows from its registry that an agent exists (`recovered_agents`) but not what runs on
it until the agent registers again. Until then its tasks stay as they were; what it then did not
bring is dropped. A hold ends with the agent's return, its removal, or its deadline.
"""

from __future__ import annotations

import msgspec

from mesos_dns.model import Key


class Hold(msgspec.Struct):
    """One agent that is waited for: until when, whether the master lists it, what it has not brought yet."""

    deadline: float
    listed: bool
    leader: str
    unseen: set[Key]


class Holds:
    """The agents and frameworks that are waited for."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._agents: dict[str, Hold] = {}
        self._frameworks: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._agents)

    def __contains__(self, agent_id: str) -> bool:
        return agent_id in self._agents

    def agents(self) -> dict[str, Hold]:
        """The held agents (a copy of the table)."""
        return dict(self._agents)

    def hold(self, agent_id: str, now: float, leader: str, *, listed: bool) -> Hold:
        """Wait for an agent. Only another leader starts its time anew; a reconnect does not."""
        hold = self._agents.get(agent_id)
        if hold is None:
            hold = self._agents[agent_id] = Hold(now + self._timeout, listed, leader, set())
        elif hold.leader != leader:
            hold.leader, hold.deadline = leader, now + self._timeout
        hold.listed = hold.listed or listed
        return hold

    def keep(self, agent_id: str, key: Key) -> None:
        """A task of a held agent that the master did not tell of."""
        self._agents[agent_id].unseen.add(key)

    def seen(self, agent_id: str, key: Key) -> None:
        """The master told of a task: it is no longer kept on faith."""
        hold = self._agents.get(agent_id)
        if hold is not None:
            hold.unseen.discard(key)

    def release(self, agent_id: str) -> set[Key] | None:
        """Wait no longer: the keys of tasks that were never brought; None when it was not held."""
        hold = self._agents.pop(agent_id, None)
        return None if hold is None else hold.unseen

    def hold_framework(self, framework_id: str, now: float) -> None:
        """Wait for a framework that a fresh leader has not heard of."""
        self._frameworks.setdefault(framework_id, now + self._timeout)

    def holds_framework(self, framework_id: str) -> bool:
        """True while a framework is waited for."""
        return framework_id in self._frameworks

    def release_framework(self, framework_id: str) -> None:
        """The framework was heard of, or is no more."""
        self._frameworks.pop(framework_id, None)

    def due(self, now: float) -> tuple[list[str], list[str]]:
        """Agents and frameworks whose time is over (frameworks are released by this)."""
        agents = [agent_id for agent_id, hold in self._agents.items() if hold.deadline <= now]
        frameworks = [framework_id for framework_id, deadline in self._frameworks.items() if deadline <= now]
        for framework_id in frameworks:
            del self._frameworks[framework_id]
        return agents, frameworks

    def next_deadline(self) -> float | None:
        """When `due` next has something to say; None: never."""
        times = [hold.deadline for hold in self._agents.values()] + list(self._frameworks.values())
        return min(times, default=None)
