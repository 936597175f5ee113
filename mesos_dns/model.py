"""The vocabulary of Pharos: who runs where, as frozen values that every part reads.

Every entity is an immutable msgspec Struct without garbage-collector tracking (they hold only
scalars and tuples, so they can never be part of a cycle). An entity is identified by its *key*, a
plain tuple whose first item is the kind; a name is never an identity. Two entities are equal when
every field is equal, which is what lets the catalog publish real changes only.

Addresses are canonical texts ("10.0.0.1", "fd00::1"; IPv4-mapped IPv6 is written as IPv4), times
are seconds since the epoch, ports are 0..65535 except where a framework may write what it likes.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from functools import lru_cache
from typing import TypeAlias

import msgspec

DEFAULT_CLUSTER = "mesos"

Labels: TypeAlias = tuple[tuple[str, str], ...]
Key: TypeAlias = tuple[str, ...]


class NodeState(StrEnum):
    """What the master says of an agent."""

    ACTIVE = "active"
    UNREACHABLE = "unreachable"
    DRAINING = "draining"
    GONE = "gone"


class Reachability(StrEnum):
    """What the Pharos servers have seen of a node themselves."""

    OK = "ok"
    SUSPECT = "suspect"


class Health(StrEnum):
    """A task's health: NONE has no check defined, PENDING has a check and no result yet."""

    NONE = "none"
    PENDING = "pending"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """An address and a port; port 0 means unknown."""

    address: str
    port: int = 0


class Port(msgspec.Struct, frozen=True, gc=False):
    """One port of Mesos' DiscoveryInfo, as the framework wrote it: protocol may be empty or odd, the
    number is any unsigned 32-bit value. A `secondary` port is one of those that a service has beside
    its own (statistics, health): it is found by its name alone."""

    number: int
    name: str = ""
    protocol: str = ""
    labels: Labels = ()
    secondary: bool = False


class PortMapping(msgspec.Struct, frozen=True, gc=False):
    """A port of the host that reaches a port of the container."""

    host_port: int
    container_port: int
    protocol: str = "tcp"


class Network(msgspec.Struct, frozen=True, gc=False):
    """One network that a container is attached to, with its valid addresses in the order given."""

    name: str = ""
    addresses: tuple[str, ...] = ()


class Node(msgspec.Struct, frozen=True, gc=False):
    """A Mesos agent. `addresses` is empty when its host name could not be resolved."""

    id: str
    hostname: str
    addresses: tuple[str, ...] = ()
    port: int = 0
    state: NodeState = NodeState.ACTIVE
    reachability: Reachability = Reachability.OK
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("node", cluster, agent id)."""
        return ("node", self.cluster, self.id)


class Framework(msgspec.Struct, frozen=True, gc=False):
    """A framework; `addresses` and `port` are its scheduler's, port 0 when it has no libprocess pid."""

    id: str
    name: str
    active: bool = True
    addresses: tuple[str, ...] = ()
    port: int = 0
    webui_url: str = ""
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("framework", cluster, framework id)."""
        return ("framework", self.cluster, self.id)


class Task(msgspec.Struct, frozen=True, gc=False):
    """One task as Mesos tells it.

    `networks` and `label_addresses` come from the newest TASK_RUNNING status; `label_addresses`
    holds ("docker" | "mesos", address) pairs that old containerizers put into status labels.
    `host_ports` are the ports of the task's resources, ranges expanded, in order.
    `discovery_name` is "" when there is no DiscoveryInfo or it has no name. `node_id` is "" for tasks of
    orchestrators that tell no nodes: the task's addresses are then its host's. `duplicate` numbers
    further tasks of one id (a /state document can hold them; mesos-dns publishes each): 0 is the first.
    """

    framework_id: str
    id: str
    name: str
    node_id: str
    state: str
    health: Health = Health.NONE
    labels: Labels = ()
    discovery_name: str = ""
    visibility: str = ""
    ports: tuple[Port, ...] = ()
    networks: tuple[Network, ...] = ()
    label_addresses: tuple[tuple[str, str], ...] = ()
    port_mappings: tuple[PortMapping, ...] = ()
    host_ports: tuple[int, ...] = ()
    runtime: str = ""
    start_time: float = 0.0
    cluster: str = DEFAULT_CLUSTER
    duplicate: int = 0

    @property
    def key(self) -> Key:
        """("task", cluster, framework id, task id), and the number of a duplicate behind it."""
        if self.duplicate:
            return ("task", self.cluster, self.framework_id, self.id, str(self.duplicate))
        return ("task", self.cluster, self.framework_id, self.id)


class Leadership(msgspec.Struct, frozen=True, gc=False):
    """The masters of a cluster: the leading one (None: unknown) and all, in the configured order."""

    leader: Endpoint | None = None
    masters: tuple[Endpoint, ...] = ()
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("leadership", cluster)."""
        return ("leadership", self.cluster)


