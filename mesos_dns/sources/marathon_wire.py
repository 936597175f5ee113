"""The JSON shapes of Marathon's apps and tasks, of every version since 0.8, and what they mean.

Only the fields that Pharos needs are listed; everything else is skipped while parsing. Ports moved over the years:
`ports` (a list of service ports), `portDefinitions` (1.0), `container.docker.portMappings` and
`ipAddress.discovery.ports` (until 1.4), `container.portMappings` and `networks` (1.5). A document can hold several of
them at once; which one counts follows from the networking mode, as marathon-lb decides it.
"""

from __future__ import annotations

import sys
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

import msgspec

from mesos_dns.model import AppCheck, AppPort, Health, Labels
from mesos_dns.sharing import share

PortNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=0x7FFFFFFF)]
AnyLabels: TypeAlias = dict[str, Any] | None

MAX_PORTS = 1024
"""Ports of one app that are read; one with more is refused."""

LAUNCHING = frozenset({"TASK_STAGING", "TASK_STARTING"})
"""States of a task that can't have been checked yet."""

_MODES = {"host": "host", "container": "container", "container/bridge": "bridge"}
_DOCKER_MODES = {"HOST": "host", "USER": "container", "BRIDGE": "bridge"}


class WirePortDefinition(msgspec.Struct, gc=False):
    """An entry of `portDefinitions`; `port` is the service port."""

    port: PortNumber | None = None
    name: str | None = None
    protocol: str | None = None
    labels: AnyLabels = None


class WirePortMapping(msgspec.Struct, gc=False, rename="camel"):
    """An entry of a container's `portMappings`."""

    container_port: PortNumber | None = None
    host_port: PortNumber | None = None
    service_port: PortNumber | None = None
    name: str | None = None
    protocol: str | None = None
    labels: AnyLabels = None


class WireDiscoveryPort(msgspec.Struct, gc=False):
    """An entry of `ipAddress.discovery.ports`."""

    number: PortNumber
    name: str | None = None
    protocol: str | None = None
    labels: AnyLabels = None


class WireDiscovery(msgspec.Struct, gc=False):
    """`ipAddress.discovery`."""

    ports: list[WireDiscoveryPort] | None = None


class WireIpAddress(msgspec.Struct, gc=False):
    """`ipAddress`: an address for each task (until 1.4)."""

    discovery: WireDiscovery | None = None


class WireDocker(msgspec.Struct, gc=False, rename="camel"):
    """`container.docker`."""

    network: str | None = None
    port_mappings: list[WirePortMapping] | None = None


class WireContainer(msgspec.Struct, gc=False, rename="camel"):
    """`container`."""

    type: str | None = None
    docker: WireDocker | None = None
    port_mappings: list[WirePortMapping] | None = None


class WireNetwork(msgspec.Struct, gc=False):
    """An entry of `networks`."""

    mode: str | None = None
    name: str | None = None


class WireCheck(msgspec.Struct, gc=False, rename="camel"):
    """An entry of `healthChecks`."""

    protocol: str | None = None
    path: str | None = None
    port_index: Count | None = None
    port: PortNumber | None = None
    grace_period_seconds: Seconds | None = None
    interval_seconds: Seconds | None = None
    timeout_seconds: Seconds | None = None
    max_consecutive_failures: Count | None = None


class WireVersionInfo(msgspec.Struct, gc=False, rename="camel"):
    """`versionInfo`: times of the last changes."""

    last_scaling_at: str | None = None
    last_config_change_at: str | None = None


class WireId(msgspec.Struct, gc=False):
    """A reference."""

    id: str


class WireResult(msgspec.Struct, gc=False, rename="camel"):
    """An entry of `healthCheckResults`; null, or one that was never checked, is of a check without a result."""

    alive: bool = False
    consecutive_failures: Count | None = None
    first_success: str | None = None
    last_success: str | None = None
    last_failure: str | None = None

    @property
    def told(self) -> bool:
        """Whether it is the result of any check: `alive` is false, too, before the first one."""
        return bool(
            self.alive or self.last_failure or self.last_success or self.first_success or self.consecutive_failures
        )


class WireAddress(msgspec.Struct, gc=False, rename="camel"):
    """An entry of a task's `ipAddresses`."""

    ip_address: str | None = None


class WireTask(msgspec.Struct, gc=False, rename="camel"):
    """A task of an app. One without `state` is of a version that told running ones only."""

    id: str
    host: str | None = None
    ports: list[PortNumber] | None = None
    ip_addresses: list[WireAddress] | None = None
    state: str | None = None
    version: str | None = None
    staged_at: str | None = None
    started_at: str | None = None
    health_check_results: list[WireResult | None] | None = None


class AppParts(msgspec.Struct, gc=False, rename="camel", kw_only=True):
    """An app's definition. `port_definitions` of null is no definition, [] is one without ports."""

    id: str
    instances: Count | None = None
    labels: AnyLabels = None
    networks: list[WireNetwork] | None = None
    container: WireContainer | None = None
    ip_address: WireIpAddress | None = None
    ports: list[PortNumber] | None = None
    port_definitions: list[WirePortDefinition] | None = None
    require_ports: bool | None = None
    health_checks: list[WireCheck] | None = None
    version: str | None = None
    version_info: WireVersionInfo | None = None
    deployments: list[WireId] | None = None


class WireApp(AppParts, gc=False, rename="camel", kw_only=True):
    """An app with its tasks; None where the answer has no tasks at all."""

    tasks: list[WireTask] | None = None


class LooseApp(AppParts, gc=False, rename="camel", kw_only=True):
    """An app whose tasks are read one by one, so that a malformed one costs only itself."""

    tasks: list[msgspec.Raw] | None = None


