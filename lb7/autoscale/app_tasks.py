"""The tasks of apps, as Marathon and Mesos tell them: which there are, where, and which of them serve.

Mesos' own word on a task is optional, as for routes (lb7/task_states.py). One that ended, or that Mesos knows no more,
does not count; one that is killed, lost or out of reach is there and does not serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lb7.autoscale.scaled_app import AppTask
from lb7.task_states import MesosTasks
from mesos_dns.model import Entity, Framework, HealthOverlay, Key, Task


class AppTasks:
    """See the module. Tasks of apps that are kept are held ready; of others only what is needed to begin with it.

    `filtered`: a task whose checks fail, or have no result yet, does not serve.
    """

    def __init__(self, filtered: bool) -> None:
        self._filtered = filtered
        self._mesos = MesosTasks()
        self._overlays: dict[Key, HealthOverlay] = {}
        self._of: dict[Key, dict[str, HealthOverlay]] = {}  # by app
        self._kept: dict[Key, dict[str, AppTask]] = {}

    def take(self, key: Key, after: Entity | None) -> Iterator[Key]:
        """Take a change of any entity in; the kept apps whose tasks it bears on."""
        for overlay in list(self._changed(key, after)):
            yield from self._settle(overlay)

    def keep(self, app: Key) -> None:
        """Hold the tasks of this app ready."""
        if app not in self._kept:
            found = {task.task_id: self._read(task) for task in self._of.get(app, {}).values()}
            self._kept[app] = {task_id: task for task_id, task in found.items() if task is not None}

    def leave(self, app: Key) -> None:
        """Hold the tasks of this app ready no longer."""
        self._kept.pop(app, None)

    def refilter(self, filtered: bool) -> None:
        """Go by health from now on, or no longer."""
        if filtered != self._filtered:
            self._filtered = filtered
            kept, self._kept = self._kept, {}
            for app in kept:
                self.keep(app)

    def of(self, app: Key) -> tuple[AppTask, ...]:
        """The tasks of a kept app, in the order of their ids."""
        tasks = self._kept.get(app, {})
        return tuple([tasks[task_id] for task_id in sorted(tasks)])

    def _changed(self, key: Key, after: Entity | None) -> Iterator[HealthOverlay]:
        """The overlays that are to be read again, one that is gone included."""
        kind = key[0]
        if kind == "health":
            before = self._overlays.get(key)
            if before is not None:
                yield before
            if self._set(key, after if isinstance(after, HealthOverlay) else None):
                yield self._overlays[key]
        elif kind == "task" and len(key) == 4:
            yield from self._known((self._mesos.set_task(key, after if isinstance(after, Task) else None),))
        elif kind == "framework":
            yield from self._known(self._mesos.set_framework(key, isinstance(after, Framework)))

    def _known(self, keys: Iterable[Key]) -> Iterator[HealthOverlay]:
        for key in keys:
            if key in self._overlays:
                yield self._overlays[key]

    def _set(self, key: Key, overlay: HealthOverlay | None) -> bool:
        """Put an overlay in the place of the one that is there; whether there is one now."""
        old = self._overlays.pop(key, None)
        if old is not None:
            tasks = self._of[old.app_key]
            del tasks[old.task_id]
            if not tasks:
                del self._of[old.app_key]
        if overlay is None:
            self._mesos.forget(key)
            return False
        self._overlays[key] = overlay
        self._of.setdefault(overlay.app_key, {})[overlay.task_id] = overlay
        return True

    def _settle(self, overlay: HealthOverlay) -> Iterator[Key]:
        """Read one of them; its app, where that is kept."""
        app = overlay.app_key
        kept = self._kept.get(app)
        if kept is None:
            return
        task = self._read(overlay) if self._overlays.get(overlay.key) == overlay else None
        if task is None:
            kept.pop(overlay.task_id, None)
        else:
            kept[overlay.task_id] = task
        yield app

    def _read(self, overlay: HealthOverlay) -> AppTask | None:
        """A task as the decider sees it; None for one that is no more."""
        if self._mesos.ended(overlay):
            return None
        told = self._mesos.get(overlay.key)
        return AppTask(
            id=overlay.task_id,
            node_id=told.node_id if told is not None else "",
            host=overlay.host,
            ready=self._mesos.serves(overlay, self._filtered),
            started=overlay.started,
        )
