"""What IPVS tells in its generic netlink messages: services, destinations, counts, time-outs (linux/ip_vs.h).

What Pharos does not make itself is read so that it equals nothing that it wants: a destination that is not
masqueraded has the weight FOREIGN; a service with more flags than persistence, or with a persistence engine, has them
after its scheduler's name ("mh+0x10", "rr+sip"); a persistence by a mask that is no network has the prefix FOREIGN.

All functions raise ValueError when a payload is cut off or has not what it must have.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from functools import lru_cache
from typing import NamedTuple

from lb4 import ipvs_wire as wire
from lb4.netlink import unpack_attrs
from lb4.services import BackendKey, BackendStats, Destination, ServiceKey, ServiceStats, Settings

FOREIGN = -1
"""A weight or a prefix that nobody can want."""

_PROTOCOL_NAMES = {int(number): name for name, number in wire.PROTOCOLS.items()}
_LENGTHS = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
_NO_COUNTS = ServiceStats()
_usage_of = lru_cache(maxsize=1024)(Destination)  # few differ, so that all share them


class FoundService(NamedTuple):
    """A service as the kernel tells it; `stats` without backends, nothing where they were not asked for."""

    key: ServiceKey
    settings: Settings
    stats: ServiceStats


class FoundDestination(NamedTuple):
    """A destination as the kernel tells it."""

    key: BackendKey
    destination: Destination
    stats: BackendStats


class Info(NamedTuple):
    """IPVS' version ("1.2.1") and the size of its table of connections."""

    version: str
    table_size: int


def read_family(payload: bytes) -> int:
    """The message type of the IPVS family, from the controller's answer."""
    return _number(_attributes(payload), wire.G_FAMILY_ID, wire.U16)


def read_info(payload: bytes) -> Info:
    """The answer to GET_INFO."""
    attributes = _attributes(payload)
    version = _number(attributes, wire.I_VERSION, wire.U32)
    text = f"{version >> 16 & 0xFF}.{version >> 8 & 0xFF}.{version & 0xFF}"
    return Info(text, _number(attributes, wire.I_TABLE_SIZE, wire.U32))


def read_timeouts(payload: bytes) -> wire.Timeouts:
    """The answer to GET_CONFIG."""
    attributes = _attributes(payload)
    return wire.Timeouts(*(_number(attributes, kind, wire.U32) for kind in (wire.C_TCP, wire.C_TCP_FIN, wire.C_UDP)))


def read_service(payload: bytes, counted: bool = True) -> FoundService | None:
    """One of GET_SERVICE's answers, with its counts or without. None when it is none of an address and TCP or UDP (a
    firewall mark, SCTP)."""
    found = unpack_attrs(_value(_attributes(payload), wire.C_SERVICE))
    protocol = _PROTOCOL_NAMES.get(_number(found, wire.S_PROTOCOL, wire.U16)) if wire.S_FWMARK not in found else None
    if protocol is None:
        return None
    family = _number(found, wire.S_FAMILY, wire.U16)
    key = ServiceKey(protocol, _text(family, _value(found, wire.S_ADDRESS)), _number(found, wire.S_PORT, wire.NET16))
    return FoundService(key, _settings(family, found), _service_stats(found) if counted else _NO_COUNTS)


def read_destination(payload: bytes) -> FoundDestination:
    """One of GET_DEST's answers."""
    if len(payload) == _USUAL_LENGTH:
        parts = _USUAL.unpack_from(payload, wire.GENERIC.size)
        if parts[0::3] == _USUAL_LENGTHS and parts[1::3] == _USUAL_KINDS:
            _, address, port, method, weight, _, _, _, upper, lower, active, inactive, _, family, _, _, count = parts[
                2::3
            ]
            return _found(family, address, port, method, weight, upper, lower, active, inactive, count)
    found = unpack_attrs(_value(_attributes(payload), wire.C_DESTINATION))
    # Before Linux 3.18 destinations have no family of their own, and only IPv4 ends in 12 octets of 0.
    address = _value(found, wire.D_ADDRESS)
    return _found(
        _number(found, wire.D_FAMILY, wire.U16) if wire.D_FAMILY in found else _guessed_family(address),
        address,
        _value(found, wire.D_PORT),
        _number(found, wire.D_METHOD, wire.U32),
        _number(found, wire.D_WEIGHT, wire.U32),
        _number(found, wire.D_UPPER, wire.U32),
        _number(found, wire.D_LOWER, wire.U32),
        _number(found, wire.D_ACTIVE, wire.U32),
        _number(found, wire.D_INACTIVE, wire.U32),
        _count(*_stats(found, wire.D_STATS64, wire.D_STATS), wire.N_CONNECTIONS),
    )


def _found(
    family: int,
    address: bytes,
    port: bytes,
    method: int,
    weight: int,
    upper: int,
    lower: int,
    active: int,
    inactive: int,
    connections: int,
) -> FoundDestination:
    return FoundDestination(
        BackendKey(_text(family, address), int(wire.NET16.unpack_from(_at_least(port, 2))[0])),
        _usage_of(weight if method & wire.METHOD_MASK == wire.MASQUERADE else FOREIGN, upper, lower),
        BackendStats(active, inactive, connections),
    )


