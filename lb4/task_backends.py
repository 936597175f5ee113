"""What a task gives to VIPs: which of its ports, for which VIPs, and as which backends.

Where a task is reached (dcos-net's rules):

- a port of the host that is mapped into the container: the agent's address and that port, even where the container's
  own address could be reached. The node that hosts it goes to the container at once (`Backend.local`), because packets
  that IPVS has sent on are not mapped again; not so with Docker, whose rules would send the replies elsewhere;
- else each address of the container, with the port;
- a container without an address of its own: the agent's address, with the port.

The label `network-scope` of a discovery port says whether its number is the host's or the container's (the default).
A number of the host that no mapping names is the agent's. All lists are cut: no task makes more work than
MAX_VIPS x MAX_ADDRESSES backends.
"""

from __future__ import annotations

from typing import NamedTuple

from lb4.labels import BadLabel, may_ask, protocol_of, task_label, task_labels, vip_key, vip_labels
from lb4.services import BackendKey
from lb4.vip import Backend, State, VipKey
from mesos_dns.model import Health, Key, Port, PortMapping, Task, canonical_address
from mesos_dns.names import container_addresses

RUNNING, KILLING = "TASK_RUNNING", "TASK_KILLING"
MAX_VIPS = 64
"""VIP labels of one task that are read."""
MAX_ADDRESSES = 16
"""Addresses of one container that become backends."""

_RUNNING_AS = {
    Health.NONE: (1, State.ACTIVE),
    Health.HEALTHY: (1, State.ACTIVE),
    Health.PENDING: (0, State.PENDING),
    Health.UNHEALTHY: (0, State.UNHEALTHY),
}


class PortUse(NamedTuple):
    """A port of a task: its number (1..65535), "tcp" or "udp", and whether the number is the host's."""

    number: int
    protocol: str
    host: bool = False


class Refusal(NamedTuple):
    """A label that was left out: the category of the reason, the label's value, what is wrong with it."""

    reason: str
    label: str
    text: str


class Reading(NamedTuple):
    """What a task's labels ask for, and what of them was left out."""

    uses: tuple[tuple[VipKey, PortUse], ...] = ()
    refused: tuple[Refusal, ...] = ()


class Whereabouts(NamedTuple):
    """Where a task runs: its agent's (first) address, "" where that is not known. `alone`: its orchestrator tells no
    nodes, so its own addresses are its host's, and `host` is the first of them."""

    host: str
    alone: bool = False


NOTHING = Reading()


def asks(task: Task) -> bool:
    """False when no label of a task asks for a VIP: a quick look."""
    for port in task.ports:
        for key, _ in port.labels:
            if key[:3] == "VIP" or key[:3] == "vip":
                return True
    return may_ask(task.labels)


def read_labels(task: Task, framework: str) -> Reading:
    """The VIPs that a task's labels ask for, each with the port; `framework` is its framework's name."""
    uses: list[tuple[VipKey, PortUse]] = []
    refused: list[Refusal] = []
    requests: list[tuple[Port | None, str, str]] = [
        (port, "", value) for port in task.ports if port.number for value in vip_labels(port.labels)
    ]
    requests += [(None, key, value) for key, value in task_labels(task.labels)]
    for port, key, value in requests[:MAX_VIPS]:
        try:
            if port is not None:
                vip = vip_key(value, framework, port.protocol)
                uses.append((vip, port_use(port, vip.protocol)))
            else:
                uses.append(_of_task(task, key, value, framework))
        except BadLabel as error:
            refused.append(Refusal(error.reason, value[:200], str(error)))
    if len(requests) > MAX_VIPS:
        refused.append(Refusal("too-many", "", f"{len(requests)} VIP labels on one task, {MAX_VIPS} are read"))
    return Reading(tuple(uses), tuple(refused))


def _of_task(task: Task, key: str, value: str, framework: str) -> tuple[VipKey, PortUse]:
    label = task_label(key, value)
    if label.nth >= len(task.host_ports):
        raise BadLabel("index", f"the task has {len(task.host_ports)} ports, none with index {label.nth}")
    number = task.host_ports[label.nth]
    if not 0 < number < 65536:
        raise BadLabel("backend-port", f"{number} is no port that a task can be reached by")
    return vip_key(label.value, framework, label.protocol), PortUse(number, label.protocol, True)


def port_use(port: Port, protocol: str) -> PortUse:
    """A discovery port as a backend's, used for "tcp" or "udp". Raises BadLabel."""
    if not 0 < port.number < 65536:
        raise BadLabel("backend-port", f"{port.number} is no port that a task can be reached by")
    return PortUse(port.number, protocol_of(protocol), ("network-scope", "host") in port.labels)


def backends_of(key: Key, task: Task, use: PortUse, where: Whereabouts, health: Health) -> tuple[Backend, ...]:
    """The backends that a task (of this key) gives by one port, none while it does not run.

    `health` is the task's as all who check it say. The weights are those of each by itself (`weights.effective`).
    """
    if task.state == RUNNING:
        weight, state = _RUNNING_AS[health]
    elif task.state == KILLING:
        weight, state = 0, State.DRAINING
    else:
        return ()
    host, number = where.host, use.number
    mapping = _mapping(task.port_mappings, use) if task.port_mappings else None
    local = None
    addresses: tuple[str, ...] = (host,)
    if mapping is not None and not where.alone:
        number = mapping.host_port
        local = _behind(task, host, mapping.container_port)
    elif where.alone or not use.host:
        addresses = container_addresses(task)[:MAX_ADDRESSES] or addresses
    return tuple(
        [
            Backend(address, number, 1, weight, health, state, address if where.alone else host, key, local)
            for address in addresses
            if canonical_address(address)
        ]
    )


def _mapping(mappings: tuple[PortMapping, ...], use: PortUse) -> PortMapping | None:
    """The first mapping of a port of the host that reaches this port of a task."""
    for mapping in mappings:
        number = mapping.host_port if use.host else mapping.container_port
        if number == use.number and 0 < mapping.host_port < 65536 and mapping.protocol.lower() == use.protocol:
            return mapping
    return None


def _behind(task: Task, host: str, port: int) -> BackendKey | None:
    """The container's own address (of the host's family) and port, where its node goes to it at once."""
    if task.runtime != "mesos" or not 0 < port < 65536:
        return None
    for address in container_addresses(task):
        if (":" in address) == (":" in host) and address != host:
            return BackendKey(address, port)
    return None
