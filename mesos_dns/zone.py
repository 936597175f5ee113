"""The zones: a live view of the catalog as records, updated in proportion to each change.

`ZoneView` listens to the catalog. A task is joined with its framework's name and its agent's
addresses (a task whose agent or framework is unknown has no names), `names` says which records
that gives, and the difference to what the task gave before goes into the stores. Every owner that
was touched is reported, so that compiled answers of exactly these are dropped. A change that bears
on no record (a label, a start time) is reported nowhere and leaves the serial alone.

Zones served: the cluster's domain; DC/OS' directory (agentip, containerip, autoip); a copy of the
domain under the directory's parent; `l4lb` for virtual addresses there (`zone_extra`); `zk` with
ZooKeeper's servers, where they are known; one per plain zone file; a resolver's own (`local`); and reverse
names of every address. DC/OS' zones also have other names, which share everything with them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import TypeAlias, TypeVar

from mesos_dns import names
from mesos_dns.catalog import Delta
from mesos_dns.config import DnsConfig
from mesos_dns.model import Ensemble, Entity, Framework, Health, Key, Leadership, Node, StaticRecords, Task
from mesos_dns.names import AAAA, A, Record, Rules, TaskPlace
from mesos_dns.pointers import Pointer, PointerStore, Rank, pointers_of, task_pointers
from mesos_dns.presence import Presence
from mesos_dns.records import RecordStore, room_below
from mesos_dns.served import NS_TTL, Zone, aliases, name_server_of, other_parents
from mesos_dns.statics import StaticZones
from mesos_dns.taskindex import Group, TaskIndex, ZoneSlots
from mesos_dns.wire import name_from_wire, name_to_wire
from mesos_dns.zone_extra import ExtraRecords, ZoneExtra

log = logging.getLogger(__name__)

Touch: TypeAlias = Callable[[str, str], None]
_E = TypeVar("_E")

EVERYTHING = "*"
"""The tag of a touch report that concerns every answer: the set of served zones has changed."""
_LOG_ONCE = 10_000
"""Bad names remembered as logged, at most."""

ENSEMBLE_ZONE = "zk"
"""DC/OS' zone of ZooKeeper's servers: zk-1.zk to zk-5.zk."""
_OF_DCOS = ("directory", "ensemble", "l4lb")
"""Tags of the zones that DC/OS' resolver would have."""
_TOO_LONG = "a label or the name is too long or empty"


