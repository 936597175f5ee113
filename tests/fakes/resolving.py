"""Replies of upstreams as packets, and upstreams that give them, for the tests of the resolver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import dns.message
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from mesos_dns.answer import Answer
from mesos_dns.config import DnsConfig
from mesos_dns.message import Query, read_query
from mesos_dns.resolver.race import NoAnswer
from mesos_dns.resolver.upstreams import Reply
from mesos_dns.respond import Forward, Responder
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.questions import packet

REPLY = 0x8180
"""QR, RD, RA."""
SOA = "example.com. 600 SOA ns.example.com. admin.example.com. 7 3600 600 86400 60"


def record(line: str) -> bytes:
    """ "OWNER TTL TYPE RDATA" in wire form, without compression."""
    owner, ttl, rtype, rdata = line.split(" ", 3)
    number = dns.rdatatype.from_text(rtype)
    data = dns.rdata.from_text(dns.rdataclass.IN, number, rdata).to_wire()
    assert data is not None
    head = name_to_wire(owner) + int(number).to_bytes(2, "big") + b"\0\1" + int(ttl).to_bytes(4, "big")
    return head + len(data).to_bytes(2, "big") + data


def reply_of(
    name: str,
    rtype: str = "A",
    answers: Sequence[str | bytes] = (),
    authorities: Sequence[str | bytes] = (),
    additionals: Sequence[str | bytes] = (),
    *,
    rcode: int = 0,
    flags: int = REPLY,
) -> bytes:
    """A reply's packet: records in this order, as text or in wire form."""
    sections = [
        [each if isinstance(each, bytes) else record(each) for each in section]
        for section in (answers, authorities, additionals)
    ]
    counts = b"".join(len(section).to_bytes(2, "big") for section in sections)
    question = name_to_wire(name) + int(dns.rdatatype.from_text(rtype)).to_bytes(2, "big") + b"\0\1"
    body = b"".join(each for section in sections for each in section)
    return b"\x12\x34" + (flags | rcode).to_bytes(2, "big") + b"\0\1" + counts + question + body


def lines(section: Sequence[dns.rrset.RRset]) -> list[str]:
    """Every record of a section as "OWNER TTL TYPE RDATA", in order."""
    return [
        f"{rrset.name.to_text()} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata.to_text()}"
        for rrset in section
        for rdata in rrset
    ]


def shown(answer: Answer, name: str, rtype: str = "A") -> dns.message.Message:
    """An answer as a client gets it by TCP, read to its last octet, with its records in order and each by itself."""
    query = read_query(packet(name, rtype))
    assert isinstance(query, Query)
    return dns.message.from_wire(answer.encode(query, 65535, 0, 0, b""), one_rr_per_rrset=True, ignore_trailing=False)


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeUpstreams:
    """Answers with what `says` makes of (name as asked, question), or raises it. While `gate` is clear it waits."""

    def __init__(self, says: Callable[[str], bytes | Exception]) -> None:
        self.says = says
        self.asked: list[bytes] = []
        self.flags: list[tuple[bool, bool]] = []
        self.cancelled = 0
        self.probes: set[bytes] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(
        self,
        name: bytes,
        question: bytes,
        *,
        dnssec_ok: bool,
        checking_disabled: bool,
        read: Callable[[bytes], Any] | None = None,
    ) -> Reply:
        """One question."""
        assert name == question[:-4].lower()
        self.asked.append(question)
        self.flags.append((dnssec_ok, checking_disabled))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        said = self.says(dns.message.from_wire(b"\0" * 5 + b"\1" + b"\0" * 6 + question).question[0].to_text())
        if isinstance(said, Exception):
            raise said
        try:
            return Reply(said, "192.0.2.53", 0.01, read(said) if read is not None else None)
        except ValueError:
            raise NoAnswer("malformed") from None

    def is_probe(self, name: bytes) -> bool:
        """Whether a name is one of `probes`."""
        return name in self.probes


class FakeTable:
    """Remembers what it is told; `room` False: refuses all."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[Answer, int, bool]] = {}
        self.room = True

    def keep_aged(self, key: bytes, answer: Answer, lifetime: int, *, stale: bool = False) -> bool:
        """As FastPath has it."""
        if self.room:
            self.kept[key] = (answer, lifetime, stale)
        return self.room

    def forget_aged(self, key: bytes) -> bool:
        """As FastPath has it."""
        return self.kept.pop(key, None) is not None

    def was_read(self, key: bytes) -> bool:
        """As FastPath has it: nobody reads here."""
        return False


def silent(reason: str = "timeout") -> NoAnswer:
    """What upstreams raise that do not answer."""
    return NoAnswer(reason)


def plain_responder() -> Responder:
    """A responder without names of its own, that writes replies with RA."""
    config = DnsConfig(recursion=True, forward=("192.0.2.53",))
    return Responder(ZoneView(config, ns_addresses=("127.0.0.1",)), config)


def forward_of(query: bytes, client: bytes = b"") -> Forward:
    """What a responder hands to a resolver."""
    read = read_query(query)
    assert isinstance(read, Query)
    return Forward(read, (), client)
