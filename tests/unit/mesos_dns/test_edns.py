"""The OPT record: what is read of its options, and how ours is written."""

from __future__ import annotations

import dns.edns
import dns.message
import pytest

from mesos_dns.edns import NO_OPTIONS, Options, opt_record, option_data, padded, read_options

HEADER = b"\x12\x34\x81\x80\0\0\0\0\0\0\0\1"


def option(code: int, data: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def read(octets: bytes) -> Options | None:
    return read_options(b"before" + octets + b"behind", 6, 6 + len(octets))


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", NO_OPTIONS),
        (option(10, b"12345678"), Options(b"12345678")),
        (option(10, b"1" * 16), Options(b"1" * 16)),
        (option(10, b"1" * 40), Options(b"1" * 40)),
        (option(10, b"12345678") + option(10, b"abcdefgh"), Options(b"12345678")),
        (option(10, b"12345678") + option(10, b"x"), Options(b"12345678")),
        (option(11), Options(keepalive=True)),
        (option(11, b"\0\1"), NO_OPTIONS),
        (option(12), Options(padding=True)),
        (option(12, bytes(100)), Options(padding=True)),
        (option(3) + option(8, b"\0\1\0\0") + option(65001, b"abc"), NO_OPTIONS),
        (option(12, b"\0") + option(11) + option(10, b"12345678"), Options(b"12345678", True, True)),
    ],
)
def test_options(octets: bytes, expected: Options) -> None:
    assert read(octets) == expected


@pytest.mark.parametrize("size", [*range(8), *range(9, 16), 41, 100])
def test_a_cookie_of_an_impossible_size(size: int) -> None:
    assert read(option(10, bytes(size))) is None
    assert read(option(10, bytes(size)) + option(10, b"12345678")) is None


@pytest.mark.parametrize("octets", [b"\0", b"\0\3\0", b"\0\3\0\1", option(3) + b"\0", option(10, b"12345678")[:-1]])
def test_options_that_are_cut_short(octets: bytes) -> None:
    assert read(octets) is None


@pytest.mark.parametrize("dnssec_ok", [False, True])
@pytest.mark.parametrize("rcode", [0, 16, 23, 4095])
def test_a_record_as_others_read_it(dnssec_ok: bool, rcode: int) -> None:
    options = option_data(b"12345678" * 3, 3, 100)
    record = opt_record(1232, dnssec_ok=dnssec_ok, rcode=rcode, options=options)
    message = dns.message.from_wire(HEADER[:3] + bytes((rcode & 15,)) + HEADER[4:] + record)
    assert message.rcode() == rcode
    assert (message.edns, message.payload) == (0, 1232)
    assert message.ednsflags & 0xFFFF == (0x8000 if dnssec_ok else 0)
    cookie, error, keepalive = message.options
    assert isinstance(cookie, dns.edns.CookieOption)
    assert (cookie.client, cookie.server) == (b"12345678", b"12345678" * 2)
    assert isinstance(error, dns.edns.EDEOption)
    assert (error.code, error.text) == (3, None)
    assert keepalive.otype == 11


def test_a_record_octet_by_octet() -> None:
    assert opt_record(1232) == bytes.fromhex("000029 04d0 00000000 0000")
    assert opt_record(512, dnssec_ok=True, rcode=23, options=b"ab") == bytes.fromhex("000029 0200 01008000 0002 6162")
    assert option_data(b"12345678", 19, 7) == option(10, b"12345678") + option(15, b"\0\x13") + option(11, b"\0\x07")
    assert option_data() == b""
    assert option_data(extended_error=0) == option(15, b"\0\0")


@pytest.mark.parametrize("size", [0, 1, 440, 441, 442, 443, 444, 445, 464, 468, 900])
def test_padding_fills_a_block(size: int) -> None:
    opt = opt_record(1232, options=option_data(b"12345678"))
    packet = HEADER + bytes(size) + opt
    whole = padded(packet, len(opt), 65535)
    assert len(whole) % 468 == 0
    assert 4 <= len(whole) - len(packet) < 468 + 4
    assert whole.startswith(packet[: len(HEADER) + size + 9])
    if not size:
        message = dns.message.from_wire(whole)
        assert [int(each.otype) for each in message.options] == [10, 12]


def test_padding_stops_at_the_limit() -> None:
    opt = opt_record(1232)
    packet = HEADER + opt
    assert len(padded(packet, len(opt), len(packet) + 10)) == len(packet) + 10
    assert len(padded(packet, len(opt), len(packet) + 4)) == len(packet) + 4
    assert padded(packet, len(opt), len(packet) + 3) == packet
