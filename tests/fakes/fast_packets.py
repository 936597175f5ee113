"""Random queries around the names of a world: ordinary ones, odd ones, and some that are none."""

from __future__ import annotations

from random import Random

from mesos_dns.cookies import reply_cookie
from mesos_dns.wire import name_to_wire, split_labels
from tests.fakes.fast_answers import OLD_SECRET, PRIVATE, PUBLIC, SECRET, Twins

TYPES = (1, 1, 1, 28, 33, 33, 16, 255, 2, 5, 6, 12, 15, 43, 64, 65, 0, 41, 250, 251, 252, 4711, 65535)
CLASSES = (1,) * 20 + (255, 3, 4, 254, 0, 257)
PAYLOADS = (0, 511, 512, 513, 600, 900, 1231, 1232, 1233, 4096, 65535)
_LABELS = (b"x", b"tcp", b"_tcp", b"*", b"a.b", b"\0", b"A\xc9\xff", b"Z@[`{", b"-", b"a-b-c", b"x" * 63, b"\xc3\xa9t")


def question(name: bytes | str, rtype: int) -> bytes:
    """An ordinary query without EDNS."""
    wire = name_to_wire(name) if isinstance(name, str) else name
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + wire + rtype.to_bytes(2, "big") + b"\0\1"


class Packets:
    """Draws queries; cookies are of the twins' secrets and time."""

    def __init__(self, chance: Random, twins: Twins) -> None:
        self._chance = chance
        self._twins = twins

    def any(self, names: list[bytes]) -> bytes:
        """A query for one of these names, or a name near it."""
        chance = self._chance
        name = chance.choice(names)
        if chance.random() < 0.4:
            name = self._near(name, names)
        rtype, rclass = chance.choice(TYPES), chance.choice(CLASSES)
        opt = self._opt() if chance.random() < 0.5 else b""
        head = chance.randbytes(2) + bytes((chance.choice((0, 1, 1, 1)), chance.choice((0, 0, 0x20, 0x30, 0x8F))))
        packet = head + b"\0\1\0\0\0\0\0" + (b"\1" if opt else b"\0")
        packet += name + rtype.to_bytes(2, "big") + rclass.to_bytes(2, "big") + opt
        return self._broken(packet) if chance.random() < 0.15 else packet

    def _near(self, name: bytes, names: list[bytes]) -> bytes:
        """More or fewer labels, another case, a neighbour's label, another end."""
        chance = self._chance
        labels = split_labels(name)
        for _ in range(chance.choice((1, 1, 1, 2))):
            kind, at = chance.randrange(6), chance.randrange(len(labels) + 1)
            if kind == 0:
                labels.insert(at, chance.choice(_LABELS))
            elif kind == 1 and labels:
                del labels[min(at, len(labels) - 1)]
            elif kind == 2:
                labels = [label.upper() if chance.random() < 0.7 else label.swapcase() for label in labels]
            elif kind == 3 and labels:
                labels[0] = chance.choice(split_labels(chance.choice(names)) or [b"y"])
            elif kind == 4 and labels:
                labels[0] = (labels[0] + chance.choice((b"x", b"-s0", b"-abcde-s0", b"\\", b".")))[-63:]
            elif kind == 5:
                labels = labels[:1] + split_labels(chance.choice(names))
        wire = b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"
        return wire if len(wire) <= 255 else name

    def _opt(self) -> bytes:
        chance = self._chance
        options = b"".join([self._option() for _ in range(chance.choice((0, 0, 1, 1, 2)))])
        ttl = bytes((chance.choice((0, 0, 0, 1)), chance.choice((0,) * 8 + (1,)), chance.choice((0, 0x80, 0x7F)), 0))
        size = len(options) + chance.choice((0,) * 20 + (1, -1))
        return (
            b"\0\0\x29" + chance.choice(PAYLOADS).to_bytes(2, "big") + ttl + max(0, size).to_bytes(2, "big") + options
        )

    def _option(self) -> bytes:
        chance = self._chance
        code, data = chance.choice(
            (
                (10, self._cookie()),
                (10, self._cookie()),
                (10, self._cookie()),
                (11, b""),
                (11, b"\0\1"),
                (12, bytes(chance.randrange(9))),
                (3, b""),
                (15, b"\0\3"),
                (8, b"\0\1\x18\0\xc6\x33\x64"),
                (65001, chance.randbytes(5)),
            )
        )
        return code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data

    def _cookie(self) -> bytes:
        """New, good, about to be renewed, too old, made by a stranger or for another client, or of a wrong size."""
        chance = self._chance
        if chance.random() < 0.3:
            return chance.randbytes(chance.choice((0, 1, 7, 8, 8, 8, 9, 15, 16, 24, 40, 41)))
        secret = chance.choice((SECRET, SECRET, OLD_SECRET, bytes(16)))
        client = chance.choice((PRIVATE, PUBLIC, bytes(16)))
        now = self._twins.now - chance.choice((0, 60, 1800, 1801, 3600, 3601, -300, -301))
        made, _ = reply_cookie(chance.randbytes(8), client, now, [secret])
        return made

    def _broken(self, packet: bytes) -> bytes:
        """Octets changed, cut off or added."""
        chance = self._chance
        octets = bytearray(packet)
        kind = chance.randrange(4)
        if kind == 0:
            for _ in range(chance.choice((1, 1, 2, 4))):
                octets[chance.randrange(len(octets))] = chance.choice((0, 1, 0x29, 0x40, 0xC0, chance.randrange(256)))
        elif kind == 1:
            del octets[chance.randrange(len(octets)) :]
        elif kind == 2:
            octets += chance.randbytes(chance.choice((1, 4, 11)))
        else:
            octets[chance.randrange(2, 12)] ^= 1 << chance.randrange(8)
        return bytes(octets)