class ZoneView:
    """See the module. `serial` grows with every change that touches a record; `known` tells whether
    anybody has said yet what runs in the cluster (until then no name is said to be absent). `presence`
    gives who hears of the names in the zones of a tag; `changed` is called when the serial has grown.

    `local` are the record sets that a resolver's node gives itself, each with the zone that it is in. With
    them a name below DC/OS' directory is never somebody else's, whatever its zone. `cluster_key` is the
    cluster's public key in zbase32: DC/OS' zones are served below it, too. `extra` has the records of virtual
    addresses, which `fill_extra` brings; changes of them are heard of until `leave_extra`."""

    def __init__(
        self,
        config: DnsConfig,
        *,
        ns_addresses: Iterable[str] = (),
        touch: Touch | None = None,
        serial: int = 0,
        known: Callable[[], bool] = lambda: True,
        presence: Callable[[str], Presence | None] = lambda tag: None,
        local: Sequence[StaticRecords] = (),
        cluster_key: str = "",
        extra: ZoneExtra | None = None,
    ) -> None:
        self.config = config
        self._presence = presence
        self.known = known
        self.rules = Rules(config.ip_sources, config.enforce_rfc952, name_server_of(config))
        self.serial = max(serial, int(time.time()))
        self.refused = 0
        self.zones: dict[bytes, Zone] = {}
        self._statics = StaticZones(self.zones, self._open_plain, self._refuse)
        self.touch: Touch = touch or (lambda tag, owner: None)
        self.changed: Callable[[], None] = lambda: None
        self._touched = False
        self._places: dict[Key, TaskPlace] = {}
        self._by_node: dict[Key, set[Key]] = {}
        self._by_framework: dict[Key, set[Key]] = {}
        self._nodes: dict[Key, Node] = {}
        self._frameworks: dict[Key, Framework] = {}
        self._leaderships: dict[Key, Leadership] = {}
        self._ensembles: dict[Key, Ensemble] = {}
        self._ensemble_zone: Zone | None = None
        self._log_once: set[str] = set()
        self.pointers = PointerStore(lambda address: self._on_touch("reverse", address.hex()))
        self._domain = self._zone(config.domain, "domain", config.ttl, (0, config.srv_weight), attrgetter("domain"))
        self._directory: Zone | None = None
        self._virtual: Zone | None = None
        self._extra: ExtraRecords | None = None
        self._beneath: dict[bytes, Zone] = {}
        if config.directory:
            self._directory, self._virtual = self._open_directory(config.directory)
        self._statics.keep(local)
        if config.directory:
            self._open_others(config.directory, cluster_key, bool(local))
        self.ns_addresses = tuple(ns_addresses)
        self._add_name_server()
        if extra is not None and self._virtual is not None:
            self._extra = ExtraRecords(extra, partial(self._swap_extra, self._virtual), self._refuse)

    @property
    def domain(self) -> Zone:
        """The cluster's own zone."""
        return self._domain

    def __repr__(self) -> str:
        return f"<ZoneView serial={self.serial} zones={list(self.zones.values())}>"

    def tell(self, touch: Touch, changed: Callable[[], None] | None = None) -> None:
        """Tell one more who keeps answers, besides those that are told already."""
        before, before_changed = self.touch, self.changed

        def touched(tag: str, owner: str) -> None:
            before(tag, owner)
            touch(tag, owner)

        def all_changed() -> None:
            before_changed()
            if changed is not None:
                changed()

        self.touch, self.changed = touched, all_changed

    # --- changes ---------------------------------------------------------------------------------

    def apply(self, delta: Delta) -> None:
        """Take a catalog delta in. Agents and frameworks first: they decide what tasks give."""
        self._touched = False
        stale: dict[Key, Task | None] = {}
        for key, (_, after) in delta.changes.items():
            try:
                self._swap_entity(key, after, stale)
            except Exception:
                self._fault(key)
        for key, task in stale.items():
            try:
                self._swap_task(key, task)
            except Exception:
                self._fault(key)
        self._end_change()

    def fill_extra(self, most: int = 1 << 31) -> bool:
        """Take in so many of virtual addresses' records that were there before this view; whether more are left."""
        return self._extra is not None and self._extra.fill(most)

    def leave_extra(self) -> None:
        """Hear of virtual addresses no more: nobody asks this view any longer."""
        if self._extra is not None:
            self._extra.leave()
            self._extra = None

    def _swap_extra(self, zone: Zone, old: list[Record], new: list[Record]) -> None:
        self._touched = False
        try:
            self._swap(zone, old, new)
            before, now = (pointers_of(records, zone.store.room) for records in (old, new))
            self.pointers.swap(Rank.VIRTUAL, before, now)
        except Exception:
            self._fault((zone.tag,))
        self._end_change()

    def _end_change(self) -> None:
        """A change that bore on records has a serial of its own."""
        if self._touched:
            self.serial = max(self.serial + 1, int(time.time()) - 1) & 0xFFFFFFFF
            self.changed()

    def _swap_entity(self, key: Key, after: Entity | None, stale: dict[Key, Task | None]) -> None:
        """Take one change in; tasks, and those whose names it bears on, are left in `stale`."""
        kind = key[0]
        if kind == "task":
            stale[key] = after  # type: ignore[assignment]  # the key's kind says it
        elif kind == "node":
            self._swap_node(key, after, stale)
        elif kind == "framework":
            self._swap_framework(key, after, stale)
        elif kind == "leadership":
            self._swap_leadership(key, after)
        elif kind == "ensemble":
            self._swap_ensemble(key, after)
        elif kind == "records":
            self._swap_static(key, after)

    def _fault(self, key: Key) -> None:
        """A change that could not be taken in costs only its own names."""
        log.exception("could not take a change in key=%r", key)
        self.refused += 1

    def _swap_node(self, key: Key, after: Entity | None, stale: dict[Key, Task | None]) -> None:
        old, new = self._nodes.get(key), after if isinstance(after, Node) else None
        _replace(self._nodes, key, new)
        before, now = names.node_records(old) if old else [], names.node_records(new) if new else []
        self._swap(self._domain, before, now)
        self.pointers.swap(Rank.NODE, self._pointers(before), self._pointers(now))
        if (old.addresses if old else None) != (new.addresses if new else None):
            for task_key in self._by_node.get(key, ()):
                stale.setdefault(task_key, self._places[task_key].task)

    def _swap_framework(self, key: Key, after: Entity | None, stale: dict[Key, Task | None]) -> None:
        old, new = self._frameworks.get(key), after if isinstance(after, Framework) else None
        _replace(self._frameworks, key, new)
        before = names.framework_records(old, self.rules) if old else []
        now = names.framework_records(new, self.rules) if new else []
        self._swap(self._domain, before, now)
        self.pointers.swap(Rank.FRAMEWORK, self._pointers(before), self._pointers(now))
        if (old.name if old else None) != (new.name if new else None):
            for task_key in self._by_framework.get(key, ()):
                stale.setdefault(task_key, self._places[task_key].task)

    def _swap_leadership(self, key: Key, after: Entity | None) -> None:
        old, new = self._leaderships.get(key), after if isinstance(after, Leadership) else None
        _replace(self._leaderships, key, new)
        before = names.leadership_records(old) if old else []
        now = names.leadership_records(new) if new else []
        self._swap(self._domain, before, now)
        self.pointers.swap(Rank.MASTER, self._pointers(before), self._pointers(now))
        if self._directory is not None:
            self._swap(
                self._directory,
                names.directory_leadership_records(old) if old else [],
                names.directory_leadership_records(new) if new else [],
            )

    def _swap_ensemble(self, key: Key, after: Entity | None) -> None:
        """ZooKeeper's servers, in a zone that is there while any are known."""
        if not self.config.directory:
            return
        old, new = self._ensembles.get(key), after if isinstance(after, Ensemble) else None
        zone = self._ensemble_zone
        if zone is None:
            if new is None:
                return
            if name_to_wire(ENSEMBLE_ZONE) in self.zones:
                self._refuse(ENSEMBLE_ZONE, "the zone of ZooKeeper's servers is served from elsewhere")
                return
            zone = self._ensemble_zone = self._zone(ENSEMBLE_ZONE, "ensemble", self.config.directory_ttl, (0, 0))
            self._on_touch(EVERYTHING, "")
        _replace(self._ensembles, key, new)
        before, now = names.ensemble_records(old) if old else [], names.ensemble_records(new) if new else []
        self._swap(zone, before, now)
        if not self._ensembles and not len(zone.store):
            del self.zones[zone.wire]
            self._ensemble_zone = None
            self._on_touch(EVERYTHING, "")

    def _swap_task(self, key: Key, task: Task | None) -> None:
        if task is not None and task.state != names.RUNNING:
            task = None
        old = self._places.get(key)
        new = self._place(task) if task is not None else None
        if old == new:
            return
        _replace(self._places, key, new)
        _index(self._by_node, _node_key(old), _node_key(new), key)
        _index(self._by_framework, _framework_key(old), _framework_key(new), key)
        self._swap_member(key, old, new)
        before, now = (task_pointers(place, self.rules, self._domain.store.room) for place in (old, new))
        self.pointers.swap(Rank.TASK, before, now)

    def _swap_member(self, key: Key, old: TaskPlace | None, new: TaskPlace | None) -> None:
        """Move a task from the group it was in to the one it belongs to now, in each zone."""
        old_key = names.shape_key(old, self.rules) if old is not None and old.framework else None
        new_key = names.shape_key(new, self.rules) if new is not None and new.framework else None
        stays = old is not None and new is not None and old_key == new_key and old.task.node_id == new.task.node_id
        quiet = (
            old is not None
            and new is not None
            and stays
            and self.fit(old) == self.fit(new)
            and names.same_records(old, new, self.rules)
        )
        for zone in (self._domain, self._directory):
            if zone is None or zone.tasks is None:
                continue
            if old is not None and old_key is not None and not stays:
                self._touch_group(zone, zone.tasks.remove(key, old_key), old)
            if new is not None and new_key is not None:
                group = zone.tasks.add(key, new_key, new, self.fit(new))
                if not quiet:
                    self._touch_group(zone, group, new)

    def _touch_group(self, zone: Zone, group: Group, place: TaskPlace) -> None:
        for owner in group.slots:
            self._on_touch(zone.tag, owner)
        if group.canonical and zone.tasks is not None:
            for owner in zone.tasks.canonical_owners(group, place):
                self._on_touch(zone.tag, owner)

    def _swap_static(self, key: Key, after: Entity | None) -> None:
        if self._statics.swap(key, after if isinstance(after, StaticRecords) else None):
            self._on_touch(EVERYTHING, "")

    def _open_directory(self, directory: str) -> tuple[Zone, Zone]:
        """DC/OS' zones; gives the one of tasks by kind of address, and that of virtual addresses."""
        config, shared = self.config, self._domain
        ttl = config.directory_ttl
        dcos = self._zone(f"dcos.{directory}", "directory", ttl, (0, 1), attrgetter("directory"))
        origin = f"mesos.{directory}"
        mesos = Zone(origin, "domain", shared.store, shared.tasks, config, ttl=ttl, srv=(1, 1), ns_ttl=NS_TTL)
        self.zones[mesos.wire] = mesos
        return dcos, self._zone(f"l4lb.{directory}", "l4lb", ttl, (0, 1))

    def _open_others(self, directory: str, cluster_key: str, whole: bool) -> None:
        """The other names of DC/OS' zones. `whole`: all names below the directory are ours, also those in no zone."""
        parents = other_parents(directory, cluster_key)
        for alias in aliases(self.zones, directory, parents):
            self.zones[alias.wire] = alias
            if alias.plain:
                self._statics.pin(alias)
        for parent in (directory, *parents) if whole else ():
            zone = Zone(parent, "beneath", RecordStore(), None, self.config, ttl=self.config.directory_ttl, srv=(0, 0))
            self._beneath[zone.wire] = zone

    def _open_plain(self, origin: str) -> Zone:
        return self._zone(origin, f"static:{origin}", self.config.ttl, (0, 0), plain=True)

    # --- pieces ----------------------------------------------------------------------------------

    def _zone(
        self,
        origin: str,
        tag: str,
        ttl: int,
        srv: tuple[int, int],
        slots: ZoneSlots | None = None,
        *,
        plain: bool = False,
    ) -> Zone:
        origin = origin.removesuffix(".")
        room = room_below(origin)
        presence = self._presence(tag)
        store = RecordStore(room, lambda owner: self._on_touch(tag, owner), presence)
        tasks = None
        if slots is not None:
            tasks = TaskIndex(
                self.rules,
                slots,
                room,
                lambda owner: self._refuse(f"{owner}.{origin}", _TOO_LONG),
                presence,
            )
        ns_ttl = NS_TTL if tag in _OF_DCOS else None
        zone = Zone(origin, tag, store, tasks, self.config, ttl=ttl, srv=srv, plain=plain, ns_ttl=ns_ttl)
        self.zones[zone.wire] = zone
        return zone

    def _add_name_server(self) -> None:
        if not self.rules.name_server:
            return
        for address in self.ns_addresses:
            data = names.packed(address)
            self._domain.store.add(self.rules.name_server, A if len(data) == 4 else AAAA, data)

    def _place(self, task: Task) -> TaskPlace:
        framework = self._frameworks.get(("framework", task.cluster, task.framework_id))
        if not task.node_id:
            # Its orchestrator tells no nodes: where it registered is its host.
            return TaskPlace(task, framework.name if framework is not None else "", names.container_addresses(task))
        node = self._nodes.get(("node", task.cluster, task.node_id))
        # A task without its agent or framework is withheld: an empty framework name gives no records.
        if framework is None or node is None:
            return TaskPlace(task, "", ())
        return TaskPlace(task, framework.name, node.addresses)

    def fit(self, place: TaskPlace | None) -> bool:
        """False when a task's records are served only where no other task has any (`[dns] health`)."""
        if place is None or self.config.health == "ignore":
            return True
        return place.task.health in (Health.NONE, Health.HEALTHY)

    def _pointers(self, records: list[Record]) -> list[Pointer]:
        """Of addresses in the domain, but for names that several machines share in turn."""
        unique = [record for record in records if record[0] not in ("leader", "master")]
        return pointers_of(unique, self._domain.store.room)

    def _swap(self, zone: Zone, old: list[Record], new: list[Record]) -> None:
        gone, come = dict.fromkeys(old), dict.fromkeys(new)
        for record in come:
            if record not in gone and not zone.store.add(*record):
                self._refuse(f"{record[0]}.{zone.origin}", _TOO_LONG)
        for record in gone:
            if record not in come:
                zone.store.remove(*record)

    def _refuse(self, name: str, why: str) -> None:
        self.refused += 1
        if len(self._log_once) < _LOG_ONCE and name not in self._log_once:
            self._log_once.add(name)
            log.warning("left out of DNS name=%r reason=%r", name[:300], why)

    def _on_touch(self, tag: str, owner: str) -> None:
        self._touched = True
        self.touch(tag, owner)

    # --- reading ---------------------------------------------------------------------------------

    def places(self) -> Iterator[TaskPlace]:
        """Every published task (a whole-table pass, for /v1/enumerate and /v1/axfr)."""
        return iter([place for place in self._places.values() if place.framework])

    def task_records(self, place: TaskPlace) -> list[Record]:
        """A task's records in the domain, owners as written."""
        return names.task_records(place, self.rules)

    def cluster_records(self) -> Iterator[Record]:
        """The records of frameworks, agents and masters, owners as written."""
        for framework in list(self._frameworks.values()):
            yield from names.framework_records(framework, self.rules)
        for node in list(self._nodes.values()):
            yield from names.node_records(node)
        for leadership in list(self._leaderships.values()):
            yield from names.leadership_records(leadership)

    def frameworks(self) -> list[Framework]:
        """Every framework."""
        return list(self._frameworks.values())

    def find(self, wire: bytes) -> Zone | None:
        """The served zone with the longest origin that holds a folded wire name."""
        zones, beneath = self.zones, self._beneath
        at = 0
        while True:
            zone = zones.get(wire[at:])
            if zone is None and beneath and at:
                zone = beneath.get(wire[at:])
            if zone is not None or not wire[at]:
                return zone
            at += 1 + wire[at]

    def pointed(self, address: bytes) -> tuple[Zone, str] | None:
        """What an address (4 or 16 packed bytes) points back to: a zone and an owner in it."""
        best = self.pointers.best(address)
        if best is None:
            return None
        rank, name = best
        return self._virtual if rank == Rank.VIRTUAL and self._virtual is not None else self._domain, name

    def relative(self, wire: bytes, zone: Zone) -> str:
        """The owner of a folded wire name relative to its zone."""
        return name_from_wire(wire[: len(wire) - len(zone.wire)] + b"\0")


def _node_key(place: TaskPlace | None) -> Key | None:
    return ("node", place.task.cluster, place.task.node_id) if place is not None else None


def _framework_key(place: TaskPlace | None) -> Key | None:
    return ("framework", place.task.cluster, place.task.framework_id) if place is not None else None


def _replace(held: dict[Key, _E], key: Key, value: _E | None) -> None:
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value


def _index(index: dict[Key, set[Key]], old: Key | None, new: Key | None, key: Key) -> None:
    """Move `key` from the set of `old` to the set of `new`."""
    if old == new:
        return
    if old is not None and (held := index.get(old)) is not None:
        held.discard(key)
        if not held:
            del index[old]
    if new is not None:
        index.setdefault(new, set()).add(key)
