"""A simulated Marathon on a simulated cluster, and a MarathonSource on a catalog that follows it, for tests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Literal

from agent.demo.cluster import Cluster
from agent.demo.marathon_apps import App as SimulatedApp
from agent.demo.marathon_apps import Json
from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.marathon_instances import MarathonInstances
from agent.demo.population import kill_one, start_one
from mesos_dns.catalog import Catalog, Delta
from mesos_dns.config import MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import App, Health, HealthOverlay, Key, Task
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources.marathon import MarathonSource
from mesos_dns.sources.marathon_session import Timing
from tests.fakes.following import Hasty
from tests.fakes.replay import no_names

CHECK = [{"protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0}]


def app(name: str, instances: int = 1, **more: Any) -> Json:
    """An app's definition with a health check."""
    return {"id": name, "instances": instances, "healthChecks": CHECK, "labels": {"HAPROXY_GROUP": "external"}, **more}


class Marathons:
    """A cluster of two agents with one Marathon of some instances. Use as an async context manager."""

    def __init__(
        self,
        *apps: Json,
        count: int = 1,
        keep_alive: float = 0.05,
        credentials: tuple[str, str] | str | None = None,
        standby: Literal["redirect", "proxy", "redirect-all"] = "redirect",
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        hostnames: tuple[str, str] = ("", ""),
    ) -> None:
        self.cluster = Cluster(seed=7)
        for number, hostname in enumerate(hostnames):
            self.cluster.add_agent(f"10.7.0.{number + 1}", hostname=hostname)
        self.framework = self.cluster.add_framework("marathon")
        self.marathon = DeployingMarathon(self.cluster, self.framework, keep_alive=keep_alive)
        self.instances = MarathonInstances(
            self.marathon, count=count, credentials=credentials, standby=standby, tls=tls, host=host
        )
        self.faults = self.instances.faults
        for definition in apps:
            self.marathon.create_now(definition)

    async def __aenter__(self) -> Marathons:
        await self.instances.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.instances.__aexit__(None, None, None)

    @property
    def streams(self) -> int:
        """Open event streams."""
        return self.marathon.events.count

    def simulated(self, name: str) -> SimulatedApp:
        """An app of the simulation."""
        return self.marathon.apps[name]

    def start(self, name: str) -> str:
        """One instance more, told by an event; its task's id."""
        return start_one(self.marathon, self.simulated(name)).id

    def kill(self, name: str) -> str:
        """The oldest instance ends, told by an event; its task's id."""
        app = self.simulated(name)
        return kill_one(self.marathon, app, next(iter(app.instances))).id


class FollowedMarathon:
    """A catalog with a running MarathonSource. Use as an async context manager."""

    def __init__(
        self,
        *urls: str,
        hosts: Hosts | None = None,
        timing: Timing | None = None,
        publish_tasks: bool = False,
        catalog: Catalog | None = None,
        dice: Any = None,
        **settings: Any,
    ) -> None:
        self.catalog = catalog or Catalog()
        self.publisher = CatalogPublisher(self.catalog, "marathon")
        self.deltas: list[Delta] = []
        self.catalog.listen(self.deltas.append)
        self.source = MarathonSource(
            MarathonConfig(urls=urls, **{"resync": 0.0, **settings}),
            self.publisher,
            hosts=hosts or Hosts(resolve=no_names),
            timing=timing or Timing(check=3600.0, confirm=0.02),
            dice=dice or Hasty(),
            publish_tasks=publish_tasks,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FollowedMarathon:
        self._task = asyncio.create_task(self.source.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End the source."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def detail(self) -> str:
        """What the source's standing says."""
        return self.catalog.sources["marathon"].detail

    @property
    def stale(self) -> bool:
        """Whether what it says may be out of date."""
        return self.catalog.sources["marathon"].stale

    @property
    def counters(self) -> Any:
        """Of the source."""
        return self.source.counters

    def changes(self) -> dict[Key, object]:
        """The keys that changed since the last call, with what they are now."""
        self.catalog.flush()
        changed: dict[Key, object] = {key: after for delta in self.deltas for key, (_, after) in delta.changes.items()}
        self.deltas.clear()
        return changed

    def apps(self) -> dict[str, App]:
        """Apps and pods by id."""
        return {e.id: e for e in self.catalog.entities("app") if isinstance(e, App)}

    def overlays(self, name: str = "") -> dict[str, HealthOverlay]:
        """Overlays by task id, of one app."""
        found = (e for e in self.catalog.entities("health") if isinstance(e, HealthOverlay))
        return {e.task_id: e for e in found if not name or e.app == name}

    @property
    def count(self) -> int:
        """Overlays of all Marathons."""
        return sum(1 for _ in self.catalog.entities("health"))

    def tasks(self) -> dict[str, Task]:
        """Tasks by id."""
        return {e.id: e for e in self.catalog.entities("task") if isinstance(e, Task)}

    def healthy(self, name: str) -> set[str]:
        """Ids of an app's healthy tasks."""
        return {task_id for task_id, e in self.overlays(name).items() if e.health is Health.HEALTHY}

    async def until(self, condition: Callable[[], object], limit: float = 30.0) -> None:
        """Wait until `condition` holds; fails after `limit` seconds with what there is."""
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            status = self.catalog.sources["marathon"]
            errors = dict(self.counters.errors)
            raise AssertionError(f"not reached; apps={sorted(self.apps())} status={status} errors={errors}") from None

    async def synced(self) -> None:
        """Wait until it follows."""
        await self.until(lambda: not self.stale)
