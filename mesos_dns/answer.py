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
from typing import TypeAlias

from mesos_dns.message import AA, ANY_CLASS, BADVERS, IN, NXDOMAIN, QR, RD, REFUSED, TC, Bad, Query
from mesos_dns.names import AAAA, ANY, CNAME, NS, PTR, SOA, SRV, A, Rdata
from mesos_dns.records import fold
from mesos_dns.served import Zone
from mesos_dns.wire import IllegalName, name_to_wire, reverse_address, split_labels
from mesos_dns.zone import ZoneView

_HEADER = struct.Struct(">HHHHHH").pack
_RR = struct.Struct(">HHIH").pack
_SRV = struct.Struct(">HHH").pack
_QUESTION_POINTER = b"\xc0\x0c"
_MAX_CHAIN = 8
"""CNAMEs followed inside our zones for one answer (BIND's and Unbound's limits are 16 and 8)."""

Dependency: TypeAlias = tuple[str, str]
"""(store tag, folded owner): what an answer was built from."""


class Answer:
    """A compiled answer. `records` are the answer section's RRs; `glue` are (index of the answer
    record it belongs to, offset of the target in it, RR without its owner, owner)."""

    __slots__ = (
        "aa",
        "authority",
        "authority_count",
        "depends",
        "glue",
        "glue_full",
        "offsets",
        "rcode",
        "rotate",
        "wire",
    )

    def __init__(
        self,
        rcode: int,
        records: list[bytes],
        *,
        authority: list[bytes] | None = None,
        glue: list[tuple[int, int, bytes, bytes]] | None = None,
        depends: tuple[Dependency, ...] = (),
        rotate: bool = True,
        aa: bool = True,
    ) -> None:
        self.rcode = rcode
        self.wire = b"".join(records)
        offsets = [0]
        for record in records:
            offsets.append(offsets[-1] + len(record))
        self.offsets = tuple(offsets)
        self.authority = b"".join(authority or [])
        self.authority_count = len(authority or [])
        self.glue = tuple(glue or ())
        self.glue_full = b"".join([owner + rest for _, _, rest, owner in self.glue])
        self.depends = depends
        self.rotate = rotate and len(records) > 1
        self.aa = aa

    def encode(self, query: Query, limit: int, turn: int, flags: int, opt: bytes) -> bytes:
        """The packet for one client, of at most `limit` bytes.

        `turn` picks the rotation, `flags` are set besides QR, AA and the client's RD; `opt` is the
        OPT record to add (b"" without EDNS).
        """
        count = len(self.offsets) - 1
        first = turn % count if self.rotate else 0
        wire = self.wire
        if first:
            cut = self.offsets[first]
            wire = wire[cut:] + wire[:cut]
        flags |= QR | (AA if self.aa else 0) | (query.flags & RD) | self.rcode
        room = limit - 12 - len(query.question) - len(opt) - len(self.authority)
        if len(wire) > room:
            return self._truncated(query, room + len(self.authority), first, flags, opt)
        glue, glue_count = self.glue_full, len(self.glue)
        if len(wire) + len(glue) > room:
            glue, glue_count = self._compact_glue(room - len(wire), first, 12 + len(query.question))
        head = _HEADER(query.id, flags, 1, count, self.authority_count, glue_count + (1 if opt else 0))
        return head + query.question + wire + self.authority + glue + opt

    def _compact_glue(self, room: int, first: int, start: int) -> tuple[bytes, int]:
        """Additional records with owners as pointers into the rotated answers, as many as fit."""
        total, cut = self.offsets[-1], self.offsets[first]
        out, number = b"", 0
        if not total:  # a referral has no answers to point into
            return out, number
        for index, offset, rest, _ in self.glue:
            at = (self.offsets[index] - cut) % total + offset + start
            if at >= 0x4000 or len(out) + 2 + len(rest) > room:
                break
            out += struct.pack(">H", 0xC000 | at) + rest
            number += 1
        return out, number

    def _truncated(self, query: Query, room: int, first: int, flags: int, opt: bytes) -> bytes:
        """TC set, with the answers that fit, for clients that never ask again by TCP."""
        sizes = [end - begin for begin, end in zip(self.offsets, self.offsets[1:], strict=False)]
        order = [*range(first, len(sizes)), *range(first)]
        out, number = b"", 0
        for index in order:
            if len(out) + sizes[index] > room:
                break
            out += self.wire[self.offsets[index] : self.offsets[index + 1]]
            number += 1
        return _HEADER(query.id, flags | TC, 1, number, 0, 1 if opt else 0) + query.question + out + opt


