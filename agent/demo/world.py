"""The things of a simulated cluster: agents, frameworks, tasks and their statuses, with what they use.

They are mutable on purpose: a simulation is state that changes, and each keeps the JSON of itself
until it changes, so that a snapshot of 100,000 tasks is a join of bytes that exist already.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from agent.demo.spec import TaskSpec

TERMINAL = frozenset(
    {
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
    }
)
STATES = (
    "TASK_STAGING",
    "TASK_STARTING",
    "TASK_RUNNING",
    "TASK_KILLING",
    "TASK_FINISHED",
    "TASK_KILLED",
    "TASK_FAILED",
    "TASK_LOST",
    "TASK_ERROR",
    "TASK_UNREACHABLE",
)
FIRST_PORT, LAST_PORT = 31000, 31999


class Status(msgspec.Struct, frozen=True, gc=False):
    """One TaskStatus. `by_executor` statuses carry the executor, the uuid and the container's addresses."""

    state: str
    timestamp: float
    uuid: str = ""
    by_executor: bool = True
    healthy: bool | None = None
    reason: str = ""
    message: str = ""
    unreachable_ns: int = 0


class Usage:
    """What tasks take of an agent or of a framework's share: cpus, memory in MB, ports with their counts."""

    __slots__ = ("cpus", "mem", "ports", "tasks")

    def __init__(self) -> None:
        self.cpus = 0.0
        self.mem = 0.0
        self.tasks = 0
        self.ports: Counter[int] = Counter()

    def add(self, spec: TaskSpec, ports: tuple[int, ...]) -> None:
        """Count a task in."""
        self.cpus += spec.cpus
        self.mem += spec.mem
        self.tasks += 1
        self.ports.update(ports)

    def take(self, spec: TaskSpec, ports: tuple[int, ...]) -> None:
        """Count a task out."""
        self.cpus -= spec.cpus
        self.mem -= spec.mem
        self.tasks -= 1
        for port in ports:
            self.ports[port] -= 1
            if not self.ports[port]:
                del self.ports[port]

    def ranges(self) -> list[tuple[int, int]]:
        """The ports as sorted closed ranges, neighbours joined."""
        joined: list[tuple[int, int]] = []
        for port in sorted(self.ports):
            if joined and joined[-1][1] == port - 1:
                joined[-1] = (joined[-1][0], port)
            else:
                joined.append((port, port))
        return joined


@dataclass(slots=True, eq=False)
class Agent:
    """A Mesos agent. `registered`: the leading master knows it; otherwise it is one it has yet to hear of."""

    id: str
    number: int
    address: str
    hostname: str
    registered_ns: int
    port: int = 5051
    reregistered_ns: int = 0
    registered: bool = True
    unreachable: bool = False
    deactivated: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    tasks: dict[str, Task] = field(default_factory=dict)
    next_port: int = FIRST_PORT
    next_container: int = 1
    v1_json: bytes | None = None

    @property
    def heard(self) -> bool:
        """Whether the leading master has it and hears from it."""
        return self.registered and not self.unreachable

    def free_port(self) -> int:
        """A host port that no task of this agent has. Raises RuntimeError when all are taken."""
        for _ in range(LAST_PORT - FIRST_PORT + 1):
            port = self.next_port
            self.next_port = FIRST_PORT if port == LAST_PORT else port + 1
            if port not in self.usage.ports:
                return port
        raise RuntimeError(f"agent {self.id} has no free port between {FIRST_PORT} and {LAST_PORT}: start more agents")


@dataclass(slots=True, eq=False)
class Framework:
    """A framework. `known`: the leading master has it; `recovered`: only heard of through an agent."""

    id: str
    name: str
    registered_ns: int
    reregistered_ns: int = 0
    unregistered_ns: int = 0
    user: str = "root"
    hostname: str = "127.0.0.1"
    principal: str = ""
    webui_url: str = ""
    failover_timeout: float = 604800.0
    capabilities: tuple[str, ...] = ("TASK_KILLING_STATE", "PARTITION_AWARE", "REGION_AWARE", "MULTI_ROLE")
    known: bool = True
    connected: bool = True
    recovered: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    unreachable: dict[str, Task] = field(default_factory=dict)
    completed: list[Task] = field(default_factory=list)

    @property
    def partition_aware(self) -> bool:
        """Whether lost agents' tasks become TASK_UNREACHABLE (else TASK_LOST)."""
        return "PARTITION_AWARE" in self.capabilities

    @property
    def killing_state(self) -> bool:
        """Whether a kill shows as TASK_KILLING first."""
        return "TASK_KILLING_STATE" in self.capabilities


@dataclass(slots=True, eq=False)
class Task:
    """A task: what it is, where it runs, its latest status of each state, and its JSON until it changes.

    `addresses` are (protocol, address) pairs of its container, "IPv4" or "IPv6"; host ports are in
    the order of the spec's ports.
    """

    id: str
    spec: TaskSpec
    framework: Framework
    agent: Agent
    container_id: str
    addresses: tuple[tuple[str, str], ...]
    host_ports: tuple[int, ...]
    pid: int
    state: str = "TASK_STAGING"
    statuses: tuple[Status, ...] = ()
    last_update: tuple[str, str] | None = None
    v1_json: bytes | None = None
    state_json: bytes | None = None

    @property
    def healthy(self) -> bool | None:
        """What its last status says of its health; None without a result."""
        return self.statuses[-1].healthy if self.statuses else None

    @property
    def endpoints(self) -> tuple[tuple[str, int], ...]:
        """Where its ports are reached from other nodes: (address, port) in the order of the spec's ports."""
        if self.spec.network.maps_host_ports:
            return tuple((self.agent.address, port) for port in self.host_ports)
        return tuple((self.addresses[0][1], port.number) for port in self.spec.ports)

    def changed(self) -> None:
        """Forget the JSON made so far."""
        self.v1_json = None
        self.state_json = None

    def add_status(self, status: Status) -> None:
        """Take a status; the master keeps one per state, the newest."""
        self.statuses = (*(kept for kept in self.statuses if kept.state != status.state), status)
        self.state = status.state
        self.changed()
