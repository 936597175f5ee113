"""Read Marathon's pods into the model: a pod is an App of kind "pod", each of its containers' tasks a HealthOverlay.

A pod's endpoints are its ports, those of all containers in their order. A task serves only its own container's
endpoints: its overlay's `ports` are as many as the pod's, with 0 for those of other containers. For its own they are
the host's ports, or in a container network without one the container's. Pods have no service ports.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec

from mesos_dns.model import DEFAULT_CLUSTER, App, AppCheck, AppPort, Health, HealthOverlay, canonical_address
from mesos_dns.sharing import share
from mesos_dns.sources import marathon_wire as wire
from mesos_dns.sources.marathon_read import MAX_ID, UNREADABLE, BadApp, Before, ReadApp, check_id, id_of

PODS = b'{"pods":'
PODS_END = b"}"
"""What makes an object of the list of pods, for readers that want one."""

_MODES = {"host": "host", "container": "container", "container/bridge": "bridge"}


class _Endpoint(msgspec.Struct, gc=False, rename="camel"):
    name: str
    container_port: wire.PortNumber | None = None
    host_port: wire.PortNumber | None = None
    protocol: list[str] | str | None = None
    labels: wire.AnyLabels = None


class _HttpCheck(msgspec.Struct, gc=False):
    endpoint: str | None = None
    path: str | None = None
    scheme: str | None = None


class _TcpCheck(msgspec.Struct, gc=False):
    endpoint: str | None = None


class _Check(msgspec.Struct, gc=False, rename="camel"):
    http: _HttpCheck | None = None
    tcp: _TcpCheck | None = None
    exec: dict[str, Any] | None = None
    grace_period_seconds: wire.Seconds | None = None
    interval_seconds: wire.Seconds | None = None
    timeout_seconds: wire.Seconds | None = None
    max_consecutive_failures: wire.Count | None = None


class _Container(msgspec.Struct, gc=False, rename="camel"):
    name: str
    endpoints: list[_Endpoint] | None = None
    health_check: _Check | None = None


class _Scaling(msgspec.Struct, gc=False):
    instances: wire.Count | None = None


class _Spec(msgspec.Struct, gc=False):
    id: str
    labels: wire.AnyLabels = None
    version: str | None = None
    networks: list[wire.WireNetwork] | None = None
    containers: list[_Container] | None = None
    scaling: _Scaling | None = None


class _Condition(msgspec.Struct, gc=False):
    name: str
    value: str | None = None
    reason: str | None = None


class _EndpointStatus(msgspec.Struct, gc=False, rename="camel"):
    name: str
    allocated_host_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    healthy: bool | None = None


class _ContainerStatus(msgspec.Struct, gc=False, rename="camel"):
    name: str
    status: str | None = None
    status_since: str | None = None
    container_id: str | None = None
    conditions: list[_Condition] | None = None
    endpoints: list[_EndpointStatus] | None = None


class _NetworkStatus(msgspec.Struct, gc=False):
    addresses: list[str] | None = None


class _Instance(msgspec.Struct, gc=False, rename="camel"):
    id: str
    agent_hostname: str | None = None
    spec_reference: str | None = None
    networks: list[_NetworkStatus] | None = None
    containers: list[_ContainerStatus] | None = None


class _Pod(msgspec.Struct, gc=False):
    id: str
    spec: _Spec
    instances: list[msgspec.Raw] | None = None


_UNREPORTED = "health-unreported-by-mesos"

_pod = msgspec.json.Decoder(_Pod)
_instance = msgspec.json.Decoder(_Instance)

_Owned = list[tuple[str, AppPort]]
"""A pod's ports, each with the name of its container."""


def read_pod(
    data: bytes, framework_id: str = "", cluster: str = DEFAULT_CLUSTER, before: Before = lambda _: None
) -> ReadApp:
    """One pod's status, as /v2/pods/ID::status has it and as an element of /v2/pods::status. Raises BadApp."""
    try:
        found = _pod.decode(data)
    except UNREADABLE as error:
        raise BadApp(id_of(data), str(error)) from None
    try:
        return _converted(found, framework_id, cluster, before)
    except ValueError as error:
        raise BadApp(found.id[:MAX_ID], str(error)) from None


def _converted(found: _Pod, framework_id: str, cluster: str, before: Before) -> ReadApp:
    """The entities. Raises ValueError."""
    spec, lost = found.spec, list[str]()
    network = "host"
    for item in spec.networks or ():
        network = _MODES.get(item.mode or "container", network)
    ports = _ports(spec, network, lost)
    if len(ports) > wire.MAX_PORTS:
        raise ValueError(f"{len(ports)} endpoints, at most {wire.MAX_PORTS} are read")
    version = spec.version or ""
    app = App(
        id=check_id(found.id),
        labels=wire.labels_of(spec.labels, lost, "labels"),
        kind="pod",
        network=network,
        ports=share(tuple([port for _, port in ports])),
        checks=_checks(spec, ports),
        instances=(spec.scaling.instances if spec.scaling is not None else None) or 0,
        version=version,
        config_changed=wire.time_of(version),
        scaled=wire.time_of(version),
        framework_id=framework_id,
        cluster=cluster,
    )
    checked = {item.name for item in spec.containers or () if item.health_check is not None}
    read = ReadApp(app, [], found.instances is not None, [], lost)
    for raw in found.instances or ():
        try:
            instance = _instance.decode(raw)
        except UNREADABLE as error:
            read.bad_tasks.append(("", f"instance {id_of(bytes(raw))}: {error}"))
            continue
        read.overlays += _overlays(app, ports, instance, checked, before)
    return read


