"""Compression of records behind a question."""

from __future__ import annotations

import dns.message
import dns.name
import pytest

from mesos_dns.resolver.reading import MOST_RECORDS
from mesos_dns.resolver.writing import Writer
from mesos_dns.wire import name_to_wire

QUESTION = name_to_wire("www.example.com")
CNAME, TXT, SRV, DNAME, A = 5, 16, 33, 39, 1


def target(record: bytes, before: bytes) -> str:
    """The name that a record's data ends with, in a packet with that question and what is written before it."""
    packet = bytes(12) + QUESTION + bytes(4) + before + record
    owner = dns.name.from_wire(packet, len(packet) - len(record))[1]
    return dns.name.from_wire(packet, len(packet) - len(record) + owner + 10)[0].to_text()


def test_the_question_is_pointed_to_however_it_is_spelled() -> None:
    record = Writer(QUESTION, fixed=True).record(name_to_wire("WWW.example.COM"), A, 7, [(b"\1\2\3\4", False)])
    assert record == b"\xc0\x0c\0\1\0\1\0\0\0\7\0\4\1\2\3\4"


@pytest.mark.parametrize("fixed", [True, False])
def test_names_below_the_question(fixed: bool) -> None:
    writer = Writer(QUESTION, fixed=fixed)
    record = writer.record(QUESTION, CNAME, 7, [(name_to_wire("a.EXAMPLE.com"), True)])
    assert record[-4:] == b"\1a\xc0\x10"
    assert target(record, b"") == "a.example.com."
    assert writer.written == len(record)


def test_names_before() -> None:
    writer = Writer(QUESTION, fixed=True)
    first = writer.record(QUESTION, CNAME, 7, [(name_to_wire("a.b.example.net"), True)])
    second = writer.record(name_to_wire("a.b.example.net"), CNAME, 7, [(name_to_wire("c.b.example.net"), True)])
    assert first.endswith(b"\1a\1b\7example\3net\0")
    assert second[:1] == b"\xc0"
    assert len(second) == 2 + 10 + 4
    assert target(second, first) == "c.b.example.net."
    third = writer.record(name_to_wire("d.c.b.example.net"), CNAME, 7, [(name_to_wire("."), True)])
    assert third[:4] == b"\1d" + (0xC000 | 12 + len(QUESTION) + 4 + len(first) + 12).to_bytes(2, "big")


def test_records_that_may_move_point_to_nothing_but_the_question() -> None:
    writer = Writer(QUESTION, fixed=False)
    records = [writer.record(QUESTION, CNAME, 7, [(name_to_wire("a.example.net"), True)]) for _ in range(2)]
    assert records[0] == records[1]
    assert records[0].endswith(b"\1a\7example\3net\0")


@pytest.mark.parametrize("rtype", [SRV, DNAME, 46, 47, 65280])
def test_other_types_have_their_names_in_full(rtype: int) -> None:
    record = Writer(QUESTION, fixed=True).record(QUESTION, rtype, 7, [(QUESTION, True), (b"\0\1", False)])
    assert record.endswith(QUESTION + b"\0\1")


def test_the_root() -> None:
    writer = Writer(b"\0", fixed=True)
    assert writer.record(b"\0", 2, 7, [(b"\0", True)]) == b"\xc0\x0c\0\2\0\1\0\0\0\7\0\1\0"
    assert writer.record(name_to_wire("com"), 2, 7, [(name_to_wire("a.com"), True)]).startswith(b"\3com\0")


def test_no_pointer_reaches_beyond_its_bits() -> None:
    writer = Writer(QUESTION, fixed=True)
    written, count = b"", 0
    while len(written) < 0x4000 - 40:
        written += writer.record(QUESTION, TXT, 7, [(bytes(200), False)])
    for number in range(20):
        name = name_to_wire(f"n{number}.far.example.net")
        written += writer.record(name, CNAME, 7, [(name, True)])
        count += 1
    packet = bytes(4) + b"\0\1\0\0\0\0\0\0" + QUESTION + b"\0\5\0\1" + written
    total = count + (len(written) - 1) // 212
    at, names = 16 + len(QUESTION), []
    for _ in range(total):
        if at >= len(packet):
            break
        owner, used = dns.name.from_wire(packet, at)
        size = int.from_bytes(packet[at + used + 8 : at + used + 10], "big")
        names.append(owner.to_text())
        at += used + 10 + size
    assert at == len(packet)
    assert names[-20:] == [f"n{number}.far.example.net." for number in range(20)]
    assert len(names) < MOST_RECORDS
