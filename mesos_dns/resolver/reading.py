"""An upstream's reply, read strictly: of its records, those that answer the question, as an answer of ours.

What counts is the chain of aliases that begins at the question's name and the records of the asked type at its
end, or the SOA record that says that there are none (RFC 2308). All else in the packet is dropped: who answers
one question has no say about other names. Who asks for signatures (DO) gets all answer and authority records,
because a validator needs them and decides for itself.

Names are decompressed and compressed anew, for they stand elsewhere in our packet. An owner that is the
question's name becomes a pointer to it, so that an answer fits every client's spelling; records that may be
rotated point nowhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from mesos_dns.answer import Answer
from mesos_dns.message import IN, NOERROR, NXDOMAIN, OPT, QR, TC
from mesos_dns.names import AAAA, ANY, CNAME, NS, PTR, SOA, A
from mesos_dns.resolver.writing import Piece, Writer
from mesos_dns.wire import MAX_NAME

MOST_RECORDS = 4000
MOST_ALIASES = 16
"""Of one chain, as BIND follows them."""
MOST_OCTETS = 65000
"""Of an answer's records: one that fits in no packet is none."""
POSITIVE, NXNAME, NODATA, FAILURE = "positive", "nxdomain", "nodata", "failure"
"""Kinds of answers."""

_DNAME = 39
_MOST_USUAL = 100
_META = frozenset((0, OPT, *range(249, 256)))
"""Types that are in no zone (RFC 6895 §3.1)."""
_MOST_POINTERS = 128
_SIZES = {A: 4, AAAA: 16}
_REST, _TEXT, _NAME = -2, -1, 0
_LAYOUTS: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((NS, 3, 4, CNAME, 7, 8, 9, PTR, _DNAME), (_NAME,)),
    SOA: (_NAME, _NAME, 20),
    **dict.fromkeys((14, 17), (_NAME, _NAME)),  # MINFO, RP
    **dict.fromkeys((15, 18, 21, 36), (2, _NAME)),  # MX, AFSDB, RT, KX
    26: (2, _NAME, _NAME),  # PX
    33: (6, _NAME),  # SRV
    35: (4, _TEXT, _TEXT, _TEXT, _NAME),  # NAPTR
    **dict.fromkeys((24, 46), (18, _NAME, _REST)),  # SIG, RRSIG
    **dict.fromkeys((30, 47), (_NAME, _REST)),  # NXT, NSEC
    **dict.fromkeys((64, 65), (2, _NAME, _REST)),  # SVCB, HTTPS
}
"""Types with names in their data: octets, _NAME, _TEXT (a length and as many octets), _REST. RFC 3597 §4 names
those in which a pointer has to be understood; the newer ones must have none, and then it makes no difference."""
_UNPACK_HEADER = struct.Struct(">HHHHHH").unpack_from
_UNPACK_RR = struct.Struct(">HHIH").unpack_from
_UNPACK_LONG = struct.Struct(">I").unpack_from
_UNPACK_ADDRESS = struct.Struct(">6sIH").unpack_from
_PAIR, _LONG = struct.Struct(">HH").pack, struct.Struct(">I").pack
_QUESTION_POINTER = b"\xc0\x0c"
_UNUSUAL = 0xFA0F
"""QR, opcode, TC and rcode in a header's flags."""


class Malformed(ValueError):
    """A packet that is no proper reply to the question; the text is short and has nothing of the packet."""


class Lifetimes(NamedTuple):
    """Limits in seconds: of what is there (`shortest`, `longest`), and of what is not (`negative`, RFC 2308 §5)."""

    shortest: int = 0
    longest: int = 0x7FFFFFFF
    negative: int = 0x7FFFFFFF


UNLIMITED = Lifetimes()


class Read(NamedTuple):
    """What a reply says. `lifetime`: seconds that it may be kept, 0 for not at all; its TTLs are within the limits.

    `kind` is FAILURE, and the answer empty, with any code but NOERROR and NXDOMAIN.
    """

    rcode: int
    kind: str
    answer: Answer
    lifetime: int


class _Record(NamedTuple):
    """One record; its data stands between `start` and `end` in the packet. `folded`: the owner in lower case."""

    owner: bytes
    folded: bytes
    rtype: int
    ttl: int
    start: int
    end: int