# Linux 5.3 and later tell a destination like this, and there may be a hundred thousand of them: length, type and value
# of each attribute, up to the first count of 64 bits. Any other form is read attribute by attribute.
_USUAL_ORDER = (
    ("0s", 336, wire.C_DESTINATION),  # all others are in it
    ("16s", 20, wire.D_ADDRESS),
    ("2s2x", 6, wire.D_PORT),
    ("I", 8, wire.D_METHOD),
    ("I", 8, wire.D_WEIGHT),
    ("B3x", 5, wire.D_TUNNEL),
    ("2s2x", 6, wire.D_TUNNEL_PORT),
    ("H2x", 6, wire.D_TUNNEL_FLAGS),
    ("I", 8, wire.D_UPPER),
    ("I", 8, wire.D_LOWER),
    ("I", 8, wire.D_ACTIVE),
    ("I", 8, wire.D_INACTIVE),
    ("I", 8, wire.D_PERSISTENT),
    ("H2x", 6, wire.D_FAMILY),
    ("88s", 92, wire.D_STATS),
    ("0s", 124, wire.D_STATS64),
    ("Q", 12, wire.N_CONNECTIONS),
)
_USUAL = struct.Struct("=" + "".join(f"HH{form}" for form, _, _ in _USUAL_ORDER))
_USUAL_LENGTHS = tuple(length for _, length, _ in _USUAL_ORDER)
_USUAL_KINDS = tuple(kind for _, _, kind in _USUAL_ORDER)
_USUAL_LENGTH = wire.GENERIC.size + _USUAL_LENGTHS[0]


def _settings(family: int, found: dict[int, bytes]) -> Settings:
    flags = wire.FLAGS.unpack_from(_at_least(_value(found, wire.S_FLAGS), wire.FLAGS.size))[0] & ~wire.HASHED
    scheduler = _name(_value(found, wire.S_SCHEDULER))
    if flags & ~wire.PERSISTENT:
        scheduler += f"+{flags & ~wire.PERSISTENT:#x}"
    if wire.S_ENGINE in found:
        scheduler += f"+{_name(found[wire.S_ENGINE])}"
    if not flags & wire.PERSISTENT:
        return Settings(scheduler)
    return Settings(scheduler, _number(found, wire.S_TIMEOUT, wire.U32), _prefix(family, _value(found, wire.S_NETMASK)))


def _prefix(family: int, value: bytes) -> int:
    """The length of the network of clients."""
    if family == socket.AF_INET6:
        return int(wire.U32.unpack_from(_at_least(value, 4))[0])
    mask = int(wire.NET32.unpack_from(_at_least(value, 4))[0])
    length = mask.bit_count()
    return length if length and mask == wire.ALL << (32 - length) & wire.ALL else FOREIGN


def _service_stats(found: dict[int, bytes]) -> ServiceStats:
    counts, wide = _stats(found, wire.S_STATS64, wire.S_STATS)
    return ServiceStats(
        connections=_count(counts, wide, wire.N_CONNECTIONS),
        in_packets=_count(counts, wide, wire.N_IN_PACKETS),
        out_packets=_count(counts, wide, wire.N_OUT_PACKETS),
        in_bytes=_number(counts, wire.N_IN_BYTES, wire.U64),
        out_bytes=_number(counts, wire.N_OUT_BYTES, wire.U64),
    )


def _stats(found: dict[int, bytes], wide: int, narrow: int) -> tuple[dict[int, bytes], bool]:
    """Counts, and whether all are of 64 bits (Linux 4.1); else those of connections and packets wrap at 2^32."""
    return (unpack_attrs(found[wide]), True) if wide in found else (unpack_attrs(_value(found, narrow)), False)


def _count(counts: dict[int, bytes], wide: bool, kind: int) -> int:
    return _number(counts, kind, wire.U64 if wide else wire.U32)


def _attributes(payload: bytes) -> dict[int, bytes]:
    return unpack_attrs(_at_least(payload, wire.GENERIC.size)[wire.GENERIC.size :])


def _value(attributes: dict[int, bytes], kind: int) -> bytes:
    try:
        return attributes[kind]
    except KeyError:
        raise ValueError(f"IPVS tells no attribute {kind}") from None


def _number(attributes: dict[int, bytes], kind: int, form: struct.Struct) -> int:
    value = _value(attributes, kind)
    if len(value) < form.size:
        raise ValueError(f"IPVS tells {len(value)} octets as attribute {kind}")
    return int(form.unpack_from(value)[0])


def _at_least(value: bytes, length: int) -> bytes:
    if len(value) < length:
        raise ValueError(f"IPVS tells {len(value)} octets for {length}")
    return value


def _name(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("ascii", "backslashreplace")


def _guessed_family(address: bytes) -> int:
    return int(socket.AF_INET6 if any(address[4:]) else socket.AF_INET)


@lru_cache(maxsize=wire.REMEMBERED)
def _text(family: int, address: bytes) -> str:
    """The canonical text of an address."""
    if family not in _LENGTHS:
        raise ValueError(f"IPVS tells an address of family {family}")
    octets = _at_least(address, _LENGTHS[family])[: _LENGTHS[family]]
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, octets)
    return str(ipaddress.IPv6Address(octets))
