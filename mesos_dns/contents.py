"""All records of one zone at one moment, for a zone transfer (RFC 5936 §3).

The zone goes on changing while it is read, by a hundred changes a second. What is read is therefore a
copy, made at once (within milliseconds for 100,000 tasks, as it shares what does not change meanwhile),
and read in steps, between which the event loop has its turns.

The records are those that the server answers with, owner by owner and type by type, and all that a
zone file holds, below its delegations too (RFC 5936 §3.5). Left out is what a secondary would
understand otherwise than this server, or would refuse the whole zone for:

- a task's record whose first label is "*": it would become a wildcard, which tasks have none of;
- a CNAME beside other types, and all CNAMEs of an owner but the first (RFC 1034 §3.6.2);
- a SOA record below the apex.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator
from typing import TypeAlias

import msgspec

from mesos_dns.names import CNAME, SOA, SRV, Rdata
from mesos_dns.records import fold
from mesos_dns.served import Zone
from mesos_dns.wire import MAX_NAME, IllegalName, name_from_wire, name_to_wire

STEP = 50
"""Records between two pauses: well below a millisecond of work."""

_LENGTHS = [bytes((length,)) for length in range(64)]


class WireRecord(msgspec.Struct, frozen=True, gc=False):
    """One record; `owner` are the labels that stand before the zone's origin, `ttl` is in seconds."""

    owner: bytes
    rtype: int
    ttl: int
    rdata: bytes


Step: TypeAlias = WireRecord | None
"""A record, or None where the loop may have a turn."""


class Contents:
    """See the module. `soa` is the SOA rdata with the serial of the moment, `serial` the view's then."""

    def __init__(self, zone: Zone, serial: int) -> None:
        self.source = zone
        self.serial = serial
        self.soa = WireRecord(b"", SOA, zone.ttl_of("", SOA), zone.soa(serial))
        self._zone = copy.copy(zone)
        self._zone.store = zone.store.copy()
        self._zone.ttls = dict(zone.ttls)
        self._zone.tasks = zone.tasks.frozen() if zone.tasks is not None else None

    def __repr__(self) -> str:
        return f"<Contents {self._zone!r} serial={self.serial}>"

    def records(self) -> Iterator[Step]:
        """Every record but the SOA, each once, the apex' first. Can be read once."""
        zone = self._zone
        tasks = zone.tasks
        for number, _ in enumerate(tasks.complete() if tasks is not None else ()):
            if not number % STEP:
                yield None
        yield from self._at("")
        for owner in zone.store.owners():
            if owner:
                yield from self._at(owner)
        if tasks is None:
            return
        for owner in tasks.owners():
            if not zone.store.types(owner) and not self._starred(owner):
                yield from self._at(owner)
        for number, (owner, sets) in enumerate(tasks.canonical()):
            if not zone.store.types(owner) and not self._starred(owner):
                if sets is None:
                    yield from self._at(owner)
                else:
                    yield from self._wired(owner, sets)
            if not number % STEP:
                yield None

    def _starred(self, owner: str) -> bool:
        """True for a task's owner that would become a wildcard (one of a file is one already)."""
        return (owner == "*" or owner.startswith("*.")) and not self._zone.store.exists(owner)

    def _at(self, owner: str) -> Iterator[Step]:
        sets: dict[int, list[Rdata]] = {}
        for rtype in self._zone.types(owner):
            if rtype != SOA:
                sets[rtype] = yield from self._rrset(owner, rtype)
        if CNAME in sets:
            sets = {CNAME: sets[CNAME][:1]} if len(sets) == 1 else {r: s for r, s in sets.items() if r != CNAME}
        yield from self._wired(owner, sets)
        yield None

    def _rrset(self, owner: str, rtype: int) -> Generator[None, None, list[Rdata]]:
        """What `Zone.rrset` gives, with pauses: one app may have a hundred thousand tasks."""
        zone = self._zone
        if zone.tasks is None:
            return zone.rrset(owner, rtype)
        found = dict.fromkeys(zone.store.rrset(owner, rtype), True)
        for number, (rdata, fit) in enumerate(zone.tasks.offers(owner, rtype), 1):
            found[rdata] = found.get(rdata, False) or fit
            if not number % STEP:
                yield None
        if found:
            return [rdata for rdata, fit in found.items() if fit] or list(found)
        return zone.rrset(owner, rtype)

    def _wired(self, owner: str, sets: dict[int, list[Rdata]]) -> Iterator[Step]:
        labels = _labels(owner)
        if labels is None or len(labels) + len(self._zone.wire) > MAX_NAME:
            return
        for rtype, rdata in sets.items():
            ttl = self._zone.ttl_of(owner, rtype)
            for number, data in enumerate(self._services(rdata) if rtype == SRV else rdata, 1):
                if isinstance(data, bytes):
                    yield WireRecord(labels, rtype, ttl, data)
                if not number % STEP:
                    yield None

    def _services(self, rdata: list[Rdata]) -> Iterator[bytes | None]:
        """SRV rdata as answers have it: ports of 16 bits, one record for all spellings of a target; None
        stands for what is left out."""
        services: dict[tuple[int, str], str] = {}
        written: set[tuple[bytes, bytes]] = set()
        for data in rdata:
            if isinstance(data, tuple):
                services[data[0] & 0xFFFF, fold(data[1])] = data[1]
                yield None
            else:
                written.add((data[:6], data[6:].lower()))
                yield data
        prefix = b"".join(number.to_bytes(2, "big") for number in self._zone.srv_prefix)
        for (port, _), relative in services.items():
            try:
                # Not through its cache: a whole zone of names would push all others out.
                target = name_to_wire.__wrapped__(f"{relative}.{self._zone.origin}")
            except IllegalName:  # fits in the domain, but not in its longer copy
                yield None
                continue
            head = prefix + port.to_bytes(2, "big")
            yield head + target if (head, target.lower()) not in written else None


def _labels(owner: str) -> bytes | None:
    """A folded relative owner as labels; None for one that no question can name."""
    if not owner:
        return b""
    if owner.isascii():
        return b"".join([_LENGTHS[len(part)] + part for part in owner.encode().split(b".")])
    try:
        parts = [part.replace("\udc2e", ".").encode("utf-8", "surrogateescape") for part in owner.split(".")]
    except UnicodeEncodeError:
        return None
    wire = b"".join([_LENGTHS[len(part)] + part for part in parts])
    return wire if name_from_wire(wire + b"\0") == owner else None
