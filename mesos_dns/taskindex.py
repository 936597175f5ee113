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
from typing import TypeAlias, cast
from weakref import WeakSet

import msgspec

from mesos_dns import names
from mesos_dns.model import Key, Task
from mesos_dns.names import SRV, Rdata, Rules, Slot, TaskPlace
from mesos_dns.past import Past
from mesos_dns.presence import Presence
from mesos_dns.records import fold, legal_owner

ZoneSlots: TypeAlias = Callable[[names.Shape], tuple[Slot, ...]]


class Member(msgspec.Struct, frozen=True, gc=False):
    """A task in a group. `fit` is False when it should only serve if nobody else does."""

    place: TaskPlace
    fit: bool


class Group:
    """What tasks of one shape give. `slots` are those of legal group owners, by folded owner; `canonical`
    those of canonical owners. `alone`: a canonical name stands below one that no group owner stands below, as
    where the task's own name is no label."""

    __slots__ = ("alone", "canonical", "refused", "slots")

    def __init__(self, slots: tuple[Slot, ...], room: int) -> None:
        self.slots: dict[str, list[Slot]] = {}
        self.canonical = tuple(slot for slot in slots if slot.canonical)
        self.refused: list[str] = []
        for slot in slots:
            if slot.canonical:
                continue
            owner = slot.owner("")
            if legal_owner(owner, room):
                self.slots.setdefault(fold(owner), []).append(slot)
            elif owner not in self.refused:
                self.refused.append(owner)
        above = {parent for owner in self.slots for parent in _ancestors(owner)}
        tails = {fold(slot.tail.removeprefix(".")) for slot in self.canonical}
        self.alone = not tails - {""} <= above


