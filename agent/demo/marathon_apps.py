"""Apps of the simulated Marathon: their definitions, their instances, and the JSON of both.

A definition is kept as it was given, with Marathon's defaults filled in; what the simulation needs
of it is read out strictly, and a wrong type is refused with the key's path. The environment
variable SIMULATE_HEALTH=false in a definition makes instances that never become healthy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.demo import v1
from agent.demo.spec import Check, Network, PortSpec, TaskSpec
from agent.demo.world import Task

Json = dict[str, Any]
FIRST_SERVICE_PORT = 10000
CHECKS = {"MESOS_HTTP": Check.HTTP, "MESOS_HTTPS": Check.HTTP, "MESOS_TCP": Check.TCP, "COMMAND": Check.COMMAND}


class BadApp(ValueError):
    """A definition that is not accepted; the text names the key."""


class PortDefinition(msgspec.Struct):
    """An entry of portDefinitions."""

    port: int = 0
    name: str | None = None
    protocol: str = "tcp"
    labels: dict[str, str] = {}


class PortMapping(msgspec.Struct, rename="camel"):
    """An entry of container.portMappings."""

    container_port: int = 0
    host_port: int | None = None
    service_port: int = 0
    name: str | None = None
    protocol: str = "tcp"
    labels: dict[str, str] = {}


class _Docker(msgspec.Struct):
    image: str = "nginx:1.25"


class _Container(msgspec.Struct, rename="camel"):
    type: str = "MESOS"
    docker: _Docker | None = None
    port_mappings: list[PortMapping] | None = None


class _NetworkMode(msgspec.Struct):
    mode: str = "host"
    name: str | None = None


class _HealthCheck(msgspec.Struct):
    protocol: str = "HTTP"


class _Upgrade(msgspec.Struct, rename="camel"):
    minimum_health_capacity: float = 1.0
    maximum_over_capacity: float = 1.0


class Definition(msgspec.Struct, rename="camel"):
    """What the simulation reads of an app's definition."""

    id: str
    cmd: str | None = None
    instances: int = 1
    cpus: float = 1.0
    mem: float = 128.0
    labels: dict[str, str] = {}
    env: dict[str, Any] = {}
    networks: list[_NetworkMode] = []
    container: _Container | None = None
    port_definitions: list[PortDefinition] | None = None
    health_checks: list[_HealthCheck] = []
    upgrade_strategy: _Upgrade = msgspec.field(default_factory=_Upgrade)


def read(raw: Json) -> Definition:
    """The definition in `raw`. Raises BadApp."""
    try:
        found = msgspec.convert(raw, Definition)
    except msgspec.ValidationError as error:
        raise BadApp(str(error)) from None
    if not found.id.startswith("/") or len(found.id) < 2 or found.instances < 0:
        raise BadApp(f"id {found.id!r} must be an absolute path and instances {found.instances} not negative")
    return found


def task_spec(app: Definition) -> TaskSpec:
    """What Marathon asks Mesos to launch for an app."""
    parts = [part for part in app.id.split("/") if part]
    mode = app.networks[0].mode if app.networks else "host"
    docker = app.container is not None and app.container.type == "DOCKER"
    if mode == "container/bridge":
        network = Network.DOCKER if docker else Network.BRIDGE
    else:
        network = Network.CONTAINER if mode == "container" else Network.HOST
    mapped = (app.container.port_mappings if app.container else None) or []
    if network is Network.HOST:
        given = app.port_definitions if app.port_definitions is not None else [PortDefinition(name="default")]
        ports = tuple(PortSpec(port.name or "", port.port, port.protocol, port.labels) for port in given)
    else:
        ports = tuple(PortSpec(port.name or "", port.container_port, port.protocol, port.labels) for port in mapped)
    return TaskSpec(
        name=".".join(reversed(parts)),
        task_prefix="_".join(parts),
        cpus=app.cpus,
        mem=app.mem,
        ports=ports,
        labels=app.labels,
        network=network,
        check=CHECKS.get(app.health_checks[0].protocol, Check.NONE) if app.health_checks else Check.NONE,
        image=app.container.docker.image if app.container and app.container.docker else "nginx:1.25",
    )


def stamp(seconds: float) -> str:
    """A time as Marathon writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"


@dataclass(slots=True, eq=False)
class Instance:
    """A task of an app. `alive` is the health check's result; None before the first, or without a check."""

    task: Task
    version: str
    staged_at: str
    started_at: str = ""
    alive: bool | None = None
    failures: int = 0
    checked_at: str = ""


