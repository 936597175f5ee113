"""Records of an answer in wire form, compressed against the question and the records before them (RFC 1035 §4.1.4).

The question's length is the same for all clients, so the place of every octet behind it is known before any
client asks, as long as records keep their order.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from mesos_dns.message import IN
from mesos_dns.names import CNAME, NS, PTR, SOA
from mesos_dns.wire import MAX_NAME

Piece: TypeAlias = tuple[bytes, bool]
"""Octets of a record's data; True for a whole name."""

_MX = 15
_COMPRESSED = frozenset((NS, CNAME, SOA, PTR, _MX))
"""Types in whose data names are compressed: of those that may be (RFC 3597 §4), the ones that every client knows."""
_QUESTION_POINTER = b"\xc0\x0c"
_POINTER_REACH = 0x4000
_RR = struct.Struct(">HHIH").pack


class Writer:
    """Writes the records behind a question for a folded wire name.

    `fixed`: they stand in the order in which they are written; else names are compressed against the question only.
    `written`: octets so far.
    """

    def __init__(self, name: bytes, *, fixed: bool) -> None:
        self.written = 0
        self._name = name
        self._fixed = fixed
        self._start = 16 + len(name)
        self._known: dict[bytes, int] = {}
        """Where a folded name stands in the packet."""

    def record(self, owner: bytes, rtype: int, ttl: int, pieces: list[Piece]) -> bytes:
        """One more record."""
        at = self._start + self.written
        head = _QUESTION_POINTER if owner.lower() == self._name else self._compressed(owner, at)
        at += len(head) + 10
        compress = rtype in _COMPRESSED
        data = b""
        for octets, is_name in pieces:
            data += self._compressed(octets, at + len(data)) if is_name and compress else octets
        record = head + _RR(rtype, IN, ttl, len(data)) + data
        self.written += len(record)
        return record

    def _compressed(self, name: bytes, at: int) -> bytes:
        """A name that will stand at an offset of the packet: its own labels, then a pointer to the rest."""
        known = self._known
        if not known:
            self._learn(self._name, 12)
        folded = name.lower()
        cut = 0
        while name[cut]:
            found = known.get(folded[cut:])
            if found is not None:
                if self._fixed:
                    self._learn(folded, at, cut)
                return name[:cut] + (0xC000 | found).to_bytes(2, "big")
            cut += 1 + name[cut]
        if self._fixed:
            self._learn(folded, at)
        return name

    def _learn(self, folded: bytes, at: int, end: int = MAX_NAME) -> None:
        """Later names may point to this one, and to those above it that begin before `end`."""
        cut = 0
        while cut < end and folded[cut] and at + cut < _POINTER_REACH:
            self._known.setdefault(folded[cut:], at + cut)
            cut += 1 + folded[cut]
