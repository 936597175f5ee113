"""Domain names and record data in wire form (RFC 1035 §3.1, §4.1). Pure functions.

Names are handled folded (ASCII lower case) wherever they are compared, and as text without a
trailing dot wherever people read them; "" is the root.
"""

from __future__ import annotations

import struct
from functools import lru_cache

MAX_NAME = 255


class IllegalName(ValueError):
    """A name that can't stand on the wire."""


@lru_cache(maxsize=1 << 14)
def name_to_wire(name: str) -> bytes:
    """A dotted name (trailing dot optional, no escapes) as labels; non-ASCII text becomes UTF-8.

    Raises IllegalName for an empty or over-long label or a name of more than 255 octets.
    """
    name = name.removesuffix(".")
    if not name:
        return b"\0"
    out = bytearray()
    for part in name.split("."):
        octets = part.encode("utf-8", "surrogatepass")
        if not 0 < len(octets) < 64:
            raise IllegalName(f"a label of {len(octets)} octets (1 to 63 are allowed) in {name!r}")
        out.append(len(octets))
        out += octets
    out.append(0)
    if len(out) > MAX_NAME:
        raise IllegalName(f"a name of {len(out)} octets (255 are allowed): {name!r}")
    return bytes(out)


def name_from_wire(wire: bytes) -> str:
    """The dotted text of an uncompressed wire name, without trailing dot ("" for the root).

    Octets outside UTF-8 become lone surrogates, and so does a dot inside a label: such a name is
    never equal to one that was published as text.
    """
    return ".".join([part.decode("utf-8", "surrogateescape").replace(".", "\udc2e") for part in split_labels(wire)])


def split_labels(wire: bytes) -> list[bytes]:
    """The labels of an uncompressed wire name, without the root."""
    labels = []
    at = 0
    while length := wire[at]:
        labels.append(wire[at + 1 : at + 1 + length])
        at += 1 + length
    return labels


def soa_rdata(mname: str, rname: str, numbers: tuple[int, int, int, int, int]) -> bytes:
    """SOA rdata; numbers are serial, refresh, retry, expire, minimum (RFC 1035 §3.3.13)."""
    return name_to_wire(mname) + name_to_wire(rname) + struct.pack(">5I", *numbers)


def reverse_address(labels: list[bytes]) -> bytes | None:
    """The packed address that the labels of a name under in-addr.arpa or ip6.arpa stand for.

    None when the name is no complete, canonical reverse name (RFC 1035 §3.5, RFC 3596 §2.5).
    """
    if len(labels) == 6 and labels[4:] == [b"in-addr", b"arpa"]:
        octets = labels[3::-1]
        if all(part.isdigit() and len(part) <= 3 and (part == b"0" or part[:1] != b"0") for part in octets):
            numbers = [int(part) for part in octets]
            return bytes(numbers) if max(numbers) < 256 else None
    if len(labels) == 34 and labels[32:] == [b"ip6", b"arpa"]:
        nibbles = labels[31::-1]
        if all(len(part) == 1 and part in b"0123456789abcdef" for part in nibbles):
            return bytes.fromhex(b"".join(nibbles).decode())
    return None
