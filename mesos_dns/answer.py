"""From a question to an answer: a pure look-up in the zones, compiled once and then reused.

`compile_answer` builds everything of an answer that does not depend on the client: the records
behind the question in wire form. `Answer.encode` puts id, flags, the question as the client wrote
it (RFC 4343: the case is kept), a rotation and EDNS around it, and cuts it to the client's size:
additional records go first and silently (RFC 2181 §9), then answers with the TC bit.

Answers' owner names are a pointer to the question at offset 12, so an answer fits every client's
spelling. SRV targets are never compressed (RFC 2782). Additional records carry their owner in full,
so that rotation moves whole records; where that does not fit, their owners become pointers to the
targets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec

from mesos_dns import ratelimit
from mesos_dns.edns import NOT_READY
from mesos_dns.message import AA, ANY_CLASS, AXFR, IN, IXFR, NXDOMAIN, QR, RD, SERVFAIL, TC, Bad, Query
from mesos_dns.names import AAAA, ANY, CNAME, NS, PTR, SOA, SRV, A, Rdata
from mesos_dns.records import fold
from mesos_dns.served import Zone
from mesos_dns.wire import IllegalName, name_to_wire, reverse_address, split_labels
from mesos_dns.zone import ZoneView

_HEADER = struct.Struct(">HHHHHH").pack
_RR = struct.Struct(">HHIH").pack
_SRV = struct.Struct(">HHH").pack
_QUESTION_POINTER = b"\xc0\x0c"
_POINTER_REACH = 0x4000
"""Compression pointers have 14 bits (RFC 1035 §4.1.4)."""
_DS = 43
_MAX_CHAIN = 8
"""CNAMEs followed inside our zones for one answer (BIND's and Unbound's limits are 16 and 8)."""

Dependency: TypeAlias = tuple[str, str]
"""(store tag, folded owner): what an answer was built from."""


class Glue(msgspec.Struct, frozen=True, gc=False):
    """One record set of an answer record's target: the set's RRs without their owner.

    `index` is the answer record it belongs to and `offset` where the target stands in it.
    """

    index: int
    offset: int
    owner: bytes
    rest: tuple[bytes, ...]


class Answer:
    """A compiled answer. `records` are the answer section's RRs; `glue` may be left out where room is
    short, `needed` (a referral's addresses, RFC 9471) may not. `depends` is empty for what must not
    be kept; `lasting` is what a NODATA hangs on that may be, but for its SOA.

    `zone` is where the question belongs (reverse names: where they point); `cluster` tells that something of a
    cluster's zone is said. `beyond`: where its aliases lead, when what is there is for somebody else to say.
    `referral`: that all is for others to say. `bucket` is its name for the rate limit, b"" where the question itself
    counts; `extended_error` a code of RFC 8914.
    """

    __slots__ = (
        "aa",
        "authority",
        "authority_count",
        "beyond",
        "bucket",
        "cluster",
        "depends",
        "extended_error",
        "glue",
        "glue_count",
        "glue_full",
        "lasting",
        "needed",
        "needed_count",
        "offsets",
        "rcode",
        "referral",
        "rotate",
        "wire",
        "zone",
    )

    def __init__(
        self,
        rcode: int,
        records: list[bytes],
        *,
        authority: list[bytes] | None = None,
        glue: list[Glue] | None = None,
        needed: list[bytes] | None = None,
        depends: tuple[Dependency, ...] = (),
        lasting: tuple[Dependency, ...] = (),
        rotate: bool = True,
        aa: bool = True,
        zone: Zone | None = None,
        cluster: bool = False,
        bucket: bytes = b"",
        extended_error: int | None = None,
        beyond: bytes = b"",
        referral: bool = False,
    ) -> None:
        self.rcode = rcode
        self.wire = b"".join(records)
        self.offsets = (0, *accumulate(map(len, records)))
        self.authority = b"".join(authority or [])
        self.authority_count = len(authority or [])
        self.glue = tuple(glue or ())
        self.glue_full = b"".join([each.owner + rest for each in self.glue for rest in each.rest])
        self.glue_count = sum(len(each.rest) for each in self.glue)
        self.needed = b"".join(needed or [])
        self.needed_count = len(needed or [])
        self.depends = depends
        self.lasting = lasting
        self.rotate = rotate and len(records) > 1
        self.aa = aa
        self.zone = zone
        self.cluster = cluster
        self.bucket = bucket
        self.extended_error = extended_error
        self.beyond = beyond
        self.referral = referral

    def encode(self, query: Query, limit: int, turn: int, flags: int, opt: bytes) -> bytes:
        """The packet for one client, of at most `limit` bytes.

        `turn` picks the rotation: 0 to 2**32, a share of the circle. `flags` are set besides QR, AA
        and the client's RD; `opt` is the OPT record to add (b"" without EDNS).
        """
        count = len(self.offsets) - 1
        first = turn * count >> 32 if self.rotate else 0
        flags |= QR | (AA if self.aa else 0) | (query.flags & RD) | self.rcode
        room = limit - 12 - len(query.question) - len(opt)
        left = room - len(self.wire) - len(self.authority) - len(self.needed)
        if left < 0:
            return self._truncated(query, room, first, flags, opt)
        wire = self.wire
        if first:
            cut = self.offsets[first]
            wire = wire[cut:] + wire[:cut]
        glue, glue_count = self.glue_full, self.glue_count
        if len(glue) > left:
            glue, glue_count = self._compact_glue(left, first, 12 + len(query.question))
        extra = self.needed_count + glue_count + (1 if opt else 0)
        head = _HEADER(query.id, flags, 1, count, self.authority_count, extra)
        return b"".join((head, query.question, wire, self.authority, self.needed, glue, opt))

    def _compact_glue(self, room: int, first: int, start: int) -> tuple[bytes, int]:
        """Additional records with owners as pointers into the rotated answers: as many whole record
        sets as fit (RFC 2181 §9)."""
        total, cut = self.offsets[-1], self.offsets[first]
        out, number = bytearray(), 0
        for each in self.glue:
            at = (self.offsets[each.index] - cut) % total + each.offset + start
            if at >= _POINTER_REACH or len(out) + sum(map(len, each.rest)) + 2 * len(each.rest) > room:
                break
            pointer = (0xC000 | at).to_bytes(2, "big")
            for rest in each.rest:
                out += pointer + rest
            number += len(each.rest)
        return bytes(out), number

    def _truncated(self, query: Query, room: int, first: int, flags: int, opt: bytes) -> bytes:
        """TC set, with the answers that fit, for clients that never ask again by TCP."""
        count = len(self.offsets) - 1
        out = bytearray()
        number = 0
        while number < count:
            index = (first + number) % count
            record = self.wire[self.offsets[index] : self.offsets[index + 1]]
            if len(out) + len(record) > room:
                break
            out += record
            number += 1
        return _HEADER(query.id, flags | TC, 1, number, 0, 1 if opt else 0) + query.question + out + opt

    def slip(self, query: Query, flags: int, opt: bytes) -> bytes:
        """What goes out instead, now and then, where equal answers are too many: TC and no record at all."""
        flags |= QR | TC | (AA if self.aa else 0) | (query.flags & RD) | self.rcode
        return _HEADER(query.id, flags, 1, 0, 0, 1 if opt else 0) + query.question + opt


def ttl_places(wire: bytes) -> list[int]:
    """Where the TTLs of a section's records stand, one each; owners may be pointers. Raises ValueError where it does
    not end with a record."""
    places, at, size = [], 0, len(wire)
    while at < size:
        while at < size and 0 < (length := wire[at]) < 64:
            at += 1 + length
        if at >= size or 64 <= wire[at] < 0xC0:
            raise ValueError("a record's owner is broken")
        at += 2 if wire[at] else 1
        if at + 10 > size:
            raise ValueError("a record is cut short")
        places.append(at + 4)
        at += 10 + int.from_bytes(wire[at + 8 : at + 10], "big")
    if at != size:
        raise ValueError("a record is cut short")
    return places


def error(bad: Bad, flags: int, opt: bytes) -> bytes:
    """The packet for a query that could not be read or is not implemented; `opt` has the code's upper octet
    (b"" without EDNS)."""
    flags |= QR | (bad.flags & (RD | 0x7800)) | (bad.rcode & 15)
    return _HEADER(bad.id, flags, 1 if bad.question else 0, 0, 0, 1 if opt else 0) + bad.question + opt


def compile_answer(
    view: ZoneView, query: Query, foreign: Callable[[bytes], bool] = lambda name: False
) -> Answer | None:
    """The answer from our own zones; None when the name is in none of them. An alias is not followed to a (folded,
    wire) name that is `foreign`."""
    zone = view.find(query.name)
    if zone is None:
        return _reverse(view, query)
    return _Builder(view, zone, query, foreign).at(view.relative(query.name, zone))


def negative_soa(zone: Zone, serial: int) -> bytes:
    """The SOA record of a negative answer (RFC 2308 §3)."""
    soa = zone.soa(serial)
    return zone.wire + _RR(SOA, IN, zone.negative_ttl, len(soa)) + soa


def refused(query: Query) -> bool:
    """True for what is refused whatever its name: other classes than IN, and zone transfers."""
    return query.qclass not in (IN, ANY_CLASS) or query.qtype in (AXFR, IXFR)


class _Builder:
    """Collects the records of one answer."""

    def __init__(self, view: ZoneView, zone: Zone, query: Query, foreign: Callable[[bytes], bool]) -> None:
        self.view, self.zone, self.query, self.foreign = view, zone, query, foreign
        self.first = zone
        self.cluster = not zone.plain
        self.records: list[bytes] = []
        self.glue: list[Glue] = []
        self.depends: dict[Dependency, None] = {}
        self.glued: set[Dependency] = set()
        self.chain = 0
        self.synthesised = False

    def at(self, owner: str) -> Answer:
        """The answer for a folded relative owner of the zone."""
        pointer = _QUESTION_POINTER
        qtype = self.query.qtype
        while True:
            self.depends[self.zone.tag, owner] = None
            cut = self._delegation(owner)
            if cut:
                return self._referral(cut)
            if (source := self._source(owner)) is None:
                return self._negative(NXDOMAIN)
            rtype = self._pick(source, qtype)
            if rtype is None:
                return self._negative(0, bool(self.zone.types(source)))
            before = len(self.records)
            self._add(pointer, source, rtype)
            if len(self.records) == before:  # every SRV target was illegal
                return self._negative(0)
            if rtype != CNAME or qtype in (CNAME, ANY) or self.chain == _MAX_CHAIN:
                return self._answer()
            target = bytes(self.zone.rrset(source, CNAME)[0])  # type: ignore[arg-type]  # CNAME holds bytes
            found = self.view.find(target.lower())
            if found is None or self.foreign(target.lower()):
                return self._answer(target)
            self.chain += 1
            self.zone, pointer = found, target
            self.cluster = self.cluster or not found.plain
            owner = self.view.relative(target.lower(), found)

    def _source(self, owner: str) -> str | None:
        """The owner whose records answer: itself, or the wildcard that covers it (RFC 4592).

        A task called "*" is no wildcard: it would answer for every other name of its framework.
        """
        exists = self.zone.exists
        if exists(owner):
            return owner
        encloser = owner.partition(".")[2]
        while not exists(encloser):
            encloser = encloser.partition(".")[2]
        wildcard = f"*.{encloser}" if encloser else "*"
        if not self.zone.store.exists(wildcard):
            return None
        self.synthesised = True
        return wildcard

    def _pick(self, owner: str, qtype: int) -> int | None:
        """The type to answer with; ANY gets one of the types there (RFC 8482 §4.1)."""
        types = self.zone.types(owner)
        if qtype == ANY:
            return next((rtype for rtype in (A, AAAA, SRV) if rtype in types), types[0] if types else None)
        if qtype in types:
            return qtype
        return CNAME if CNAME in types else None

    def _add(self, owner_wire: bytes, owner: str, rtype: int) -> None:
        zone = self.zone
        if rtype == SOA and not owner:
            rdata: list[Rdata] = [zone.soa(self.view.serial)]
        else:
            rdata = zone.rrset(owner, rtype)
        ttl = zone.ttl_of(owner, rtype)
        services: dict[tuple[int, str], str] = {}
        for data in rdata:
            if isinstance(data, tuple):
                # A framework may write any 32-bit number as a port; mesos-dns publishes its low 16 bits.
                # A discovery name may differ from its label in case alone: one record then (RFC 2181 §5).
                services[data[0] & 0xFFFF, fold(data[1])] = data[1]
                continue
            self.records.append(owner_wire + _RR(rtype, IN, ttl, len(data)) + data)
            if rtype == NS:
                self._add_glue(data, len(self.records) - 1, len(owner_wire) + 10)
        for (port, folded), relative in services.items():
            self._add_srv(owner_wire, port, relative, folded, ttl)

    def _add_srv(self, owner_wire: bytes, port: int, relative: str, folded: str, ttl: int) -> None:
        zone = self.zone
        try:
            target = name_to_wire(f"{relative}.{zone.origin}")
        except IllegalName:  # fits in the domain, but not in its longer copy
            return
        body = _SRV(*zone.srv_prefix, port) + target
        self.records.append(owner_wire + _RR(SRV, IN, ttl, len(body)) + body)
        self._add_glue(target, len(self.records) - 1, len(owner_wire) + 16, folded)

    def _add_glue(self, target: bytes, index: int, offset: int, owner: str | None = None) -> None:
        """A and AAAA of a target in our zones, once per target; a name may be its own (a VIP's is)."""
        zone = self.zone
        if owner is None:
            found = self.view.find(target.lower())
            if found is None:
                return
            zone, owner = found, self.view.relative(target.lower(), found)
        if (zone.tag, owner) in self.glued:
            return
        self.glued.add((zone.tag, owner))
        self.depends[zone.tag, owner] = None
        for rtype in (A, AAAA):
            if rest := _without_owner(zone, owner, rtype):
                self.glue.append(Glue(index, offset, target, rest))

    def _delegation(self, owner: str) -> str:
        """The highest owner at or above this one that is delegated, in plain zones; "" for none
        (RFC 1034 §4.3.2 step 3b). A cut's DS belongs to the parent (RFC 4035 §3.1.4.1)."""
        highest = ""
        if not self.zone.plain:
            return highest
        above = owner
        while above:
            self.depends[self.zone.tag, above] = None
            if self.zone.store.rrset(above, NS) and not (above == owner and self.query.qtype == _DS):
                highest = above
            above = above.partition(".")[2]
        return highest

    def _referral(self, cut: str) -> Answer:
        zone, cut_wire = self.zone, name_to_wire(f"{cut}.{self.zone.origin}")
        authority, needed = [], []
        for data in zone.store.rrset(cut, NS):
            target = bytes(data)  # type: ignore[arg-type]  # NS holds bytes
            authority.append(cut_wire + _RR(NS, IN, zone.ttl_of(cut, NS), len(target)) + target)
            if target.lower().endswith(cut_wire):
                owner = self.view.relative(target.lower(), zone)
                needed += [target + rest for rtype in (A, AAAA) for rest in _without_owner(zone, owner, rtype)]
        return self._give(
            0,
            ratelimit.REFERRAL,
            authority=authority,
            needed=needed,
            rotate=False,
            aa=bool(self.records),
            referral=not self.records,
        )

    def _negative(self, rcode: int, owns: bool = False) -> Answer:
        """NXDOMAIN or NODATA; `owns`: the owner has records of other types, whose coming and going is told."""
        zone = self.zone
        if not zone.plain and not self.view.known():
            # Nobody has told yet what runs: a name's absence would be a guess that clients keep.
            bucket = bytes((ratelimit.ERROR, SERVFAIL))
            return Answer(SERVFAIL, [], aa=False, zone=self.first, bucket=bucket, extended_error=NOT_READY)
        kind = ratelimit.NXDOMAIN if rcode else ratelimit.NODATA
        lasting = tuple(self.depends) if owns and not (zone.plain or self.records or self.synthesised) else ()
        authority = [negative_soa(zone, self.view.serial)]
        return self._give(rcode, kind, authority=authority, rotate=False, lasting=lasting)

    def _answer(self, beyond: bytes = b"") -> Answer:
        rotate = not self.chain
        if self.synthesised:  # hangs on names that are not there too: such answers are made anew
            return self._give(0, ratelimit.WILDCARD, glue=self.glue, rotate=rotate, beyond=beyond)
        depends = tuple(self.depends)
        return self._give(0, ratelimit.ANSWER, glue=self.glue, depends=depends, rotate=rotate, beyond=beyond)

    def _give(self, rcode: int, kind: int, **parts: Any) -> Answer:
        """The answer; what random names would give counts by their zone."""
        bucket = bytes((kind,)) + self.first.wire if kind != ratelimit.ANSWER else b""
        return Answer(rcode, self.records, zone=self.first, cluster=self.cluster, bucket=bucket, **parts)


def _reverse(view: ZoneView, query: Query) -> Answer | None:
    """PTR of an address that we know; each reverse name is answered as a zone of its own."""
    if not query.name.endswith(b"\x04arpa\x00"):
        return None
    address = reverse_address(split_labels(query.name))
    found = view.pointed(address) if address is not None else None
    if address is None or found is None:
        return None
    zone, name = found
    depends = (("reverse", address.hex()),)
    if query.qtype in (PTR, ANY):
        target = name_to_wire(f"{name}.{zone.origin}")
        record = _QUESTION_POINTER + _RR(PTR, IN, zone.ttl, len(target)) + target
        return Answer(0, [record], depends=depends, zone=zone, cluster=True)
    if query.qtype in (SOA, NS):
        data = zone.soa(view.serial) if query.qtype == SOA else name_to_wire(zone.mname)
        record = _QUESTION_POINTER + _RR(query.qtype, IN, zone.ttl, len(data)) + data
        return Answer(0, [record], depends=depends, zone=zone, cluster=True)
    soa = zone.soa(view.serial)
    record = _QUESTION_POINTER + _RR(SOA, IN, zone.negative_ttl, len(soa)) + soa
    return Answer(0, [], authority=[record], zone=zone, cluster=True)


def _without_owner(zone: Zone, owner: str, rtype: int) -> tuple[bytes, ...]:
    """The RRs of an address record set, without their owner."""
    ttl = zone.ttl_of(owner, rtype)
    return tuple(
        [_RR(rtype, IN, ttl, len(data)) + data for data in zone.rrset(owner, rtype) if isinstance(data, bytes)]
    )
