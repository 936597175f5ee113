"""Record data from the words of a master file to wire form (RFC 1035 §3.3, §5.1; RFC 3597). Pure.

A *word* is the text of one field, escapes still in it; a quoted one starts with its quotation mark
(the closing one is cut off). The table `TYPES` says for each record type which fields its data has.
A field knows how it is written and how long it is on the wire; the second is what checks data given
in the generic form (\\# LENGTH HEX). LOC and HTTPS are left to dnslib; a type that nobody knows can
be given in the generic form only. Names inside data keep their case and are never compressed.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

MAX_NAME = 255
MAX_RDATA = 65535
MAX_TIME = (1 << 31) - 1

_ESCAPE = re.compile(r"\\(?:([0-9]{3})|(.)|$)", re.DOTALL)
_TIME = re.compile(r"(?=.)(?:[0-9]{1,10}[smhdw])*(?:[0-9]{1,10})?", re.IGNORECASE)
_TIME_PART = re.compile(r"([0-9]+)([smhdw]?)", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TYPE_NUMBER = re.compile(r"TYPE([0-9]{1,5})")
_TAG = re.compile(r"[A-Za-z0-9]{1,255}")


class Malformed(ValueError):
    """A part of a record that can't be used; the text says what it was and what was expected."""


def octets(word: str) -> bytes:
    """The octets of a word, escapes resolved (RFC 1035 §5.1: \\X and \\DDD)."""
    if word.startswith('"'):
        word = word[1:]
    if "\\" not in word:
        return word.encode("utf-8", "surrogateescape")
    out = bytearray()
    at = 0
    for escape in _ESCAPE.finditer(word):
        out += word[at : escape.start()].encode("utf-8", "surrogateescape")
        out += _escaped(escape)
        at = escape.end()
    return bytes(out + word[at:].encode("utf-8", "surrogateescape"))


def _escaped(escape: re.Match[str]) -> bytes:
    digits, char = escape.groups()
    if digits is not None and int(digits) < 256:
        return bytes([int(digits)])
    if char is None or char.isdigit():
        raise Malformed(f"escape {escape[0]!r}: expected \\ and a character, or \\ and three digits up to 255")
    return str(char).encode("utf-8", "surrogateescape")


def name(word: str, origin: bytes | None) -> bytes:
    """A domain name in wire form; `origin` (wire) completes a relative one and stands for "@"."""
    if word == "@":
        return _complete(b"", origin, word)
    if word.startswith('"') or not word:
        raise Malformed(f"name {word!r}: expected a domain name without quotation marks")
    if word == ".":
        return b"\0"
    labels = _split(word) if "\\" in word else [part.encode("utf-8", "surrogateescape") for part in word.split(".")]
    absolute = labels[-1] == b""
    if absolute:
        labels.pop()
    out = bytearray()
    for label in labels:
        if not 0 < len(label) < 64:
            raise Malformed(f"name {word!r}: a label of {len(label)} octets, expected 1 to 63")
        out.append(len(label))
        out += label
    wire = bytes(out) + b"\0" if absolute else _complete(bytes(out), origin, word)
    if len(wire) > MAX_NAME:
        raise Malformed(f"name {word!r}: {len(wire)} octets in all, expected at most {MAX_NAME}")
    return wire


def _complete(labels: bytes, origin: bytes | None, word: str) -> bytes:
    if origin is None:
        raise Malformed(f"relative name {word!r} without an origin: expected a final dot, or $ORIGIN before it")
    return labels + origin


def _split(word: str) -> list[bytes]:
    """Split a name with escapes at the dots that are not escaped."""
    parts = [""]
    at = 0
    for escape in _ESCAPE.finditer(word):
        first, *more = word[at : escape.start()].split(".")
        parts[-1] += first
        parts += more
        parts[-1] += escape[0]
        at = escape.end()
    first, *more = word[at:].split(".")
    parts[-1] += first
    return [octets(part) for part in parts + more]


def time(word: str) -> int:
    """Seconds: digits, or digits with units as in 1h30m; at most 2^31-1 (RFC 2181 §8)."""
    if _TIME.fullmatch(word):
        seconds = sum(int(digits) * _SECONDS[unit.lower()] for digits, unit in _TIME_PART.findall(word))
        if seconds <= MAX_TIME:
            return seconds
    raise Malformed(f"time {word!r}: expected seconds from 0 to {MAX_TIME}, or units as in 1h30m")


Encode: TypeAlias = Callable[[str, bytes | None], bytes]
Measure: TypeAlias = Callable[[bytes, int], int]


class Field(msgspec.Struct, frozen=True):
    """One field: how a word becomes octets, and where it ends in wire form.

    `many`: takes all remaining words, each by itself ("each") or joined ("join").
    """

    encode: Encode
    end: Measure
    many: str = ""


def _fixed(size: int) -> Measure:
    return lambda data, at: at + size


