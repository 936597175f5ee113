"""Record data from text, against dnspython, and what is refused."""

from __future__ import annotations

import dns.name
import dns.rdata
import dns.rdataclass
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.sources.rdata import Malformed, name, octets, rdata, time, type_number

ORIGIN = b"\x07example\x00"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("A", ["192.0.2.1"]),
        ("AAAA", ["2001:db8::1"]),
        ("AAAA", ["::ffff:192.0.2.1"]),
        ("NS", ["ns1"]),
        ("CNAME", ["Target.Example.org."]),
        ("PTR", ["@"]),
        ("DNAME", ["other.example."]),
        ("MX", ["10", "mail"]),
        ("TXT", ['"v=spf1 -all"', "plain", '""']),
        ("TXT", ['"a\\"b\\\\c\\200"']),
        ("SOA", ["ns1", "host\\.master", "7", "1", "2", "3", "4"]),
        ("SRV", ["1", "2", "65535", "."]),
        ("NAPTR", ["100", "10", '"S"', '"SIP+D2U"', '"!^.*$!sip:x!"', "_sip._udp"]),
        ("CAA", ["0", "issue", '"ca.example; a=b"']),
        ("DS", ["1", "8", "2", "ab" * 16, "cd" * 16]),
        ("SSHFP", ["1", "1", "ab" * 20]),
        ("TLSA", ["3", "1", "1", "ab" * 32]),
        ("DNSKEY", ["256", "3", "8", "AQID", "BAUG"]),
        ("RP", ["mbox", "txt"]),
        ("AFSDB", ["1", "host"]),
        ("HINFO", ["PC", '"some system"']),
        ("URI", ["10", "1", '"https://example.org/"']),
        ("HTTPS", ["1", "svc.example.org.", "alpn=h2,h3"]),
        ("LOC", ["51", "30", "12.748", "N", "0", "7", "39.611", "W", "0.00m", "1m", "1m", "1m"]),
        ("TYPE65280", ["\\#", "3", "ab", "cdef"]),
        ("A", ["\\#", "4", "c0000201"]),
        ("MX", ["\\#", "5", "000a016100"]),
    ],
)
def test_gives_the_same_octets_as_dnspython(kind: str, words: list[str]) -> None:
    text = " ".join(words)
    expected = dns.rdata.from_text(
        dns.rdataclass.IN, kind, text, origin=dns.name.from_text("example."), relativize=False
    ).to_wire()
    # The reader cuts off the closing quotation mark of a quoted word.
    words = [word[:-1] if word.startswith('"') else word for word in words]
    assert rdata(type_number(kind), words, ORIGIN) == expected


@pytest.mark.parametrize(
    ("kind", "words", "what"),
    [
        ("A", ["192.0.2.1", "192.0.2.2"], "A with 2 fields: expected 1"),
        ("A", ["192.0.2"], "expected IPv4"),
        ("A", ["192.0.2.01"], "expected IPv4"),
        ("AAAA", ["fe80::1%eth0"], "without a zone id"),
        ("AAAA", ["1.2.3.4"], "expected IPv6"),
        ("MX", ["mail"], "expected 2"),
        ("MX", ["-1", "mail"], "expected 0 to 65535"),
        ("MX", ["1_0", "mail"], "expected 0 to 65535"),
        ("MX", ["١", "mail"], "expected 0 to 65535"),
        ("SRV", ["0", "0", "65536", "x"], "expected 0 to 65535"),
        ("TXT", [], "expected 1 or more"),
        ("TXT", ["x" * 256], "at most 255"),
        ("CNAME", ["a..b"], "a label of 0 octets"),
        ("CNAME", ["x" * 64], "a label of 64 octets"),
        ("CNAME", [".".join(["x" * 50] * 5)], "octets in all"),
        ("CNAME", ['"a'], "without quotation marks"),
        ("SOA", ["a", "b", "1", "2", "3", "4", "2147483648"], "expected seconds"),
        ("CAA", ["0", "is-sue", "x"], "CAA tag"),
        ("DS", ["1", "8", "2", "abc"], "hexadecimal"),
        ("DNSKEY", ["1", "3", "8", "!!!!"], "base64"),
        ("LOC", ["x"], "expected valid LOC"),
        ("HTTPS", ["1", "relative"], "absolute target"),
        ("TYPE65280", ["abcd"], "generic form"),
        ("TYPE65280", ["\\#"], "expected \\# LENGTH HEX"),
        ("TYPE65280", ["\\#", "3", "abcd"], "expected 3"),
        ("TYPE65280", ["\\#", "2", "abzz"], "hexadecimal"),
        ("A", ["\\#", "3", "010203"], "no A data"),
        ("CNAME", ["\\#", "2", "c00c"], "compressed"),
        ("CNAME", ["\\#", "2", "0161"], "no CNAME data"),
        ("DS", ["\\#", "2", "0001"], "no DS data"),
        ("TXT", ["\\#", "0"], "no TXT data"),
        ("TXT", ["\\#", "2", "0561"], "no TXT data"),
        ("HTTPS", ["\\#", "5", "0001000102"], "expected valid HTTPS"),
        ("TXT", ["a\\300"], "expected \\ and a character"),
        ("TXT", ["a\\1"], "expected \\ and a character"),
    ],
)
def test_refuses(kind: str, words: list[str], what: str) -> None:
    with pytest.raises(Malformed) as error:
        rdata(type_number(kind), words, ORIGIN)
    assert what in str(error.value)


@pytest.mark.parametrize(
    "word", ["OPT", "TYPE41", "TYPE0", "ANY", "TYPE255", "AXFR", "TYPE65535", "TYPE65536", "WKS2", "TYPE"]
)
def test_refuses_types_that_no_zone_can_hold(word: str) -> None:
    with pytest.raises(Malformed, match="expected a"):
        type_number(word)


def test_type_names_are_read_in_any_case() -> None:
    assert (type_number("aaaa"), type_number("type28"), type_number("HTTPS")) == (28, 28, 65)


def test_names() -> None:
    assert name("a\\.b.C", ORIGIN) == b"\x03a.b\x01C" + ORIGIN
    assert name("a\\046b.", None) == b"\x03a.b\x00"
    assert name("@", ORIGIN) == ORIGIN
    assert name(".", None) == b"\x00"
    with pytest.raises(Malformed, match="relative name 'a' without an origin"):
        name("a", None)
    with pytest.raises(Malformed, match="without an origin"):
        name("@", None)


def test_times() -> None:
    assert [time(word) for word in ("0", "60", "1h30m", "1W", "2d1")] == [0, 60, 5400, 604800, 172801]
    for word in ("", "-1", "1y", "h", "2147483648", "99999999999", "1.5", "1" * 60 + "x"):
        with pytest.raises(Malformed):
            time(word)


@given(st.binary(max_size=255))
def test_every_string_survives_escaping(data: bytes) -> None:
    word = '"' + "".join(f"\\{octet:03d}" for octet in data)
    assert octets(word) == data
    assert rdata(16, [word], None) == bytes([len(data)]) + data


@given(st.integers(1, 300), st.lists(st.text(max_size=12), max_size=8))
def test_words_of_any_kind_give_data_or_malformed(rtype: int, words: list[str]) -> None:
    try:
        data = rdata(rtype, words, ORIGIN)
    except Malformed:
        return
    assert len(data) <= 65535
