"""Reading a DNS query strictly: header, one question, EDNS. Pure functions over bytes.

`read_query` gives a `Query`, or a `Bad` that says which error to answer (RFC 8906 lists the odd
queries that deserve a proper answer), or None for what must not be answered at all: packets that
are no query (RFC 1035 §4.1.1 QR=1) or too short to carry an id.
"""

from __future__ import annotations

import struct

import msgspec

from mesos_dns.edns import NO_OPTIONS, Options, read_options

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS, BADCOOKIE = 0, 1, 2, 3, 4, 5, 16, 23
NOTAUTH = 9
OPT, IXFR, AXFR = 41, 251, 252
IN, ANY_CLASS = 1, 255
RD, TC, AA, QR, RA, CD = 0x0100, 0x0200, 0x0400, 0x8000, 0x0080, 0x0010
_SOA = 6
_UNPACK_HEADER = struct.Struct(">HHHHHH").unpack_from
_UNPACK_RR = struct.Struct(">HHIH").unpack_from
_UNPACK_PAIR = struct.Struct(">HH").unpack_from


class Query(msgspec.Struct, frozen=True, gc=False):
    """One question. `question` is as sent (name, type, class); `name` is folded, in wire form.

    `payload` is the client's UDP limit in bytes (512 without EDNS, RFC 6891 §6.2.3), `cookie` the data of
    its COOKIE option (RFC 7873; b"" without); `keepalive` and `padding` tell that it sent these options.
    """

    id: int
    flags: int
    question: bytes
    name: bytes
    qtype: int
    qclass: int
    edns: bool
    payload: int
    dnssec_ok: bool = False
    cookie: bytes = b""
    keepalive: bool = False
    padding: bool = False


class Bad(msgspec.Struct, frozen=True, gc=False):
    """A query that gets an error: rcode, and as much of its question as could be read.

    NOERROR: no question at all, but a COOKIE option (RFC 7873 §5.4); FORMERR for who has no cookies.
    """

    id: int
    flags: int
    rcode: int
    question: bytes = b""
    edns: bool = False
    cookie: bytes = b""


def read_query(packet: bytes) -> Query | Bad | None:
    """Read a query; see the module."""
    if len(packet) < 12 or packet[2] & 0x80:
        return None
    ident, flags, questions, answers, authorities, additionals = _UNPACK_HEADER(packet)
    if flags & 0x7800:  # what follows the header of another opcode is not known to be a question
        return Bad(ident, flags, NOTIMP)
    if questions != 1:
        return Bad(ident, flags, FORMERR) if questions or not additionals else _read_no_question(packet, ident, flags)
    end = question_end(packet)
    if not end:
        return Bad(ident, flags, FORMERR)
    question = packet[12:end]
    qtype, qclass = _UNPACK_PAIR(packet, end - 4)
    name = question[:-4].lower()
    if not additionals:
        return Query(ident, flags, question, name, qtype, qclass, False, 512)
    opt = _find_opt(packet, end, answers + authorities, additionals)
    if opt is None:
        return Bad(ident, flags, FORMERR, question)
    if not opt:
        return Query(ident, flags, question, name, qtype, qclass, False, 512)
    payload, extended, at, stop = opt
    if extended >> 16 & 0xFF:  # another version's options need not look like ours
        return Bad(ident, flags, BADVERS, question, True)
    dnssec_ok, payload = bool(extended & 0x8000), max(512, payload)
    if at == stop:
        return Query(ident, flags, question, name, qtype, qclass, True, payload, dnssec_ok)
    options = read_options(packet, at, stop)
    if options is None:
        return Bad(ident, flags, FORMERR, question, True)  # with OPT (RFC 6891 §7)
    return Query(ident, flags, question, name, qtype, qclass, True, payload, dnssec_ok, *options)


def _read_no_question(packet: bytes, ident: int, flags: int) -> Bad:
    """No question: a client may ask for a cookie alone (RFC 7873 §5.4)."""
    answers, authorities, additionals = _UNPACK_HEADER(packet)[3:]
    opt = _find_opt(packet, 12, answers + authorities, additionals)
    options: Options | None = NO_OPTIONS
    if opt and not opt[1] >> 16 & 0xFF:
        options = read_options(packet, opt[2], opt[3])
    if options is None:
        return Bad(ident, flags, FORMERR, edns=True)
    return Bad(ident, flags, NOERROR, b"", True, options.cookie) if options.cookie else Bad(ident, flags, FORMERR)


def question_end(packet: bytes) -> int:
    """Where the first question ends; 0 when it is malformed (a pointer, a long name, cut short)."""
    at, size = 12, len(packet)
    while at < size:
        length = packet[at]
        at += 1
        if not length:
            return at + 4 if at + 4 <= size and at - 12 <= 255 else 0
        if length > 63:
            return 0
        at += length
    return 0


def soa_serial(packet: bytes) -> int | None:
    """The serial of the one SOA record in the authority section of a question: the version that a client has
    (RFC 1995 §3). None where there is none."""
    answers, authorities = _UNPACK_HEADER(packet)[3:5]
    at = question_end(packet)
    if not at or answers or authorities != 1:
        return None
    at = _skip_name(packet, at)
    if not at or at + 10 > len(packet):
        return None
    rtype, rclass, _, length = _UNPACK_RR(packet, at)
    start, end = at + 10, at + 10 + length
    if (rtype, rclass) != (_SOA, IN) or end > len(packet):
        return None
    at = _skip_name(packet, start)
    at = at and _skip_name(packet, at)
    return int.from_bytes(packet[at : at + 4], "big") if at and at + 20 == end else None


def _find_opt(packet: bytes, at: int, before: int, additionals: int) -> tuple[int, int, int, int] | tuple[()] | None:
    """(payload, extended flags, start and end of the options) of the OPT record, () when there is none, None
    when the records are malformed (RFC 6891 §6.1)."""
    found: tuple[int, int, int, int] | tuple[()] = ()
    if before + additionals > 64:
        return None
    for number in range(before + additionals):
        start = at
        at = _skip_name(packet, at)
        if not at or at + 10 > len(packet):
            return None
        rtype, payload, ttl, length = _UNPACK_RR(packet, at)
        at += 10 + length
        if at > len(packet):
            return None
        if rtype == OPT and number >= before:
            if found or packet[start]:
                return None
            found = (payload, ttl, at - length, at)
    return found


def _skip_name(packet: bytes, at: int) -> int:
    """Where a possibly compressed name ends; 0 when it is malformed."""
    size = len(packet)
    while at < size:
        length = packet[at]
        if not length:
            return at + 1
        if length >= 0xC0:
            return at + 2 if at + 2 <= size else 0
        if length > 63:
            return 0
        at += 1 + length
    return 0
