"""Erlang's phash2 of a byte string: the hash by which dcos-net picks the address of a named VIP.

It is the `lookup2` hash of Bob Jenkins ("Hash functions", Dr. Dobb's Journal, September 1997) with an
initial value of Erlang's own; an empty string hashes to that value.
"""

from __future__ import annotations

import struct

GOLDEN_RATIO = 0x9E3779B9
"""With which lookup2 begins two of its three words."""

INITIAL = 0x08D12E65
"""With which Erlang begins the third, for a binary."""

MAX_LIMIT = 1 << 32

_M = 0xFFFFFFFF
_BLOCK = 12
_WORDS = struct.Struct("<3I")


def phash2(data: bytes, limit: int = MAX_LIMIT) -> int:
    """erlang:phash2(Data, Limit): 0..limit-1. Raises ValueError unless 1 <= limit <= 2**32, as Erlang does."""
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit {limit}: expected 1 to 2**32")
    return (_lookup2(data, INITIAL) if data else INITIAL) % limit


def _lookup2(data: bytes, initial: int) -> int:
    """Jenkins' lookup2 of `data`, 32 bits."""
    a = b = GOLDEN_RATIO
    c = initial
    whole = len(data) - len(data) % _BLOCK
    for x, y, z in _WORDS.iter_unpack(data[:whole]):
        a, b, c = _mix(a + x, b + y, c + z)
    # The last bytes, of which the third word's lowest place is the length's.
    rest = data[whole:]
    last = rest[:8].ljust(8, b"\0") + b"\0" + rest[8:].ljust(3, b"\0")
    x, y, z = _WORDS.unpack(last)
    return _mix(a + x, b + y, c + z + len(data))[2]


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    """Mix three words, reversibly; they may come in larger than 32 bits."""
    a = (a - b - c) & _M ^ (c & _M) >> 13
    b = (b - c - a) & _M ^ a << 8 & _M
    c = (c - a - b) & _M ^ b >> 13
    a = (a - b - c) & _M ^ c >> 12
    b = (b - c - a) & _M ^ a << 16 & _M
    c = (c - a - b) & _M ^ b >> 5
    a = (a - b - c) & _M ^ c >> 3
    b = (b - c - a) & _M ^ a << 10 & _M
    c = (c - a - b) & _M ^ b >> 15
    return a, b, c