def _ports(spec: _Spec, network: str, lost: list[str]) -> _Owned:
    found: _Owned = []
    for container in spec.containers or ():
        for item in container.endpoints or ():
            protocol = ",".join(item.protocol) if isinstance(item.protocol, list) else item.protocol
            port = AppPort(
                container_port=(item.container_port or 0) if network != "host" else 0,
                host_port=-1 if item.host_port is None else item.host_port,
                name=sys.intern(item.name),
                protocol=sys.intern(protocol or "tcp"),
                labels=wire.labels_of(item.labels, lost, f"endpoint {item.name[:100]}"),
            )
            found.append((container.name, port))
    return found


def _checks(spec: _Spec, ports: _Owned) -> tuple[AppCheck, ...]:
    """Checks of all containers; `port_index` is the endpoint's among the pod's ports."""
    default, found = AppCheck(), list[AppCheck]()
    for container in spec.containers or ():
        check = container.health_check
        if check is None:
            continue
        protocol, path, endpoint = "COMMAND", default.path, None
        if check.http is not None:
            protocol = "MESOS_HTTPS" if (check.http.scheme or "").upper() == "HTTPS" else "MESOS_HTTP"
            path, endpoint = check.http.path or path, check.http.endpoint
        elif check.tcp is not None:
            protocol, endpoint = "MESOS_TCP", check.tcp.endpoint
        indexes = [at for at, (owner, port) in enumerate(ports) if owner == container.name and port.name == endpoint]
        found.append(
            AppCheck(
                protocol=protocol,
                path=path,
                port_index=indexes[0] if indexes else -1,
                grace=default.grace if check.grace_period_seconds is None else float(check.grace_period_seconds),
                interval=default.interval if check.interval_seconds is None else float(check.interval_seconds),
                timeout=default.timeout if check.timeout_seconds is None else float(check.timeout_seconds),
                max_failures=default.max_failures
                if check.max_consecutive_failures is None
                else check.max_consecutive_failures,
            )
        )
    return tuple(found)


def _overlays(app: App, ports: _Owned, instance: _Instance, checked: set[str], before: Before) -> list[HealthOverlay]:
    """One for each container that has a task."""
    texts = [address for network in instance.networks or () for address in network.addresses or ()]
    addresses = share(tuple(dict.fromkeys([address for text in texts if (address := canonical_address(text))])))
    _, _, version = (instance.spec_reference or "").rpartition("::versions/")
    found = []
    for container in instance.containers or ():
        if not container.container_id or len(container.container_id) > MAX_ID:
            continue  # nothing was launched yet
        state = container.status or "TASK_RUNNING"
        found.append(
            HealthOverlay(
                framework_id=app.framework_id,
                task_id=container.container_id,
                health=_health(container, state, before) if container.name in checked else Health.NONE,
                ports=_served(app, ports, container),
                app=app.id,
                host=sys.intern(instance.agent_hostname or ""),
                addresses=addresses,
                state=sys.intern(state),
                version=sys.intern(version or app.version),
                started=wire.time_of(container.status_since) if state == "TASK_RUNNING" else 0.0,
                cluster=app.cluster,
            )
        )
    return found


def _served(app: App, ports: _Owned, container: _ContainerStatus) -> tuple[int, ...]:
    """The container's own ports in a network of its own, also where the host has one too: as apps are reached there."""
    told = {item.name: item.allocated_host_port or 0 for item in container.endpoints or ()}
    mine = app.network == "container"
    return tuple(
        [
            0 if owner != container.name else (port.container_port if mine else 0) or told.get(port.name, 0)
            for owner, port in ports
        ]
    )


def _health(container: _ContainerStatus, state: str, before: Before) -> Health:
    """As the container's condition "healthy" says, else its endpoints; without either as it was before, or pending.

    A condition of a check without a result says "false", and the reason why.
    """
    conditions = [item for item in container.conditions or () if item.name == "healthy" and item.value]
    told = [item.value == "true" for item in conditions if item.reason != _UNREPORTED]
    if not conditions:
        told = [item.healthy for item in container.endpoints or () if item.healthy is not None]
    if not told:
        return wire.health_without_result(state, before(container.container_id or ""))
    return Health.HEALTHY if any(told) else Health.UNHEALTHY
