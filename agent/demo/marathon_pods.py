"""Pods of the simulated Marathon: their definitions, instances of several tasks, their JSON, HTTP and events.

A pod runs as soon as it is created; changing its number of instances starts or ends some at once. There are no
deployments of pods, no updates of anything else, and nobody replaces an instance that ends by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from agent.demo import v1
from agent.demo.cluster import Cluster
from agent.demo.marathon_apps import BadApp, Json, stamp
from agent.demo.marathon_events import EventBus
from agent.demo.spec import Check, Network, PortSpec, TaskSpec
from agent.demo.world import TERMINAL, Agent, Framework, Status, Task

_NETWORKS = {"host": Network.HOST, "container/bridge": Network.BRIDGE, "container": Network.CONTAINER}
UNREPORTED, REPORTED = "health-unreported-by-mesos", "health-reported-by-mesos"


class _Endpoint(msgspec.Struct, rename="camel"):
    name: str
    container_port: int = 0
    host_port: int | None = None
    protocol: list[str] = msgspec.field(default_factory=lambda: ["tcp"])
    labels: dict[str, str] = {}


class _Container(msgspec.Struct, rename="camel"):
    name: str
    endpoints: list[_Endpoint] = []
    health_check: dict[str, Any] | None = None


class _NetworkMode(msgspec.Struct):
    mode: str = "host"
    name: str | None = None


class _Scaling(msgspec.Struct):
    instances: int = 1


class PodDefinition(msgspec.Struct):
    """What the simulation reads of a pod's definition."""

    id: str
    containers: list[_Container]
    labels: dict[str, str] = {}
    networks: list[_NetworkMode] = []
    scaling: _Scaling = msgspec.field(default_factory=_Scaling)

    @property
    def network(self) -> Network:
        """Of all its containers."""
        return _NETWORKS.get(self.networks[0].mode if self.networks else "host", Network.HOST)


@dataclass(slots=True, eq=False)
class PodInstance:
    """One instance: a task for each container, by the container's name."""

    id: str
    agent: Agent
    version: str
    since: str
    tasks: dict[str, Task] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Pod:
    """A pod: its definition as given and as read, and its instances in order."""

    raw: Json
    definition: PodDefinition
    version: str
    instances: list[PodInstance] = field(default_factory=list)


class Pods:
    """The pods of one Marathon, by id."""

    def __init__(self, cluster: Cluster, framework: Framework, events: EventBus, pick: Callable[[], Agent]) -> None:
        self.by_id: dict[str, Pod] = {}
        self.enabled = True
        self._cluster = cluster
        self._framework = framework
        self._events = events
        self._pick = pick
        self._owners: dict[str, tuple[Pod, PodInstance]] = {}
        cluster.schedulers.append(self._on_status)

    def close(self) -> None:
        """Hear of no task any more."""
        self._cluster.schedulers.remove(self._on_status)

    def put(self, raw: Json) -> Pod:
        """A new pod, or another number of instances of one. Raises BadApp, and NoAgent when nothing takes it."""
        try:
            definition = msgspec.convert(raw, PodDefinition)
        except msgspec.ValidationError as error:
            raise BadApp(str(error)) from None
        now = self._cluster.now()
        pod = self.by_id.get(definition.id)
        kind = "pod_created_event" if pod is None else "pod_updated_event"
        if pod is None:
            pod = self.by_id[definition.id] = Pod(raw, definition, stamp(now))
        pod.raw, pod.definition = raw, definition
        self._events.publish(kind, now, clientIp="127.0.0.1", uri=f"/v2/pods{definition.id}")
        while len(pod.instances) < definition.scaling.instances:
            self._start(pod)
        for instance in pod.instances[definition.scaling.instances :]:
            self._end(instance)
        return pod

    def remove(self, pod: Pod) -> None:
        """The pod and its tasks go."""
        del self.by_id[pod.definition.id]
        for instance in list(pod.instances):
            self._end(instance)
        now = self._cluster.now()
        self._events.publish("pod_deleted_event", now, clientIp="127.0.0.1", uri=f"/v2/pods{pod.definition.id}")

    def set_health(self, pod: Pod, instance: PodInstance, container: str, healthy: bool) -> None:
        """The result of a container's check."""
        self._cluster.health(instance.tasks[container], healthy)
        self._events.publish(
            "instance_health_changed_event",
            self._cluster.now(),
            instanceId=instance.id,
            runSpecId=pod.definition.id,
            healthy=healthy,
            runSpecVersion=instance.version,
        )

    def _start(self, pod: Pod) -> None:
        agent, definition = self._pick(), pod.definition
        prefix = "_".join(part for part in definition.id.split("/") if part)
        first, address = None, None
        for container in definition.containers:
            spec = TaskSpec(
                name=container.name,
                task_prefix=prefix,
                ports=tuple(
                    PortSpec(item.name, item.container_port, ",".join(item.protocol), item.labels)
                    for item in container.endpoints
                ),
                labels=definition.labels,
                network=definition.network,
                check=Check.TCP if container.health_check else Check.NONE,
            )
            task = self._cluster.launch(self._framework, spec, agent, container=container.name)
            address = task.addresses if address is None else address
            task.addresses = address  # the containers of a pod share its network
            if first is None:
                name = task.id.rpartition(f".{container.name}.")[0]
                first = PodInstance(name, agent, pod.version, stamp(self._cluster.now()))
                pod.instances.append(first)
            first.tasks[container.name] = task
            self._owners[task.id] = (pod, first)
            self._cluster.update(task, "TASK_STARTING")
            self._cluster.update(task, "TASK_RUNNING")

    def _end(self, instance: PodInstance) -> None:
        for task in list(instance.tasks.values()):
            self._cluster.kill(task)

    def _on_status(self, task: Task, status: Status) -> None:
        owner = self._owners.get(task.id)
        if owner is None:
            return
        pod, instance = owner
        if status.state in TERMINAL:
            del self._owners[task.id]
            instance.tasks = {name: kept for name, kept in instance.tasks.items() if kept is not task}
            if not instance.tasks and instance in pod.instances:
                pod.instances.remove(instance)
        self._events.publish(
            "instance_changed_event",
            self._cluster.now(),
            instanceId=instance.id,
            condition=status.state.removeprefix("TASK_").capitalize(),
            runSpecId=pod.definition.id,
            agentId=instance.agent.id,
            host=instance.agent.hostname,
            runSpecVersion=instance.version,
        )


