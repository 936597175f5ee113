"""Which tasks take part in service: their state, their health, and what Mesos knows before Marathon does.

A task is out while its state is one of those below, as marathon-lb has it: lost and unreachable tasks stay, for they
may well be running. With the health filter it is out, too, while it is unhealthy or has no result yet; where that
leaves none, there is none (marathon-lb answers 503 then, and so does the edge).

Mesos' own word on a task is optional. Where there is one, the worse of both healths counts and either state; a task
that Mesos knew and knows no more is out although Marathon has not said so yet, as long as Mesos is followed at all
(its framework is known): nothing goes because a source fell silent. Nor does a task that Marathon has as lost or
unreachable: Mesos forgets such ones.
"""

from __future__ import annotations

from collections import OrderedDict

from mesos_dns.model import Health, HealthOverlay, Key, Task

OUT_OF_SERVICE = frozenset(
    {
        "TASK_STAGING",
        "TASK_STARTING",
        "TASK_KILLING",
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
        "TASK_UNKNOWN",
    }
)
"""States of tasks that get nothing."""

ENDED = OUT_OF_SERVICE - {"TASK_STAGING", "TASK_STARTING", "TASK_KILLING"}
"""States of tasks that are no more."""

REMEMBERED = 20_000
"""Tasks remembered as gone, at most: far more than Marathon is ever behind."""

_OUT_OF_SIGHT = frozenset({"TASK_LOST", "TASK_UNREACHABLE"})
_FAILING = frozenset({Health.UNHEALTHY, Health.PENDING})


class MesosTasks:
    """What Mesos says of tasks, by the key of their overlay; changed one by one."""

    def __init__(self) -> None:
        self._tasks: dict[Key, Task] = {}
        self._gone: OrderedDict[Key, None] = OrderedDict()
        self._frameworks: set[Key] = set()

    def set_task(self, key: Key, task: Task | None) -> Key:
        """Take a task in, or that it is gone; the overlay's key."""
        overlay = ("health", *key[1:4])
        if task is not None:
            self._tasks[overlay] = task
            self._gone.pop(overlay, None)
        elif self._tasks.pop(overlay, None) is not None:
            self._gone[overlay] = None
            if len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)
        return overlay

    def set_framework(self, key: Key, known: bool) -> list[Key]:
        """Take in that a framework is known or not; the overlays of its tasks that are gone."""
        if known == (key in self._frameworks):
            return []
        (self._frameworks.add if known else self._frameworks.discard)(key)
        return [overlay for overlay in self._gone if overlay[1:3] == key[1:3]]

    def forget(self, overlay: Key) -> None:
        """Marathon says, too, that a task is gone."""
        self._gone.pop(overlay, None)

    def get(self, overlay: Key) -> Task | None:
        """What Mesos says of a task, by the key of its overlay; None where it says nothing."""
        return self._tasks.get(overlay)

    def ended(self, overlay: HealthOverlay) -> bool:
        """Whether a task is no more: it ended, or Mesos knows it no longer."""
        task = self._tasks.get(overlay.key)
        return overlay.state in ENDED or (self._is_gone(overlay) if task is None else task.state in ENDED)

    def serves(self, overlay: HealthOverlay, filtered: bool) -> bool:
        """Whether a task takes part and is in sight. `filtered`: health counts."""
        task = self._tasks.get(overlay.key)
        states = {overlay.state, "" if task is None else task.state}
        return not states & _OUT_OF_SIGHT and self.in_service(overlay, filtered)

    def _is_gone(self, overlay: HealthOverlay) -> bool:
        """Whether Mesos dropped a task of which Marathon has not said so yet."""
        key = overlay.key
        gone = key in self._gone and ("framework", *key[1:3]) in self._frameworks
        return gone and overlay.state not in _OUT_OF_SIGHT

    def in_service(self, overlay: HealthOverlay, filtered: bool) -> bool:
        """Whether a task takes part. `filtered`: health counts."""
        if overlay.state in OUT_OF_SERVICE:
            return False
        task = self._tasks.get(overlay.key)
        if task is None:
            if self._is_gone(overlay):
                return False
            return not filtered or overlay.health not in _FAILING
        if task.state in OUT_OF_SERVICE:
            return False
        return not filtered or not (overlay.health in _FAILING or task.health in _FAILING)
