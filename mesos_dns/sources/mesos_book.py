"""The book of one cluster: what was said of it, indexed by agent and framework, and how to say more.

Turns what masters tell (agents and schedulers with host names) into entities with addresses, says
them again when a host name gets another address, and lets an agent or a framework that is leaving
go with its last task. Nothing else of the source writes to the publisher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mesos_dns.hosts import Hosts
from mesos_dns.model import Endpoint, Entity, Framework, Key, Leadership, Node, NodeState, Sync, Task, canonical_address
from mesos_dns.sources import Publisher
from mesos_dns.sources.mesos_wire import AgentSeen, FrameworkSeen, pid_address
from mesos_dns.sources.pace import Pace


class Book:
    """See the module. `touched` sets collect the keys that events wrote while a document was being read."""

    def __init__(self, publish: Publisher, cluster: str, hosts: Hosts) -> None:
        self.cluster = cluster
        self.node_tasks: dict[str, set[Key]] = {}
        self.framework_tasks: dict[str, int] = {}
        self.nodes: set[str] = set()
        self.frameworks: set[str] = set()
        self.leaving_nodes: set[str] = set()
        self.leaving_frameworks: set[str] = set()
        self.reads: list[set[Key]] = []
        self._publish = publish
        self._hosts = hosts
        self._agents_seen: dict[str, AgentSeen] = {}
        self._frameworks_seen: dict[str, FrameworkSeen] = {}
        self._pids: dict[str, str] = {}
        self._users: dict[str, set[Key]] = {}
        self._host_of: dict[Key, str] = {}
        self._leader: tuple[str, int] | None = None
        self._masters: tuple[tuple[str, int], ...] = ()

    @property
    def leader(self) -> tuple[str, int] | None:
        """Host and port of the master that was last said to lead in this process."""
        return self._leader

    def said(self) -> Mapping[Key, Entity]:
        """Everything that this source said."""
        return self._publish.said()

    async def sync(self, change: Sync) -> None:
        """Say everything of some kinds; `index` afterwards."""
        await self._publish.sync(change)

    async def index(self) -> None:
        """Build the indexes from what was said, restored state included."""
        self.node_tasks, self.framework_tasks = {}, {}
        self.nodes, self.frameworks = set(), set()
        pace = Pace()
        for key, entity in list(self.said().items()):
            if isinstance(entity, Task):
                self._index(key, entity)
            elif isinstance(entity, Node):
                self.nodes.add(entity.id)
            elif isinstance(entity, Framework):
                self.frameworks.add(entity.id)
            await pace.turn()

    def _index(self, key: Key, task: Task) -> None:
        self.node_tasks.setdefault(task.node_id, set()).add(key)
        self.framework_tasks[task.framework_id] = self.framework_tasks.get(task.framework_id, 0) + 1

    def task(self, framework_id: str, task_id: str) -> Task | None:
        """A task that was said."""
        entity = self.said().get(("task", self.cluster, framework_id, task_id))
        return entity if isinstance(entity, Task) else None

    def touch(self, key: Key) -> None:
        """Note that an event spoke of `key`: it wins over documents that are being read."""
        for read in self.reads:
            read.add(key)

    def put_task(self, task: Task) -> None:
        """Say a task."""
        key = task.key
        self.touch(key)
        before = self.said().get(key)
        if isinstance(before, Task) and before.node_id != task.node_id:
            self._unindex(key, before)
            before = None
        if before is None:
            self._index(key, task)
        self._publish.put(task)

    def drop_task(self, key: Key) -> None:
        """Say that a task is no more; an agent or framework that is leaving goes with its last one."""
        self.touch(key)
        task = self.said().get(key)
        if not isinstance(task, Task):
            return
        self._unindex(key, task)
        self._publish.drop(key)
        if task.node_id in self.leaving_nodes and task.node_id not in self.node_tasks:
            self.drop_node(task.node_id)
        if task.framework_id in self.leaving_frameworks and not self.framework_tasks.get(task.framework_id):
            self.drop_framework(task.framework_id)

    def _unindex(self, key: Key, task: Task) -> None:
        keys = self.node_tasks.get(task.node_id)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self.node_tasks[task.node_id]
        left = self.framework_tasks.get(task.framework_id, 0) - 1
        if left > 0:
            self.framework_tasks[task.framework_id] = left
        else:
            self.framework_tasks.pop(task.framework_id, None)

    def put_agent(self, agent: AgentSeen) -> None:
        """Say an agent."""
        node = self.node(agent)
        self.leaving_nodes.discard(agent.id)
        self.nodes.add(agent.id)
        self.touch(node.key)
        self._publish.put(node)

    def node(self, agent: AgentSeen) -> Node:
        """An agent as a node; a name that is being resolved keeps the addresses it had."""
        key = ("node", self.cluster, agent.id)
        self._agents_seen[agent.id] = agent
        before = self.said().get(key)
        addresses = self._resolve(agent.host, key)
        if addresses is None:
            addresses = before.addresses if isinstance(before, Node) and before.hostname == agent.hostname else ()
        state = NodeState.DRAINING if agent.draining else NodeState.ACTIVE
        return Node(agent.id, agent.hostname, addresses, agent.port, state, cluster=self.cluster)

    def drop_node(self, agent_id: str) -> None:
        """Say that an agent is no more."""
        key = ("node", self.cluster, agent_id)
        self.touch(key)
        self.forget_node(agent_id)
        self._publish.drop(key)

    def forget_node(self, agent_id: str) -> None:
        """Know nothing of an agent any more (what was said of it is not touched)."""
        self.nodes.discard(agent_id)
        self.leaving_nodes.discard(agent_id)
        self._agents_seen.pop(agent_id, None)
        self._release(("node", self.cluster, agent_id))

    def put_framework(self, seen: FrameworkSeen) -> None:
        """Say a framework."""
        framework = self.framework(seen)
        self.leaving_frameworks.discard(seen.id)
        self.frameworks.add(seen.id)
        self.touch(framework.key)
        self._publish.put(framework)

    def framework(self, seen: FrameworkSeen) -> Framework:
        """A framework with its scheduler's address: its pid's, else its host name's with port 0.

        v1 tells no pids: until they were read (`schedulers`), what was said before stays.
        """
        key = ("framework", self.cluster, seen.id)
        before = self.said().get(key)
        before = before if isinstance(before, Framework) else None
        self._frameworks_seen[seen.id] = seen
        pid = self._pids.get(seen.id) if seen.pid is None else seen.pid
        if pid is None and before is not None and before.port:
            addresses, port = before.addresses, before.port
        else:
            host, port = pid_address(pid or "") or (seen.hostname, 0)
            found = self._resolve(host, key)
            addresses = (before.addresses if before is not None else ()) if found is None else found
        return Framework(seen.id, seen.name, seen.active, addresses, port, seen.webui_url, self.cluster)

    def drop_framework(self, framework_id: str) -> None:
        """Say that a framework is no more."""
        key = ("framework", self.cluster, framework_id)
        self.touch(key)
        self.forget_framework(framework_id)
        self._publish.drop(key)

    def forget_framework(self, framework_id: str) -> None:
        """Know nothing of a framework any more (what was said of it is not touched)."""
        self.frameworks.discard(framework_id)
        self.leaving_frameworks.discard(framework_id)
        self._frameworks_seen.pop(framework_id, None)
        self._pids.pop(framework_id, None)
        self._release(("framework", self.cluster, framework_id))

    def deactivate_framework(self, framework_id: str) -> None:
        """A removed framework whose tasks are still there stays, inactive, until the last of them goes."""
        self.leaving_frameworks.add(framework_id)
        entity = self.said().get(("framework", self.cluster, framework_id))
        if isinstance(entity, Framework) and entity.active:
            self.touch(entity.key)
            self._publish.put(
                Framework(
                    entity.id, entity.name, False, entity.addresses, entity.port, entity.webui_url, entity.cluster
                )
            )

    def schedulers(self, frameworks: Mapping[str, FrameworkSeen]) -> None:
        """Learn scheduler pids; one that is not told of a recovered framework stays as it was."""
        for seen in frameworks.values():
            if seen.pid or not seen.recovered:
                self._pids[seen.id] = seen.pid or ""
        for known in list(self._frameworks_seen.values()):
            if known.id in self.frameworks and known.id not in self.leaving_frameworks:
                self._publish.put(self.framework(known))

    def lead(self, leader: tuple[str, int] | None, masters: tuple[tuple[str, int], ...]) -> None:
        """Say who leads and which masters there are; hosts may be names. What is not known yet stays as said."""
        self._leader, self._masters = leader, masters
        known = self.said().get(("leadership", self.cluster))
        before = known if isinstance(known, Leadership) else Leadership(cluster=self.cluster)
        first = before.leader
        if leader is not None and (addresses := self._resolve_master(leader[0])):
            first = Endpoint(addresses[0], leader[1])
        found = [(self._resolve_master(host), port) for host, port in masters]
        every = tuple(Endpoint(addresses[0], port) for addresses, port in found if addresses)
        if before.masters and any(addresses is None for addresses, _ in found):
            every = before.masters
        self._publish.put(Leadership(first, every, self.cluster))

    def _resolve_master(self, host: str) -> tuple[str, ...] | None:
        if not canonical_address(host):
            self._users.setdefault(host, set()).add(("leadership", self.cluster))
        return self._hosts.lookup(host)

    def host_changed(self, host: str) -> None:
        """A host name has other addresses: say again who uses it."""
        for key in list(self._users.get(host, ())):
            if key[0] == "node" and (agent := self._agents_seen.get(key[2])) is not None:
                self._publish.put(self.node(agent))
            elif key[0] == "framework" and (seen := self._frameworks_seen.get(key[2])) is not None:
                if key[2] not in self.leaving_frameworks:
                    self._publish.put(self.framework(seen))
            elif key[0] == "leadership":
                self.lead(self._leader, self._masters)

    def forget_hosts(self, hosts: Iterable[str]) -> None:
        """Names that a document brought and nobody uses (a scheduler's, when its pid is known) are not refreshed."""
        for host in hosts:
            if host not in self._users:
                self._hosts.forget(host)

    def _resolve(self, host: str, key: Key) -> tuple[str, ...] | None:
        if self._host_of.get(key) != host:
            self._release(key)
            if host and not canonical_address(host):
                self._host_of[key] = host
                self._users.setdefault(host, set()).add(key)
        return self._hosts.lookup(host)

    def _release(self, key: Key) -> None:
        host = self._host_of.pop(key, "")
        users = self._users.get(host)
        if users is not None:
            users.discard(key)
            if not users:
                del self._users[host]
                self._hosts.forget(host)