def _number(size: int) -> Field:
    most = (1 << 8 * size) - 1

    def encode(word: str, origin: bytes | None) -> bytes:
        if not (word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= most):
            raise Malformed(f"number {word!r}: expected 0 to {most}")
        return int(word).to_bytes(size, "big")

    return Field(encode, _fixed(size))


def _ipv4(word: str, origin: bytes | None) -> bytes:
    try:
        return ipaddress.IPv4Address(word).packed
    except ValueError:
        raise Malformed(f"address {word!r}: expected IPv4 such as 192.0.2.1") from None


def _ipv6(word: str, origin: bytes | None) -> bytes:
    try:
        address = ipaddress.IPv6Address(word)
    except ValueError:
        raise Malformed(f"address {word!r}: expected IPv6 such as 2001:db8::1") from None
    if address.scope_id is not None:
        raise Malformed(f"address {word!r}: expected IPv6 without a zone id")
    return address.packed


def _name_end(data: bytes, at: int) -> int:
    start = at
    while (length := data[at]) != 0:
        if length > 63:
            raise Malformed("generic data: a compressed name or an unknown label type, expected plain labels")
        at += 1 + length
    if at + 1 - start > MAX_NAME:
        raise Malformed(f"generic data: a name of over {MAX_NAME} octets")
    return at + 1


def _string(word: str, origin: bytes | None) -> bytes:
    data = octets(word)
    if len(data) > 255:
        raise Malformed(f"string of {len(data)} octets: expected at most 255, split it into several")
    return bytes([len(data)]) + data


def _string_end(data: bytes, at: int) -> int:
    return at + 1 + data[at]


def _seconds(word: str, origin: bytes | None) -> bytes:
    return time(word).to_bytes(4, "big")


def _tag(word: str, origin: bytes | None) -> bytes:
    if not _TAG.fullmatch(word):
        raise Malformed(f"CAA tag {word!r}: expected letters and digits (RFC 8659)")
    return _string(word, None)


def _hex(word: str, origin: bytes | None) -> bytes:
    try:
        return bytes.fromhex(word) if word.isascii() else _no_hex(word)
    except ValueError:
        return _no_hex(word)


def _no_hex(word: str) -> bytes:
    raise Malformed(f"data {word[:40]!r}: expected hexadecimal digits in pairs")


def _base64(word: str, origin: bytes | None) -> bytes:
    try:
        return base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"data {word[:40]!r}: expected base64") from None


def _rest(data: bytes, at: int) -> int:
    return max(at, len(data))


U8, U16, U32 = _number(1), _number(2), _number(4)
NAME = Field(name, _name_end)
STRING = Field(_string, _string_end)
STRINGS = Field(_string, _string_end, many="each")
SECONDS = Field(_seconds, _fixed(4))
HEX = Field(_hex, _rest, many="join")
BASE64 = Field(_base64, _rest, many="join")
TEXT = Field(lambda word, origin: octets(word), _rest)

TYPES: dict[str, tuple[int, tuple[Field, ...]]] = {
    "A": (1, (Field(_ipv4, _fixed(4)),)),
    "NS": (2, (NAME,)),
    "CNAME": (5, (NAME,)),
    "SOA": (6, (NAME, NAME, U32, SECONDS, SECONDS, SECONDS, SECONDS)),
    "PTR": (12, (NAME,)),
    "HINFO": (13, (STRING, STRING)),
    "MX": (15, (U16, NAME)),
    "TXT": (16, (STRINGS,)),
    "RP": (17, (NAME, NAME)),
    "AFSDB": (18, (U16, NAME)),
    "AAAA": (28, (Field(_ipv6, _fixed(16)),)),
    "SRV": (33, (U16, U16, U16, NAME)),
    "NAPTR": (35, (U16, U16, STRING, STRING, STRING, NAME)),
    "KX": (36, (U16, NAME)),
    "DNAME": (39, (NAME,)),
    "DS": (43, (U16, U8, U8, HEX)),
    "SSHFP": (44, (U8, U8, HEX)),
    "DNSKEY": (48, (U16, U8, U8, BASE64)),
    "TLSA": (52, (U8, U8, U8, HEX)),
    "SMIMEA": (53, (U8, U8, U8, HEX)),
    "CDS": (59, (U16, U8, U8, HEX)),
    "CDNSKEY": (60, (U16, U8, U8, BASE64)),
    "OPENPGPKEY": (61, (BASE64,)),
    "SPF": (99, (STRINGS,)),
    "URI": (256, (U16, U16, TEXT)),
    "CAA": (257, (U8, Field(_tag, _string_end), TEXT)),
}
BY_DNSLIB = {"LOC": 29, "HTTPS": 65}

_FIELDS = dict(TYPES.values())
_DNSLIB_NAMES = {number: text for text, number in BY_DNSLIB.items()}
NAMES = {number: text for text, (number, _) in TYPES.items()} | _DNSLIB_NAMES


