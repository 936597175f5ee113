"""Which name an address points back to: the best of its candidates, chosen deterministically.

A candidate is (rank, name); the lowest rank wins, then the name that sorts first. So the answer
depends on what is there alone, never on the order in which it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from mesos_dns import names
from mesos_dns.names import AAAA, A, Record, Rules, TaskPlace
from mesos_dns.records import fold, legal_owner

Pointer: TypeAlias = tuple[bytes, str]
"""An address (4 or 16 packed octets) and a name that it may point back to."""


class Rank:
    """Whose names an address may point back to, the best first. Those of VIRTUAL are relative to the zone of virtual
    addresses, all others to the cluster's domain."""

    MASTER, NODE, TASK, FRAMEWORK, VIRTUAL = range(5)


class PointerStore:
    """Candidates by address, counted; `touch` is told each address for which that has changed."""

    def __init__(self, touch: Callable[[bytes], None] | None = None) -> None:
        self._touch = touch
        self._candidates: dict[bytes, dict[tuple[int, str], int]] = {}

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, address: bytes, rank: int, name: str) -> None:
        """Count one candidate name of an address (4 or 16 packed bytes)."""
        held = self._candidates.setdefault(address, {})
        held[rank, name] = held.get((rank, name), 0) + 1
        if self._touch is not None:
            self._touch(address)

    def remove(self, address: bytes, rank: int, name: str) -> None:
        """Take back what `add` counted."""
        held = self._candidates[address]
        if held[rank, name] > 1:
            held[rank, name] -= 1
            return
        del held[rank, name]
        if not held:
            del self._candidates[address]
        if self._touch is not None:
            self._touch(address)

    def swap(self, rank: int, old: list[Pointer], new: list[Pointer]) -> None:
        """Replace (address, name) candidates of one rank by others."""
        if old == new:
            return
        for address, name in new:
            self.add(address, rank, name)
        for address, name in old:
            self.remove(address, rank, name)

    def best(self, address: bytes) -> tuple[int, str] | None:
        """The candidate that an address points back to, or None."""
        held = self._candidates.get(address)
        return min(held) if held else None

    def name(self, address: bytes) -> str | None:
        """The name of the best candidate, or None."""
        best = self.best(address)
        return best[1] if best is not None else None


def pointers_of(records: Iterable[Record], room: int) -> list[Pointer]:
    """(address, folded owner) of address records whose owners fit into `room` octets (`legal_owner`)."""
    return [
        (rdata, fold(owner))
        for owner, rtype, rdata in records
        if rtype in (A, AAAA) and isinstance(rdata, bytes) and legal_owner(owner, room)
    ]


def task_pointers(place: TaskPlace | None, rules: Rules, room: int) -> list[Pointer]:
    """Those of a task's own addresses; those of its agent point back to the agent."""
    framework = names.domain_fragment(place.framework, rules) if place is not None else ""
    if place is None or not framework:
        return []
    name = f"{names.task_names(place.task, rules)[-1]}{names.unique_suffix(place.task)}.{framework}"
    if not legal_owner(name, room):
        return []
    addresses = names.task_addresses(place, rules)
    return [(names.packed(address), name) for address in addresses if address not in place.node_addresses]
