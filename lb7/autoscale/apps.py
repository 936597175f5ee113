"""The apps that are scaled, as a live view of the catalog: each with its policy, its tasks and who shares its traffic.

    App ─▶ its policy (lb7/autoscale/policies.py) ─┐
    HealthOverlay, Task ─▶ lb7/autoscale/app_tasks.py ─┼─▶ ScaledApp
    App ─▶ deployment group (lb7/deployment.py) ───┘

A change costs what it bears on: labels are read when an app comes or has others, and a ScaledApp is made anew when it
is asked for and something of it has changed. An app that can't be taken in costs itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from lb7.autoscale.app_tasks import AppTasks
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.labels import Scaling, read_scaling
from lb7.autoscale.policies import Found, has_labels, policy_of
from lb7.autoscale.scaled_app import ScaledApp
from lb7.deployment import group_of
from lb7.port_spec import UnitKey
from lb7.problems import ProblemBook
from lb7.table import Problem
from mesos_dns.catalog import Delta
from mesos_dns.model import App, Entity, Key

log = logging.getLogger(__name__)

HealthFilter: TypeAlias = Literal["ignore", "exclude-unhealthy"]


class _Known(NamedTuple):
    """An app of the catalog: what its labels say, if any is about scaling; the deployment group that it is in."""

    app: App
    scaling: Scaling | None
    group: UnitKey | None


class ScaledApps:
    """See the module. For `Catalog.follow`: `apply`.

    `health`: whether a task whose checks fail counts as one that serves; `compat`: deployment groups are marathon-lb's.
    `problem_counts` has how many problems there are of each word (lb7/problems.py), `faults` counts apps that could not
    be taken in for a fault of ours.
    """

    def __init__(
        self, config: AutoscaleConfig, health: HealthFilter = "exclude-unhealthy", *, compat: bool = False
    ) -> None:
        self._config = config
        self._compat = compat
        self._known: dict[Key, _Known] = {}
        self._found: dict[Key, Found] = {}
        self._groups: dict[UnitKey, set[Key]] = {}
        self._tasks = AppTasks(health == "exclude-unhealthy")
        self._stale: dict[Key, None] = {}
        self._built: dict[Key, ScaledApp] = {}
        self._book = ProblemBook()
        self.faults = 0
        self.problem_counts: Counter[str] = self._book.counts

    def __repr__(self) -> str:
        return f"<ScaledApps apps={len(self._found)} of={len(self._known)} problems={len(self._book)}>"

    @property
    def apps(self) -> Mapping[Key, ScaledApp]:
        """All that are scaled, by key, as they are now. What was returned before stays as it was."""
        if self._stale:
            built = dict(self._built)
            for key in self._stale:
                if (app := self._guarded_build(key)) is not None:
                    built[key] = app
                else:
                    built.pop(key, None)
            self._built = built
            self._stale.clear()
        return MappingProxyType(self._built)

    @property
    def problems(self) -> dict[str, list[Problem]]:
        """What is not carried out, by app id. A whole pass: for those who look."""
        return self._book.by_app()

    def apply(self, delta: Delta) -> None:
        """Take a catalog delta in."""
        for key, (_, after) in delta.changes.items():
            try:
                self._take(key, after)
            except Exception:
                self._fault("a change could not be taken into the apps that are scaled", key)
                if key[0] == "app":  # rather not scaled than by what it was
                    self._set_app(key, None)

    def reconfigure(
        self, config: AutoscaleConfig, health: HealthFilter = "exclude-unhealthy", *, compat: bool = False
    ) -> None:
        """Go by another configuration; labels that were read are not read again."""
        regroup = compat != self._compat
        self._config, self._compat = config, compat
        self._tasks.refilter(health == "exclude-unhealthy")
        for key, known in list(self._known.items()):
            if regroup:
                self._set_app(key, known.app)
            else:
                self._decide(key)

    def _take(self, key: Key, after: Entity | None) -> None:
        if key[0] == "app":
            self._set_app(key, after if isinstance(after, App) else None)
        else:
            self._mark(self._tasks.take(key, after))

    def _set_app(self, key: Key, app: App | None) -> None:
        old = self._known.pop(key, None)
        if old is not None and old.group is not None:
            self._leave(old.group, key)
        if app is not None:
            group = self._group_of(app)
            self._known[key] = _Known(app, _scaling_of(app, old), group)
            if group is not None:
                self._join(group, key)
        self._decide(key)

    def _group_of(self, app: App) -> UnitKey | None:
        name = group_of(app, self._compat)
        return UnitKey(app.cluster, app.framework_id, name, group=True) if name else None

    def _join(self, group: UnitKey, key: Key) -> None:
        members = self._groups.setdefault(group, set())
        members.add(key)
        self._mark(members)

    def _leave(self, group: UnitKey, key: Key) -> None:
        members = self._groups[group]
        members.discard(key)
        self._mark(members)
        if not members:
            del self._groups[group]

    def _decide(self, key: Key) -> None:
        """Which policy the app has now, if any."""
        known, before = self._known.get(key), self._found.pop(key, None)
        found = policy_of(known.app, self._config, known.scaling) if known is not None else Found()
        self._book.set(key, found.problems)
        if found.policy is None:
            self._tasks.leave(key)
        else:
            self._found[key] = found
            self._tasks.keep(key)
            if found.ignored and not (before is not None and before.ignored):
                log.debug("the configuration has a policy: labels count for nothing app=%r", key[-1][:200])
        if before is not None or found.policy is not None:
            self._stale[key] = None

    def _mark(self, keys: Iterable[Key]) -> None:
        """Those of them that are scaled are to be made anew."""
        for key in keys:
            if key in self._found:
                self._stale[key] = None

    def _guarded_build(self, key: Key) -> ScaledApp | None:
        try:
            return self._build(key)
        except Exception:
            self._fault("an app could not be taken for one that is scaled", key)
            return None

    def _build(self, key: Key) -> ScaledApp | None:
        known, found = self._known.get(key), self._found.get(key)
        if known is None or found is None or found.policy is None:
            return None
        members = self._groups.get(known.group, set()) if known.group is not None else set()
        return ScaledApp(
            app=known.app,
            policy=found.policy,
            told_by=found.told_by,
            tasks=self._tasks.of(key),
            group=tuple(sorted(members - {key})),
        )

    def _fault(self, text: str, key: Key) -> None:
        self.faults += 1
        log.exception("%s key=%r", text, key)


def _scaling_of(app: App, before: _Known | None) -> Scaling | None:
    """What the labels say: read once for as long as they stay the same. None where none is about scaling."""
    if before is not None and before.app.labels == app.labels and before.app.id == app.id:
        return before.scaling
    return read_scaling(app) if has_labels(app) else None
