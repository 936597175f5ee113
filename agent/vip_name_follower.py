"""Keeps the names of virtual IPs as they are to be answered: which of a name's VIPs are found, at which addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from lb4.names import Named, VipNames
from lb4.table import VipTable
from lb4.vip import VipKey
from mesos_dns.model import VipAddress, canonical_address

SLICE = 200
"""VIPs that are looked at before the loop has a turn."""


class NameFollower:
    """`answers` says by which addresses (4, 6) a VIP is found by its name now."""

    def __init__(self, table: VipTable, names: VipNames, answers: Callable[[VipKey], frozenset[int]]) -> None:
        self._table = table
        self._names = names
        self._answers = answers
        self._keys: dict[str, set[VipKey]] = {}

    def follow(self, keys: Collection[VipKey]) -> None:
        """These VIPs, or whether they answer, may have changed."""
        names = {}
        for key in keys:
            if canonical_address(key.name):
                continue
            held = self._keys.setdefault(key.name, set())
            if self._table.get(key) is not None:
                held.add(key)
            else:
                held.discard(key)
            names[key.name] = held
        changes: dict[str, Named | None] = {}
        for name, held in names.items():
            found = {key: families for key in held if (families := self._answers(key))}
            ports = [(key.protocol, key.port) for key in found]
            changes[name] = Named(self._address(name, frozenset().union(*found.values())), ports) if ports else None
            if not held:
                del self._keys[name]
        if changes:
            self._names.change(changes)

    async def follow_all(self) -> None:
        """All of them, in slices."""
        keys = list({*self._table.keys(), *(key for held in self._keys.values() for key in held)})
        for start in range(0, len(keys), SLICE):
            self.follow(keys[start : start + SLICE])
            await asyncio.sleep(0)

    def _address(self, name: str, answers: frozenset[int]) -> VipAddress | None:
        """The addresses of a name that backends can be reached by."""
        address, families = self._table.address_of(name), self._table.names.get(name, frozenset()) & answers
        if address is None:
            return None
        return VipAddress(
            name, address.address if 4 in families else "", address.address6 if 6 in families else "", address.cluster
        )