def read_reply(
    packet: bytes,
    name: bytes,
    qtype: int,
    *,
    whole: bool = False,
    limits: Lifetimes = UNLIMITED,
    stops: Callable[[bytes], bool] = lambda name: False,
) -> Read:
    """The reply to a question of class IN for a folded wire name. Raises Malformed.

    `whole`: for a client that asks for signatures. `stops`: whether a (folded, wire) name that an alias leads to is
    not for this upstream to tell; then, and where it tells nothing of that name (unless `whole`), the answer is the
    aliases alone, and where they lead is in its `beyond`.
    """
    if not whole and (usual := _addresses(packet, name, qtype, limits)) is not None:
        return usual
    reader = _Reader(packet, name, qtype)
    answers, authorities, rcode = reader.sections()
    if rcode not in (NOERROR, NXDOMAIN):
        return Read(rcode, FAILURE, Answer(rcode & 15, [], aa=False), 0)
    used, end, found = _chain(reader, answers, stops)
    soa = None if found else _soa_above(authorities, end)
    if used and not found and (stops(end) or (soa is None and not rcode and not whole)):
        return _written(reader, _Parts(POSITIVE, used, [], None, end), NOERROR, False, limits)
    kind = POSITIVE if found else NXNAME if rcode else NODATA
    if found and rcode:
        raise Malformed("records of a name that does not exist")
    if kind == NODATA and not used and soa is None and any(record.rtype == NS for record in authorities):
        raise Malformed("a referral")
    if whole:
        used, others = answers, authorities
    else:
        others = [soa] if soa is not None else []
    return _written(reader, _Parts(kind, used, others, soa), rcode, not whole, limits)


def _addresses(packet: bytes, name: bytes, qtype: int, limits: Lifetimes) -> Read | None:
    """What the rest of this module reads, for the reply that is by far the most frequent: addresses of the question's
    name, each once, with a pointer as owner, and besides an OPT record at most. None: it is another one."""
    width, end = 12 + _SIZES.get(qtype, 0), 12 + len(name)
    head = _QUESTION_POINTER + _PAIR(qtype, IN)
    if width == 12 or packet[end : end + 10] != head[2:] + head or packet[12:end].lower() != name:
        return None
    _, flags, questions, answers, authorities, additionals = _UNPACK_HEADER(packet)
    behind = end + 4 + answers * width
    if (
        flags & _UNUSUAL != QR
        or (questions, authorities) != (1, 0)
        or not 0 < answers <= _MOST_USUAL
        or not (_is_plain_opt(packet, behind) if additionals == 1 else not additionals and behind == len(packet))
    ):
        return None
    records, data, lifetime = [], set(), limits.longest
    for start in range(end + 4, behind, width):
        owner_type_class, ttl, length = _UNPACK_ADDRESS(packet, start)
        if owner_type_class != head or length != width - 12 or ttl & 0x80000000:
            return None
        limited = min(max(ttl, limits.shortest), limits.longest)
        lifetime = min(lifetime, limited)
        data.add(packet[start + 12 : start + width])
        records.append(head + _LONG(limited) + packet[start + 10 : start + width])
    if len(data) != answers:
        return None
    return Read(NOERROR, POSITIVE, Answer(NOERROR, records, aa=False), lifetime)


def _is_plain_opt(packet: bytes, at: int) -> bool:
    """Whether an OPT record that adds nothing to the rcode is all that stands there."""
    opt = packet[at:]
    return len(opt) >= 11 and opt[:3] == b"\0\0\x29" and not opt[5] and len(opt) == 11 + (opt[9] << 8 | opt[10])


def joined(first: bytes, second: bytes, name: bytes, target: bytes, qtype: int) -> Answer:
    """Two replies of ours as one answer to the question for `name`: the aliases that lead from there to `target`, and
    what there is of that. Raises Malformed."""
    aliases, there = _Reader(first, name, qtype), _Reader(second, target, qtype)
    answers, authorities, rcode = there.sections()
    writer = Writer(name, fixed=True)
    written = [
        [writer.record(each.owner, each.rtype, each.ttl, reader.pieces(each)) for reader, each in section]
        for section in (
            [*((aliases, each) for each in aliases.sections()[0]), *((there, each) for each in answers)],
            [(there, each) for each in authorities],
        )
    ]
    if writer.written > MOST_OCTETS:
        raise Malformed("more records than fit in a packet")
    return Answer(rcode, written[0], authority=written[1], rotate=False, aa=False)