def type_number(word: str) -> int:
    """The number of a record type by its mnemonic or as TYPE123 (RFC 3597 §5).

    Refused: 0, 65535, OPT and the query and meta types 128 to 255, which no zone can hold (RFC 6895 §3.1).
    """
    text = word.upper()
    if text in TYPES:
        return TYPES[text][0]
    if text in BY_DNSLIB:
        return BY_DNSLIB[text]
    match = _TYPE_NUMBER.fullmatch(text)
    if match is None:
        raise Malformed(f"type {word!r}: expected a record type; one without a grammar here is written TYPE123 \\# …")
    number = int(match[1])
    if not 0 < number < 65535 or number == 41 or 128 <= number <= 255:
        raise Malformed(f"type {word!r}: expected a type that a zone can hold, not a reserved, query or meta type")
    return number


def rdata(rtype: int, words: Sequence[str], origin: bytes | None) -> bytes:
    """The wire form of a record's data. Raises Malformed."""
    if words and words[0] == "\\#":
        data = _generic(words[1:])
        _check(rtype, data)
    elif rtype in _FIELDS:
        data = _by_fields(rtype, words, origin)
    elif rtype in _DNSLIB_NAMES:
        data = _by_dnslib(rtype, words)
    else:
        raise Malformed(f"data of TYPE{rtype}: expected the generic form \\# LENGTH HEX (RFC 3597)")
    if len(data) > MAX_RDATA:
        raise Malformed(f"data of {len(data)} octets: expected at most {MAX_RDATA}")
    return data


def _by_fields(rtype: int, words: Sequence[str], origin: bytes | None) -> bytes:
    fields = _FIELDS[rtype]
    last = fields[-1]
    if last.many and len(words) >= len(fields):
        rest = words[len(fields) - 1 :]
        words = [*words[: len(fields) - 1], *(["".join(rest)] if last.many == "join" else rest)]
        fields = (*fields, *([last] * (len(words) - len(fields))))
    if len(words) != len(fields):
        more = " or more" if last.many else ""
        raise Malformed(f"{NAMES[rtype]} with {len(words)} fields: expected {len(_FIELDS[rtype])}{more}")
    return b"".join([field.encode(word, origin) for field, word in zip(fields, words, strict=True)])


def _generic(words: Sequence[str]) -> bytes:
    if not words or not (words[0].isascii() and words[0].isdigit() and len(words[0]) <= 5):
        raise Malformed("generic data: expected \\# LENGTH HEX with a length from 0 to 65535")
    data = _hex("".join(words[1:]), None)
    if len(data) != int(words[0]):
        raise Malformed(f"generic data of {len(data)} octets: expected {words[0]} as its length says")
    return data


def _check(rtype: int, data: bytes) -> None:
    """Refuse generic data of a known type that is not of that type's form: it would break packets."""
    if rtype in _DNSLIB_NAMES:
        _reparse(rtype, data)
    fields = _FIELDS.get(rtype)
    if fields is None:
        return
    at = 0
    try:
        for field in fields:
            at = field.end(data, at)
        while fields[-1].many == "each" and at < len(data):
            at = fields[-1].end(data, at)
    except IndexError:
        at = -1
    if at != len(data):
        raise Malformed(f"generic data: {len(data)} octets that are no {NAMES[rtype]} data")


def _by_dnslib(rtype: int, words: Sequence[str]) -> bytes:
    from dnslib import DNSBuffer
    from dnslib.dns import RDMAP

    kind = _DNSLIB_NAMES[rtype]
    if kind == "HTTPS" and (len(words) < 2 or not words[1].endswith(".")):
        raise Malformed("HTTPS data: expected PRIORITY TARGET PARAMETERS… with an absolute target")
    try:
        buffer = DNSBuffer()
        RDMAP[kind].fromZone(list(words), None).pack(buffer)
        data = bytes(buffer.data)
    except Exception as error:  # dnslib fails in many ways on texts that it did not expect
        raise Malformed(f"{kind} data {' '.join(words)[:60]!r}: expected valid {kind} fields ({error})") from None
    _reparse(rtype, data)
    return data


def _reparse(rtype: int, data: bytes) -> None:
    """Refuse data that dnslib does not read back to its end and write again as the same octets."""
    from dnslib import DNSBuffer
    from dnslib.dns import RDMAP

    kind = _DNSLIB_NAMES[rtype]
    again = DNSBuffer()
    try:
        RDMAP[kind].parse(DNSBuffer(data), len(data)).pack(again)
    except Exception as error:  # as above
        raise Malformed(f"{kind} data of {len(data)} octets: expected valid {kind} fields ({error})") from None
    if bytes(again.data) != data:
        raise Malformed(f"{kind} data of {len(data)} octets: expected valid {kind} fields")
