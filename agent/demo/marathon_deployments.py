"""Deployments of the simulated Marathon: scaling, rolling restart, removal; and the locks they hold.

A deployment locks its app: another change is refused until it is done, or takes its place with
`force`. Like Marathon's, a deployment whose new instances never get ready never ends by itself.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from agent.demo.cluster import Cluster
from agent.demo.marathon import Marathon, NoAgent
from agent.demo.marathon_apps import App, Json
from agent.demo.world import Framework, Task

RETRY = 0.2


class Locked(Exception):
    """Another deployment has the app."""

    def __init__(self, deployments: list[str]) -> None:
        super().__init__("App is locked by one or more deployments.")
        self.deployments = deployments


@dataclass(slots=True, eq=False)
class Deployment:
    """A plan of one step with one action on one app."""

    id: str
    version: str
    app_id: str
    action: str
    before: Json | None
    victims: frozenset[str] = frozenset()
    work: asyncio.Task[None] | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def plan(self) -> Json:
        """As in the events."""
        return {"id": self.id, "version": self.version, "steps": [{"actions": [self._action()]}]}

    def _action(self) -> Json:
        return {"action": self.action, "app": self.app_id}

    def json(self) -> Json:
        """As in /v2/deployments."""
        return {
            "id": self.id,
            "version": self.version,
            "affectedApps": [self.app_id],
            "affectedPods": [],
            "steps": [{"actions": [self._action()]}],
            "currentActions": [{**self._action(), "readinessCheckResults": []}],
            "currentStep": 1,
            "totalSteps": 1,
        }


class DeployingMarathon(Marathon):
    """A Marathon whose apps change by deployments."""

    def __init__(self, cluster: Cluster, framework: Framework, **options: object) -> None:
        super().__init__(cluster, framework, **options)  # type: ignore[arg-type]
        self.deployments: dict[str, Deployment] = {}
        self._deployments_made = 0

    def of_app(self, app_id: str) -> list[str]:
        """The deployments that hold an app."""
        return [deployment.id for deployment in self.deployments.values() if deployment.app_id == app_id]

    def held(self, name: str) -> bool:
        """Whether a deployment sees to this app."""
        return any(deployment.app_id == name for deployment in self.deployments.values())

    def create(self, raw: Json) -> Deployment:
        """A new app. Raises BadApp, Locked."""
        app = self.new_app(raw)
        deployment = self._begin(app.definition.id, "StartApplication", None, force=False)
        deployment.version = app.version
        self.apps[app.definition.id] = app
        return self._run(deployment, app)

    def update(
        self,
        old: App,
        change: Json,
        *,
        force: bool = False,
        restart: bool = False,
        partial: bool = True,
        victims: frozenset[str] = frozenset(),
    ) -> Deployment:
        """An update: scales, or replaces the tasks when more than the number changes. Raises BadApp, Locked.

        `victims`: these tasks are killed first of all.
        """
        new, replaces = self.changed_app(old, change, partial=partial)
        action = "RestartApplication" if replaces or restart else "ScaleApplication"
        deployment = self._begin(old.definition.id, action, new.previous, force=force)
        deployment.victims, deployment.version = victims, new.version
        new.starting = old.starting
        self.apps[new.definition.id] = new
        for task_id in new.instances:
            self.by_task[task_id] = new
        return self._run(deployment, new)

    def remove(self, app: App, *, force: bool = False) -> Deployment:
        """The app and its tasks go. Raises Locked."""
        deployment = self._begin(app.definition.id, "StopApplication", None, force=force)
        return self._run(deployment, app)

    def cancel(self, deployment: Deployment, *, force: bool = False) -> Deployment | None:
        """Ends a deployment; without `force` a new one takes the app back to what it was before."""
        self._forget(deployment)
        self._publish("deployment_failed", deployment)
        app = self.apps.get(deployment.app_id)
        if force or app is None:
            return None
        if deployment.before is None:
            return self.remove(app, force=True)
        return self.update(app, deployment.before, force=True, partial=False)

    def _begin(self, app_id: str, action: str, before: Json | None, *, force: bool) -> Deployment:
        holders = self.of_app(app_id)
        if holders and not force:
            raise Locked(holders)
        for holder in holders:
            replaced = self.deployments[holder]
            self._forget(replaced)
            self._publish("deployment_failed", replaced)
        self._deployments_made += 1
        name = f"{self._deployments_made:08x}-0000-4000-8000-{self.cluster.random.getrandbits(48):012x}"
        return Deployment(name, self.version(), app_id, action, before)

    def _run(self, deployment: Deployment, app: App) -> Deployment:
        self.deployments[deployment.id] = deployment
        now = self.cluster.now()
        self.events.publish("api_post_event", now, clientIp="127.0.0.1", uri="/v2/apps", appDefinition=app.raw)
        self.events.publish(
            "deployment_info", now, plan=deployment.plan(), currentStep={"actions": deployment.plan()["steps"][0]}
        )
        deployment.work = self.spawn(self._carry_out(deployment, app))
        return deployment

    async def _carry_out(self, deployment: Deployment, app: App) -> None:
        if deployment.action == "StopApplication":
            self.apps.pop(app.definition.id, None)
            await self._kill([instance.task for instance in app.instances.values()])
            self.events.publish("app_terminated_event", self.cluster.now(), appId=app.definition.id)
        elif deployment.action == "RestartApplication":
            await self._replace_old(app)
        else:
            await self._reach_size(app, deployment.victims)
        self._forget(deployment, cancel=False)
        self._publish("deployment_step_success", deployment)
        self._publish("deployment_success", deployment)

    async def _reach_size(self, app: App, victims: frozenset[str]) -> None:
        """As many instances as asked for, all ready; the victims go first, then the youngest."""
        await self._kill([instance.task for name, instance in app.instances.items() if name in victims])
        extra = list(app.instances.values())[app.definition.instances :]
        await self._kill([instance.task for instance in extra])
        await self._start(app, app.definition.instances - len(app.instances) - app.starting)
        while len(app.instances) != app.definition.instances or not all(map(app.ready, app.instances.values())):
            await self.change()
            await self._start(app, app.definition.instances - len(app.instances) - app.starting)

    async def _replace_old(self, app: App) -> None:
        """Instances of the new version for the old ones, within the upgrade strategy's bounds."""
        size = app.definition.instances
        strategy = app.definition.upgrade_strategy
        floor = math.ceil(size * strategy.minimum_health_capacity)
        most = math.floor(size * (1 + strategy.maximum_over_capacity))
        if most <= floor:
            most = floor + 1
        while True:
            new = [instance for instance in app.instances.values() if instance.version == app.version]
            old = [instance for instance in app.instances.values() if instance.version != app.version]
            ready = sum(map(app.ready, new))
            if not old and ready == size == len(new):
                return
            spare = min(len(old), max(0, ready + len(old) - floor))
            room = min(size - len(new) - app.starting, most - len(new) - len(old) - app.starting)
            if spare:
                await self._kill([instance.task for instance in old[:spare]])
            elif room > 0:
                await self._start(app, room)
            else:
                await self.change()

    async def _start(self, app: App, count: int) -> None:
        if count <= 0:
            return
        results = await asyncio.gather(*(self.start(app) for _ in range(count)), return_exceptions=True)
        errors = [error for error in results if isinstance(error, BaseException)]
        for error in errors:
            if not isinstance(error, NoAgent | OSError):
                raise error
        if errors:  # offers may come later: the app waits in the queue
            await asyncio.sleep(RETRY)
            self._wake()

    async def _kill(self, tasks: list[Task]) -> None:
        await asyncio.gather(*(self.kill(task) for task in tasks))

    def _forget(self, deployment: Deployment, *, cancel: bool = True) -> None:
        self.deployments.pop(deployment.id, None)
        deployment.done.set()
        if cancel and deployment.work is not None:
            deployment.work.cancel()

    def _publish(self, kind: str, deployment: Deployment) -> None:
        self.events.publish(kind, self.cluster.now(), id=deployment.id, plan=deployment.plan())
