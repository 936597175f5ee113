"""The route table as a live view of the catalog: apps, their tasks and what Mesos says of them.

    App, HealthOverlay, Task, Draining ─▶ unit (an app, or a deployment group) ─▶ its ports (lb7/labels.py) and their
        servers (lb7/task_servers.py) ─▶ clusters ─▶ who asks for which host and service port (lb7/route_index.py)
        ─▶ rules

A change marks the units that it bears on. Work is done in slices of a few milliseconds, after each of which listeners
hear what has changed. A new cluster is told before a rule that names it, and one that is gone after the last rule that
did: what was heard is a whole table at any time. Tasks that come and go change clusters alone; rules change when apps
do (with `compat` also when a port gets its first server or loses the last).

The same catalog makes the same table, but for what the view has seen: tasks that Mesos dropped before Marathon did.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TypeAlias, TypeVar

from msgspec import structs

from lb7.auto_ports import MOST_OF_APP, AutoPorts, Wanted
from lb7.autoscale.policies import Sleeps, sleeps_by
from lb7.claims import Claim, Listened, PortResult
from lb7.config import L7Config
from lb7.deployment import Member, Merged, group_fault, group_of, merge
from lb7.labels import read_app
from lb7.port_spec import AppSpec, PortSpec, UnitKey
from lb7.problems import ProblemBook
from lb7.route_index import RouteIndex
from lb7.table import Cluster, HostKey, HostRules, Listener, Problem, RouteTable, TableDelta
from lb7.task_servers import cluster_of, servers_of
from lb7.task_states import MesosTasks
from mesos_dns.catalog import Delta
from mesos_dns.model import App, Draining, Entity, Framework, HealthOverlay, Key, Task

log = logging.getLogger(__name__)

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
Heard: TypeAlias = Callable[[TableDelta], None]
Later: TypeAlias = Callable[[Callable[[], None]], object]
"""Has something called in another turn of the loop."""

SLICE = 0.01
"""Seconds of work before the loop gets a turn. One app with very many tasks is a slice of its own."""


class RouteView:
    """See the module.

    `certificates`: whether there is one to listen for HTTPS with; None: when `cert_dir` is set. With `later` (a loop's
    `call_soon`) work is done in later turns of the loop; without it by `flush` or `build` alone. `problem_counts` has
    how many problems there are of each word (lb7/problems.py), `faults` counts apps that could not be taken in for a
    fault of ours. `reserved`: HOST:PORT of the process' other listeners, which no service port may take. `sleeps`:
    which apps may have no task while they are wanted (left out: those whose labels say so): requests for these wait.
    """

    def __init__(
        self,
        config: L7Config,
        *,
        certificates: bool | None = None,
        later: Later | None = None,
        reserved: Sequence[str] = (),
        sleeps: Sleeps | None = None,
    ) -> None:
        self._later = later
        self._awaited = False
        self._listeners: list[Heard] = []
        self._apps: dict[Key, App] = {}
        self._sleeps = sleeps or sleeps_by(None)
        self._sleepers: set[Key] = set()
        self._overlays: dict[Key, HealthOverlay] = {}
        self._tasks: dict[Key, dict[str, HealthOverlay]] = {}  # by app
        self._mesos = MesosTasks()
        self._drained: set[Key] = set()  # overlays of tasks that are drained before they are removed
        self._units: dict[Key, UnitKey] = {}
        self._members: dict[UnitKey, set[Key]] = {}
        self._same_id: dict[str, set[UnitKey]] = {}
        self._specs: dict[UnitKey, tuple[App, AppSpec]] = {}
        self._auto = AutoPorts(0, 0)
        self._dirty: dict[UnitKey, None] = {}
        self._problems = ProblemBook()
        self._table = RouteTable({}, {}, {})
        self._copy: RouteTable | None = None
        self._delta = TableDelta({}, {}, {})
        self._owners: dict[str, UnitKey] = {}
        self._clusters_of: dict[UnitKey, set[str]] = {}
        self._going: set[str] = set()
        self._port_results: dict[int, PortResult] = {}
        self.faults = 0
        self.problem_counts: Counter[str] = self._problems.counts
        self._configure(config, certificates, reserved)

    def __repr__(self) -> str:
        table = self._table
        return (
            f"<RouteView apps={len(self._apps)} listeners={len(table.listeners)} hosts={len(table.hosts)} "
            f"clusters={len(table.clusters)} problems={len(self._problems)}>"
        )

    # --- reading ---------------------------------------------------------------------------------

    @property
    def table(self) -> RouteTable:
        """Everything as it was last told; never changed afterwards."""
        if self._copy is None:
            table = self._table
            self._copy = RouteTable(dict(table.listeners), dict(table.hosts), dict(table.clusters))
        return self._copy

    @property
    def problems(self) -> dict[str, list[Problem]]:
        """What is not carried out, by app id. A whole pass: for those who look."""
        return self._problems.by_app()

    def apps_behind(self, cluster: str) -> tuple[Key, ...]:
        """The keys of the apps that a cluster is of: one, or all of a deployment group; () for one that is none's."""
        unit = self._owners.get(cluster)
        return tuple(sorted(self._members.get(unit, ()))) if unit is not None else ()

    @property
    def pending(self) -> bool:
        """Whether changes are not in the table yet."""
        index = self._index
        return bool(
            self._dirty or self._auto.changed or index.dirty_hosts or index.dirty_ports or self._going or self._delta
        )

    def listen(self, heard: Heard) -> None:
        """Call back after each slice with what changed in it. What is there already is in `table`."""
        self._listeners.append(heard)

    def unlisten(self, heard: Heard) -> None:
        """Call it back no more; nothing where it was not."""
        if heard in self._listeners:
            self._listeners.remove(heard)

    # --- changes ---------------------------------------------------------------------------------

    def apply(self, delta: Delta) -> None:
        """Take a catalog delta in: mark what it bears on."""
        for key, (_, after) in delta.changes.items():
            try:
                self._take(key, after)
            except Exception:
                self._fault("a change could not be taken into the routes", key)
        self._schedule()

    def reconfigure(
        self,
        config: L7Config,
        *,
        certificates: bool | None = None,
        reserved: Sequence[str] = (),
        sleeps: Sleeps | None = None,
    ) -> None:
        """Go by another configuration; without `sleeps` the same apps may sleep. What comes out the same is not told
        again."""
        if sleeps is not None:
            self._sleeps = sleeps
            self._sleepers = {key for key, app in self._apps.items() if self._may_sleep(app)}
        self._configure(config, certificates, reserved)
        self._schedule()

    def flush(self) -> None:
        """Do all that is marked now."""
        while self.pending:
            self._slice(float("inf"))

    async def build(self) -> None:
        """Do all that is marked, in slices between which the loop has turns."""
        while self.pending:
            self._slice(SLICE)
            await asyncio.sleep(0)

    def _configure(self, config: L7Config, certificates: bool | None, reserved: Sequence[str]) -> None:
        known = bool(config.cert_dir) if certificates is None else certificates
        listened = Listened(bool(config.http), bool(config.https) and known, bool(config.app_id))
        self._config, self._listened = config, listened
        # Also for HTTPS without certificates: they may come, and an app that had its port would stay.
        self._index = RouteIndex(config, listened, (*config.http, *config.https, *config.app_id, *reserved))
        self._auto = AutoPorts(*config.auto_ports, before=self._auto)
        self._specs.clear()
        # All is made anew, and compared with what is in the table.
        self._regroup()
        self._dirty.update(dict.fromkeys(self._members))
        self._dirty.update(dict.fromkeys(self._clusters_of))
        ports = {key for result in self._port_results.values() for key in result.hosts}
        self._index.dirty_hosts.update({key: None for key in self._table.hosts if key not in ports})
        self._index.dirty_ports.update(dict.fromkeys(self._port_results))
        self._set_common_listeners()

    def _regroup(self) -> None:
        """Who is routed as one depends on the kind of rules."""
        for key, app in self._apps.items():
            unit = self._unit_of(app)
            if unit != self._units[key]:
                self._leave(self._units[key], key)
                self._join(unit, key)

    def _set_common_listeners(self) -> None:
        config, listened = self._config, self._listened
        compat = bool(config.compat)
        wanted: dict[str, Listener | None] = {"http": None, "https": None, "app_id": None}
        if listened.http:
            wanted["http"] = Listener("http", "http", config.http, by="host_port" if compat else "host")
        if listened.https:
            grouped = compat and config.group_https_by_vhost
            by_name = Listener("https", "https", config.https, by="sni", tls=True, known_names=grouped)
            wanted["https"] = by_name if compat else structs.replace(by_name, by="host")
        if listened.app_id:
            wanted["app_id"] = Listener("app_id", "app_id", config.app_id, by="app_id")
        for name, listener in wanted.items():
            self._change(self._table.listeners, self._delta.listeners, name, listener)

    # --- taking in -------------------------------------------------------------------------------

    def _take(self, key: Key, after: Entity | None) -> None:
        kind = key[0]
        if kind == "app":
            self._set_app(key, after if isinstance(after, App) else None)
        elif kind == "health":
            self._set_overlay(key, after if isinstance(after, HealthOverlay) else None)
        elif kind == "draining":
            self._set_draining(("health", *key[1:]), isinstance(after, Draining))
        elif kind == "task" and len(key) == 4:
            overlay = self._mesos.set_task(key, after if isinstance(after, Task) else None)
            self._mark_overlay(overlay)
        elif kind == "framework":
            for overlay in self._mesos.set_framework(key, isinstance(after, Framework)):
                self._mark_overlay(overlay)

    def _set_app(self, key: Key, app: App | None) -> None:
        old = self._apps.get(key)
        if app == old:
            return
        if old is not None:
            del self._apps[key]
            self._sleepers.discard(key)
            self._leave(self._units.pop(key), key)
        if app is not None:
            self._apps[key] = app
            if self._may_sleep(app):
                self._sleepers.add(key)
            self._join(self._unit_of(app), key)

    def _may_sleep(self, app: App) -> bool:
        try:
            return self._sleeps(app)
        except Exception:
            self._fault("it could not be told whether an app may sleep", app.key)
            return False

    def _unit_of(self, app: App) -> UnitKey:
        group = group_of(app, bool(self._config.compat))
        return UnitKey(app.cluster, app.framework_id, group or app.id, bool(group))

    def _join(self, unit: UnitKey, key: Key) -> None:
        self._units[key] = unit
        self._members.setdefault(unit, set()).add(key)
        self._same_id.setdefault(unit.app, set()).add(unit)
        self._mark_id(unit.app)

    def _leave(self, unit: UnitKey, key: Key) -> None:
        members = self._members[unit]
        members.discard(key)
        self._mark_id(unit.app)
        if not members:
            del self._members[unit]
            self._same_id[unit.app].discard(unit)
            if not self._same_id[unit.app]:
                del self._same_id[unit.app]

    def _mark_id(self, app: str) -> None:
        """All that have this id: the names of their clusters depend on each other."""
        self._dirty.update(dict.fromkeys(self._same_id.get(app, ())))

    def _set_overlay(self, key: Key, overlay: HealthOverlay | None) -> None:
        old = self._overlays.pop(key, None)
        if old is not None:
            app = old.app_key
            tasks = self._tasks[app]
            del tasks[old.task_id]
            if not tasks:
                del self._tasks[app]
            self._mark_app(app)
        if overlay is None:
            self._mesos.forget(key)
            return
        self._overlays[key] = overlay
        app = overlay.app_key
        self._tasks.setdefault(app, {})[overlay.task_id] = overlay
        self._mark_app(app)

    def _set_draining(self, overlay: Key, drained: bool) -> None:
        if drained != (overlay in self._drained):
            (self._drained.add if drained else self._drained.discard)(overlay)
            self._mark_overlay(overlay)

    def _mark_overlay(self, key: Key) -> None:
        overlay = self._overlays.get(key)
        if overlay is not None:
            self._mark_app(overlay.app_key)

    def _mark_app(self, key: Key) -> None:
        unit = self._units.get(key)
        if unit is not None:
            self._dirty[unit] = None

    # --- work ------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._later is not None and not self._awaited and self.pending:
            self._awaited = True
            self._later(self._turn)

    def _turn(self) -> None:
        self._awaited = False
        if self.pending:
            self._slice(SLICE)
        self._schedule()

    def _slice(self, seconds: float) -> None:
        """Some of the work, and tell what has changed by it."""
        until = time.perf_counter() + seconds
        while self._step() and time.perf_counter() < until:
            pass
        delta, self._delta = self._delta, TableDelta({}, {}, {})
        if not delta:
            return
        for heard in list(self._listeners):
            try:
                heard(delta)
            except Exception:
                self._fault("a listener of the routes failed", heard)

    def _step(self) -> bool:
        """One unit, host or service port; False: nothing is left to do."""
        index = self._index
        if self._dirty:
            unit = next(iter(self._dirty))
            del self._dirty[unit]
            self._guarded("an app could not be routed", self._settle_unit, unit)
        elif self._auto.changed:
            self._dirty.update({key.unit: None for key in self._auto.assign()})
        elif index.dirty_hosts:
            host = next(iter(index.dirty_hosts))
            del index.dirty_hosts[host]
            self._guarded("the rules of a host could not be made", self._settle_host, host)
        elif index.dirty_ports:
            port = next(iter(index.dirty_ports))
            del index.dirty_ports[port]
            self._guarded("a service port could not be made", self._settle_port, port)
        else:
            for name in self._going:
                self._change(self._table.clusters, self._delta.clusters, name, None)
            self._going.clear()
            return False
        return True

    def _guarded(self, text: str, settle: Callable[[_K], None], key: _K) -> None:
        try:
            settle(key)
        except Exception:
            self._fault(text, key)

    def _fault(self, text: str, key: object) -> None:
        self.faults += 1
        log.exception("%s key=%r", text, key)

    def _settle_unit(self, unit: UnitKey) -> None:
        merged = self._merged(unit)
        if merged is None:
            for port in self._specs.pop(unit, (None, AppSpec()))[1].ports:
                self._auto.ask(port.key, None)
            self._index.set_unit(unit, ())
            self._set_clusters(unit, {})
            self._problems.set(unit, ())
            return
        spec = self._read(unit, merged.app)
        filtered = self._config.health == "exclude-unhealthy"
        tasks = [task for task in merged.tasks if self._mesos.in_service(task, filtered)]
        problems = [*spec.problems, *(merged.problems if spec.ports else ())]
        hold = not self._sleepers.isdisjoint(self._members[unit])
        draining = self._draining(merged.draining, tasks, hold)
        claims: list[Claim] = []
        clusters: dict[str, Cluster] = {}
        asking = 0
        for port in spec.ports:
            asking += not port.port
            given = self._with_port(port, merged.app, asking, problems)
            if given is None:
                continue
            name = self._cluster_name(given, clusters)
            servers, missing = servers_of(given, merged.app, tasks, draining)
            if missing and not self._config.compat:
                text = f"a task in service has no address, or no port for service port {given.port}"
                problems.append(Problem(unit.app, "address", text))
            if servers or hold or not self._config.compat:
                claims.append(Claim(_unsuspended(given) if hold else given, name))
                clusters[name] = cluster_of(given, name, servers, hold=hold)
        self._set_clusters(unit, clusters)
        self._index.set_unit(unit, claims)
        self._problems.set(unit, problems)

    def _draining(self, replaced: frozenset[str], tasks: Collection[HealthOverlay], hold: bool) -> Collection[str]:
        """The ids of tasks that get nothing new: those that a deployment replaces, and those that are to be removed.
        When the latter are all that is left they go on, unless requests are held meanwhile."""
        if not self._drained:
            return replaced
        drained = replaced.union([task.task_id for task in tasks if task.key in self._drained])
        return drained if hold or any(task.task_id not in drained for task in tasks) else replaced

    def _merged(self, unit: UnitKey) -> Merged | None:
        keys = self._members.get(unit)
        if not keys:
            return None
        members = [Member(self._apps[key], tuple(self._tasks.get(key, {}).values())) for key in keys]
        if unit.group:
            return merge(unit.app, members)
        fault = group_fault(members[0].app, bool(self._config.compat))
        return Merged(*members[0], problems=(Problem(unit.app, "deployment", fault),) if fault else ())

    def _read(self, unit: UnitKey, app: App) -> AppSpec:
        """What the labels ask for; read once for each state of an app."""
        known = self._specs.get(unit)
        if known is not None and known[0] is app:
            return known[1]
        spec = read_app(app, self._config, unit)
        before = known[1].ports if known is not None else ()
        asking = {port.key for port in spec.ports}
        for port in before:
            if port.key not in asking:
                self._auto.ask(port.key, None)
        self._specs[unit] = (app, spec)
        return spec

    def _with_port(self, spec: PortSpec, app: App, nth: int, problems: list[Problem]) -> PortSpec | None:
        """A port with its service port, which may have to be made up; None where it has to wait for that. `nth`: of
        those of its app for which it has to."""
        compat = bool(self._config.compat)
        if spec.port:
            self._auto.ask(spec.key, None)
            return spec
        number = spec.key.number
        if nth > MOST_OF_APP and not compat:
            self._auto.ask(spec.key, None)
            text = f"port {number} has no service port, and {MOST_OF_APP} were given to this app"
            problems.append(Problem(spec.app, "auto-port", text))
            return spec
        inside = app.ports[number].container_port if number < len(app.ports) else 0
        self._auto.ask(spec.key, Wanted(0.0 if compat else app.config_changed, spec.app, inside or number))
        port = self._auto.get(spec.key)
        if not port and self._auto.is_fresh(spec.key):
            return None
        if not port:
            first, end = self._config.auto_ports
            text = f"port {number} has no service port, and all of {first}..{end - 1} are given"
            problems.append(Problem(spec.app, "auto-port", text))
            return None if compat else spec
        return structs.replace(spec, port=port)

    def _cluster_name(self, spec: PortSpec, taken: dict[str, Cluster]) -> str:
        """APP_ID:SERVICE_PORT, with something behind it where that is another's."""
        name = f"{spec.app}:{spec.port}"
        if name in taken:
            name = f"{name}#{spec.key.number}"
        units = self._same_id.get(spec.app, set())
        unit = spec.key.unit
        if len(units) > 1 and unit != min(units):
            name = f"{name}@{unit.cluster}/{unit.framework_id}{'/group' if unit.group else ''}"
        return name

    def _set_clusters(self, unit: UnitKey, clusters: dict[str, Cluster]) -> None:
        for name, cluster in clusters.items():
            self._owners[name] = unit
            self._going.discard(name)
            self._change(self._table.clusters, self._delta.clusters, name, cluster)
        for name in self._clusters_of.pop(unit, set()) - clusters.keys():
            if self._owners.get(name) == unit:
                del self._owners[name]
                self._going.add(name)
        if clusters:
            self._clusters_of[unit] = set(clusters)

    def _settle_host(self, key: HostKey) -> None:
        rules, problems = self._index.host(key)
        self._problems.set(key, problems)
        self._set_host(key, rules)

    def _settle_port(self, port: int) -> None:
        old = self._port_results.get(port, PortResult({}, {}))
        new = self._index.port(port)
        for name in old.listeners.keys() | new.listeners.keys():
            self._change(self._table.listeners, self._delta.listeners, name, new.listeners.get(name))
        for key in old.hosts.keys() | new.hosts.keys():
            self._set_host(key, new.hosts.get(key))
        self._problems.set(port, new.problems)
        if new.listeners or new.problems:
            self._port_results[port] = new
        else:
            self._port_results.pop(port, None)

    def _set_host(self, key: HostKey, rules: HostRules | None) -> None:
        self._change(self._table.hosts, self._delta.hosts, key, rules)

    def _change(self, there: dict[_K, _V], told: dict[_K, _V | None], key: _K, value: _V | None) -> None:
        """Put a value into the table, or take it out, and note it for those who listen."""
        if there.get(key) == value:
            return
        if value is None:
            del there[key]
        else:
            there[key] = value
        told[key] = value
        self._copy = None


def _unsuspended(spec: PortSpec) -> PortSpec:
    """A port of an app that may sleep: another app does not get what is its own meanwhile."""
    return structs.replace(spec, rank=(False, *spec.rank[1:]))
