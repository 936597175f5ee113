"""Tasks by the names they give: a hundred thousand tasks held once, their records made on demand.

Tasks of one app look alike: they contribute to the same dozen owners and differ only in addresses,
ports and id. Such tasks form a *group*; an owner points to the groups that contribute to it, and a
record set is made from their members when somebody asks (the answer is then kept elsewhere). Adding
or removing a task so touches one dict, not a record per name.

Canonical names (T-id5-Sn) belong to one task each. They are found by their "-id5-Sn" part (up to its
first dot: ids of agents that Mesos did not name may have one), so they cost one short key per task
instead of a name for every spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from mesos_dns import names
from mesos_dns.model import Key, Task
from mesos_dns.names import SRV, Rdata, Rules, Slot, TaskPlace
from mesos_dns.records import fold, legal_owner

ZoneSlots: TypeAlias = Callable[[names.Shape], tuple[Slot, ...]]


class Member(msgspec.Struct, frozen=True, gc=False):
    """A task in a group. `fit` is False when it should only serve if nobody else does."""

    place: TaskPlace
    fit: bool


class Group:
    """Tasks of one shape. `slots` are those of legal group owners, by folded owner; `canonical`
    those of canonical owners."""

    __slots__ = ("canonical", "members", "refused", "slots")

    def __init__(self, slots: tuple[Slot, ...], room: int) -> None:
        self.slots: dict[str, list[Slot]] = {}
        self.canonical = tuple(slot for slot in slots if slot.canonical)
        self.refused: list[str] = []
        self.members: dict[Key, Member] = {}
        for slot in slots:
            if slot.canonical:
                continue
            owner = slot.owner("")
            if legal_owner(owner, room):
                self.slots.setdefault(fold(owner), []).append(slot)
            elif owner not in self.refused:
                self.refused.append(owner)


class TaskIndex:
    """The tasks of one zone. `slots_of` picks the zone's slots of a shape; `room`: octets for an owner."""

    def __init__(self, rules: Rules, slots_of: ZoneSlots, room: int, refuse: Callable[[str], None]) -> None:
        self._rules = rules
        self._slots_of = slots_of
        self._room = room
        self._refuse = refuse
        self._groups: dict[tuple[object, ...], Group] = {}
        self._owners: dict[str, list[Group]] = {}
        self._inner: dict[str, int] = {}
        self._unique: dict[str, tuple[tuple[Group, Key], ...]] = {}

    def __len__(self) -> int:
        return sum(len(group.members) for group in self._groups.values())

    def owners(self) -> Iterator[str]:
        """The folded owners that groups contribute to (canonical names are not among them)."""
        return iter(self._owners)

    def add(self, key: Key, shape_key: tuple[object, ...], place: TaskPlace, fit: bool) -> Group:
        """Put a task in (or replace it in its group)."""
        group = self._groups.get(shape_key)
        if group is None:
            group = self._open(shape_key, place)
        known = key in group.members
        group.members[key] = Member(place, fit)
        if group.canonical and not known:
            mark = _mark(place.task)
            self._unique[mark] = (*self._unique.get(mark, ()), (group, key))
            self._count_tails(group, place, 1)
        return group

    def remove(self, key: Key, shape_key: tuple[object, ...]) -> Group:
        """Take a task out."""
        group = self._groups[shape_key]
        member = group.members.pop(key)
        if group.canonical:
            mark = _mark(member.place.task)
            left = tuple(entry for entry in self._unique[mark] if entry != (group, key))
            if left:
                self._unique[mark] = left
            else:
                del self._unique[mark]
            self._count_tails(group, member.place, -1)
        if not group.members:
            self._close(shape_key, group)
        return group

    def collect(self, owner: str, rtype: int) -> dict[Rdata, bool]:
        """rdata → fit, for a folded owner and type."""
        found: dict[Rdata, bool] = {}
        for slot, member, unique in self._contributors(owner, rtype):
            for rdata in names.slot_rdata(slot, member.place, self._rules, unique):
                if not isinstance(rdata, tuple) or legal_owner(rdata[1], self._room):
                    found[rdata] = found.get(rdata, False) or member.fit
        return found

    def types(self, owner: str) -> list[int]:
        """The record types at a folded owner, as far as shapes tell (an SRV may lack a legal target)."""
        found = [slot.rtype for group in self._owners.get(owner, ()) for slot in group.slots[owner]]
        for group, _, unique in self._canonical_candidates(owner):
            found += [slot.rtype for slot in group.canonical if fold(slot.owner(unique)) == owner]
        return list(dict.fromkeys(found))

    def exists(self, owner: str) -> bool:
        """True when a task contributes to the folded owner or to a name below it."""
        return owner in self._owners or owner in self._inner or self._below_canonical(owner)

    def canonical_owners(self, group: Group, place: TaskPlace) -> list[str]:
        """The folded canonical owners of a task."""
        unique = names.unique_suffix(place.task)
        return [fold(slot.owner(unique)) for slot in group.canonical]

    def _contributors(self, owner: str, rtype: int) -> Iterator[tuple[Slot, Member, str]]:
        for group in self._owners.get(owner, ()):
            slots = [slot for slot in group.slots[owner] if slot.rtype == rtype]
            for member in group.members.values() if slots else ():
                unique = names.unique_suffix(member.place.task) if rtype == SRV else ""
                for slot in slots:
                    yield slot, member, unique
        for group, key, unique in self._canonical_candidates(owner):
            for slot in group.canonical:
                if slot.rtype == rtype and fold(slot.owner(unique)) == owner and legal_owner(owner, self._room):
                    yield slot, group.members[key], unique

    def _canonical_candidates(self, owner: str) -> Iterator[tuple[Group, Key, str]]:
        """Tasks whose "-id5-Sn" ends one of the owner's labels."""
        if not self._unique:
            return
        for part in dict.fromkeys(owner.split(".")):
            pieces = part.rsplit("-", 2)
            if len(pieces) == 3:
                for group, key in self._unique.get(f"-{pieces[1]}-{pieces[2]}", ()):
                    yield group, key, names.unique_suffix(group.members[key].place.task)

    def _below_canonical(self, owner: str) -> bool:
        """True when the owner is a canonical name or an ancestor of a dotted one (RFC 8020)."""
        for group, _, unique in self._canonical_candidates(owner):
            for slot in group.canonical:
                canonical = fold(slot.owner(unique))
                if (canonical == owner or canonical.endswith("." + owner)) and legal_owner(canonical, self._room):
                    return True
        return False

    def _open(self, shape_key: tuple[object, ...], place: TaskPlace) -> Group:
        group = Group(self._slots_of(names.shape(place, self._rules)), self._room)
        self._groups[shape_key] = group
        for owner in group.slots:
            held = self._owners.setdefault(owner, [])
            held.append(group)
            if len(held) == 1:
                self._count(owner, 1)
        for owner in group.refused:
            self._refuse(owner)
        for slot in group.canonical:
            if not legal_owner(slot.owner(names.unique_suffix(place.task)), self._room):
                self._refuse(slot.owner(names.unique_suffix(place.task)))
        return group

    def _close(self, shape_key: tuple[object, ...], group: Group) -> None:
        del self._groups[shape_key]
        for owner in group.slots:
            held = self._owners[owner]
            held.remove(group)
            if not held:
                del self._owners[owner]
                self._count(owner, -1)

    def _count_tails(self, group: Group, place: TaskPlace, step: int) -> None:
        """Count the names between a canonical name and its framework, where the agent's id has dots."""
        if "." in names.unique_suffix(place.task):
            for owner in self.canonical_owners(group, place):
                if legal_owner(owner, self._room):
                    self._count(owner, step)

    def _count(self, owner: str, step: int) -> None:
        """Count an owner at each of its ancestors (groups are few, so every ancestor is counted)."""
        parent = owner.partition(".")[2]
        while parent:
            left = self._inner.get(parent, 0) + step
            if left:
                self._inner[parent] = left
            else:
                del self._inner[parent]
            parent = parent.partition(".")[2]


def _mark(task: Task) -> str:
    """What canonical names of a task are found by: the part of "-id5-Sn" that its label ends with."""
    return fold(names.unique_suffix(task).partition(".")[0])
