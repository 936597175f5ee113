"""A large simulated cluster: how its agents, apps and tasks are laid out, and how they churn.

Deterministic by seed: the same numbers give the same names, addresses and sequence of changes.
"""

from __future__ import annotations

import asyncio
import random

import msgspec

from agent.demo.cluster import Cluster
from agent.demo.marathon import Marathon
from agent.demo.marathon_apps import App, Json
from agent.demo.spec import PortSpec, TaskSpec
from agent.demo.world import FIRST_PORT, LAST_PORT, Task

TASKS_PER_APP = 20
OTHERS = 20  # every 20th task is the second Marathon's, every 20th Chronos'
APPS_PER_TURN = 20


class Size(msgspec.Struct, frozen=True):
    """How large. Raises ValueError when the agents could not hold the tasks."""

    nodes: int
    tasks: int

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.tasks < 0:
            raise ValueError(f"nodes={self.nodes} must be at least 1 and tasks={self.tasks} not negative")
        if self.tasks / self.nodes > (LAST_PORT - FIRST_PORT) * 0.9:
            raise ValueError(f"tasks={self.tasks} need more than nodes={self.nodes}: an agent has about 1000 ports")

    @property
    def other_tasks(self) -> int:
        """Tasks of each of the two further frameworks."""
        return self.tasks // OTHERS

    @property
    def marathon_tasks(self) -> int:
        """Tasks of the Marathon whose API is served."""
        return self.tasks - 2 * self.other_tasks


def app_definition(number: int, instances: int) -> Json:
    """App number so-and-so: its network mode, check and labels vary with the number."""
    name = f"app-{number:05d}"
    port = {"name": "http", "protocol": "tcp", "labels": {"VIP_0": f"/{name}:80"}}
    app: Json = {
        "id": f"/group-{number % 50:02d}/{name}",
        "cmd": "serve",
        "instances": instances,
        "cpus": 0.1,
        "mem": 32,
        "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": f"{name}.example.test"},
    }
    if number % 3:
        app["healthChecks"] = [{"protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0}]
    kind = number % 10
    if kind < 5:
        return app | {"networks": [{"mode": "host"}], "portDefinitions": [{"port": 0, **port}]}
    mapping = {"containerPort": 8080, **port}
    if kind < 7:
        container: Json = {"type": "MESOS", "portMappings": [{**mapping, "hostPort": 0}]}
        return app | {"networks": [{"mode": "container/bridge"}], "container": container}
    if kind < 8:
        container = {"type": "DOCKER", "docker": {"image": "nginx:1.25"}, "portMappings": [{**mapping, "hostPort": 0}]}
        return app | {"networks": [{"mode": "container/bridge"}], "container": container}
    container = {"type": "MESOS", "portMappings": [mapping]}
    return app | {"networks": [{"mode": "container", "name": "dcos"}], "container": container}


async def populate(cluster: Cluster, marathon: Marathon, size: Size) -> None:
    """Agents, the apps of the Marathon, and tasks of a second Marathon and a Chronos; in slices."""
    for _ in range(size.nodes):
        cluster.add_agent()
    apps = max(1, size.marathon_tasks // TASKS_PER_APP)
    for number in range(apps):
        share = size.marathon_tasks // apps + (number < size.marathon_tasks % apps)
        marathon.create_now(app_definition(number, share))
        if number % APPS_PER_TURN == 0:
            await asyncio.sleep(0)
    await _others(cluster, marathon, size.other_tasks)


async def _others(cluster: Cluster, marathon: Marathon, count: int) -> None:
    second = cluster.add_framework("marathon-user", principal="user", webui_url="http://127.0.0.1:8081")
    chronos = cluster.add_framework("chronos", capabilities=(), failover_timeout=604800.0)
    for number in range(count):
        port = PortSpec(name="api", labels={"VIP_0": f"/user-{number % 500}:80"})
        spec = TaskSpec(f"svc-{number % 500}.user", task_prefix=f"user_svc-{number % 500}", ports=(port,))
        cluster.start(second, spec, marathon.pick_agent())
        job = TaskSpec(f"ChronosTask:job-{number % 200}", task_prefix=f"ct:{number}:0:job-{number % 200}:")
        cluster.start(chronos, job, marathon.pick_agent())
        if number % (APPS_PER_TURN * TASKS_PER_APP) == 0:
            await asyncio.sleep(0)


class Churn:
    """Changes of tasks, one per `step`: starts and kills spread over the apps in balance, and health flips."""

    def __init__(self, marathon: Marathon, *, seed: int = 0, health_share: float = 0.1) -> None:
        self.counts = {"started": 0, "killed": 0, "health": 0}
        self._marathon = marathon
        self._random = random.Random(seed)
        self._health_share = health_share
        self._apps = list(marathon.apps.values())
        self._owed: list[App] = []

    @property
    def changes(self) -> int:
        """How many there were."""
        return sum(self.counts.values())

    def step(self) -> None:
        """One change."""
        dice = self._random.random()
        if dice < self._health_share and self._flip_health():
            return
        if self._owed and (dice < (1 + self._health_share) / 2 or not self._kill_one()):
            self._start_owed()
        elif not self._owed:
            self._kill_one()

    def _pick(self) -> App | None:
        return self._random.choice(self._apps) if self._apps else None

    def _flip_health(self) -> bool:
        app = self._pick()
        if app is None or not app.checked or not app.instances:
            return False
        instance = self._random.choice(list(app.instances.values()))
        self._marathon.set_health(instance, not instance.alive)
        self.counts["health"] += 1
        return True

    def _kill_one(self) -> bool:
        app = self._pick()
        if app is None or not app.instances:
            return False
        kill_one(self._marathon, app, self._random.choice(list(app.instances)))
        self._owed.append(app)
        self.counts["killed"] += 1
        return True

    def _start_owed(self) -> None:
        app = self._owed.pop(self._random.randrange(len(self._owed)))
        start_one(self._marathon, app)
        self.counts["started"] += 1


def start_one(marathon: Marathon, app: App) -> Task:
    """One instance more: the app asks for it, and it runs."""
    app.definition.instances += 1
    return marathon.start_now(app)


def kill_one(marathon: Marathon, app: App, task_id: str) -> Task:
    """One instance less: the app doesn't ask for it any more, and it is killed."""
    task = app.instances[task_id].task
    app.definition.instances = max(0, app.definition.instances - 1)
    marathon.cluster.kill(task)
    return task
