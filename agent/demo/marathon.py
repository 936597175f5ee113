"""The simulated Marathon's scheduler: it keeps as many instances of each app running as the app asks for.

Its tasks run on the simulated Mesos cluster. With `servers` each task is a real HTTP server; with
a `pace` the steps staging, starting, running, healthy take that many seconds each. A task that ends
by itself is replaced in a later turn of the loop; an unreachable one is kept (as with
unreachableStrategy "disabled").
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Coroutine
from typing import Any

from agent.demo import marathon_apps
from agent.demo.cluster import Cluster
from agent.demo.marathon_apps import App, BadApp, Instance, Json, stamp
from agent.demo.marathon_events import EventBus
from agent.demo.marathon_pods import Pods
from agent.demo.task_servers import TaskServers
from agent.demo.world import TERMINAL, Agent, Framework, Status, Task

log = logging.getLogger(__name__)


class NoAgent(RuntimeError):
    """There is no agent to run a task on."""


class Marathon:
    """Apps and their instances. `framework` is its entry in Mesos."""

    def __init__(
        self,
        cluster: Cluster,
        framework: Framework,
        *,
        servers: TaskServers | None = None,
        pace: float = 0.0,
        keep_alive: float = 5.0,
    ) -> None:
        self.cluster = cluster
        self.framework = framework
        self.events = EventBus(keep_alive=keep_alive)
        self.pods = Pods(cluster, framework, self.events, self.pick_agent)
        self.apps: dict[str, App] = {}
        self.by_task: dict[str, App] = {}
        self.pace = pace
        self._servers = servers
        self._background: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._next_agent = 0
        self._agents_key = (-1, -1)
        self._agents_list: list[Agent] = []
        self._next_service_port = marathon_apps.FIRST_SERVICE_PORT
        self._supervised: set[str] = set()
        self._held_back: dict[str, float] = {}
        self._versions = 0
        cluster.schedulers.append(self._on_status)

    # Apps

    def new_app(self, raw: Json) -> App:
        """An app from a whole definition, with service ports assigned; not yet among `apps`. Raises BadApp."""
        definition = marathon_apps.read(raw)
        wanted = max(len(definition.port_definitions or [1]), 1)
        if definition.container and definition.container.port_mappings:
            wanted = max(wanted, len(definition.container.port_mappings))
        ports = [self._service_port() for _ in range(wanted)]
        raw = marathon_apps.with_service_ports(raw, ports)
        definition = marathon_apps.read(raw)
        version = self.version()
        return App(
            raw=raw,
            definition=definition,
            spec=marathon_apps.task_spec(definition),
            version=version,
            scaled_at=version,
            configured_at=version,
            service_ports=marathon_apps.service_ports(definition),
        )

    def changed_app(self, old: App, change: Json, *, partial: bool = True) -> tuple[App, bool]:
        """The app after an update, and whether its tasks have to be replaced. Raises BadApp.

        A partial update leaves alone what it doesn't name; otherwise `change` is the whole definition.
        """
        if change.get("id", old.definition.id) != old.definition.id:
            raise BadApp(f"id: {change['id']!r} can't be changed from {old.definition.id!r}")
        new = self.new_app({**old.raw, **change} if partial else {"id": old.definition.id, **change})
        compared = (old.raw.keys() | new.raw.keys()) - {"instances", "version"}
        restart = any(old.raw.get(key) != new.raw.get(key) for key in compared)
        if not restart:
            new.configured_at = old.configured_at
        new.previous = {**old.raw, "instances": old.definition.instances}
        new.instances = old.instances
        return new, restart

    def _service_port(self) -> int:
        port = self._next_service_port
        self._next_service_port = port + 1 if port < 20000 else marathon_apps.FIRST_SERVICE_PORT
        return port

    def version(self) -> str:
        """A new version: a time, later than all before it."""
        self._versions += 1
        return stamp(self.cluster.now() + self._versions / 1000)

    def create_now(self, raw: Json) -> App:
        """A new app whose instances run at once; for building a large cluster, without pace and servers."""
        app = self.new_app(raw)
        self.apps[app.definition.id] = app
        for _ in range(app.definition.instances):
            self.start_now(app)
        return app

    # Instances

    def pick_agent(self) -> Agent:
        """The next agent that takes tasks, in turn. Raises NoAgent."""
        agents = self._agents()
        for _ in range(len(agents)):
            agent = agents[self._next_agent % len(agents)]
            self._next_agent += 1
            if agent.heard and not agent.deactivated and agent.id in self.cluster.agents:
                return agent
        raise NoAgent("no agent takes tasks: add one or let one return")

    def _agents(self) -> list[Agent]:
        """The agents as a list, made anew only when some came or went."""
        key = (self.cluster.agents_made, len(self.cluster.agents))
        if key != self._agents_key:
            self._agents_key, self._agents_list = key, list(self.cluster.agents.values())
        return self._agents_list

    def _register(self, app: App, task: Task) -> Instance:
        instance = Instance(task, app.version, stamp(self.cluster.now()))
        app.instances[task.id] = instance
        self.by_task[task.id] = app
        return instance

    def start_now(self, app: App) -> Task:
        """One more instance that runs (and is healthy, if checked) before this returns."""
        task = self.cluster.launch(self.framework, app.spec, self.pick_agent())
        instance = self._register(app, task)
        self.cluster.update(task, "TASK_STARTING")
        self.cluster.update(task, "TASK_RUNNING")
        if app.checked:
            self.set_health(instance, app.wants_healthy)
        return task

    def hold_back(self, app_id: str, seconds: float) -> None:
        """Launch no instance of an app for so long, as after failed starts; 0: at once again."""
        self._held_back[app_id] = asyncio.get_running_loop().time() + seconds
        self._wake()

    def delay(self, app_id: str) -> float:
        """Seconds until instances of an app are launched again."""
        until = self._held_back.get(app_id)
        return 0.0 if until is None else max(0.0, until - asyncio.get_running_loop().time())

    async def _until_launched(self, app_id: str) -> None:
        while (delay := self.delay(app_id)) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self.change()

    async def start(self, app: App) -> None:
        """One more instance, at the pace of the simulation and with its server. Raises NoAgent, OSError."""
        app.starting += 1
        try:
            await self._until_launched(app.definition.id)
            started, app = app, self.apps.get(app.definition.id, app)
            if app is not started and len(app.instances) >= app.definition.instances:
                return  # it was scaled down meanwhile
            task = await self._launch(app, self.pick_agent())
        finally:
            app = self.apps.get(app.definition.id, app)  # an update has taken over the number
            app.starting = max(0, app.starting - 1)
            self._wake()
        instance = app.instances[task.id]
        for state in ("TASK_STARTING", "TASK_RUNNING"):
            await asyncio.sleep(self.pace)
            if task.id not in app.instances:
                return  # killed meanwhile
            self.cluster.update(task, state)
        if app.checked:
            await asyncio.sleep(self.pace)
            if task.id in app.instances and task.state == "TASK_RUNNING":
                self.set_health(instance, app.wants_healthy)

    async def _launch(self, app: App, agent: Agent) -> Task:
        if self._servers is None:
            task = self.cluster.launch(self.framework, app.spec, agent)
        elif app.spec.network.maps_host_ports:
            free = (agent.free_port() for _ in itertools.count())
            server = await self._servers.open(agent.address, free, len(app.spec.ports))
            task = self.cluster.launch(self.framework, app.spec, agent, host_ports=server.ports)
            self._servers.name(server, task.id)
        else:
            task = self.cluster.launch(self.framework, app.spec, agent)
            numbers = [port.number for port in app.spec.ports]
            server = await self._servers.open(task.addresses[0][1], numbers, len(numbers))
            self._servers.name(server, task.id)
        self._register(app, task)
        return task

    def set_health(self, instance: Instance, healthy: bool) -> None:
        """A health check's result: of Mesos where it is Mesos' check, else Marathon's alone."""
        app = self.by_task[instance.task.id]
        was, instance.alive = instance.alive, healthy
        instance.checked_at = stamp(self.cluster.now())
        instance.failures = 0 if healthy else instance.failures + 1
        if self._servers is not None and instance.task.id in self._servers.by_task:
            self._servers.by_task[instance.task.id].healthy = healthy
        if app.spec.check:
            self.cluster.health(instance.task, healthy)
        if was is not healthy:
            self._publish_health(app, instance, healthy)
        self._wake()

    def _publish_health(self, app: App, instance: Instance, healthy: bool) -> None:
        facts = {"appId": app.definition.id, "taskId": instance.task.id, "version": instance.version, "alive": healthy}
        name = instance.task.id.rpartition("._app")[0]
        self.events.publish("health_status_changed_event", self.cluster.now(), instanceId=name, **facts)

    async def kill(self, task: Task) -> None:
        """Kills a task at the pace of the simulation; its server stops with it."""
        if task.framework.killing_state and task.state != "TASK_KILLING":
            self.cluster.update(task, "TASK_KILLING")
            await asyncio.sleep(self.pace)
        if task.state == "TASK_KILLING" or not task.framework.killing_state:
            self.cluster.update(task, "TASK_KILLED", message="Command terminated with signal Terminated")

    def _on_status(self, task: Task, status: Status) -> None:
        app = self.by_task.get(task.id)
        if app is None:
            return
        instance = app.instances.get(task.id)
        if instance is None:
            return
        if status.state == "TASK_RUNNING" and not instance.started_at:
            instance.started_at = stamp(status.timestamp)
        if status.healthy is None or status.state != "TASK_RUNNING":
            self._publish_status(app, task, status)
        if status.state in TERMINAL:
            del app.instances[task.id], self.by_task[task.id]
            if self._servers is not None:
                self.spawn(self._servers.stop(task.id))
            self.supervise(app)
        self._wake()

    def _publish_status(self, app: App, task: Task, status: Status) -> None:
        self.events.publish(
            "status_update_event",
            self.cluster.now(),
            slaveId=task.agent.id,
            taskId=task.id,
            taskStatus=status.state,
            message=status.message,
            appId=app.definition.id,
            host=task.agent.hostname,
            ipAddresses=[{"ipAddress": address, "protocol": kind} for kind, address in task.addresses],
            ports=list(task.host_ports),
            version=app.version,
        )

    # Supervision

    def supervise(self, app: App) -> None:
        """Have the app's number of instances looked at in a later turn, if a loop runs."""
        name = app.definition.id
        if name in self._supervised or self.apps.get(name) is None:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # a cluster that is built before it runs
        self._supervised.add(name)
        self.spawn(self._refill(name))

    async def _refill(self, name: str) -> None:
        await asyncio.sleep(self.pace)
        self._supervised.discard(name)
        app = self.apps.get(name)
        if app is not None and not self.held(name):
            await self.fill(app)

    def held(self, name: str) -> bool:
        """Whether something else (a deployment) sees to the number of this app's instances now."""
        return False

    async def fill(self, app: App) -> None:
        """Start what is missing, all at once; returns when they run."""
        missing = app.definition.instances - len(app.instances) - app.starting
        results = await asyncio.gather(*(self.start(app) for _ in range(missing)), return_exceptions=True)
        for error in results:
            if isinstance(error, NoAgent | OSError):
                log.warning("instance not started: app=%s reason=%s", app.definition.id, error)
            elif isinstance(error, BaseException):
                raise error

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the background until it ends or Marathon closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("simulated Marathon: background work failed", exc_info=task.exception())

    def _wake(self) -> None:
        self._changed.set()

    async def change(self) -> None:
        """Wait until some instance changes."""
        self._changed.clear()
        await self._changed.wait()

    async def close(self) -> None:
        """End background work, streams and servers; the cluster's tasks stay as they are."""
        if self._on_status not in self.cluster.schedulers:
            return  # it did already
        self.cluster.schedulers.remove(self._on_status)
        self.pods.close()
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self.events.close()
        if self._servers is not None:
            await self._servers.close()