class _Parts(NamedTuple):
    """The records of an answer, the SOA record of a negative one, and the folded name that aliases lead to, where
    the rest is for others to tell."""

    kind: str
    answers: list[_Record]
    authorities: list[_Record]
    soa: _Record | None
    beyond: bytes = b""


def _written(reader: _Reader, parts: _Parts, rcode: int, rotate: bool, limits: Lifetimes) -> Read:
    """The answer in wire form, every record once (RFC 2181 §5). `rotate`: records that are equals may be."""
    name = reader.name
    rotate = rotate and not parts.authorities and all(record.folded == name for record in parts.answers)
    writer = Writer(name, fixed=not rotate)
    seen: set[tuple[bytes, int, bytes]] = set()
    lifetime = limits.longest
    sections: list[list[bytes]] = []
    for records in (parts.answers, parts.authorities):
        out: list[bytes] = []
        for record in records:
            pieces = reader.pieces(record)
            identity = (record.folded, record.rtype, b"".join([data for data, _ in pieces]))
            if identity in seen:
                continue
            seen.add(identity)
            ttl = min(max(record.ttl, limits.shortest), limits.longest)
            if parts.kind != POSITIVE and record.rtype == SOA:
                ttl = min(record.ttl, _UNPACK_LONG(reader.packet, record.end - 4)[0], limits.negative)
            lifetime = min(lifetime, ttl)
            out.append(writer.record(record.owner, record.rtype, ttl, pieces))
            if writer.written > MOST_OCTETS:
                raise Malformed("more records than fit in a packet")
        sections.append(out)
    if parts.kind != POSITIVE and parts.soa is None:
        lifetime = 0
    beyond = parts.beyond
    answer = Answer(rcode, sections[0], authority=sections[1], rotate=rotate, aa=False, beyond=beyond)
    return Read(rcode, parts.kind, answer, lifetime)


def _chain(
    reader: _Reader, answers: list[_Record], stops: Callable[[bytes], bool]
) -> tuple[list[_Record], bytes, bool]:
    """(the records that answer, in order; the folded name at the end of the aliases; whether that has records)."""
    qtype = reader.qtype
    by_name: dict[bytes, list[_Record]] = {}
    for record in answers:
        by_name.setdefault(record.folded, []).append(record)
    used: list[_Record] = []
    name, passed = reader.name, {reader.name}
    while True:
        here = by_name.get(name, [])
        found = here if qtype == ANY else [record for record in here if record.rtype == qtype]
        alias = next((record for record in here if record.rtype == CNAME), None)
        if found or alias is None:
            return used + found, name, bool(found)
        used += [above for above in _renamed(by_name, name) if above not in used]
        used.append(alias)
        name = reader.target(alias)
        if name in passed:
            raise Malformed("aliases in a circle")
        if stops(name):
            return used, name, False
        passed.add(name)
        if len(passed) > MOST_ALIASES + 1:
            raise Malformed("too many aliases")


def _renamed(by_name: dict[bytes, list[_Record]], name: bytes) -> list[_Record]:
    """The DNAME record from which the alias at a name was made, if it is there (RFC 6672 §3.1)."""
    at = 0
    while name[at]:
        at += 1 + name[at]
        for record in by_name.get(name[at:], ()):
            if record.rtype == _DNAME:
                return [record]
    return []


def _soa_above(authorities: list[_Record], name: bytes) -> _Record | None:
    """The first SOA record whose owner is the folded name or above it."""
    above = {name}
    at = 0
    while name[at]:
        at += 1 + name[at]
        above.add(name[at:])
    return next((record for record in authorities if record.rtype == SOA and record.folded in above), None)


