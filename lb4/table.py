"""The VIP table: every virtual address with its backends, as a live view of the catalog.

`VipTable` listens to the catalog. A task is joined with its framework's name, its agent's address and what its
orchestrator says of its health (`cluster`); `offers` tells what it gives to which VIPs, `definitions` what the VIP file
adds, `record` what all of it makes of one VIP. A change costs what it bears on: a task (also one that is drained) its
own VIPs, a suspect node the VIPs that have a backend there. Who listens hears of the VIPs whose state is another one
now.

Withheld are tasks whose agent or framework is unknown, and VIPs with an address that another has: a machine of the
cluster (an agent, a master, a ZooKeeper server, this one), whose ports they would take over, or a name in use, to which
it was allocated. One bad entity costs only itself: it is logged and counted.

Whether a task was ever seen healthy is remembered as long as the task is in the catalog. It is the one thing that a
table made anew from the same catalog does not know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, KeysView, Mapping
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from lb4.cluster import PROTECTED, Cluster, Holder, Index, unindex
from lb4.definitions import key_of, servers_of
from lb4.labels import BadLabel
from lb4.offers import TaskOffers
from lb4.record import NO_FAMILY, Families, VipRecord, families_of
from lb4.refusals import Refusals
from lb4.selector import SelectorIndex
from lb4.vip import VipKey, VipState
from mesos_dns.catalog import Delta
from mesos_dns.model import (
    Draining,
    Ensemble,
    Entity,
    Framework,
    HealthOverlay,
    Key,
    Leadership,
    Node,
    Suspect,
    Task,
    Vip,
    VipAddress,
)

log = logging.getLogger(__name__)

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")
VipsChanged: TypeAlias = Callable[[frozenset[VipKey]], None]
NamesChanged: TypeAlias = Callable[[frozenset[str]], None]
Later: TypeAlias = Callable[[Callable[[], None]], object]
"""Has something called in another turn of the loop."""


class VipTable:
    """See the module.

    `bad_labels` counts labels (and definitions, servers) that were left out, by category; `faults` what could not be
    taken in for a fault of ours; `backends` the backends of all VIPs. `withheld` has VIPs that are withheld and why.
    `names` has the names of VIPs that have a backend (also one that is being killed), each with the address families
    of its backends. All these are live views: not to be changed. `revision` grows with every change of VIPs, their
    allocated addresses and `withheld`.

    With `later`, which tasks fit selectors that came or went is found out in several turns of the loop, `pending`
    until then; without it at once.
    """

    def __init__(self, changed: VipsChanged | None = None, *, later: Later | None = None) -> None:
        self._refusals = Refusals(log, "left out of the VIPs")
        self._cluster = Cluster()
        self._selectors = SelectorIndex()
        self._tasks = TaskOffers(self._cluster, self._selectors, self._refusals)
        self._records: dict[VipKey, VipRecord] = {}
        self._states: dict[VipKey, VipState] = {}
        self._definitions: dict[Key, tuple[VipKey, Vip]] = {}
        self._allocated: dict[str, dict[Key, VipAddress]] = {}
        self._allocated_to: Index[str, str] = {}  # address → the names that `address_of` gives it for
        self._fixed: Index[str, VipKey] = {}  # records by address
        self._named: Index[str, VipKey] = {}  # the others by name
        self._names: dict[str, Families] = {}
        self._withheld: dict[VipKey, str] = {}
        self._listeners: list[VipsChanged] = [changed] if changed is not None else []
        self._name_listeners: list[NamesChanged] = []
        self._later = later
        self._awaited = False
        self._faults = 0
        self.backends = 0
        self.revision = 0
        self.bad_labels = self._refusals.counts
        self.names: Mapping[str, Families] = MappingProxyType(self._names)
        self.withheld: Mapping[VipKey, str] = MappingProxyType(self._withheld)
        # What the delta at hand has touched so far.
        self._stale: dict[Key, None] = {}
        self._dirty: dict[VipKey, None] = {}
        self._came, self._went = SelectorIndex(), SelectorIndex()
        self._changed: set[VipKey] = set()
        self._changed_names: set[str] = set()

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return f"<VipTable vips={len(self)} backends={self.backends} withheld={len(self._withheld)}>"

    # --- reading ---------------------------------------------------------------------------------

    def get(self, key: VipKey) -> VipState | None:
        """A VIP, None when it has no backend or is withheld."""
        return self._states.get(key)

    def keys(self) -> KeysView[VipKey]:
        """The VIPs that `get` gives (a live view)."""
        return self._states.keys()

    def address_of(self, name: str) -> VipAddress | None:
        """The addresses that were allocated to a name (of several clusters' those of the first by name)."""
        held = self._allocated.get(name)
        return held[min(held)] if held else None

    @property
    def fixed_addresses(self) -> KeysView[str]:
        """Addresses that labels or the VIP file name themselves (a live view), also those of VIPs without a backend and
        of those that are withheld: none of them is to be allocated to a name."""
        return self._fixed.keys()

    @property
    def pending(self) -> bool:
        """Whether some tasks may still have to be given to VIPs whose selectors came, or taken from others."""
        return self._tasks.seeking

    @property
    def faults(self) -> int:
        """Entities and VIPs that could not be taken in for a fault of ours."""
        return self._faults + self._tasks.faults

    def listen(self, callback: VipsChanged) -> None:
        """Call back once for each delta that changed VIPs, with the keys of those whose state or allocated addresses
        are others now (those that are gone, too). What is there already is in `keys`."""
        self._listeners.append(callback)

    def unlisten(self, callback: VipsChanged) -> None:
        """Call it back no more; nothing where it was not."""
        if callback in self._listeners:
            self._listeners.remove(callback)

    def listen_names(self, callback: NamesChanged) -> None:
        """Call back once for each delta that changed `names`, with the names that came, went or have other families."""
        self._name_listeners.append(callback)

    # --- changes ---------------------------------------------------------------------------------

    def apply(self, delta: Delta) -> None:
        """Take a catalog delta in: first what tasks are joined with, then tasks, then the VIPs that this touches."""
        for key, (_, after) in delta.changes.items():
            try:
                self._take(key, after)
            except Exception:
                self._fault("a change could not be taken into the VIP table", key)
        for selectors in (self._came, self._went):
            self._tasks.seek(selectors)
        if self._came or self._went:
            self._came, self._went = SelectorIndex(), SelectorIndex()
        self._work()

    def protect(self, addresses: Iterable[str]) -> None:
        """No VIP is to have one of these addresses: those of this machine and of what listens on it, all of them each
        time. Texts that are no address are ignored."""
        self._judge(self._cluster.set_machines(PROTECTED, addresses))
        self._work()

    def _go_on(self) -> None:
        self._awaited = False
        self._work()

    def _work(self) -> None:
        """Find tasks that selectors bear on, read the tasks and make the VIPs that are touched, and tell of them."""
        self._find_selected()
        for key in self._stale:
            try:
                self._read_task(key)
            except Exception:
                self._fault("a task could not be taken into the VIP table", key)
        # Names first: whether they are in use decides on VIPs of addresses.
        for fixed in (False, True):
            for vip in [key for key in self._dirty if (key.name in self._fixed) is fixed]:
                try:
                    self._settle(vip)
                except Exception:
                    self._fault("a VIP could not be made", vip)
        self._stale.clear()
        self._dirty.clear()
        self._tell()

    def _take(self, key: Key, after: Entity | None) -> None:
        """Take one entity in. Tasks that it bears on are left in `_stale`, VIPs in `_dirty`."""
        kind = key[0]
        if kind == "task":
            if self._tasks.set_task(key, after if isinstance(after, Task) else None):
                self._stale[key] = None
        elif kind == "health":
            task = self._cluster.set_overlay(key, after if isinstance(after, HealthOverlay) else None)
            if self._tasks.is_part(task):
                self._stale[task] = None
        elif kind == "node":
            tasks, addresses = self._cluster.set_node(key, after if isinstance(after, Node) else None)
            self._stale.update(dict.fromkeys(tasks))
            self._judge(addresses)
        elif kind == "framework":
            tasks = self._cluster.set_framework(key, after if isinstance(after, Framework) else None)
            self._stale.update(dict.fromkeys(tasks))
        elif kind == "reachability":
            for task in self._cluster.set_suspect(key, after if isinstance(after, Suspect) else None):
                self._dirty.update(dict.fromkeys(self._tasks.vips_of(task)))
        elif kind == "draining":
            task = self._cluster.set_draining(key, after if isinstance(after, Draining) else None)
            self._dirty.update(dict.fromkeys(self._tasks.vips_of(task)))
        elif kind == "vip":
            self._set_definition(key, after if isinstance(after, Vip) else None)
        elif kind == "vip_address":
            self._set_address(key, after if isinstance(after, VipAddress) else None)
        elif kind in ("leadership", "ensemble"):
            self._judge(self._cluster.set_machines(key, _addresses_of(after)))

    def _judge(self, addresses: Iterable[str]) -> None:
        """Leave in `_dirty` the VIPs of these addresses, which may be another's now or no longer."""
        for address in addresses:
            self._dirty.update(dict.fromkeys(self._fixed.get(address, ())))

    def _set_definition(self, key: Key, vip: Vip | None) -> None:
        held = self._definitions.pop(key, None)
        if held is not None:
            vip_key, old = held
            self._selectors.remove(old)
            record = self._records[vip_key]
            self._went.add(vip_key, old)
            record.definitions.pop(key, None)
            record.offers.pop(key, None)
            self._dirty[vip_key] = None
        if vip is None:
            return
        try:
            vip_key = key_of(vip)
        except BadLabel as error:
            self._refusals.note(error.reason, f"{vip.target[:200]}:{vip.port}", str(error), key)
            return
        servers, refused = servers_of(vip, vip_key)
        for refusal in refused:
            self._refusals.note(*refusal, where=key)
        self._definitions[key] = (vip_key, vip)
        record = self._record(vip_key)
        record.definitions[key] = vip
        if servers:
            record.offers[key] = servers
        self._selectors.add(vip_key, vip)
        self._came.add(vip_key, vip)
        self._dirty[vip_key] = None

    def _find_selected(self) -> None:
        """Leave tasks in `_stale` that selectors bear on that came or went; some, where others can come later."""
        while self._tasks.seeking:
            try:
                self._stale.update(dict.fromkeys(self._tasks.found()))
            except Exception:
                self._fault("tasks could not be tried on selectors", "selectors")
            if self._later is not None:
                break
        if self._later is not None and self._tasks.seeking and not self._awaited:
            self._awaited = True
            self._later(self._go_on)

    def _set_address(self, key: Key, entity: VipAddress | None) -> None:
        name = key[-1]
        before = self.address_of(name)
        held = self._allocated.setdefault(name, {})
        _put(held, key, entity)
        if not held:
            del self._allocated[name]
        after = self.address_of(name)
        if after == before:
            return
        self._changed.update(vip for vip in self._named.get(name, ()) if self._records[vip].state is not None)
        had, has = _addresses_of(before), _addresses_of(after)
        for address in had - has:
            unindex(self._allocated_to, address, name)
        for address in has - had:
            self._allocated_to.setdefault(address, set()).add(name)
        self._judge(had ^ has)

    def _read_task(self, key: Key) -> None:
        before, after = self._tasks.read(key)
        for vip, backends in after.items():
            record = self._record(vip)
            if record.offers.get(key) != backends:
                record.offers[key] = backends
                self._dirty[vip] = None
        for vip in before:
            if vip not in after:
                self._records[vip].offers.pop(key, None)
                self._dirty[vip] = None

    def _record(self, key: VipKey) -> VipRecord:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = VipRecord(key)
            (self._fixed if record.family else self._named).setdefault(key.name, set()).add(key)
            if not record.family:
                self._judge(_addresses_of(self.address_of(key.name)))
        return record

    def _settle(self, key: VipKey) -> None:
        """Make a VIP's state anew from what is known of it."""
        record = self._records[key]
        known = record.faults
        new = record.made(self._cluster.suspects, self._tasks.healthy_once, self._cluster.draining)
        for reason in record.faults.keys() - known.keys():
            self._refusals.note(reason, f"{key.name}:{key.port}/{key.protocol}", record.faults[reason])
        new = self._held_back(record, new)
        if not record.offers and not record.definitions:
            del self._records[key]
            unindex(self._fixed if record.family else self._named, key.name, key)
            if not record.family:
                self._judge(_addresses_of(self.address_of(key.name)))
        old = record.state
        if new == old:
            return
        record.state = new
        _put(self._states, key, new)
        self.backends += (len(new.backends) if new is not None else 0) - (len(old.backends) if old is not None else 0)
        self._changed.add(key)
        if not record.family:
            self._set_families(record, families_of(new))

    def _held_back(self, record: VipRecord, state: VipState | None) -> VipState | None:
        """The state of a VIP, but None where its address is another's."""
        key = record.key
        holder = self._holder_of(key.name) if state is not None and record.family else None
        if holder is None:
            if self._withheld.pop(key, None) is not None:
                self.revision += 1
            return state
        if self._withheld.get(key) != holder.text:
            self._withheld[key] = holder.text
            self.revision += 1
            self._refusals.note(holder.reason, f"{key.name}:{key.port}/{key.protocol}", holder.text)
        return None

    def _holder_of(self, address: str) -> Holder | None:
        """Who has an address: a machine, or a name in use."""
        if (machine := self._cluster.holder_of(address)) is not None:
            return machine
        names = [name for name in self._allocated_to.get(address, ()) if name in self._named]
        return Holder("allocated-address", f"the address of {min(names)}") if names else None

    def _set_families(self, record: VipRecord, families: Families) -> None:
        """Bring `names` up to date with one VIP."""
        if families == record.families:
            return
        key, record.families = record.key, families
        joined = NO_FAMILY
        for other in self._named.get(key.name, ()):
            joined |= self._records[other].families
        if joined != self._names.get(key.name, NO_FAMILY):
            _put(self._names, key.name, joined or None)
            self._changed_names.add(key.name)

    def _tell(self) -> None:
        keys, names = frozenset(self._changed), frozenset(self._changed_names)
        self._changed.clear()
        self._changed_names.clear()
        if keys:
            self.revision += 1
        for callback in tuple(self._listeners) if keys else ():
            self._call(callback, keys)
        for name_callback in tuple(self._name_listeners) if names else ():
            self._call(name_callback, names)

    def _call(self, callback: Callable[[_T], None], what: _T) -> None:
        """Call a listener; one that fails costs only itself."""
        try:
            callback(what)
        except Exception:
            self._fault("a listener to the VIP table failed", callback)

    def _fault(self, text: str, what: object) -> None:
        log.exception("%s what=%r", text, what)
        self._faults += 1


def _addresses_of(entity: Entity | None) -> set[str]:
    """The addresses that an entity gives to a VIP's name, to masters or to ZooKeeper servers."""
    if isinstance(entity, VipAddress):
        return {entity.address, entity.address6} - {""}
    if isinstance(entity, Leadership):
        leader = (entity.leader,) if entity.leader is not None else ()
        return {master.address for master in (*leader, *entity.masters)}
    if isinstance(entity, Ensemble):
        return {address for server in entity.servers for address in server}
    return set()


def _put(held: dict[_K, _V], key: _K, value: _V | None) -> None:
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value