def labels_of(labels: AnyLabels, lost: list[str], where: str) -> Labels:
    """Labels in the order written; one whose value is no text is left out and named in `lost`."""
    if not labels:
        return ()
    found = []
    for key, value in labels.items():
        if type(value) is str:
            found.append((sys.intern(key), value))
        else:
            lost.append(f"{where}.{key[:100]}: expected a text, got {type(value).__name__}")
    return share(tuple(found))


@lru_cache(maxsize=16384)
def time_of(text: str | None) -> float:
    """Seconds since the epoch of a time as Marathon writes it; 0 when there is none or it is no time."""
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def network_of(app: AppParts) -> str:
    """ "host", "bridge" or "container", as marathon-lb decides it: the newest way of saying it wins."""
    mode = "host"
    if app.ip_address is not None:
        mode = "container"
    docker = app.container.docker if app.container is not None else None
    if docker is not None and docker.network is not None:
        mode = _DOCKER_MODES.get(docker.network, mode)
    for network in app.networks or ():
        mode = _MODES.get(network.mode or "container", mode)
    return mode


def _mappings(app: AppParts) -> list[WirePortMapping]:
    """The port mappings of a container; those of Docker's old place first."""
    container = app.container
    if container is None:
        return []
    if container.docker is not None and container.docker.port_mappings:
        return container.docker.port_mappings
    return container.port_mappings or []


def _definitions(app: AppParts, lost: list[str]) -> list[AppPort]:
    """`portDefinitions`, or the old `ports`."""
    if app.port_definitions is None:
        return [AppPort(service_port=port, host_port=port if app.require_ports else 0) for port in app.ports or ()]
    return [
        AppPort(
            service_port=item.port or 0,
            host_port=item.port or 0 if app.require_ports else 0,
            name=sys.intern(item.name or ""),
            protocol=sys.intern(item.protocol or "tcp"),
            labels=labels_of(item.labels, lost, f"portDefinitions[{number}].labels"),
        )
        for number, item in enumerate(app.port_definitions)
    ]


def _mapped(mappings: list[WirePortMapping], services: list[AppPort], lost: list[str]) -> list[AppPort]:
    """Mapped ports; where none names a service port, `services` do by their order."""
    told = any(item.service_port for item in mappings)
    found = []
    for number, item in enumerate(mappings):
        service = item.service_port or 0
        if not told and number < len(services):
            service = services[number].service_port
        found.append(
            AppPort(
                service_port=service,
                container_port=item.container_port or 0,
                host_port=-1 if item.host_port is None else item.host_port,
                name=sys.intern(item.name or ""),
                protocol=sys.intern(item.protocol or "tcp"),
                labels=labels_of(item.labels, lost, f"portMappings[{number}].labels"),
            )
        )
    return found


def _discovered(ports: list[WireDiscoveryPort], services: list[AppPort], lost: list[str]) -> list[AppPort]:
    """Ports of a task with an address of its own (until 1.4); service ports by their order."""
    return [
        AppPort(
            service_port=services[number].service_port if number < len(services) else 0,
            container_port=item.number,
            host_port=-1,
            name=sys.intern(item.name or ""),
            protocol=sys.intern(item.protocol or "tcp"),
            labels=labels_of(item.labels, lost, f"ipAddress.discovery.ports[{number}].labels"),
        )
        for number, item in enumerate(ports)
    ]


def ports_of(app: AppParts, network: str, lost: list[str]) -> tuple[AppPort, ...]:
    """An app's ports in the order of their indexes. Raises ValueError when there are too many."""
    definitions = _definitions(app, lost)
    found = definitions
    if network != "host":
        address = app.ip_address
        discovered = address.discovery.ports if address is not None and address.discovery is not None else None
        if network == "container" and discovered:
            found = _discovered(discovered, definitions, lost)
        elif mappings := _mappings(app):
            found = _mapped(mappings, definitions, lost)
    if len(found) > MAX_PORTS:
        raise ValueError(f"{len(found)} ports, at most {MAX_PORTS} are read")
    return share(tuple(found))


def checks_of(app: AppParts) -> tuple[AppCheck, ...]:
    """An app's health checks, with Marathon's defaults where it leaves something out."""
    if not app.health_checks:
        return ()
    default = AppCheck()
    return share(
        tuple(
            AppCheck(
                protocol=sys.intern(item.protocol or default.protocol),
                path=item.path or default.path,
                port_index=default.port_index if item.port_index is None else item.port_index,
                port=item.port or 0,
                grace=_or(item.grace_period_seconds, default.grace),
                interval=_or(item.interval_seconds, default.interval),
                timeout=_or(item.timeout_seconds, default.timeout),
                max_failures=default.max_failures
                if item.max_consecutive_failures is None
                else item.max_consecutive_failures,
            )
            for item in app.health_checks
        )
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)


def health_of(results: list[WireResult | None] | None) -> Health | None:
    """The health of a task whose app has a check: healthy when any result is alive; None without a result."""
    told = [result for result in results or () if result is not None and result.told]
    if not told:
        return None
    return Health.HEALTHY if any(result.alive for result in told) else Health.UNHEALTHY


def health_without_result(state: str, before: Health | None) -> Health:
    """The health of a task of which there is no result: what was known `before`, pending if that is nothing.

    Marathon keeps results in memory: one that has just begun to lead has none of tasks that run well. A task that is
    being launched has none yet, even if an earlier one had its id.
    """
    if before in (Health.HEALTHY, Health.UNHEALTHY) and state not in LAUNCHING:
        return before
    return Health.PENDING
