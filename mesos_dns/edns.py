"""The OPT record: reading the options of a query, and writing the record of an answer (RFC 6891 §6.1).

An answer's OPT record is its last record, and its options stand in one order: COOKIE, extended error,
keepalive, padding.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

COOKIE, KEEPALIVE, PADDING, EXTENDED_ERROR = 10, 11, 12, 15
STALE, NOT_READY, PROHIBITED, STALE_NXDOMAIN, NOT_AUTHORITATIVE = 3, 14, 18, 19, 20
"""Extended errors (RFC 8914 §4)."""
PADDING_BLOCK: Final = 468
"""Octets; answers that are padded are multiples of it (RFC 8467 §4.1)."""

_UNPACK_PAIR = struct.Struct(">HH").unpack_from
_PAIR = struct.Struct(">HH").pack
_SHORT = struct.Struct(">HHH").pack
_LENGTH_AT = 9
"""Where OPT's RDLENGTH stands: behind the root name, type, class and TTL."""


class Options(NamedTuple):
    """The options of a query that matter. `cookie`: the data of COOKIE, b"" without."""

    cookie: bytes = b""
    keepalive: bool = False
    padding: bool = False


NO_OPTIONS: Final = Options()


def read_options(packet: bytes, at: int, end: int) -> Options | None:
    """The options between two offsets; None when one is cut short or COOKIE has an impossible length.

    Of several COOKIE options the first counts and the others are not looked at (RFC 7873 §5.2). Keepalive
    has no data in a query (RFC 7828 §3.2.1); with data it is ignored, as unknown options are.
    """
    cookie, keepalive, padding = b"", False, False
    while at < end:
        if at + 4 > end:
            return None
        code, length = _UNPACK_PAIR(packet, at)
        at += 4 + length
        if at > end:
            return None
        if code == COOKIE and not cookie:
            if length != 8 and not 16 <= length <= 40:  # RFC 7873 §5.2.2
                return None
            cookie = packet[at - length : at]
        elif code == KEEPALIVE:
            keepalive = keepalive or not length
        elif code == PADDING:
            padding = True
    return Options(cookie, keepalive, padding)


def opt_record(payload: int, *, dnssec_ok: bool = False, rcode: int = 0, options: bytes = b"") -> bytes:
    """An OPT record of version 0: our UDP payload in octets, the client's DO (RFC 3225 §3), the upper octet of
    a code above 15."""
    ttl = bytes((rcode >> 4, 0, 0x80 if dnssec_ok else 0, 0))
    return b"\0\0\x29" + payload.to_bytes(2, "big") + ttl + len(options).to_bytes(2, "big") + options


def option_data(cookie: bytes = b"", extended_error: int | None = None, keepalive: int | None = None) -> bytes:
    """Options in their order: a cookie's data, an extended error's code, and how long an idle connection
    stays, in units of 100 ms (RFC 7828 §3.1)."""
    out = _PAIR(COOKIE, len(cookie)) + cookie if cookie else b""
    if extended_error is not None:
        out += _SHORT(EXTENDED_ERROR, 2, extended_error)
    if keepalive is not None:
        out += _SHORT(KEEPALIVE, 2, keepalive)
    return out


def padded(packet: bytes, opt_size: int, limit: int) -> bytes:
    """An answer whose last `opt_size` octets are its OPT record, with padding up to a whole block, or to
    `limit` octets where a block is more (RFC 7830, RFC 8467)."""
    free = limit - len(packet) - 4
    if free < 0:
        return packet
    size = min(-(len(packet) + 4) % PADDING_BLOCK, free)
    at = len(packet) - opt_size + _LENGTH_AT
    length = int.from_bytes(packet[at : at + 2], "big") + 4 + size
    return packet[:at] + length.to_bytes(2, "big") + packet[at + 2 :] + _PAIR(PADDING, size) + bytes(size)
