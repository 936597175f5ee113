"""Reading queries: from bytes, strictly."""

from __future__ import annotations

import struct

import dns.message
import pytest

from mesos_dns.message import BADVERS, FORMERR, NOERROR, NOTIMP, Bad, Query, question_end, read_query, soa_serial
from tests.fakes.questions import packet

HEADER = struct.Struct(">HHHHHH").pack
QUESTION = b"\3wEb\5mesos\0\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def query(*, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0), rest: bytes = QUESTION) -> bytes:
    return HEADER(0x1234, flags, *counts) + rest


def test_a_plain_query() -> None:
    read = read_query(query())
    assert read == Query(0x1234, 0x0100, QUESTION, b"\3web\5mesos\0", 1, 1, False, 512)


def test_the_root_and_the_longest_name() -> None:
    root = read_query(query(rest=b"\0\0\2\0\1"))
    assert isinstance(root, Query)
    assert root.name == b"\0"
    labels = b"".join(bytes([63]) + b"a" * 63 for _ in range(3))
    longest = read_query(query(rest=labels + bytes([61]) + b"b" * 61 + b"\0\0\1\0\1"))
    assert isinstance(longest, Query)
    too_long = read_query(query(rest=labels + bytes([62]) + b"b" * 62 + b"\0\0\1\0\1"))
    assert isinstance(too_long, Bad)
    assert too_long.rcode == FORMERR


@pytest.mark.parametrize("cut", range(12))
def test_what_has_no_whole_header_is_dropped(cut: int) -> None:
    assert read_query(query()[:cut]) is None


def test_an_answer_is_dropped() -> None:
    assert read_query(query(flags=0x8100)) is None


@pytest.mark.parametrize("cut", range(12, 12 + len(QUESTION)))
def test_a_question_cut_short(cut: int) -> None:
    assert read_query(query()[:cut]) == Bad(0x1234, 0x0100, FORMERR)


@pytest.mark.parametrize("count", [0, 2, 65535])
def test_anything_but_one_question(count: int) -> None:
    assert read_query(query(counts=(count, 0, 0, 0), rest=QUESTION * min(count, 2))) == Bad(0x1234, 0x0100, FORMERR)


@pytest.mark.parametrize("first", [0x40, 0x80, 0xC0])
def test_a_question_with_a_pointer_or_a_reserved_label_type(first: int) -> None:
    read = read_query(query(rest=bytes([first, 12]) + b"\0\1\0\1"))
    assert isinstance(read, Bad)
    assert read.rcode == FORMERR


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_opcodes(opcode: int) -> None:
    read = read_query(query(flags=opcode << 11))
    assert isinstance(read, Bad)
    assert read.rcode == NOTIMP
    # DSO (RFC 8490) has no question at all, and is not implemented either.
    empty = read_query(query(flags=opcode << 11, counts=(0, 0, 0, 0), rest=b""))
    assert isinstance(empty, Bad)
    assert empty.rcode == NOTIMP


@pytest.mark.parametrize(("payload", "limit"), [(0, 512), (511, 512), (512, 512), (1232, 1232), (65535, 65535)])
def test_edns_payload(payload: int, limit: int) -> None:
    read = read_query(packet("web.mesos", payload=payload))
    assert isinstance(read, Query)
    assert read.edns
    assert read.payload == limit


def test_edns_options_and_flags_do_not_matter() -> None:
    options = [dns.edns.GenericOption(dns.edns.OptionType.make(code), b"x" * code) for code in (3, 8, 13, 21)]
    read = read_query(packet("web.mesos", payload=1232, options=options, ednsflags=0x7FFF))
    assert isinstance(read, Query)
    assert read.edns
    assert not any((read.dnssec_ok, read.cookie, read.keepalive, read.padding))


def with_options(*octets: bytes, version: int = 0) -> bytes:
    """An OPT record that holds these octets."""
    whole = b"".join(octets)
    return OPT[:6] + bytes((version,)) + OPT[7:-2] + len(whole).to_bytes(2, "big") + whole


COOKIE = b"\0\x0a\0\x0812345678"


def test_edns_options_that_matter() -> None:
    rest = QUESTION + with_options(b"\0\x0c\0\2\0\0", COOKIE, b"\0\x0b\0\0")
    read = read_query(query(counts=(1, 0, 0, 1), rest=rest))
    assert isinstance(read, Query)
    assert (read.cookie, read.keepalive, read.padding) == (b"12345678", True, True)


@pytest.mark.parametrize("octets", [b"\0", b"\0\3\0\1", COOKIE[:-1], b"\0\x0a\0\x07" + bytes(7), COOKIE + b"\0\0\0"])
def test_broken_edns_options(octets: bytes) -> None:
    # RFC 6891 §7: FORMERR with an OPT record.
    read = read_query(query(counts=(1, 0, 0, 1), rest=QUESTION + with_options(octets)))
    assert read == Bad(0x1234, 0x0100, FORMERR, QUESTION, True)


def test_the_options_of_another_version_are_not_looked_at() -> None:
    read = read_query(query(counts=(1, 0, 0, 1), rest=QUESTION + with_options(b"\0", version=1)))
    assert read == Bad(0x1234, 0x0100, BADVERS, QUESTION, True)


