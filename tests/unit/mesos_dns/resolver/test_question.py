"""Questions to upstreams, and packets that are replies to them or are not."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.resolver.question import Question
from tests.fakes.upstreams import found, wire_question

IDENT = b"\x12\x34"
ASKED = Question(wire_question("Www.example"))
REPLY = found(ASKED.packet(IDENT, True))


def reply(rcode: int = 0, section: str = "", *records: str, flags: int = dns.flags.RA) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(ASKED.packet(IDENT, True)))
    message.flags |= flags
    message.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        name, rtype, data = record.split(" ", 2)
        getattr(message, section).append(dns.rrset.from_text(name, 60, "IN", rtype, data))
    return message.to_wire()


def test_what_is_sent() -> None:
    query = dns.message.from_wire(Question(ASKED.wire, dnssec_ok=True).packet(IDENT, True))
    assert query.id == 0x1234
    assert query.flags == dns.flags.RD
    assert (query.edns, query.payload, query.ednsflags, query.options) == (0, 1232, dns.flags.DO, ())
    assert query.question[0].to_text() == "Www.example. IN A"
    query = dns.message.from_wire(Question(ASKED.wire, checking_disabled=True).packet(IDENT, True))
    assert query.flags == dns.flags.RD | dns.flags.CD
    assert query.ednsflags == 0
    assert dns.message.from_wire(Question(ASKED.wire).packet(IDENT, False)).edns == -1


def test_a_reply_in_other_case_counts() -> None:
    assert ASKED.is_answered_by(REPLY, IDENT, True)
    assert ASKED.is_answered_by(REPLY[:12] + REPLY[12:24].upper() + REPLY[24:], IDENT, True)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        REPLY[:11],
        REPLY[:12],
        REPLY[:20],
        b"\x12\x35" + REPLY[2:],
        REPLY[:2] + bytes((REPLY[2] & 0x7F,)) + REPLY[3:],
        REPLY[:2] + bytes((REPLY[2] | 0x08,)) + REPLY[3:],
        REPLY[:4] + b"\0\0" + REPLY[6:],
        REPLY[:4] + b"\0\2" + REPLY[6:],
        REPLY[:4] + b"\1\1" + REPLY[6:],
        REPLY.replace(b"www", b"wwx").replace(b"Www", b"wwx"),
        REPLY.replace(b"\0\0\1\0\1", b"\0\0\x1c\0\1", 1),
        REPLY.replace(b"\0\0\1\0\1", b"\0\0\1\0\3", 1),
    ],
    ids=str,
)
def test_what_is_no_reply(packet: bytes) -> None:
    assert packet != REPLY
    assert not ASKED.is_answered_by(packet, IDENT, True)


def test_types_are_not_folded() -> None:
    https, other = wire_question("a.example", 65), wire_question("a.example", 97)  # "A" and "a"
    assert not Question(https).is_answered_by(found(Question(other).packet(IDENT, True)), IDENT, True)


def test_a_header_alone_says_that_edns_is_not_known() -> None:
    bare = IDENT + b"\x80\x81" + bytes(8)
    assert ASKED.is_answered_by(bare, IDENT, True)
    assert ASKED.result_of(bare) == "formerr"
    assert not ASKED.is_answered_by(bare, IDENT, False)
    assert not ASKED.is_answered_by(IDENT + b"\x80\x82" + bytes(8), IDENT, True)


@pytest.mark.parametrize(
    ("packet", "result"),
    [
        (REPLY, "answered"),
        (reply(dns.rcode.NXDOMAIN), "answered"),
        (reply(), "answered"),
        (reply(0, "authority", "example. NS ns.example."), "answered"),
        (reply(0, "authority", "example. NS ns.example.", flags=0), "lame"),
        (reply(0, "authority", "example. NS ns.example.", flags=dns.flags.AA), "answered"),
        (reply(0, "authority", "example. SOA ns.example. a.example. 1 2 3 4 5", flags=0), "answered"),
        (reply(dns.rcode.SERVFAIL), "servfail"),
        (reply(dns.rcode.REFUSED), "refused"),
        (reply(dns.rcode.FORMERR), "formerr"),
        (reply(dns.rcode.NOTIMP), "notimp"),
        (reply(dns.rcode.NOTAUTH), "rcode"),
        (reply(dns.rcode.BADVERS), "rcode"),
        (reply(flags=dns.flags.TC), "truncated"),
        (REPLY[:-1], "malformed"),
        (REPLY + b"\0", "malformed"),
        (REPLY[:6] + b"\xff\xff" + REPLY[8:], "malformed"),
        (REPLY[:6] + b"\0\2" + REPLY[8:], "malformed"),
        (REPLY.replace(b"\xc0\x0c", b"\x80\x0c"), "malformed"),
    ],
)
def test_how_it_answers(packet: bytes, result: str) -> None:
    assert ASKED.is_answered_by(packet, IDENT, True)
    assert ASKED.result_of(packet) == result


OPT = b"\0\0\x29\x04\xd0\1\0\0\0\0\0"
"""An OPT record that makes NOERROR BADVERS."""
CODED = reply(dns.rcode.BADVERS)
"""The same as a reply's only record."""


@pytest.mark.parametrize(
    ("packet", "result"),
    [
        (REPLY, "answered"),
        (REPLY[:6] + b"\xff\xff" + REPLY[8:], "answered"),  # to be found out by `read`
        (reply(dns.rcode.NXDOMAIN), "answered"),
        (reply(0, "authority", "example. NS ns.example."), "answered"),
        (reply(0, "authority", "example. NS ns.example.", flags=0), "lame"),
        (reply(dns.rcode.SERVFAIL), "servfail"),
        (reply(dns.rcode.NOTAUTH), "rcode"),
        (CODED, "rcode"),
        (CODED[:10] + b"\0\2" + CODED[12:] + b"\0\0\1\0\1\0\0\0\0\0\0", "rcode"),
        (CODED[:-2] + b"\0\4\0\x0f\0\0", "rcode"),  # with an option
        (REPLY[:-11] + OPT, "rcode"),
        (reply(flags=dns.flags.TC), "truncated"),
    ],
)
def test_where_somebody_reads_the_records_only_the_rest_is_judged(packet: bytes, result: str) -> None:
    read: list[bytes] = []
    asked = Question(ASKED.wire, read=read.append)
    assert asked.is_answered_by(packet, IDENT, True)
    assert asked.result_of(packet) == result
    assert not read


@given(st.binary(max_size=80), st.booleans())
def test_any_packet_is_judged(garbage: bytes, behind: bool) -> None:
    packet = REPLY[:25] + garbage if behind else garbage
    for asked in (ASKED, Question(ASKED.wire, read=bytes)):
        if asked.is_answered_by(packet, IDENT, True):
            assert isinstance(asked.result_of(packet), str)


@given(st.data())
def test_any_damage_is_judged(data: st.DataObject) -> None:
    packet = bytearray(REPLY)
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    for asked in (ASKED, Question(ASKED.wire, read=bytes)):
        if asked.is_answered_by(bytes(packet), IDENT, True):
            assert isinstance(asked.result_of(bytes(packet)), str)