class _Reader:
    """The packet, with the question in lower case: how we have spelled it upstream is nobody's matter."""

    def __init__(self, packet: bytes, name: bytes, qtype: int) -> None:
        end = 12 + len(name)
        if len(packet) < end + 4:
            raise Malformed("too short")
        if _UNPACK_HEADER(packet)[2] != 1 or packet[2] & 0xF8 != 0x80:
            raise Malformed("no reply to one question")
        if packet[12:end].lower() != name or packet[end : end + 4] != struct.pack(">HH", qtype, IN):
            raise Malformed("a reply to another question")
        self.name, self.qtype = name, qtype
        self.packet = packet[:12] + name + packet[end:]
        self._names: dict[int, bytes] = {12: name}

    def sections(self) -> tuple[list[_Record], list[_Record], int]:
        """(answer records, authority records, the whole rcode): those of class IN that may be in a zone."""
        _, flags, _, answers, authorities, additionals = _UNPACK_HEADER(self.packet)
        if flags & TC:
            raise Malformed("cut short by its sender")
        if answers + authorities + additionals > MOST_RECORDS:
            raise Malformed("too many records")
        at = 16 + len(self.name)
        options: list[int] = []
        answer, at = self._section(at, answers, options)
        authority, at = self._section(at, authorities, options)
        options.clear()
        _, at = self._section(at, additionals, options)
        if at != len(self.packet):
            raise Malformed("octets behind the last record")
        if len(options) > 1:
            raise Malformed("two OPT records")
        return answer, authority, (options[0] >> 20 & 0xFF0 if options else 0) | flags & 15

    def _section(self, at: int, count: int, options: list[int]) -> tuple[list[_Record], int]:
        packet, size, out = self.packet, len(self.packet), []
        for _ in range(count):
            if packet[at : at + 2] == b"\xc0\x0c":
                owner, at = self.name, at + 2
            else:
                owner, at = self._name(at, size)
            if at + 10 > size:
                raise Malformed("a record that is cut short")
            rtype, rclass, ttl, length = _UNPACK_RR(packet, at)
            start, at = at + 10, at + 10 + length
            if at > size:
                raise Malformed("a record that is cut short")
            if rtype == OPT:
                options.append(ttl)
            elif rclass == IN and rtype not in _META:
                ttl = 0 if ttl & 0x80000000 else ttl  # RFC 2181 §8
                out.append(_Record(owner, owner.lower(), rtype, ttl, start, at))
        return out, at

    def _name(self, at: int, end: int, depth: int = 0) -> tuple[bytes, int]:
        """(a name without compression, where it ends). `end`: what it must not reach beyond; pointers lead to
        what begins before, so that every name has an end (RFC 1035 §4.1.4)."""
        packet, start = self.packet, at
        while True:
            if at >= end:
                raise Malformed("a name that is cut short")
            length = packet[at]
            if not length:
                name, after = packet[start : at + 1], at + 1
                break
            if length >= 0xC0:
                if at + 2 > end:
                    raise Malformed("a name that is cut short")
                target = (length & 0x3F) << 8 | packet[at + 1]
                if not 12 <= target < start or depth == _MOST_POINTERS:
                    raise Malformed("a pointer that does not lead back")
                tail = self._names.get(target)
                if tail is None:
                    tail = self._names[target] = self._name(target, len(packet), depth + 1)[0]
                name, after = packet[start:at] + tail, at + 2
                break
            if length > 63:
                raise Malformed("a label of an unknown kind")
            at += 1 + length
        if len(name) > MAX_NAME:
            raise Malformed("a name that is too long")
        return name, after

    def pieces(self, record: _Record) -> list[Piece]:
        """A record's data, its names without compression. The data has to be as its type says."""
        packet, at, end = self.packet, record.start, record.end
        layout = _LAYOUTS.get(record.rtype)
        if layout is None:
            if _SIZES.get(record.rtype, end - at) != end - at:
                raise Malformed("an address of another size")
            return [(packet[at:end], False)]
        out: list[Piece] = []
        for part in layout:
            if part == _NAME:
                name, at = self._name(at, end)
                out.append((name, True))
                continue
            if part == _TEXT:
                part = 1 + packet[at] if at < end else 1
            stop = end if part == _REST else at + part
            if stop > end:
                raise Malformed("data that is cut short")
            out.append((packet[at:stop], False))
            at = stop
        if at != end:
            raise Malformed("data that is too long")
        return out

    def target(self, alias: _Record) -> bytes:
        """The folded name that a CNAME record points to."""
        return self.pieces(alias)[0][0].lower()
