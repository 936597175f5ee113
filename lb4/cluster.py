"""What VIPs need to know of nodes, frameworks, health, suspects, drained tasks and machines, and whom each bears on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias, TypeVar

from lb4.task_backends import Whereabouts
from lb4.weights import worse
from mesos_dns.model import Draining, Framework, Health, HealthOverlay, Key, Node, Suspect, Task, canonical_address
from mesos_dns.names import container_addresses

_K = TypeVar("_K")
_V = TypeVar("_V")
Index: TypeAlias = dict[_K, set[_V]]

NOBODY: frozenset[Key] = frozenset()
PROTECTED: Key = ("protected",)
"""Stands for what this process was told to protect."""


class Holder(NamedTuple):
    """Whose an address is that no VIP may have: a word for counters, and a text."""

    reason: str
    text: str


_NODE = Holder("node-address", "the address of a node")
_MACHINES = {
    "leadership": Holder("master-address", "the address of a master"),
    "ensemble": Holder("zookeeper-address", "the address of a ZooKeeper server"),
    "protected": Holder("own-address", "an address of this machine"),
}
"""By the kind of the entity that tells the address; of several holders the first is named."""


class Cluster:
    """Entities of the catalog as far as tasks are joined with them or machines told by them; changed one by one."""

    def __init__(self) -> None:
        self._nodes: dict[Key, Node] = {}
        self._frameworks: dict[Key, Framework] = {}
        self._health: dict[Key, Health] = {}
        self._suspects: dict[str, set[Key]] = {}
        self._draining: set[Key] = set()
        self._nodes_at: Index[str, Key] = {}
        self._machines: dict[Key, frozenset[str]] = {}
        self._machines_at: Index[str, Key] = {}
        self._tasks_of: Index[Key, Key] = {}

    @property
    def suspects(self) -> Mapping[str, Iterable[Key]]:
        """The addresses of nodes of which nothing is heard (a live view)."""
        return self._suspects

    @property
    def draining(self) -> AbstractSet[Key]:
        """The keys of tasks that are drained before they are removed (a live view)."""
        return self._draining

    def holder_of(self, address: str) -> Holder | None:
        """The machine that has this address, None when none is known."""
        if address in self._nodes_at:
            return _NODE
        kinds = {key[0] for key in self._machines_at.get(address, ())}
        return next((holder for kind, holder in _MACHINES.items() if kind in kinds), None)

    # --- changes; each tells whom it bears on ----------------------------------------------------

    def set_node(self, key: Key, node: Node | None) -> tuple[Iterable[Key], frozenset[str]]:
        """The tasks that the change bears on, and the addresses that nodes have got or lost by it."""
        old = self._nodes.get(key)
        _put(self._nodes, key, node)
        before, after = old.addresses if old is not None else (), node.addresses if node is not None else ()
        if (old is None) == (node is None) and before == after:
            return NOBODY, frozenset()
        changed = set(before) ^ set(after)
        had = {address for address in changed if address in self._nodes_at}
        for address in changed.intersection(before):
            unindex(self._nodes_at, address, key)
        for address in changed.intersection(after):
            self._nodes_at.setdefault(address, set()).add(key)
        moved = frozenset(address for address in changed if (address in had) != (address in self._nodes_at))
        return self._tasks_of.get(key, NOBODY), moved

    def set_machines(self, key: Key, addresses: Iterable[str]) -> frozenset[str]:
        """The addresses that a Leadership, an Ensemble or PROTECTED tells now (texts that are none are left out); those
        that it did not tell before or tells no more."""
        before = self._machines.pop(key, frozenset[str]())
        after = frozenset(map(canonical_address, addresses)) - {""}
        if after:
            self._machines[key] = after
        for address in before - after:
            unindex(self._machines_at, address, key)
        for address in after - before:
            self._machines_at.setdefault(address, set()).add(key)
        return before ^ after

    def set_framework(self, key: Key, framework: Framework | None) -> Iterable[Key]:
        """The tasks that the change bears on."""
        old = self._frameworks.get(key)
        _put(self._frameworks, key, framework)
        same = old is not None and framework is not None and old.name == framework.name
        return NOBODY if same or old is framework else self._tasks_of.get(key, NOBODY)

    def set_overlay(self, key: Key, overlay: HealthOverlay | None) -> Key:
        """The key of the task whose health this is."""
        health = overlay.health if overlay is not None else Health.NONE
        _put(self._health, key, health if health is not Health.NONE else None)
        return ("task", *key[1:])

    def set_suspect(self, key: Key, suspect: Suspect | None) -> Iterable[Key]:
        """The tasks on the nodes that the change bears on. The address is the key's last part."""
        address = key[-1]
        was = address in self._suspects
        if suspect is not None:
            self._suspects.setdefault(address, set()).add(key)
        else:
            unindex(self._suspects, address, key)
        if was == (address in self._suspects):
            return NOBODY
        nodes = self._nodes_at.get(address, NOBODY)
        return {task for place in (*nodes, _place(address)) for task in self._tasks_of.get(place, NOBODY)}

    def set_draining(self, key: Key, draining: Draining | None) -> Key:
        """The key of the task that is drained from now on, or no longer."""
        task = ("task", *key[1:])
        (self._draining.add if draining is not None else self._draining.discard)(task)
        return task

    # --- joins -----------------------------------------------------------------------------------

    def framework_of(self, task: Task) -> Framework | None:
        """A task's framework, None when it is unknown."""
        return self._frameworks.get(("framework", task.cluster, task.framework_id))

    def where(self, task: Task) -> Whereabouts | None:
        """Where a task runs, None when its node is unknown."""
        if not task.node_id:
            addresses = container_addresses(task)
            return Whereabouts(addresses[0] if addresses else "", alone=True)
        node = self._nodes.get(("node", task.cluster, task.node_id))
        if node is None:
            return None
        return Whereabouts(node.addresses[0] if node.addresses else "")

    def health_of(self, key: Key, task: Task) -> Health:
        """A task's health: the worse of what Mesos says and what its orchestrator says."""
        other = self._health.get(("health", *key[1:])) if self._health else None
        return task.health if other is None else worse(task.health, other)

    # --- whom changes bear on --------------------------------------------------------------------

    def move(self, key: Key, before: Task | None, after: Task | None) -> None:
        """From now on changes around `after` bear on a task, and those around `before`, its last form, no longer."""
        old = _owners(before) if before is not None else []
        new = _owners(after) if after is not None else []
        if old == new:
            return
        for owner in old:
            unindex(self._tasks_of, owner, key)
        for owner in new:
            self._tasks_of.setdefault(owner, set()).add(key)


def unindex(index: Index[_K, _V], at: _K, item: _V) -> None:
    """Take an item out of an index of sets, and its set when that was the last."""
    held = index.get(at)
    if held is not None:
        held.discard(item)
        if not held:
            del index[at]


def _place(address: str) -> Key:
    """What stands for the node of a task that runs at an address of its own."""
    return ("address", address)


def _owners(task: Task) -> list[Key]:
    owners: list[Key] = [("framework", task.cluster, task.framework_id)]
    if task.node_id:
        owners.append(("node", task.cluster, task.node_id))
    else:
        owners += [_place(address) for address in dict.fromkeys(container_addresses(task))]
    return owners


def _put(held: dict[_K, _V], key: _K, value: _V | None) -> None:
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value
