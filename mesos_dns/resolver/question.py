"""A question to an upstream in wire form, and what a packet has to be to count as its reply (RFC 5452 §9.1).

Pure functions over bytes; whatever a packet holds, none of them raises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from mesos_dns.edns import opt_record
from mesos_dns.message import FORMERR, NOERROR, NOTIMP, NXDOMAIN, OPT, REFUSED, SERVFAIL

PAYLOAD = 1232
"""UDP payload in octets that we ask for: what passes nearly everywhere in one piece."""
_OPT = (opt_record(PAYLOAD), opt_record(PAYLOAD, dnssec_ok=True))
"""Without DO and with it."""
_NS, _SOA = 2, 6
_RD, _CD = 1, 0x10
_ERRORS = {SERVFAIL: "servfail", REFUSED: "refused", FORMERR: "formerr", NOTIMP: "notimp"}
_UNPACK_COUNTS = struct.Struct(">HHH").unpack_from
_UNPACK_RR = struct.Struct(">HHIH").unpack_from


class Question:
    """What is asked: name, type and class in wire form, DO (RFC 3225) and CD (RFC 4035 §3.2.2).

    `name`: the folded name. `read`: takes a reply of NOERROR or NXDOMAIN apart; raises ValueError for one that is no
    use, which then is none.
    """

    __slots__ = ("_end", "_size", "_tail", "checking_disabled", "dnssec_ok", "name", "read", "wire")

    def __init__(
        self,
        wire: bytes,
        *,
        dnssec_ok: bool = False,
        checking_disabled: bool = False,
        read: Callable[[bytes], object] | None = None,
    ) -> None:
        self.wire = wire
        self.dnssec_ok = dnssec_ok
        self.checking_disabled = checking_disabled
        self.read = read
        self.name, self._tail = wire[:-4].lower(), wire[-4:]
        self._end = 12 + len(self.name)
        self._size = 12 + len(wire)

    def packet(self, ident: bytes, edns: bool) -> bytes:
        """The query: RD set, with nothing of the client's but the question, DO and CD."""
        opt = _OPT[self.dnssec_ok] if edns else b""
        flags = bytes((_RD, _CD if self.checking_disabled else 0))
        return ident + flags + b"\0\1\0\0\0\0\0" + bytes((edns,)) + self.wire + opt

    def is_answered_by(self, packet: bytes, ident: bytes, edns: bool) -> bool:
        """True for a reply to this question with this id.

        A server that does not know EDNS may answer FORMERR or NOTIMP with a header alone (RFC 6891 §7 does not say
        what else is in there); that counts where EDNS was sent.
        """
        if len(packet) < 12 or packet[:2] != ident or packet[2] & 0xF8 != 0x80:  # QR and opcode 0
            return False
        if edns and len(packet) == 12 and packet[3] & 15 in (FORMERR, NOTIMP):
            return packet[4:] == b"\0\0\0\0\0\0\0\0"
        return (
            packet[4:6] == b"\0\1"
            and packet[self._end : self._size] == self._tail
            and packet[12 : self._end].lower() == self.name
        )

    def result_of(self, reply: bytes) -> str:
        """How a packet that is a reply answers: "answered" (NOERROR, NXDOMAIN), "truncated", or a reason of failure.

        "malformed": its records can't be read to their end. "lame": a referral from a server that does no recursion
        (RFC 8499 §7), which says nothing about the name. "rcode": any other error. Where there is a `read`, which
        sees to the records, they are looked at only for what is none of its business: referrals, extended rcodes.
        """
        rcode = reply[3] & 15
        if rcode in _ERRORS:
            return _ERRORS[rcode]
        if reply[2] & 2:
            return "truncated"
        if rcode not in (NOERROR, NXDOMAIN):
            return "rcode"
        recursive, authoritative, answers = reply[3] & 0x80, reply[2] & 4, reply[6:8] != b"\0\0"
        speaks = rcode or recursive or authoritative or answers
        if speaks and self.read is not None and _ends_plainly(reply):
            return "answered"
        seen = _read_records(reply, self._size)
        if seen is None:
            return "malformed"
        extended, types = seen
        if extended:
            return "rcode"
        return "lame" if not speaks and _NS in types and _SOA not in types else "answered"


def _ends_plainly(packet: bytes) -> bool:
    """True when there is no OPT record, or nothing in the additional section but one that adds nothing to the rcode."""
    if packet[10:12] == b"\0\1":
        return packet[-11:-8] == b"\0\0\x29" and not packet[-6] and packet[-2:] == b"\0\0"
    return packet[10:12] == b"\0\0"


def _read_records(packet: bytes, at: int) -> tuple[int, set[int]] | None:
    """(extended rcode, types of records in the authority section); None when a record is cut short or malformed, or
    something stands behind the last one."""
    answers, authorities, additionals = _UNPACK_COUNTS(packet, 6)
    size, extended, types = len(packet), 0, set()
    if (answers + authorities + additionals) * 11 > size - at:
        return None
    for number in range(answers + authorities + additionals):
        at = _skip_name(packet, at)
        if not at or at + 10 > size:
            return None
        rtype, _, ttl, length = _UNPACK_RR(packet, at)
        at += 10 + length
        if at > size:
            return None
        if number >= answers + authorities:
            extended = ttl >> 24 if rtype == OPT else extended
        elif number >= answers:
            types.add(rtype)
    return (extended, types) if at == size else None


def _skip_name(packet: bytes, at: int) -> int:
    """Where a possibly compressed name ends; 0 when it does not end well."""
    size, most = len(packet), at + 255
    while at < size and at < most:
        length = packet[at]
        if length >= 0xC0:
            return at + 2 if at + 2 <= size else 0
        if not length:
            return at + 1
        if length > 63:
            return 0
        at += 1 + length
    return 0
