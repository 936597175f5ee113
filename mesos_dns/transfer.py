"""Zone transfer: who may have a zone, whether it has changed, and the messages that carry it.

AXFR (RFC 5936) over TCP and TLS. IXFR (RFC 1995) is answered with the whole zone, or with the SOA record alone
where the client has the current version, or asks by UDP: it then comes by TCP. A transfer is one version of
the zone, however it changes meanwhile (`contents`). So many run at once, the others wait; one whose client
does not read waits for it, and is given up after a while, so that the others get their turn.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain

import msgspec

from mesos_dns.answer import Answer
from mesos_dns.config import DnsConfig
from mesos_dns.contents import Contents, Step
from mesos_dns.edns import NOT_READY, PROHIBITED
from mesos_dns.message import FORMERR, IN, IXFR, NOTAUTH, REFUSED, SERVFAIL, Query, soa_serial
from mesos_dns.names import SOA
from mesos_dns.ratelimit import ERROR
from mesos_dns.served import Zone
from mesos_dns.sources.pace import Pace
from mesos_dns.zone import ZoneView

log = logging.getLogger(__name__)

AT_ONCE = 3
"""Transfers that run at once: each is some seconds of work for 100,000 tasks."""
STALL = 30.0
"""Seconds that a client may leave a message unread."""
SLOWEST = 0x8000
"""Octets a second that a client has to read on the whole, after the first STALL seconds."""
MESSAGE = 0x4000
"""Octets of a message, about: as far as compression pointers reach (RFC 1035 §4.1.4)."""
MAX_MESSAGE = 65535

_RR = struct.Struct(">HHIH").pack
_QUESTION_POINTER = b"\xc0\x0c"


class Transfer(msgspec.Struct, frozen=True):
    """The zone is to be sent whole. `head` is header and question of each message, `tail` its OPT record (b""
    without EDNS)."""

    zone: Zone
    head: bytes
    tail: bytes
    client: bytes = b""


class Transfers:
    """Decides over questions for transfers, and carries them out. `stall`: seconds, see STALL."""

    def __init__(self, view: ZoneView, config: DnsConfig, counters: Counter[str], stall: float = STALL) -> None:
        self._view = view
        self._allowed = [ipaddress.ip_network(text, strict=False) for text in config.transfer]
        self._counters = counters
        self._stall = stall
        self._places = asyncio.Semaphore(AT_ONCE)

    def decide(self, packet: bytes, query: Query, transport: str, client: bytes) -> Answer | Zone:
        """The answer to a question for AXFR or IXFR; the zone where it is to be sent."""
        if not client or not any(ipaddress.ip_address(client) in network for network in self._allowed):
            return self._no("refused", REFUSED, PROHIBITED)
        zone = self._view.zones.get(query.name)
        if zone is None:
            return self._no("not_ours", NOTAUTH)
        serial = soa_serial(packet) if query.qtype == IXFR else None
        if serial is None if query.qtype == IXFR else transport == "udp":
            return self._no("malformed", FORMERR)  # RFC 1995 §3; RFC 5936 §4.2 knows no AXFR over UDP
        if not ready(zone, self._view):
            return self._no("not_ready", SERVFAIL, NOT_READY)
        soa = zone.soa(self._view.serial)
        if transport == "udp" or (serial is not None and not newer(serial_of(soa), serial)):
            self._counters["current" if transport != "udp" else "by_tcp"] += 1
            record = _QUESTION_POINTER + _RR(SOA, IN, zone.ttl_of("", SOA), len(soa)) + soa
            return Answer(0, [record], zone=zone, cluster=not zone.plain)
        return zone

    async def send(self, transfer: Transfer, write: Callable[[bytes], Awaitable[None]]) -> bool:
        """Send a zone. `write` takes a message and returns when the client reads on. False: the client got a
        part of it, which only the end of its connection can tell it."""
        result = "broken"
        try:
            async with self._places:
                serial, count = await self._send(transfer, write)
            result = "sent"
        except TimeoutError:
            result = "stalled"
        except Exception:
            result = "failed"
            log.exception("a fault of ours in a zone transfer zone=%s", transfer.zone.origin)
        finally:  # cancelled, too: the client is gone
            self._counters[result] += 1
        client = ipaddress.ip_address(transfer.client) if transfer.client else ""
        if result == "sent":
            log.info("zone sent zone=%s serial=%d octets=%d client=%s", transfer.zone.origin, serial, count, client)
        else:
            log.warning("zone not sent zone=%s reason=%s client=%s", transfer.zone.origin, result, client)
        return result == "sent"

    async def _send(self, transfer: Transfer, write: Callable[[bytes], Awaitable[None]]) -> tuple[int, int]:
        contents = Contents(transfer.zone, self._view.serial)
        clock = asyncio.get_running_loop().time
        pace, sent, waited = Pace(), 0, 0.0
        for message in messages(transfer, contents):
            if message:
                began = clock()
                async with asyncio.timeout(self._stall):
                    await write(message)
                sent += len(message)
                waited += clock() - began
                if waited > self._stall + sent / SLOWEST:
                    raise TimeoutError
            await pace.turn()
        return serial_of(contents.soa.rdata), sent

    def _no(self, result: str, rcode: int, extended_error: int | None = None) -> Answer:
        self._counters[result] += 1
        return Answer(rcode, [], aa=False, bucket=bytes((ERROR, rcode)), extended_error=extended_error)


def messages(transfer: Transfer, contents: Contents) -> Iterator[bytes]:
    """The messages of a transfer: SOA, all other records, SOA (RFC 5936 §2.2); b"" where others may have a turn.

    Each repeats the question, and owners end in a pointer to it. Records of one owner point to the first.
    """
    start, tail = len(transfer.head), transfer.tail
    origin = _QUESTION_POINTER if transfer.head[12:-4] == transfer.zone.wire else transfer.zone.wire
    body, count, last, pointer = bytearray(), 0, b"", _QUESTION_POINTER
    records: Iterator[Step] = chain((contents.soa,), contents.records(), (contents.soa,))
    for record in records:
        if record is None:
            yield b""
            continue
        owner = pointer if record.owner == last and count else record.owner + origin
        size = start + len(body) + len(owner) + 10 + len(record.rdata) + len(tail)
        if size > MESSAGE and count:
            yield _message(transfer, count, body)
            body, count, owner = bytearray(), 0, record.owner + origin
            size = start + len(owner) + 10 + len(record.rdata) + len(tail)
        if size > MAX_MESSAGE:  # of no use to anybody: no answer can hold it either
            continue
        if owner is not pointer:
            last, pointer = record.owner, (0xC000 | start + len(body)).to_bytes(2, "big")
        body += owner + _RR(record.rtype, IN, record.ttl, len(record.rdata)) + record.rdata
        count += 1
    yield _message(transfer, count, body)


def _message(transfer: Transfer, count: int, body: bytearray) -> bytes:
    head = transfer.head
    return b"".join((head[:6], count.to_bytes(2, "big"), head[8:], body, transfer.tail))


def ready(zone: Zone, view: ZoneView) -> bool:
    """False while a zone can't be told whole: nobody has said yet what runs, or its file's SOA is missing. A
    secondary would take that for the end of all names."""
    return bool(zone.store.rrset("", SOA)) if zone.plain else view.known()


def serial_of(soa: bytes) -> int:
    """The serial in SOA rdata."""
    return int.from_bytes(soa[-20:-16], "big")


def newer(serial: int, other: int) -> bool:
    """True unless a version is the same as another or older (RFC 1982 §3.2); one that is as far ahead as
    behind counts as newer."""
    return serial != other and (serial - other) & 0xFFFFFFFF <= 0x80000000
