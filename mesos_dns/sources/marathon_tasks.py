"""Marathon's tasks as Mesos tells them, for processes that follow no Mesos master.

Marathon tells no agents, so a task has no node and its addresses are its host's: those of the agent where it uses the
agent's ports, its own in a container network. What only Mesos knows (visibility, the containerizer) is as Marathon
asks for it by default.
"""

from __future__ import annotations

import sys
from functools import lru_cache

from mesos_dns.model import App, HealthOverlay, Network, Port, Task
from mesos_dns.sharing import share

VISIBILITY = "FRAMEWORK"


@lru_cache(maxsize=16384)
def mesos_name(app_id: str) -> str:
    """An app's name in Mesos: its path from the last to the first segment ("/shop/web" is "web.shop")."""
    return sys.intern(".".join(reversed([part for part in app_id.split("/") if part])))


def task_of(app: App, overlay: HealthOverlay) -> Task:
    """The task as far as Marathon tells it."""
    own = app.network == "container"
    name = mesos_name(app.id)
    addresses = overlay.addresses if own else overlay.host_addresses
    return Task(
        framework_id=overlay.framework_id,
        id=overlay.task_id,
        name=_container_of(overlay.task_id) or name if app.kind == "pod" else name,
        node_id="",
        state=overlay.state,
        health=overlay.health,
        labels=app.labels,
        discovery_name=name,
        visibility=VISIBILITY,
        ports=_ports(app, overlay, own),
        networks=share((Network("", addresses),)) if addresses else (),
        host_ports=() if own else share(tuple([port for port in overlay.ports if port])),
        runtime="mesos",
        start_time=overlay.started,
        cluster=overlay.cluster,
    )


def _ports(app: App, overlay: HealthOverlay, own: bool) -> tuple[Port, ...]:
    """The ports of its DiscoveryInfo, each with the label that says whose its number is."""
    scope = ("network-scope", "container" if own else "host")
    found = []
    for index, port in enumerate(app.ports):
        told = overlay.ports[index] if index < len(overlay.ports) else 0
        if app.kind == "pod" and not told:
            continue  # of another container
        number = port.container_port if own else told
        if number:
            found.append(Port(number, port.name, port.protocol, (*port.labels, scope)))
    return share(tuple(found))


def _container_of(task_id: str) -> str:
    """The container of a pod's task: "pod.instance-UUID.CONTAINER.ATTEMPT" (the attempt since 1.9); "" if unclear."""
    _, _, rest = task_id.partition(".instance-")
    parts = rest.split(".")
    return parts[1] if len(parts) > 1 else ""
