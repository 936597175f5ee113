"""What is launched on the simulated cluster: a task's definition, shared by all its instances.

The network modes are the ones a Mesos task can have, with the shapes each leaves in the API:

    HOST       the agent's address and host ports; discovery ports are host ports
    BRIDGE     a CNI bridge: own address behind the agent, port mappings in container.network_infos
    DOCKER     Docker's bridge: own address behind the agent, port mappings in container.docker
    CONTAINER  an overlay network: a routable address of its own, discovery ports are its own ports
    DUAL       the same with an IPv4 and an IPv6 address
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Network(StrEnum):
    """How a task reaches the network; see the head of this file."""

    HOST = "host"
    BRIDGE = "bridge"
    DOCKER = "docker"
    CONTAINER = "container"
    DUAL = "dual"

    @property
    def maps_host_ports(self) -> bool:
        """Whether the task takes ports of its agent."""
        return self in (Network.HOST, Network.BRIDGE, Network.DOCKER)


class Check(StrEnum):
    """The kind of Mesos health check that a task defines."""

    NONE = ""
    HTTP = "HTTP"
    TCP = "TCP"
    COMMAND = "COMMAND"


class PortSpec(msgspec.Struct, frozen=True):
    """One port of a task. `number` is the port inside a container; host ports are given by the agent."""

    name: str = "http"
    number: int = 80
    protocol: str = "tcp"
    labels: dict[str, str] = {}


class TaskSpec(msgspec.Struct, frozen=True):
    """What a framework launches. `name` is Mesos' task name (Marathon's is the app path reversed).

    `task_prefix` begins the task ids; `discovery` False leaves out the DiscoveryInfo.
    """

    name: str
    task_prefix: str = ""
    cpus: float = 0.1
    mem: float = 32.0
    ports: tuple[PortSpec, ...] = ()
    labels: dict[str, str] = {}
    network: Network = Network.HOST
    check: Check = Check.NONE
    visibility: str = "FRAMEWORK"
    discovery: bool = True
    image: str = "nginx:1.25"

    @property
    def prefix(self) -> str:
        """The beginning of the task ids."""
        return self.task_prefix or self.name
