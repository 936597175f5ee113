"""The book of all Marathons that are followed: what was said of them, and how to say more.

Turns what documents tell into entities with addresses, says tasks again when their host's name gets another address,
and lets an app go together with its tasks. Where no other source tells of tasks, they are said here too. Nothing else
of the source writes to the publisher.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from mesos_dns.hosts import Hosts
from mesos_dns.model import App, Framework, Health, HealthOverlay, Key, canonical_address
from mesos_dns.sources import Publisher
from mesos_dns.sources.marathon_read import ReadApp
from mesos_dns.sources.marathon_tasks import task_of
from mesos_dns.sources.pace import Pace


class MarathonBook:
    """See the module. `kept_hosts` are names that are needed whoever runs on them: Marathon's own."""

    def __init__(self, publish: Publisher, cluster: str, hosts: Hosts, *, publish_tasks: bool = False) -> None:
        self.cluster = cluster
        self.kept_hosts: frozenset[str] = frozenset()
        self._publish = publish
        self._hosts = hosts
        self._publish_tasks = publish_tasks
        self._tasks: dict[str, dict[str, set[str]]] = {}
        self._users: dict[str, set[Key]] = {}

    async def index(self) -> None:
        """Build the indexes from what was said, restored state included."""
        self._tasks, self._users = {}, {}
        pace = Pace()
        for entity in list(self._publish.said().values()):
            if isinstance(entity, App):
                self._of(entity.framework_id).setdefault(entity.id, set())
            elif isinstance(entity, HealthOverlay):
                self._of(entity.framework_id).setdefault(entity.app, set()).add(entity.task_id)
                self._use(entity)
            await pace.turn()

    def frameworks(self) -> set[str]:
        """Ids of the frameworks of which anything was said."""
        return set(self._tasks)

    def apps(self, framework_id: str) -> Collection[str]:
        """Ids of a framework's apps and pods."""
        return self._tasks.get(framework_id, {})

    def task_count(self, framework_id: str) -> int:
        """Tasks of a framework."""
        return sum(map(len, self._tasks.get(framework_id, {}).values()))

    async def serving(self, framework_id: str) -> set[str]:
        """Ids of a framework's apps and pods of which a task runs, and is healthy where it is checked."""
        found, pace = set(), Pace()
        for app_id, tasks in list(self._tasks.get(framework_id, {}).items()):
            if any(self._serves(framework_id, task_id) for task_id in list(tasks)):
                found.add(app_id)
            await pace.turn()
        return found

    def _serves(self, framework_id: str, task_id: str) -> bool:
        overlay = self._overlay(framework_id, task_id)
        return (
            overlay is not None and overlay.state == "TASK_RUNNING" and overlay.health in (Health.NONE, Health.HEALTHY)
        )

    def app(self, framework_id: str, app_id: str) -> App | None:
        """An app or pod that was said."""
        entity = self._publish.said().get(("app", self.cluster, framework_id, app_id))
        return entity if isinstance(entity, App) else None

    def health(self, framework_id: str, task_id: str) -> Health | None:
        """The health that was last said of a task."""
        entity = self._overlay(framework_id, task_id)
        return entity.health if entity is not None else None

    def deploying(self, framework_id: str, deployment: str) -> list[str]:
        """Ids of the apps that a deployment works on, as far as was said."""
        apps = (self.app(framework_id, app_id) for app_id in self.apps(framework_id))
        return [app.id for app in apps if app is not None and deployment in app.deployments]

    def put_framework(self, framework_id: str, name: str) -> None:
        """Say a Marathon, where no other source tells of frameworks: names of tasks end in its name."""
        if self._publish_tasks:
            self._publish.put(Framework(framework_id, name, cluster=self.cluster))

    def put(self, read: ReadApp) -> None:
        """Say an app and its tasks; those that it no longer has are no more."""
        app = read.app
        self._publish.put(app)
        tasks = self._of(app.framework_id).setdefault(app.id, set())
        now = set()
        for overlay in read.overlays:
            now.add(overlay.task_id)
            self._put(app, overlay)
        gone = set()
        if read.tasks_told:
            bad = {name for name, _ in read.bad_tasks}
            if "" not in bad:  # it could be any of them
                gone = tasks - now - bad
        tasks |= now
        for task_id in gone:
            self._drop(app.framework_id, app.id, task_id)
        tasks -= gone

    def gone(self, framework_id: str, app_id: str) -> None:
        """An app is no more."""
        tasks = self._of(framework_id).pop(app_id, set())
        for task_id in tasks:
            self._drop(framework_id, app_id, task_id)
        self._publish.drop(("app", self.cluster, framework_id, app_id))

    async def replace(
        self, framework_id: str, reads: Iterable[ReadApp], kept: Collection[str], newer: Collection[str]
    ) -> None:
        """Say everything of a framework, in slices; apps that are neither read nor `kept` are no more.

        `newer` are apps that were read alone meanwhile: what was said of them stays. It may grow while this runs.
        """
        pace, seen = Pace(), set()
        for read in reads:
            seen.add(read.app.id)
            if read.app.id not in newer:
                self.put(read)
            await pace.turn()
        for app_id in list(self.apps(framework_id)):
            if app_id not in seen and app_id not in kept and app_id not in newer:
                self.gone(framework_id, app_id)
            await pace.turn()

    async def drop_framework(self, framework_id: str) -> None:
        """Nothing of a framework is wanted any more."""
        pace = Pace()
        for app_id in list(self.apps(framework_id)):
            self.gone(framework_id, app_id)
            await pace.turn()
        self._tasks.pop(framework_id, None)
        if self._publish_tasks:
            self._publish.drop(("framework", self.cluster, framework_id))

    async def tidy(self) -> None:
        """Tasks that were said while no other source told of them are not said any more, where one does now."""
        if self._publish_tasks:
            return
        pace = Pace()
        for key in [key for key in self._publish.said() if key[0] in ("task", "framework")]:
            self._publish.drop(key)
            await pace.turn()

    def host_changed(self, host: str) -> None:
        """A name was resolved to other addresses: say again who runs there."""
        for key in list(self._users.get(host, ())):
            overlay = self._publish.said().get(key)
            if isinstance(overlay, HealthOverlay):
                app = self.app(overlay.framework_id, overlay.app)
                if app is not None:
                    self._put(app, overlay)

    def _of(self, framework_id: str) -> dict[str, set[str]]:
        return self._tasks.setdefault(framework_id, {})

    def _overlay(self, framework_id: str, task_id: str) -> HealthOverlay | None:
        entity = self._publish.said().get(("health", self.cluster, framework_id, task_id))
        return entity if isinstance(entity, HealthOverlay) else None

    def _put(self, app: App, overlay: HealthOverlay) -> None:
        """Say a task; one whose host's name is being resolved keeps the addresses that it had."""
        before = self._overlay(overlay.framework_id, overlay.task_id)
        addresses = self._hosts.lookup(overlay.host) if overlay.host else ()
        if addresses is None:
            addresses = before.host_addresses if before is not None and before.host == overlay.host else ()
        if addresses != overlay.host_addresses:
            overlay = msgspec.structs.replace(overlay, host_addresses=addresses)
        if before is None or before.host != overlay.host:
            if before is not None:
                self._unuse(before)
            self._use(overlay)
        if before != overlay:
            self._publish.put(overlay)
        if self._publish_tasks:
            self._publish.put(task_of(app, overlay))

    def _drop(self, framework_id: str, app_id: str, task_id: str) -> None:
        before = self._overlay(framework_id, task_id)
        if before is None or before.app != app_id:
            return
        self._unuse(before)
        self._publish.drop(before.key)
        if self._publish_tasks:
            self._publish.drop(("task", self.cluster, framework_id, task_id))

    def _use(self, overlay: HealthOverlay) -> None:
        if overlay.host and not canonical_address(overlay.host):
            self._users.setdefault(overlay.host, set()).add(overlay.key)

    def _unuse(self, overlay: HealthOverlay) -> None:
        users = self._users.get(overlay.host)
        if users is None:
            return
        users.discard(overlay.key)
        if not users:
            del self._users[overlay.host]
            if overlay.host not in self.kept_hosts:
                self._hosts.forget(overlay.host)
