"""The short way through an upstream's usual reply against the reader of all others: they say the same."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.answer import Answer
from mesos_dns.resolver import reading
from mesos_dns.resolver.reading import Lifetimes, Malformed, read_reply
from mesos_dns.wire import name_to_wire

NAME = name_to_wire("a.example")
A, AAAA = 1, 28
OCTETS = (0, 1, 2, 3, 4, 5, 6, 11, 12, 13, 16, 28, 41, 65, 0x80, 0x81, 0x83, 0xC0, 255)
TTLS = st.sampled_from([0, 1, 60, 86400, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
LIMITS = st.builds(Lifetimes, *[st.sampled_from([0, 30, 100_000])] * 3)


def usual(qtype: int, rows: list[tuple[int, int]], options: bytes | None) -> bytes:
    """A reply of (TTL, last octet of the address), with an OPT record or without."""
    answers = b""
    for ttl, last in rows:
        data = bytes(3 if qtype == A else 15) + bytes((last,))
        answers += b"\xc0\x0c" + qtype.to_bytes(2, "big") + b"\0\1" + ttl.to_bytes(4, "big")
        answers += len(data).to_bytes(2, "big") + data
    opt = b"" if options is None else b"\0\0\x29\4\xd0\0\0\0\0" + len(options).to_bytes(2, "big") + options
    head = b"\x12\x34\x81\x80\0\1" + len(rows).to_bytes(2, "big") + bytes((0, 0, 0, bool(opt)))
    return head + NAME + qtype.to_bytes(2, "big") + b"\0\1" + answers + opt


def said(packet: bytes, qtype: int, limits: Lifetimes) -> object:
    """All that is read; None for a reply that can't be used."""
    try:
        read = read_reply(packet, NAME, qtype, limits=limits)
    except Malformed:
        return None
    return read.rcode, read.kind, read.lifetime, [getattr(read.answer, slot) for slot in Answer.__slots__]


def compare(packet: bytes, qtype: int, limits: Lifetimes) -> None:
    short = said(packet, qtype, limits)
    with mock.patch.object(reading, "_addresses", return_value=None):
        assert said(packet, qtype, limits) == short, packet.hex()


def test_the_usual_reply_goes_the_short_way() -> None:
    with mock.patch.object(reading, "_Reader", side_effect=AssertionError):
        for qtype in (A, AAAA):
            assert said(usual(qtype, [(60, 1), (50, 2)], b"\0\3\0\2ab"), qtype, Lifetimes()) is not None


def test_every_octet_counts() -> None:
    """Each by itself is another one, is missing, or is the last."""
    for qtype, rows, options in (
        (A, [(60, 1)], b""),
        (A, [(60, 1), (50, 2)], None),
        (AAAA, [(60, 1), (50, 2)], b"\0\3\0\1a"),
    ):
        packet = usual(qtype, rows, options)
        for at in range(len(packet)):
            for octet in OCTETS:
                compare(packet[:at] + bytes((octet,)) + packet[at + 1 :], qtype, Lifetimes())
            compare(packet[:at], qtype, Lifetimes())
            compare(packet[:at] + packet[at + 1 :], qtype, Lifetimes())
        compare(packet + b"\0", qtype, Lifetimes())


@given(
    qtype=st.sampled_from([A, AAAA]),
    rows=st.lists(st.tuples(TTLS, st.integers(1, 6)), min_size=1, max_size=4),
    options=st.none() | st.binary(max_size=6),
    edits=st.lists(st.tuples(st.integers(2, 120), st.sampled_from(OCTETS)), max_size=3),
    limits=LIMITS,
)
def test_with_several_changes(
    qtype: int, rows: list[tuple[int, int]], options: bytes | None, edits: list[tuple[int, int]], limits: Lifetimes
) -> None:
    packet = bytearray(usual(qtype, rows, options))
    for at, octet in edits:
        packet[at % len(packet)] = octet
    compare(bytes(packet), qtype, limits)


def test_as_many_as_fit() -> None:
    for count in (99, 100, 101, 300, 3000):
        compare(usual(A, [(60, 1)] * count, None), A, Lifetimes())
        packet = bytearray(usual(A, [(60, 1)] * count, None))
        for number in range(count):
            at = 16 + len(NAME) + number * 16 + 12
            packet[at : at + 2] = number.to_bytes(2, "big")
        compare(bytes(packet), A, Lifetimes())