class App(msgspec.Struct, frozen=True, gc=False):
    """An orchestrator's definition of something it runs several instances of."""

    id: str
    labels: Labels = ()
    ports: tuple[Port, ...] = ()
    instances: int = 0
    checks: int = 0
    version: str = ""
    deployment: str = ""
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("app", cluster, app id)."""
        return ("app", self.cluster, self.id)


class HealthOverlay(msgspec.Struct, frozen=True, gc=False):
    """What an orchestrator knows of a Mesos task and Mesos does not: its own checks and ports."""

    framework_id: str
    task_id: str
    health: Health = Health.NONE
    ports: tuple[int, ...] = ()
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("health", cluster, framework id, task id)."""
        return ("health", self.cluster, self.framework_id, self.task_id)


class VipAddress(msgspec.Struct, frozen=True, gc=False):
    """A virtual address as allocated to a VIP name."""

    name: str
    address: str
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("vip_address", cluster, name)."""
        return ("vip_address", self.cluster, self.name)


class Ensemble(msgspec.Struct, frozen=True, gc=False):
    """The ZooKeeper servers of a cluster in the configured order, each with its addresses (none: not resolved)."""

    servers: tuple[tuple[str, ...], ...] = ()
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("ensemble", cluster)."""
        return ("ensemble", self.cluster)


class StaticRecords(msgspec.Struct, frozen=True, gc=False):
    """One record set from a file: absolute lower-case owner with a trailing dot, rdata in wire form.

    `rtype` is the numeric RR type; names inside `rdata` are uncompressed (RFC 3597 §4).
    """

    owner: str
    rtype: int
    ttl: int
    rdata: tuple[bytes, ...]
    zone: str = ""

    @property
    def key(self) -> Key:
        """("records", owner, type)."""
        return ("records", self.owner, str(self.rtype))


Entity: TypeAlias = Node | Framework | Task | Leadership | App | HealthOverlay | VipAddress | Ensemble | StaticRecords


class Put(msgspec.Struct, frozen=True):
    """A source says: this is so now (insert or replace)."""

    entity: Entity


class Drop(msgspec.Struct, frozen=True):
    """A source says: this is no more."""

    key: Key


class Sync(msgspec.Struct, frozen=True):
    """A source says: this is everything I know; whatever else I said before is no more.

    `changed` are entities that may differ from what the source said before; `kept` are keys that
    it still vouches for without repeating the entity. `kinds` limits the statement to those kinds
    (empty: every kind).
    """

    changed: tuple[Entity, ...] = ()
    kept: frozenset[Key] = frozenset()
    kinds: frozenset[str] = frozenset()


Change: TypeAlias = Put | Drop | Sync


@lru_cache(maxsize=65536)
def canonical_address(text: str) -> str:
    """The canonical text of an IP address; "" when `text` is none (as Go's net.ParseIP decides).

    IPv4-mapped IPv6 becomes IPv4; a zone id ("fe80::1%eth0") is refused.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return ""
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)