class TaskIndex:
    """The tasks of one zone. `slots_of` picks the zone's slots of a shape; `room`: octets for an owner;
    `presence` is told which names there are."""

    def __init__(
        self,
        rules: Rules,
        slots_of: ZoneSlots,
        room: int,
        refuse: Callable[[str], None],
        presence: Presence | None = None,
    ) -> None:
        self._presence = presence
        self._rules = rules
        self._slots_of = slots_of
        self._room = room
        self._refuse = refuse
        self._groups: dict[tuple[object, ...], Group] = {}
        self._members: dict[Group, dict[Key, Member]] = {}
        self._owners: dict[str, list[Group]] = {}
        self._inner: dict[str, int] = {}
        self._unique: dict[str, tuple[tuple[Group, Key], ...]] = {}
        self._past_members: WeakSet[Past[Group, dict[Key, Member]]] = WeakSet()
        self._past_unique: WeakSet[Past[str, tuple[tuple[Group, Key], ...]]] = WeakSet()

    def __len__(self) -> int:
        return sum(map(len, self._members.values()))

    def owners(self) -> Iterator[str]:
        """The folded owners that groups contribute to (canonical names are not among them)."""
        return iter(self._owners)

    def frozen(self) -> TaskIndex:
        """This index as it is now, to be read only, within milliseconds. Before it is read, the steps of
        `complete` are to be taken."""
        other = TaskIndex(self._rules, self._slots_of, self._room, self._refuse)
        members, unique = Past(self._members, list(self._members)), Past(self._unique)
        self._past_members.add(members)
        self._past_unique.add(unique)
        other._members = cast(dict[Group, dict[Key, Member]], members)
        other._unique = cast(dict[str, tuple[tuple[Group, Key], ...]], unique)
        other._inner = dict(self._inner)
        return other

    def complete(self) -> Iterator[None]:
        """Find the groups of each owner again, group by group: a frozen index comes without."""
        for group in self._members:
            alone = [group]  # one for all owners: half a million lists would take long to free
            for owner in group.slots:
                held = self._owners.setdefault(owner, alone)
                if held is not alone:
                    self._owners[owner] = [*held, group]
            yield

    def offers(self, owner: str, rtype: int) -> Iterator[tuple[Rdata, bool]]:
        """(rdata, fit) for a folded owner and type as tasks give it, rdata that several give several times."""
        for slot, member, unique in self._contributors(owner, rtype):
            for rdata in names.slot_rdata(slot, member.place, self._rules, unique):
                if not isinstance(rdata, tuple) or legal_owner(rdata[1], self._room):
                    yield rdata, member.fit

    def canonical(self) -> Iterator[tuple[str, dict[int, list[Rdata]] | None]]:
        """Every folded owner that is a canonical name and none of `owners`, once, with its record sets:
        None where several tasks may give some, and `offers` has to be asked."""
        contested: set[str] = set()
        for group, members in self._members.items():
            for member in members.values() if group.canonical else ():
                for owner, sets in self._canonical_sets(group, member.place).items():
                    if owner in self._owners or owner in contested or not legal_owner(owner, self._room):
                        continue
                    if self._is_contested(owner):
                        contested.add(owner)
                        yield owner, None
                    else:
                        yield owner, {rtype: list(rdata) for rtype, rdata in sets.items()}

    def add(self, key: Key, shape_key: tuple[object, ...], place: TaskPlace, fit: bool) -> Group:
        """Put a task in (or replace it in its group)."""
        group = self._groups.get(shape_key)
        if group is None:
            group = self._open(shape_key, place)
        self._keep_members(group)
        members = self._members[group]
        known = key in members
        members[key] = Member(place, fit)
        if group.canonical and not known:
            mark = _mark(place.task)
            self._keep_mark(mark)
            held = self._unique.get(mark, ())
            self._unique[mark] = (*held, (group, key))
            if not held and self._presence is not None:
                self._presence.enter_mark(mark)
            self._count_tails(group, place, 1)
        return group

    def remove(self, key: Key, shape_key: tuple[object, ...]) -> Group:
        """Take a task out."""
        group = self._groups[shape_key]
        self._keep_members(group)
        member = self._members[group].pop(key)
        if group.canonical:
            mark = _mark(member.place.task)
            self._keep_mark(mark)
            left = tuple(entry for entry in self._unique[mark] if entry != (group, key))
            if left:
                self._unique[mark] = left
            else:
                del self._unique[mark]
                if self._presence is not None:
                    self._presence.leave_mark(mark)
            self._count_tails(group, member.place, -1)
        if not self._members[group]:
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

    def _keep_members(self, group: Group) -> None:
        """Before a change: frozen indexes go on with the members that the group has, this one with a copy."""
        if True in [past.keep(group) for past in self._past_members]:
            self._members[group] = dict(self._members[group])

    def _keep_mark(self, mark: str) -> None:
        for past in self._past_unique:
            past.keep(mark)

    def _canonical_sets(self, group: Group, place: TaskPlace) -> dict[str, dict[int, dict[Rdata, None]]]:
        """Folded canonical owner → type → rdata of one task."""
        unique = names.unique_suffix(place.task)
        found: dict[str, dict[int, dict[Rdata, None]]] = {}
        for slot in group.canonical:
            sets = found.setdefault(fold(slot.owner(unique)), {})
            sets.setdefault(slot.rtype, {}).update(dict.fromkeys(names.slot_rdata(slot, place, self._rules, unique)))
        return found

    def _is_contested(self, owner: str) -> bool:
        """True when more than one task's "-id5-Sn" ends a label of a canonical owner."""
        count = 0
        for part in owner.split("."):
            pieces = part.rsplit("-", 2)
            if len(pieces) == 3:
                count += len(self._unique.get(f"-{pieces[1]}-{pieces[2]}", ()))
        return count > 1

    def _contributors(self, owner: str, rtype: int) -> Iterator[tuple[Slot, Member, str]]:
        for group in self._owners.get(owner, ()):
            slots = [slot for slot in group.slots[owner] if slot.rtype == rtype]
            for member in self._members[group].values() if slots else ():
                unique = names.unique_suffix(member.place.task) if rtype == SRV else ""
                for slot in slots:
                    yield slot, member, unique
        for group, key, unique in self._canonical_candidates(owner):
            for slot in group.canonical:
                if slot.rtype == rtype and fold(slot.owner(unique)) == owner and legal_owner(owner, self._room):
                    yield slot, self._members[group][key], unique

    def _canonical_candidates(self, owner: str) -> Iterator[tuple[Group, Key, str]]:
        """Tasks whose "-id5-Sn" ends one of the owner's labels."""
        if not self._unique:
            return
        for part in dict.fromkeys(owner.split(".")):
            pieces = part.rsplit("-", 2)
            if len(pieces) == 3:
                for group, key in self._unique.get(f"-{pieces[1]}-{pieces[2]}", ()):
                    yield group, key, names.unique_suffix(self._members[group][key].place.task)

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
        self._members[group] = {}
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
        del self._groups[shape_key], self._members[group]
        for owner in group.slots:
            held = self._owners[owner]
            held.remove(group)
            if not held:
                del self._owners[owner]
                self._count(owner, -1)

    def _count_tails(self, group: Group, place: TaskPlace, step: int) -> None:
        """Count the names above a canonical name that no group owner tells of: between it and its framework where
        the agent's id has dots, and the framework's own where it stands alone."""
        if group.alone or "." in names.unique_suffix(place.task):
            for owner in self.canonical_owners(group, place):
                if legal_owner(owner, self._room):
                    self._count(owner, step)

    def _count(self, owner: str, step: int) -> None:
        """Count an owner at each of its ancestors (groups are few, so every ancestor is counted)."""
        if self._presence is not None:
            (self._presence.enter if step > 0 else self._presence.leave)(owner)
        for parent in _ancestors(owner):
            left = self._inner.get(parent, 0) + step
            if left:
                self._inner[parent] = left
            else:
                del self._inner[parent]


def _ancestors(owner: str) -> Iterator[str]:
    """The names above a relative owner, without the apex."""
    parent = owner.partition(".")[2]
    while parent:
        yield parent
        parent = parent.partition(".")[2]


def _mark(task: Task) -> str:
    """What canonical names of a task are found by: the part of "-id5-Sn" that its label ends with."""
    return fold(names.unique_suffix(task).partition(".")[0])
