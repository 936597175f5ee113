"""Counted records by owner: what is not a task's, in a store updated in proportion to each change.

Several entities may give one record (every agent gives slave.D's SRV), so records are counted and
vanish with their last contributor. Most owners hold one record; it is kept as a bare tuple, and
only owners with more records pay for a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from mesos_dns.names import Rdata
from mesos_dns.presence import Presence
from mesos_dns.wire import MAX_NAME, name_to_wire

_Single: TypeAlias = tuple[int, Rdata, int]
_Several: TypeAlias = dict[tuple[int, Rdata], int]


def legal_owner(owner: str, room: int = 255) -> bool:
    """True when every label has 1 to 63 octets and the name fits into `room` octets (RFC 1035 §2.3.4).

    The empty string is the zone's apex.
    """
    if owner.isascii():
        if len(owner) < 64 and len(owner) + 2 <= room:
            return ".." not in owner and owner[:1] != "." and owner[-1:] != "."
        lengths = [len(part) for part in owner.split(".")]
    else:
        lengths = [len(part.encode("utf-8", "surrogatepass")) for part in owner.split(".")]
    return all(0 < length < 64 for length in lengths) and sum(lengths) + len(lengths) + 1 <= room


def room_below(origin: str) -> int:
    """Octets that an owner below an origin may have on the wire, its own final octet included."""
    return MAX_NAME - len(name_to_wire(origin)) + 1


def fold(owner: str) -> str:
    """The owner in lower case as DNS compares it: ASCII letters only (RFC 4343)."""
    if owner.isascii():
        return owner.lower()
    return "".join([char.lower() if char < "\x80" else char for char in owner])


class RecordStore:
    """Records of one zone by folded owner relative to it; `touch(owner)` is told every change, `presence`
    which owners there are."""

    def __init__(
        self, room: int = 255, touch: Callable[[str], None] | None = None, presence: Presence | None = None
    ) -> None:
        self.room = room
        """Octets that an owner may have on the wire, its final one included."""
        self._touch = touch
        self._presence = presence
        self._owners: dict[str, _Single | _Several] = {}
        self._inner: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def owners(self) -> Iterator[str]:
        """Every owner (folded)."""
        return iter(self._owners)

    def copy(self) -> RecordStore:
        """A store of its own with the same records, which tells nobody of changes."""
        other = RecordStore(self.room)
        other._owners = {owner: held if isinstance(held, tuple) else dict(held) for owner, held in self._owners.items()}
        other._inner = dict(self._inner)
        return other

    def add(self, owner: str, rtype: int, rdata: Rdata) -> bool:
        """Count one contribution; False when owner or SRV target can't stand on the wire."""
        if not self._legal(owner, rdata):
            return False
        owner = fold(owner)
        held = self._owners.get(owner)
        if held is None:
            self._owners[owner] = (rtype, rdata, 1)
            self._enter(owner)
        elif isinstance(held, tuple):
            if held[0] == rtype and held[1] == rdata:
                self._owners[owner] = (rtype, held[1], held[2] + 1)
            else:
                self._owners[owner] = {(held[0], held[1]): held[2], (rtype, rdata): 1}
        else:
            held[rtype, rdata] = held.get((rtype, rdata), 0) + 1
        if self._touch is not None:
            self._touch(owner)
        return True

    def remove(self, owner: str, rtype: int, rdata: Rdata) -> None:
        """Take back one contribution that `add` counted (one that it refused is ignored)."""
        if not self._legal(owner, rdata):
            return
        owner = fold(owner)
        held = self._owners[owner]
        if isinstance(held, tuple):
            if held[2] > 1:
                self._owners[owner] = (rtype, rdata, held[2] - 1)
            else:
                del self._owners[owner]
                self._leave(owner)
        else:
            left = held[rtype, rdata] - 1
            if left:
                held[rtype, rdata] = left
            else:
                del held[rtype, rdata]
                if len(held) == 1:
                    ((kind, data), count) = next(iter(held.items()))
                    self._owners[owner] = (kind, data, count)
        if self._touch is not None:
            self._touch(owner)

    def exists(self, owner: str) -> bool:
        """True when the folded owner has records or is an empty non-terminal (RFC 8020)."""
        return owner in self._owners or owner in self._inner

    def types(self, owner: str) -> list[int]:
        """The record types at a folded owner, in the order of first contribution."""
        held = self._owners.get(owner)
        if held is None:
            return []
        if isinstance(held, tuple):
            return [held[0]]
        return list(dict.fromkeys(kind for kind, _ in held))

    def rrset(self, owner: str, rtype: int) -> list[Rdata]:
        """The rdata for a folded owner and type, in the order of first contribution."""
        held = self._owners.get(owner)
        if held is None:
            return []
        if isinstance(held, tuple):
            return [held[1]] if held[0] == rtype else []
        return [data for kind, data in held if kind == rtype]

    def _legal(self, owner: str, rdata: Rdata) -> bool:
        if not legal_owner(owner, self.room):
            return False
        return not isinstance(rdata, tuple) or legal_owner(rdata[1], self.room)

    def _enter(self, owner: str) -> None:
        """Count a new owner at its ancestors, as far up as they were not there before."""
        if self._presence is not None:
            self._presence.enter(owner)
        if owner in self._inner:
            return
        while owner:
            owner = owner.partition(".")[2]
            count = self._inner.get(owner, 0)
            self._inner[owner] = count + 1
            if count or (owner and owner in self._owners):
                return

    def _leave(self, owner: str) -> None:
        """The counterpart of `_enter` for an owner whose last record went."""
        if self._presence is not None:
            self._presence.leave(owner)
        if owner in self._inner:
            return
        while owner:
            owner = owner.partition(".")[2]
            count = self._inner[owner] - 1
            if count:
                self._inner[owner] = count
                return
            del self._inner[owner]
            if owner and owner in self._owners:
                return
