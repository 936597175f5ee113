"""The servers of an app's port: its tasks that take part, each at the address and port where it can be reached."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from lb7.port_spec import PortSpec
from lb7.table import Cluster, Server
from mesos_dns.model import App, HealthOverlay

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9-]")


def task_address(app: App, task: HealthOverlay) -> str:
    """Where a task is reached: its own first address in a container network, else its host's; "": unknown."""
    addresses = task.addresses if app.network == "container" else task.host_addresses
    return addresses[0] if addresses else ""


def task_ports(app: App, task: HealthOverlay) -> tuple[int, ...]:
    """A task's ports in the order of the app's: the container's own in a container network, else the host's. Where
    an old Marathon names none, those of the definition. What is told of a pod's container says which of the pod's
    endpoints it has (0: that one is another's)."""
    if app.kind == "pod":
        return task.ports
    inside = tuple([port.container_port for port in app.ports])
    if app.network == "container":
        return inside if any(inside) else task.ports
    if task.ports:
        return task.ports
    return inside if app.network == "bridge" else tuple([port.service_port for port in app.ports])


def servers_of(
    spec: PortSpec, app: App, tasks: Iterable[HealthOverlay], draining: Collection[str]
) -> tuple[tuple[Server, ...], int]:
    """The servers for tasks that take part, in the order of hosts and ports, and how many tasks have no such port.

    Of two tasks at one address and port, the one that started last is it: the other is no longer there.
    """
    found: dict[str, tuple[float, str, Server]] = {}
    missing = 0
    for task in tasks:
        address = task_address(app, task)
        ports = task_ports(app, task)
        there = [ports[index] for index in spec.indexes if index < len(ports) and ports[index]]
        if not address or not there:
            missing += 1
            continue
        check_port = _check_port(spec, ports)
        for port in there:
            server = _server(spec, task, address, port, check_port, task.task_id in draining)
            known = found.get(server.id)
            if known is None or (known[0], known[2].task) < (task.started, task.task_id):
                found[server.id] = (task.started, task.host, server)
    ordered = sorted(found.values(), key=lambda item: (item[1], item[2].port, item[2].address))
    return tuple([server for _, _, server in ordered]), missing


def cluster_of(spec: PortSpec, name: str, servers: tuple[Server, ...], *, hold: bool = False) -> Cluster:
    """The cluster of a port. `hold`: its app may sleep."""
    return Cluster(
        name=name,
        app=spec.app,
        service_port=spec.port,
        servers=servers,
        mode=spec.mode,
        balance=spec.balance,
        sticky=spec.sticky,
        allow=spec.allow,
        hsts=spec.hsts,
        strip_path=spec.strip_path,
        host=spec.host,
        location=spec.location,
        check=spec.check,
        max_requests_per_server=spec.max_requests,
        root_redirect=spec.root_redirect if spec.root_redirect_hosts else "",
        root_redirect_hosts=spec.root_redirect_hosts,
        hold=hold,
    )


@lru_cache(maxsize=1 << 15)
def cookie_of(host: str, address: str, port: int) -> str:
    """What marathon-lb has a sticky client send for a server, so that clients of one find theirs at the other."""
    name = f"{address}_{port}" if host == address else f"{host}_{address}_{port}"
    return hashlib.sha1(_NOT_IN_NAMES.sub("_", name).encode(), usedforsecurity=False).hexdigest()[:10]


def _server(spec: PortSpec, task: HealthOverlay, address: str, port: int, check_port: int, draining: bool) -> Server:
    return Server(
        id=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        address=address,
        port=port,
        weight=spec.weight,
        draining=draining,
        cookie=cookie_of(task.host, address, port) if spec.sticky else "",
        task=task.task_id,
        check_port=0 if check_port == port else check_port,
    )


def _check_port(spec: PortSpec, ports: tuple[int, ...]) -> int:
    if spec.check is None:
        return 0
    if spec.check_port:
        return spec.check_port
    return ports[spec.check_index] if 0 <= spec.check_index < len(ports) else 0
