"""Response rate limiting: how many equal answers one client network gets by UDP, whose sender may be forged.

Answers are equal when they have the same bucket: what is asked for positive answers, the zone for those that
random names give, the code for errors. A bucket holds credit for one second of answers. Each answer, sent
or not, takes one; credit comes back at the rate, and debt is kept up to five seconds' worth: so a
network that keeps asking faster than the rate gets no whole answer until it asks less, as with BIND and
NSD (BIND's window is 15 s).

The table has a fixed size. A bucket has four places where it may be, told apart by a tag of 32 bits;
the place that was used least recently is taken over. Integers alone, `now` in milliseconds.
"""

from __future__ import annotations

import secrets
import struct
from array import array
from typing import Final

PASS, SLIP, DROP = range(3)
"""What to do with an answer: send it, send it truncated, or nothing."""
ANSWER, WILDCARD, NXDOMAIN, NODATA, REFERRAL, ERROR = range(6)
"""The first octet of a bucket's name. ANSWER: the question follows (folded name, type); ERROR: the code,
one octet; the others: the zone's folded name."""

SLOTS: Final = 65_536
WAYS: Final = 4
WINDOW: Final = 5
"""Seconds of debt at most."""
_PRICE = 1000
"""Credit of one answer, so that one millisecond brings `rate` of it."""
_MASK = 0xFFFFFFFFFFFFFFFF
_GOLDEN = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio, odd: multiplying by it loses nothing and spreads low bits upwards."""
_IPV6 = 1 << 63


class RateLimiter:
    """See the module. `rate`: answers a second; `slip`: every n-th answer over it is sent truncated, 0 for none."""

    def __init__(self, rate: int, slip: int, seed: int | None = None) -> None:
        self._rate, self._slip = rate, slip
        self._seed = secrets.randbits(64) if seed is None else seed
        self._most, self._least = rate * _PRICE, -WINDOW * rate * _PRICE
        self._tags = array("I", bytes(SLOTS * 4))
        self._times = array("q", bytes(SLOTS * 8))
        self._credits = array("q", bytes(SLOTS * 8))
        self._over = array("B", bytes(SLOTS))

    def check(self, bucket: bytes, client: bytes, now: int) -> int:
        """PASS, SLIP or DROP for one more answer of a bucket to a packed address."""
        slot = self._slot(mix(self._seed, bucket, network(client)), now)
        # A clock that was set back brings nothing, and a long pause no more than all there can be.
        passed = min(max(now - self._times[slot], 0), (WINDOW + 1) * 1000)
        credit = max(min(self._credits[slot] + passed * self._rate, self._most) - _PRICE, self._least)
        self._times[slot], self._credits[slot] = now, credit
        if credit >= 0:
            return PASS
        over = self._over[slot] + 1
        slipped = over == self._slip
        self._over[slot] = 0 if slipped or not self._slip else over
        return SLIP if slipped else DROP

    def _slot(self, mixed: int, now: int) -> int:
        """The place of a bucket; a new one, with all its credit, takes the place used least recently."""
        first = mixed & (SLOTS - WAYS)
        tag = mixed >> 32 or 1  # 0 is an empty place
        tags, times = self._tags, self._times
        oldest = first
        for slot in range(first, first + WAYS):
            if tags[slot] == tag:
                return slot
            if times[slot] < times[oldest]:
                oldest = slot
        tags[oldest], times[oldest], self._credits[oldest], self._over[oldest] = tag, now, self._most, 0
        return oldest


def mix(seed: int, bucket: bytes, last: int) -> int:
    """64 bits from a bucket's name, in little-endian words filled up with zero octets, and a last word.

    Only the last word and a round differ between the clients of one bucket.
    """
    mixed = seed ^ len(bucket)
    for word in (*struct.unpack(f"<{len(bucket) + 7 >> 3}Q", bucket + bytes(-len(bucket) & 7)), last, 0):
        mixed = (mixed ^ word) * _GOLDEN & _MASK
        mixed ^= mixed >> 32
    return mixed


def network(client: bytes) -> int:
    """The client's network as a number: the /24 of an IPv4 address, the /56 of an IPv6 address (RFC 6177)."""
    return int.from_bytes(client[:3], "big") if len(client) == 4 else int.from_bytes(client[:7], "big") | _IPV6


def is_private(client: bytes) -> bool:
    """True for packed addresses that nobody can use from the Internet: loopback, RFC 1918, RFC 6598
    (100.64/10), link-local, RFC 4193 (fc00::/7). And for b"", a client that is not known."""
    if len(client) == 4:
        a, b = client[0], client[1]
        return (
            a in (10, 127)
            or (a == 172 and b & 0xF0 == 16)
            or (a == 192 and b == 168)
            or (a == 169 and b == 254)
            or (a == 100 and b & 0xC0 == 64)
        )
    if len(client) == 16:
        a, b = client[0], client[1]
        return a & 0xFE == 0xFC or (a == 0xFE and b & 0xC0 == 0x80) or client == bytes(15) + b"\x01"
    return True
