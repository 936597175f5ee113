"""The names of VIPs: records below `l4lb.<directory>`, and who tells them to the zone.

N is a VIP's name, L its first label and R the rest ("web.marathon": "web" and "marathon"):

    N             A, AAAA   the allocated addresses
    N             SRV       every port
    _80._tcp.N    SRV       port 80, by TCP
    _L._tcp.R     SRV       every port by TCP, as mesos-dns names tasks' ports

A VIP of an explicit address has no name. Owners and targets are relative to the zone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from mesos_dns.model import VipAddress, canonical_address
from mesos_dns.names import AAAA, SRV, A, Record, packed
from mesos_dns.zone_extra import Changed

Ports: TypeAlias = Collection[tuple[str, int]]
"""(protocol, port): "tcp" or "udp", 1..65535."""


class Named(NamedTuple):
    """What a VIP's name stands for: its addresses and ports."""

    address: VipAddress | None
    ports: Ports


def vip_records(name: str, address: VipAddress | None, ports: Ports) -> list[Record]:
    """All records of one VIP's name, each once, always in the same order; none while it has no address."""
    texts = (address.address, address.address6) if address is not None else ()
    addresses = dict.fromkeys(packed(canonical) for text in texts if (canonical := canonical_address(text)))
    if not name or not addresses:
        return []
    records: list[Record] = [(name, A if len(data) == 4 else AAAA, data) for data in addresses]
    first, dot, rest = name.partition(".")
    for protocol, port in sorted(set(ports)):
        owners = (name, f"_{port}._{protocol}.{name}", f"_{first}._{protocol}{dot}{rest}")
        records += [(owner, SRV, (port, name)) for owner in owners]
    return list(dict.fromkeys(records))  # a port by TCP and UDP is one at N


class VipNames:
    """The records of all VIPs that have names here, for the zone views (`ZoneExtra`). Used on one thread.

    A listener that fails would keep others from hearing: it must not raise.
    """

    def __init__(self) -> None:
        self._records: dict[str, list[Record]] = {}
        self._listeners: list[Changed] = []

    def __len__(self) -> int:
        return len(self._records)

    def put(self, name: str, address: VipAddress | None, ports: Ports) -> None:
        """This is what a name stands for now; without an address it has no records."""
        self.change({name: Named(address, ports)})

    def drop(self, name: str) -> None:
        """A name is no more; nothing where it was not there."""
        self.change({name: None})

    def change(self, changes: Mapping[str, Named | None]) -> None:
        """Puts, and drops (None), as one change: it costs listeners less than many."""
        gone: list[Record] = []
        come: list[Record] = []
        for name, named in changes.items():
            old = self._records.pop(name, [])
            new = vip_records(name, named.address, named.ports) if named is not None else []
            if new:
                self._records[name] = new
            if old != new:
                had, has = set(old), set(new)
                gone += [record for record in old if record not in has]
                come += [record for record in new if record not in had]
        if gone or come:
            for listener in tuple(self._listeners):
                listener(gone, come)

    def records(self) -> Iterator[Record]:
        """Everything now."""
        for records in list(self._records.values()):
            yield from records

    def listen(self, callback: Changed) -> None:
        """Tell every change from now on."""
        self._listeners.append(callback)

    def unlisten(self, callback: Changed) -> None:
        """Tell it no more; nothing where it was not told."""
        if callback in self._listeners:
            self._listeners.remove(callback)
