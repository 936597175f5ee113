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


class AppPort(msgspec.Struct, frozen=True, gc=False):
    """A port of an app's definition. `service_port` is the one that load balancers listen on (0: none was given),
    `container_port` the one inside the container (0: none is mapped), `host_port` -1 where a mapping has none."""

    service_port: int = 0
    container_port: int = 0
    host_port: int = 0
    name: str = ""
    protocol: str = "tcp"
    labels: Labels = ()


class AppCheck(msgspec.Struct, frozen=True, gc=False):
    """A health check of an app's definition, with Marathon's word for its `protocol` ("HTTP", "MESOS_TCP", …).

    `port_index` is -1 where the definition has none, `port` the explicit one (0: none); times are seconds.
    """

    protocol: str = "HTTP"
    path: str = "/"
    port_index: int = -1
    port: int = 0
    grace: float = 300.0
    interval: float = 60.0
    timeout: float = 20.0
    max_failures: int = 3


class App(msgspec.Struct, frozen=True, gc=False):
    """An orchestrator's definition of something it runs several instances of.

    `kind` is "app" or "pod"; `network` "host", "bridge" or "container". `ports` are in the order of the app's port
    indexes. `config_changed` is when the definition last changed other than by scaling, `deployments` the ids of those
    that are under way.
    """

    id: str
    labels: Labels = ()
    kind: str = "app"
    network: str = "host"
    ports: tuple[AppPort, ...] = ()
    checks: tuple[AppCheck, ...] = ()
    instances: int = 0
    version: str = ""
    config_changed: float = 0.0
    scaled: float = 0.0
    deployments: tuple[str, ...] = ()
    framework_id: str = ""
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("app", cluster, framework id, app id): several Marathons may have an app of one id."""
        return ("app", self.cluster, self.framework_id, self.id)


class HealthOverlay(msgspec.Struct, frozen=True, gc=False):
    """What an orchestrator knows of one of its tasks and Mesos does not: whose it is, its own checks and ports.

    `health` is NONE where the app has no check, PENDING while none has a result, HEALTHY when any check is passed
    (as marathon-lb counts). `ports` are the host's, in the order of port indexes (none in a container network without
    mapped ports); `addresses` the task's own, in the orchestrator's order. `host` is the agent's name or address, and
    `host_addresses` what it resolved to. `state` is Mesos' word ("TASK_RUNNING") as the orchestrator last heard it.
    """

    framework_id: str
    task_id: str
    health: Health = Health.NONE
    ports: tuple[int, ...] = ()
    app: str = ""
    host: str = ""
    host_addresses: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    state: str = ""
    version: str = ""
    staged: float = 0.0
    started: float = 0.0
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("health", cluster, framework id, task id)."""
        return ("health", self.cluster, self.framework_id, self.task_id)

    @property
    def app_key(self) -> Key:
        """The key of the task's app."""
        return ("app", self.cluster, self.framework_id, self.app)


class VipAddress(msgspec.Struct, frozen=True, gc=False):
    """The virtual addresses that were allocated to a VIP's name ("web.marathon"); "" where there is none (yet)."""

    name: str
    address: str = ""
    address6: str = ""
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("vip_address", cluster, name)."""
        return ("vip_address", self.cluster, self.name)


class VipServer(msgspec.Struct, frozen=True, gc=False):
    """A fixed backend of a VIP."""

    address: str
    port: int
    weight: int = 1


class VipSelector(msgspec.Struct, frozen=True, gc=False):
    """Which tasks are backends of a VIP: all that is given must fit. `app` is a Marathon id or a task's name,
    `port` a discovery port's name or number, "" the task's first."""

    app: str = ""
    framework: str = ""
    labels: Labels = ()
    port: str = ""


class VipCheck(msgspec.Struct, frozen=True, gc=False):
    """How a VIP's backends are checked: `type` tcp or http; seconds; so many failures or successes in a row."""

    type: str = "tcp"
    path: str = "/"
    interval: float = 2.0
    timeout: float = 2.0
    fall: int = 3
    rise: int = 2


class Vip(msgspec.Struct, frozen=True, gc=False):
    """A VIP of the VIP file. `target` is a name ("db.marathon"), whose addresses are allocated, or an address.

    Without `selector` and `servers` it only says how a VIP of labels is balanced. `scheduler` "" means the
    node's default, `persistence` (seconds) 0 none; thresholds 0: none (connections of one backend at which it
    gets no more, and below which it gets some again).
    """

    target: str
    port: int
    protocol: str = "tcp"
    scheduler: str = ""
    persistence: int = 0
    upper_threshold: int = 0
    lower_threshold: int = 0
    selector: VipSelector | None = None
    servers: tuple[VipServer, ...] = ()
    check: VipCheck | None = None
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("vip", cluster, protocol, target, port)."""
        return ("vip", self.cluster, self.protocol, self.target, str(self.port))


class Suspect(msgspec.Struct, frozen=True, gc=False):
    """A node of which the servers that followed it have heard nothing for a while, by its address."""

    address: str
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("reachability", cluster, address)."""
        return ("reachability", self.cluster, self.address)


class Draining(msgspec.Struct, frozen=True, gc=False):
    """A task that is about to be removed by us: up to `until` (seconds since 1970) it gets nothing new. What it has
    goes on. That it is removed in the end is another's word: its state is."""

    framework_id: str
    task_id: str
    until: float
    cluster: str = DEFAULT_CLUSTER

    @property
    def key(self) -> Key:
        """("draining", cluster, framework id, task id)."""
        return ("draining", self.cluster, self.framework_id, self.task_id)


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


Entity: TypeAlias = (
    Node
    | Framework
    | Task
    | Leadership
    | App
    | HealthOverlay
    | VipAddress
    | Vip
    | Suspect
    | Draining
    | Ensemble
    | StaticRecords
)


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