def error(bad: Bad, flags: int, opt: bytes) -> bytes:
    """The packet for a query that could not be read or is not implemented."""
    opt = opt if bad.edns else b""
    if bad.rcode == BADVERS:
        opt = opt[:5] + b"\x01" + opt[6:]
    flags |= QR | (bad.flags & (RD | 0x7800)) | (bad.rcode & 15)
    return _HEADER(bad.id, flags, 1 if bad.question else 0, 0, 0, 1 if opt else 0) + bad.question + opt


def compile_answer(view: ZoneView, query: Query) -> Answer | None:
    """The answer from our own zones; None when the name is in none of them."""
    zone = view.find(query.name)
    if zone is None:
        return _reverse(view, query)
    if query.qclass not in (IN, ANY_CLASS):
        return Answer(REFUSED, [], aa=False)
    if query.qtype in (251, 252):
        return Answer(REFUSED, [], aa=False)
    owner = view.relative(query.name, zone)
    return _Builder(view, zone, query).at(owner)


def is_negative(answer: Answer) -> bool:
    """True for NXDOMAIN and NODATA: they carry the SOA serial and are never kept."""
    return bool(answer.authority) and not answer.wire


class _Builder:
    """Collects the records of one answer."""

    def __init__(self, view: ZoneView, zone: Zone, query: Query) -> None:
        self.view, self.zone, self.query = view, zone, query
        self.records: list[bytes] = []
        self.glue: list[tuple[int, int, bytes, bytes]] = []
        self.depends: dict[Dependency, None] = {}
        self.chain = 0

    def at(self, owner: str) -> Answer:
        """The answer for a folded relative owner of the zone."""
        pointer = _QUESTION_POINTER
        qtype = self.query.qtype
        while True:
            self.depends[self.zone.tag, owner] = None
            referral = self._referral(owner)
            if referral is not None:
                return referral
            if (source := self._source(owner)) is None:
                return self._negative(NXDOMAIN)
            rtype = self._pick(source, qtype)
            if rtype is None:
                return self._negative(0)
            self._add(pointer, source, rtype)
            if not self.records:  # every SRV target was illegal
                return self._negative(0)
            if rtype != CNAME or qtype in (CNAME, ANY) or self.chain == _MAX_CHAIN:
                return self._answer(0)
            target = bytes(self.zone.rrset(source, CNAME)[0])  # type: ignore[arg-type]  # CNAME holds bytes
            found = self.view.find(target.lower())
            if found is None:
                return self._answer(0)
            self.chain += 1
            self.zone, pointer = found, target
            owner = self.view.relative(target.lower(), found)

    def _source(self, owner: str) -> str | None:
        """The owner whose records answer: itself, or the wildcard that covers it (RFC 4592)."""
        exists = self.zone.exists
        if exists(owner):
            return owner
        encloser = owner.partition(".")[2]
        while not exists(encloser):
            encloser = encloser.partition(".")[2]
        wildcard = f"*.{encloser}" if encloser else "*"
        return wildcard if exists(wildcard) else None

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
        for data in rdata:
            if isinstance(data, tuple):
                self._add_srv(owner_wire, data, ttl)
            else:
                self.records.append(owner_wire + _RR(rtype, IN, ttl, len(data)) + data)
                if rtype == NS:
                    self._add_glue(data, len(self.records) - 1, len(owner_wire) + 10)

    def _add_srv(self, owner_wire: bytes, data: tuple[int, str], ttl: int) -> None:
        port, relative = data
        zone = self.zone
        try:
            target = name_to_wire(f"{relative}.{zone.origin}")
        except IllegalName:  # fits in the domain, but not in its longer copy
            return
        # A framework may write any 32-bit number as a port; mesos-dns publishes its low 16 bits.
        body = _SRV(*zone.srv_prefix, port & 0xFFFF) + target
        self.records.append(owner_wire + _RR(SRV, IN, ttl, len(body)) + body)
        self._add_glue(target, len(self.records) - 1, len(owner_wire) + 16, fold(relative))

    def _add_glue(self, target: bytes, index: int, offset: int, owner: str | None = None) -> None:
        """A and AAAA of a target in our zones, once per target."""
        zone = self.zone
        if owner is None:
            found = self.view.find(target.lower())
            if found is None:
                return
            zone, owner = found, self.view.relative(target.lower(), found)
        if (zone.tag, owner) in self.depends:
            return
        self.depends[zone.tag, owner] = None
        for rtype in (A, AAAA):
            ttl = zone.ttl_of(owner, rtype)
            for data in zone.rrset(owner, rtype):
                rest = _RR(rtype, IN, ttl, len(data)) + bytes(data)  # type: ignore[arg-type]  # addresses are bytes
                self.glue.append((index, offset, rest, target))

    def _referral(self, owner: str) -> Answer | None:
        """A delegation above or at the owner, in plain zones (RFC 1034 §4.3.2 step 3b)."""
        if not self.zone.plain:
            return None
        cut = owner
        while cut:
            servers = self.zone.store.rrset(cut, NS)
            if servers:
                break
            cut = cut.partition(".")[2]
        if not cut:
            return None
        cut_wire = name_to_wire(f"{cut}.{self.zone.origin}")
        authority = []
        for data in servers:
            wire = bytes(data)  # type: ignore[arg-type]  # NS holds bytes
            authority.append(cut_wire + _RR(NS, IN, self.zone.ttl_of(cut, NS), len(wire)) + wire)
            self._add_glue(wire, 0, 0)
        return Answer(0, [], authority=authority, glue=self.glue, depends=tuple(self.depends), aa=False)

    def _negative(self, rcode: int) -> Answer:
        zone = self.zone
        soa = zone.soa(self.view.serial)
        record = zone.wire + _RR(SOA, IN, zone.negative_ttl, len(soa)) + soa
        return Answer(rcode, self.records, authority=[record], depends=tuple(self.depends), rotate=False)

    def _answer(self, rcode: int) -> Answer:
        return Answer(rcode, self.records, glue=self.glue, depends=tuple(self.depends), rotate=not self.chain)


def _reverse(view: ZoneView, query: Query) -> Answer | None:
    """PTR of an address that we know; each reverse name is answered as a zone of its own."""
    if not query.name.endswith(b"\x04arpa\x00") or query.qclass not in (IN, ANY_CLASS):
        return None
    address = reverse_address(split_labels(query.name))
    name = view.pointers.name(address) if address is not None else None
    if address is None or name is None:
        return None
    depends = (("reverse", address.hex()),)
    zone = view.domain
    if query.qtype in (PTR, ANY):
        target = name_to_wire(f"{name}.{zone.origin}")
        return Answer(0, [_QUESTION_POINTER + _RR(PTR, IN, zone.ttl, len(target)) + target], depends=depends)
    if query.qtype in (SOA, NS):
        data = zone.soa(view.serial) if query.qtype == SOA else name_to_wire(zone.mname)
        return Answer(0, [_QUESTION_POINTER + _RR(query.qtype, IN, zone.ttl, len(data)) + data], depends=depends)
    soa = zone.soa(view.serial)
    record = _QUESTION_POINTER + _RR(SOA, IN, zone.negative_ttl, len(soa)) + soa
    return Answer(0, [], authority=[record], depends=depends)