@pytest.mark.parametrize(
    ("counts", "rest", "expected"),
    [
        ((0, 0, 0, 1), with_options(COOKIE), Bad(0x1234, 0x0100, NOERROR, b"", True, b"12345678")),
        ((0, 0, 0, 1), with_options(b"\0\x0a\0\x07" + bytes(7)), Bad(0x1234, 0x0100, FORMERR, b"", True)),
        ((0, 0, 0, 1), with_options(COOKIE, version=1), Bad(0x1234, 0x0100, FORMERR)),
        ((0, 0, 0, 1), OPT, Bad(0x1234, 0x0100, FORMERR)),
        ((0, 0, 0, 1), b"", Bad(0x1234, 0x0100, FORMERR)),
        ((0, 0, 0, 2), with_options(COOKIE) * 2, Bad(0x1234, 0x0100, FORMERR)),
        ((0, 1, 0, 0), with_options(COOKIE), Bad(0x1234, 0x0100, FORMERR)),
        ((2, 0, 0, 1), QUESTION * 2 + with_options(COOKIE), Bad(0x1234, 0x0100, FORMERR)),
    ],
)
def test_no_question_but_a_cookie(counts: tuple[int, int, int, int], rest: bytes, expected: Bad) -> None:
    assert read_query(query(counts=counts, rest=rest)) == expected


def test_dnssec_ok() -> None:
    read = read_query(packet("web.mesos", payload=1232, ednsflags=0x8000))
    assert isinstance(read, Query)
    assert read.dnssec_ok


def test_unknown_edns_version() -> None:
    read = read_query(query(counts=(1, 0, 0, 1), rest=QUESTION + b"\0\0\x29\x04\xd0\0\1\0\0\0\0"))
    assert read == Bad(0x1234, 0x0100, BADVERS, QUESTION, True)


@pytest.mark.parametrize(
    "rest",
    [
        OPT + OPT,  # two (RFC 6891 §6.1.1)
        b"\1a" + OPT,  # not at the root
        OPT[:-2] + b"\0\5",  # options cut short
        OPT[:-1],
        b"\x40" + OPT,
    ],
)
def test_malformed_edns(rest: bytes) -> None:
    count = 2 if rest == OPT + OPT else 1
    assert read_query(query(counts=(1, 0, 0, count), rest=QUESTION + rest)) == Bad(0x1234, 0x0100, FORMERR, QUESTION)


def test_edns_behind_other_records() -> None:
    before = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x0a\0\0\1"
    other = b"\1a\0\0\x10\0\1\0\0\0\0\0\2\1x"
    read = read_query(query(counts=(1, 1, 1, 2), rest=QUESTION + before * 2 + other + OPT))
    assert isinstance(read, Query)
    assert read.payload == 1232


def test_an_opt_record_outside_the_additional_section_is_no_edns() -> None:
    read = read_query(query(counts=(1, 1, 0, 1), rest=QUESTION + OPT + b"\0\0\x10\0\1\0\0\0\0\0\2\1x"))
    assert isinstance(read, Query)
    assert not read.edns


def test_no_more_than_a_few_records_are_looked_at() -> None:
    record = b"\0\0\x10\0\1\0\0\0\0\0\0"
    read = read_query(query(counts=(1, 0, 0, 1000), rest=QUESTION + record * 1000))
    assert read == Bad(0x1234, 0x0100, FORMERR, QUESTION)


def test_question_end() -> None:
    assert question_end(query()) == 12 + len(QUESTION)
    assert question_end(query() + b"more") == 12 + len(QUESTION)
    assert question_end(b"\0" * 12) == 0


IXFR = b"\5mesos\0\0\xfb\0\1"
SOA = b"\xc0\x0c\0\6\0\1\0\0\0\0\0\x18" + b"\1a\0" + b"\0" + (0xFFFFFFFE).to_bytes(4, "big") + bytes(16)


def test_the_version_that_a_client_has() -> None:
    assert soa_serial(query(counts=(1, 0, 1, 0), rest=IXFR + SOA)) == 0xFFFFFFFE
    assert soa_serial(query(counts=(1, 0, 1, 1), rest=IXFR + SOA + OPT)) == 0xFFFFFFFE
    pointers = SOA[:10] + b"\0\x18" + b"\xc0\x0c\xc0\x0c" + SOA[16:]
    assert soa_serial(query(counts=(1, 0, 1, 0), rest=IXFR + pointers)) == 0xFFFFFFFE


@pytest.mark.parametrize(
    ("counts", "rest"),
    [
        ((1, 0, 0, 0), IXFR),
        ((1, 0, 0, 1), IXFR + OPT),
        ((1, 1, 1, 0), IXFR + SOA + SOA),
        ((1, 0, 2, 0), IXFR + SOA + SOA),
        ((1, 0, 1, 0), IXFR + SOA.replace(b"\0\6\0\1", b"\0\2\0\1")),
        ((1, 0, 1, 0), IXFR + SOA.replace(b"\0\6\0\1", b"\0\6\0\3")),
        ((1, 0, 1, 0), IXFR + SOA.replace(b"\0\x18", b"\0\x17")),
        ((1, 0, 1, 0), IXFR + SOA.replace(b"\0\x18", b"\0\x19") + b"\0"),
        *(((1, 0, 1, 0), (IXFR + SOA)[:size]) for size in range(len(IXFR) + len(SOA))),
    ],
)
def test_no_version(counts: tuple[int, int, int, int], rest: bytes) -> None:
    assert soa_serial(query(counts=counts, rest=rest)) is None