@dataclass(slots=True, eq=False)
class App:
    """An app: its definition as given (`raw`) and as read, and its instances by task id."""

    raw: Json
    definition: Definition
    spec: TaskSpec
    version: str
    scaled_at: str
    configured_at: str
    service_ports: tuple[int, ...] = ()
    instances: dict[str, Instance] = field(default_factory=dict)
    starting: int = 0
    previous: Json | None = None

    @property
    def checked(self) -> bool:
        """Whether it defines a health check."""
        return bool(self.definition.health_checks)

    @property
    def wants_healthy(self) -> bool:
        """Whether its instances become healthy."""
        return self.definition.env.get("SIMULATE_HEALTH") != "false"

    def ready(self, instance: Instance) -> bool:
        """Running, and healthy where a check is defined."""
        return instance.task.state == "TASK_RUNNING" and (not self.checked or instance.alive is True)


def task_json(app: App, instance: Instance) -> Json:
    """A task as in /v2/tasks and apps.tasks."""
    task = instance.task
    found: Json = {
        "id": task.id,
        "appId": app.definition.id,
        "host": task.agent.hostname,
        "ports": list(task.host_ports),
        "servicePorts": list(app.service_ports),
        "ipAddresses": [{"ipAddress": address, "protocol": kind} for kind, address in task.addresses],
        "state": task.state,
        "slaveId": task.agent.id,
        "stagedAt": instance.staged_at,
        "version": instance.version,
        "localVolumes": [],
        "region": "region1",
        "zone": v1.domain(task.agent.number)["fault_domain"]["zone"]["name"],
        "role": "*",
    }
    if instance.started_at:
        found["startedAt"] = instance.started_at
    if instance.alive is not None:
        found["healthCheckResults"] = [health_json(instance)]
    return found


def health_json(instance: Instance) -> Json:
    """A health check's result."""
    at = instance.checked_at
    return {
        "alive": instance.alive is True,
        "consecutiveFailures": instance.failures,
        "firstSuccess": at if instance.alive else None,
        "lastFailure": None if instance.alive else at,
        "lastSuccess": at if instance.alive else None,
        "lastFailureCause": None if instance.alive else "simulated",
        "instanceId": instance.task.id.rpartition("._app")[0],
    }


def app_json(app: App, deployments: list[str], *, tasks: bool) -> Json:
    """An app as in /v2/apps; with `tasks` as embed=apps.tasks gives it."""
    definition = app.definition
    instances = app.instances.values()
    staged = sum(instance.task.state in ("TASK_STAGING", "TASK_STARTING") for instance in instances)
    found: Json = {
        "cmd": None,
        "container": None,
        "env": {},
        "labels": {},
        "healthChecks": [],
        "networks": [{"mode": "host"}],
        "requirePorts": False,
        "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
        "cpus": definition.cpus,
        "mem": definition.mem,
        "disk": 0,
        "gpus": 0,
        "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
        "killSelection": "YOUNGEST_FIRST",
        "role": "*",
        **app.raw,
        "instances": definition.instances,
        "version": app.version,
        "versionInfo": {"lastScalingAt": app.scaled_at, "lastConfigChangeAt": app.configured_at},
        "tasksStaged": staged + app.starting,
        "tasksRunning": sum(instance.task.state == "TASK_RUNNING" for instance in instances),
        "tasksHealthy": sum(instance.alive is True for instance in instances),
        "tasksUnhealthy": sum(instance.alive is False for instance in instances),
        "deployments": [{"id": name} for name in deployments],
    }
    if tasks:
        found["tasks"] = [task_json(app, instance) for instance in instances]
    return found


def with_service_ports(raw: Json, ports: list[int]) -> Json:
    """The definition with a service port in each port that has none or 0; `ports` are the ones to give, in order."""
    found = dict(raw)
    left = iter(ports)
    container = raw.get("container") or {}
    if container.get("portMappings"):
        mappings = [
            {"servicePort": next(left), **{k: v for k, v in mapping.items() if k != "servicePort" or v}}
            if not mapping.get("servicePort")
            else mapping
            for mapping in container["portMappings"]
        ]
        found["container"] = {**container, "portMappings": mappings}
    elif not raw.get("networks") or raw["networks"][0].get("mode") == "host":
        given = raw.get("portDefinitions")
        given = [{"name": "default", "protocol": "tcp", "labels": {}}] if given is None else given
        found["portDefinitions"] = [port if port.get("port") else {**port, "port": next(left)} for port in given]
    return found


def service_ports(definition: Definition) -> tuple[int, ...]:
    """The service ports of a definition that has them all."""
    if definition.container and definition.container.port_mappings:
        return tuple(mapping.service_port for mapping in definition.container.port_mappings)
    return tuple(port.port for port in definition.port_definitions or ())
