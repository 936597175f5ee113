"""Records from files: which zone each set belongs to, and the zones that exist only for them.

A set whose file has a SOA record belongs to that file's zone, which is opened with its first set and
closed with its last one (unless it is one of ours: then the set is added there). Any other set
belongs to the closest served zone above its owner, and moves when that changes.

A node's own records (`keep`) are served the same way and stay for good: what files say of the same
owners is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from mesos_dns.model import Key, StaticRecords
from mesos_dns.records import fold
from mesos_dns.served import Zone
from mesos_dns.wire import name_to_wire

_OWN = "own"
"""First item of the keys of this node's own records; those of the catalog begin with their kind."""


class StaticZones:
    """See the module. `zones` are all served zones by wire origin; `open_zone` makes a plain one
    there; `refuse` is told names that can't be served, and why."""

    def __init__(
        self, zones: dict[bytes, Zone], open_zone: Callable[[str], Zone], refuse: Callable[[str, str], None]
    ) -> None:
        self._zones = zones
        self._open = open_zone
        self._refuse = refuse
        self._sets: dict[Key, StaticRecords] = {}
        self._homes: dict[Key, Zone] = {}
        self._plain: Counter[bytes] = Counter()
        self._own: set[tuple[str, str]] = set()

    def keep(self, sets: Iterable[StaticRecords]) -> None:
        """Serve this node's own records, each in the zone that it names."""
        for records in sets:
            key = (_OWN, *records.key)
            self.swap(key, records)
            if (zone := self._homes.get(key)) is not None:
                self._own.add((zone.tag, _below(records.owner, zone)))

    def pin(self, zone: Zone) -> None:
        """A plain zone opened by somebody else stays when the last record set of a file that names it goes."""
        self._plain[zone.wire] += 1

    def swap(self, key: Key, new: StaticRecords | None) -> bool:
        """Serve a record set (None: no more) instead of what the key was before; True when the set
        of zones is another one now."""
        old = self._sets.pop(key, None)
        if new is not None:
            self._sets[key] = new
        if old == new:
            return False
        opened = self._hold_plain(new.zone) if new is not None and new.zone else False
        self._move(key, old, new)
        closed = self._release_plain(old.zone) if old is not None and old.zone else False
        if opened or closed:
            for other, records in self._sets.items():
                if not records.zone and self._homes.get(other) is not self._home_of(records):
                    self._move(other, records, records)
        return opened or closed

    def _move(self, key: Key, old: StaticRecords | None, new: StaticRecords | None) -> None:
        """Take a record set out of the zone that it is in, and put it into the one it belongs to."""
        held = self._homes.pop(key, None)
        if held is not None and old is not None:
            owner = _below(old.owner, held)
            for rdata in old.rdata:
                held.store.remove(owner, old.rtype, rdata)
            held.ttls.pop((owner, old.rtype), None)
        zone = self._home_of(new) if new is not None else None
        if new is None:
            return
        if zone is None:
            self._refuse(new.owner, "a static record in no served zone; give its file a SOA record")
            return
        owner = _below(new.owner, zone)
        if (zone.tag, owner) in self._own and key[0] != _OWN:
            self._refuse(new.owner, "a static record of a name that this node gives itself")
            return
        for rdata in new.rdata:
            if not zone.store.add(owner, new.rtype, rdata):
                self._refuse(new.owner, "a label or the name is too long or empty")
        zone.ttls[owner, new.rtype] = new.ttl
        self._homes[key] = zone

    def _home_of(self, records: StaticRecords) -> Zone | None:
        """The zone that a record set belongs to: its file's, else the closest served one."""
        owner = "." + fold(records.owner.removesuffix("."))
        if records.zone:
            zone = self._zones.get(name_to_wire(fold(records.zone)))
            return zone if zone is not None and owner.endswith("." + fold(zone.origin)) else None
        found = [zone for zone in self._zones.values() if owner.endswith("." + fold(zone.origin))]
        return max(found, key=lambda zone: len(zone.wire), default=None)

    def _hold_plain(self, name: str) -> bool:
        """Count one more record set of a file's zone; True when this opens a zone of its own."""
        origin = fold(name.removesuffix("."))
        wire = name_to_wire(origin)
        held = self._zones.get(wire)
        if held is not None and not held.plain:
            return False
        self._plain[wire] += 1
        if held is None:
            self._open(origin)
        return held is None

    def _release_plain(self, name: str) -> bool:
        """The counterpart of `_hold_plain`; True when the zone is no more."""
        wire = name_to_wire(fold(name))
        if wire not in self._plain:
            return False
        self._plain[wire] -= 1
        if self._plain[wire]:
            return False
        del self._plain[wire], self._zones[wire]
        return True


def _below(owner: str, zone: Zone) -> str:
    """An absolute owner relative to the zone that holds it, folded."""
    text = fold(owner.removesuffix("."))
    return text[: len(text) - len(zone.origin)].removesuffix(".")
