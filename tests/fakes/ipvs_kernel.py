"""IPVS as the kernel has it behind generic netlink: services and destinations with their attributes, errnos as its own.

The form of what it tells is that of Linux 6.1, recorded there (RECORDED_*, of services that ipvsadm had made).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable, Sequence

from lb4.netlink import NLM_F_DUMP, Answer, pack_attr, unpack_attrs
from tests.fakes.netlink import KernelSocket, Reply

CONTROLLER = 0x10
FAMILY = 33
EVERY_SCHEDULER = ("rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "lblc", "lblcr", "fo", "ovf", "twos")

_NO_STATS = (
    "5c000a00" + "".join(f"08000{kind}0000000000" for kind in (1, 2, 3)) + "0c000400" + "00" * 8 + "0c000500" + "00" * 8
) + "".join(f"08000{kind:x}0000000000" for kind in range(6, 11))
_NO_STATS64 = "7c000c00" + "".join(f"0c000{kind:x}00" + "00" * 8 for kind in range(1, 11))

RECORDED_SERVICE = bytes.fromhex(  # -A -t 11.0.0.1:80 -s wlc
    "010100002c01010006000100020000000600020006000000140003000b000001000000000000000000000000060004000050000008000600"
    "776c63000c00070002000000ffffffff080008000000000008000900ffffffff" + _NO_STATS + _NO_STATS64
)
RECORDED_SERVICE6 = bytes.fromhex(  # -A -u [fd01:c::1]:53 -s mh -p 600 -b mh-port -M 64
    "010100002c010100060001000a000000060002001100000014000300fd01000c000000000000000000000001060004000035000007000600"
    "6d6800000c00070013000000ffffffff08000800580200000800090040000000" + _NO_STATS + _NO_STATS64
)
RECORDED_NETWORK = bytes.fromhex(  # -A -u 11.0.0.9:53 -s rr -p 60 -M 255.255.255.0
    "010100002c01010006000100020000000600020011000000140003000b000009000000000000000000000000060004000035000007000600"
    "727200000c00070003000000ffffffff080008003c00000008000900ffffff00" + _NO_STATS + _NO_STATS64
)
RECORDED_ENGINE = bytes.fromhex(  # -A -u 11.0.0.9:5060 -s rr -p 60 --pe sip
    "010100003401010006000100020000000600020011000000140003000b0000090000000000000000000000000600040013c4000007000600"
    "7272000008000b00736970000c00070003000000ffffffff080008003c00000008000900ffffffff" + _NO_STATS + _NO_STATS64
)
RECORDED_SCTP = bytes.fromhex(  # -A --sctp-service 11.0.0.3:99 -s rr
    "010100002c01010006000100020000000600020084000000140003000b000003000000000000000000000000060004000063000007000600"
    "727200000c00070002000000ffffffff080008000000000008000900ffffffff" + _NO_STATS + _NO_STATS64
)
RECORDED_MARK = bytes.fromhex(  # -A -f 7 -s rr
    "01010000100101000600010002000000080005000700000007000600727200000c00070002000000ffffffff080008000000000008000900"
    "ffffffff" + _NO_STATS + _NO_STATS64
)
RECORDED_DESTINATION = bytes.fromhex(  # -a ... -r 10.0.0.2:8080 -m -w 3 -x 100 -y 50
    "0501000050010200140001000a000002000000000000000000000000060002001f9000000800030000000000080004000300000005000d00"
    "0000000006000e000000000006000f0000000000080005006400000008000600320000000800070000000000080008000000000008000900"
    "0000000006000b0002000000" + _NO_STATS + _NO_STATS64
)
RECORDED_ROUTE6 = bytes.fromhex(  # -a ... -r [fd00::8]:53 -g
    "050100005001020014000100fd00000000000000000000000000000806000200003500000800030003000000080004000100000005000d00"
    "0000000006000e000000000006000f0000000000080005000000000008000600000000000800070000000000080008000000000008000900"
    "0000000006000b000a000000" + _NO_STATS + _NO_STATS64
)
RECORDED_INFO = bytes.fromhex("0e01000008000100010201000800020000100000")
RECORDED_TIMEOUTS = bytes.fromhex("0c01000008000400850300000800050079000000080006002d010000")  # --set 901 121 301

_Attributes = dict[int, bytes]
_KEY, _WHOLE_SERVICE, _WHOLE_DESTINATION = (1, 2, 3, 4), (6, 7, 8, 9), (3, 4, 5, 6)


def stats(counts: Iterable[int], wide: bool) -> bytes:
    """A STATS or STATS64 attribute of a destination (10, 12) or a service (the same) that begins with these counts."""
    numbers = [*counts, *([0] * 10)][:10]
    forms = "QQQQQQQQQQ" if wide else "IIIQQIIIII"
    packed = (
        pack_attr(kind, struct.pack(f"={form}", number if form == "Q" else number & 0xFFFFFFFF))
        for kind, form, number in zip(range(1, 11), forms, numbers, strict=True)
    )
    return pack_attr(12 if wide else 10, b"".join(packed))


class IpvsKernel:
    """Services by their key's attributes. `present`: the module is loaded; `allowed`: the caller may change things.

    `counts` by port: of a service its first counts, of a destination active and inactive connections before them.
    `commands` notes what was asked, `foreign` are answers to a dump of services beside those of `services`. `reply` may
    be put before `answer`; `sockets` are all that were opened.
    """

    def __init__(self) -> None:
        self.sockets: list[KernelSocket] = []
        self.reply: Callable[[Answer], Reply] = self.answer
        self.present = True
        self.allowed = True
        self.family = FAMILY
        self.schedulers = set(EVERY_SCHEDULER)
        self.timeouts = {4: 900, 5: 120, 6: 300}
        self.services: dict[tuple[bytes, ...], tuple[_Attributes, dict[tuple[bytes, ...], _Attributes]]] = {}
        self.foreign: list[bytes] = []
        self.counts: dict[int, tuple[int, ...]] = {}
        self.commands: list[int] = []

    def opened(self, protocol: int = 0) -> KernelSocket:
        """A new socket."""
        self.sockets.append(KernelSocket(lambda request: self.reply(request)))
        return self.sockets[-1]

    def answer(self, request: Answer) -> Reply:
        """What comes of one request."""
        command, attributes = request.payload[0], unpack_attrs(request.payload[4:])
        if request.type == CONTROLLER:
            if not self.present or attributes[2] != b"IPVS\0":
                return errno.ENOENT
            return [
                struct.pack("=BBH", 1, 2, 0) + pack_attr(2, b"IPVS\0") + pack_attr(1, struct.pack("=H", self.family))
            ]
        if request.type != self.family or not self.present:
            return errno.ENOENT
        if not self.allowed:
            return errno.EPERM
        self.commands.append(command)
        if command == 15:
            return [RECORDED_INFO]
        if command in (12, 13):
            return self._timeouts(command, attributes)
        if command in (4, 8):
            return self._told(command, attributes, request.flags & NLM_F_DUMP == NLM_F_DUMP)
        service = unpack_attrs(attributes[1])
        if command in (1, 2, 3):
            return self._service(command, service)
        return self._destination(command, service, unpack_attrs(attributes[2]))

    def _timeouts(self, command: int, attributes: _Attributes) -> Reply:
        if command == 12:
            self.timeouts.update({kind: struct.unpack("=I", value)[0] for kind, value in attributes.items()})
            return 0
        told = (pack_attr(kind, struct.pack("=I", seconds)) for kind, seconds in self.timeouts.items())
        return [struct.pack("=BBH", 12, 1, 0) + b"".join(told)]

    def _service(self, command: int, told: _Attributes) -> int:
        key = tuple(told[kind] for kind in _KEY)
        if command == 3:
            return 0 if self.services.pop(key, None) else errno.ESRCH
        if any(kind not in told for kind in _WHOLE_SERVICE):
            return errno.EINVAL
        if (command == 1) is (key in self.services):
            return errno.EEXIST if command == 1 else errno.ESRCH
        if told[6].rstrip(b"\0").decode() not in self.schedulers:
            return errno.ENOENT
        v6 = told[1] == b"\x0a\0"
        if v6 and not 1 <= struct.unpack("=I", told[9])[0] <= 128:
            return errno.EINVAL
        flags, mask = struct.unpack("=II", told[7])
        before = self.services[key][0][7][:4] if command == 2 else bytes(4)
        told[7] = struct.pack("=II", struct.unpack("=I", before)[0] & ~mask | flags & mask | 2, 0xFFFFFFFF)
        self.services[key] = (told, self.services[key][1] if command == 2 else {})
        return 0

    def _destination(self, command: int, service: _Attributes, told: _Attributes) -> int:
        found = self.services.get(tuple(service[kind] for kind in _KEY))
        if found is None:
            return errno.ESRCH
        key = (told[11], told[1], told[2])
        if command == 7:
            return 0 if found[1].pop(key, None) else errno.ENOENT
        if any(kind not in told for kind in _WHOLE_DESTINATION):
            return errno.EINVAL
        if told[11] != service[1]:
            return errno.EINVAL
        upper, lower = (struct.unpack("=I", told[kind])[0] for kind in (5, 6))
        if lower > upper:
            return errno.ERANGE
        if (command == 5) is (key in found[1]):
            return errno.EEXIST if command == 5 else errno.ENOENT
        found[1][key] = told
        return 0

    def _told(self, command: int, attributes: _Attributes, dump: bool) -> Reply:
        key = tuple(unpack_attrs(attributes[1])[kind] for kind in _KEY) if 1 in attributes else ()
        if command == 8:
            there = self.services.get(key, ({}, {}))[1].values()
            return [struct.pack("=BBH", 5, 1, 0) + pack_attr(2, self._destination_told(found)) for found in there]
        if not dump and key not in self.services:
            return errno.ESRCH
        services = [found for found, _ in self.services.values()] if dump else [self.services[key][0]]
        told = [struct.pack("=BBH", 1, 1, 0) + pack_attr(1, self._service_told(found)) for found in services]
        return [*told, *self.foreign] if dump else told

    def _service_told(self, found: _Attributes) -> bytes:
        counts = self.counts.get(struct.unpack("!H", found[4])[0], ())
        parts = [pack_attr(kind, found[kind]) for kind in (*_KEY, *_WHOLE_SERVICE)]
        return b"".join(parts) + stats(counts, False) + stats(counts, True)

    def _destination_told(self, found: _Attributes) -> bytes:
        active, inactive, *counts = self.counts.get(struct.unpack("!H", found[2])[0], (0, 0))
        parts = [pack_attr(kind, found[kind]) for kind in (1, 2, 3, 4)]
        parts += [pack_attr(13, b"\0"), pack_attr(14, b"\0\0"), pack_attr(15, b"\0\0"), pack_attr(5, found[5])]
        parts += [pack_attr(6, found[6])]
        parts += [pack_attr(kind, struct.pack("=I", count)) for kind, count in ((7, active), (8, inactive), (9, 0))]
        return b"".join(parts) + pack_attr(11, found[11]) + stats(counts, False) + stats(counts, True)


class Addresses:
    """LocalAddresses that note what they are told; `errors` by address, `broken` for all."""

    def __init__(self) -> None:
        self.changes: list[tuple[list[str], list[str]]] = []
        self.errors: dict[str, OSError] = {}
        self.broken: OSError | None = None

    def open(self) -> None:
        """Nothing to get ready."""

    def read(self) -> frozenset[str]:
        """What was added and not dropped."""
        there: set[str] = set()
        for add, drop in self.changes:
            there = (there | set(add)) - set(drop)
        return frozenset(there)

    def change(self, add: Sequence[str], drop: Sequence[str]) -> dict[str, OSError]:
        """Noted."""
        self.changes.append((list(add), list(drop)))
        if self.broken is not None:
            raise self.broken
        return {address: self.errors[address] for address in (*add, *drop) if address in self.errors}

    def close(self) -> None:
        """Nothing to let go of."""