def pod_json(pod: Pod) -> Json:
    """A pod's status, as in /v2/pods/ID::status."""
    stable = all(task.state == "TASK_RUNNING" for instance in pod.instances for task in instance.tasks.values())
    return {
        "id": pod.definition.id,
        "spec": {"labels": {}, "networks": [{"mode": "host"}], **pod.raw, "version": pod.version},
        "status": "STABLE" if stable else "DEGRADED",
        "statusSince": pod.version,
        "instances": [_instance_json(pod, instance) for instance in pod.instances],
        "terminationHistory": [],
        "lastUpdated": pod.version,
        "lastChanged": pod.version,
    }


def _instance_json(pod: Pod, instance: PodInstance) -> Json:
    addresses = next(iter(instance.tasks.values())).addresses if instance.tasks else ()
    specs = {container.name: container for container in pod.definition.containers}
    return {
        "id": instance.id,
        "status": "STABLE",
        "statusSince": instance.since,
        "conditions": [],
        "agentHostname": instance.agent.hostname,
        "agentId": instance.agent.id,
        "networks": [{"addresses": [address for _, address in addresses]}],
        "containers": [_container_json(specs[name], task, instance) for name, task in instance.tasks.items()],
        "specReference": f"/v2/pods{pod.definition.id}::versions/{instance.version}",
        "localVolumes": [],
        "lastUpdated": instance.since,
        "lastChanged": instance.since,
        "role": "*",
    }


def _container_json(container: _Container, task: Task, instance: PodInstance) -> Json:
    endpoints: list[Json] = []
    for number, endpoint in enumerate(container.endpoints):
        found: Json = {"name": endpoint.name}
        if number < len(task.host_ports):
            found["allocatedHostPort"] = task.host_ports[number]
        endpoints.append(found)
    conditions: list[Json] = []
    if container.health_check:
        conditions.append(
            {
                "name": "healthy",
                "lastChanged": instance.since,
                "lastUpdated": instance.since,
                "value": "true" if task.healthy else "false",
                "reason": UNREPORTED if task.healthy is None else REPORTED,
            }
        )
    return {
        "name": container.name,
        "status": task.state,
        "statusSince": instance.since,
        "conditions": conditions,
        "containerId": task.id,
        "endpoints": endpoints,
        "lastUpdated": instance.since,
        "lastChanged": instance.since,
    }


def pod_routes(pods: Pods) -> list[web.RouteDef]:
    """/v2/pods and what hangs below it."""

    def known(name: str) -> Pod:
        pod = pods.by_id.get("/" + name.strip("/"))
        if pod is None:
            raise web.HTTPNotFound(
                text=v1.encode({"message": f"Pod '/{name}' does not exist"}).decode(), content_type="application/json"
            )
        return pod

    def answer(data: object, status: int = 200) -> web.Response:
        if not pods.enabled:
            raise web.HTTPNotFound(text="no pods in this version")
        return web.Response(status=status, body=v1.encode(data), content_type="application/json")

    async def collection(request: web.Request) -> web.Response:
        if request.method == "POST":
            raw = msgspec.json.decode(await request.read(), type=dict[str, Any])
            return answer(pods.put(raw).raw, 201)
        return answer([pod.raw for pod in pods.by_id.values()])

    async def statuses(request: web.Request) -> web.Response:
        shown = []
        for pod in list(pods.by_id.values()):
            shown.append(pod_json(pod))
            await asyncio.sleep(0)
        return answer(shown)

    async def one(request: web.Request) -> web.Response:
        name, _, view = request.match_info["pod"].partition("::")
        if request.method == "PUT":
            raw = msgspec.json.decode(await request.read(), type=dict[str, Any])
            return answer(pods.put({**raw, "id": "/" + name.strip("/")}).raw)
        pod = known(name)
        if request.method == "DELETE":
            pods.remove(pod)
            return web.Response(status=202)
        return answer(pod_json(pod) if view == "status" else pod.raw)

    return [
        web.route("*", "/v2/pods", collection),
        web.get("/v2/pods::status", statuses),
        web.route("*", r"/v2/pods/{pod:.+}", one),
    ]
