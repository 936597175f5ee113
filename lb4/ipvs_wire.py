"""Changes and questions as IPVS' generic netlink messages, and the numbers of these (linux/ip_vs.h).

Encoding only; ipvs_found.py reads what the kernel tells, ipvs.py talks to it. A payload is what follows the netlink
header.
"""

from __future__ import annotations

import socket
import struct
from functools import lru_cache
from typing import NamedTuple

from lb4.netlink import pack_attr, pack_nested
from lb4.services import BackendKey, Destination, Kind, Operation, ServiceKey, Settings

FAMILY_NAME = "IPVS"
CONTROLLER = 0x10
"""The message type of generic netlink's own family, which knows the numbers of the others."""

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
SET_CONFIG, GET_CONFIG, GET_INFO = 12, 13, 15

COMMANDS: dict[str, int] = {
    Kind.ADD_SERVICE: NEW_SERVICE,
    Kind.SET_SERVICE: SET_SERVICE,
    Kind.DROP_SERVICE: DEL_SERVICE,
    Kind.ADD_DESTINATION: NEW_DEST,
    Kind.SET_DESTINATION: SET_DEST,
    Kind.DROP_DESTINATION: DEL_DEST,
}

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

_GETFAMILY, G_FAMILY_ID, G_FAMILY_NAME = 3, 1, 2
C_SERVICE, C_DESTINATION, C_TCP, C_TCP_FIN, C_UDP = 1, 2, 4, 5, 6  # of a command
S_FAMILY, S_PROTOCOL, S_ADDRESS, S_PORT, S_FWMARK = 1, 2, 3, 4, 5
S_SCHEDULER, S_FLAGS, S_TIMEOUT, S_NETMASK, S_STATS, S_ENGINE, S_STATS64 = 6, 7, 8, 9, 10, 11, 12
D_ADDRESS, D_PORT, D_METHOD, D_WEIGHT, D_UPPER, D_LOWER = 1, 2, 3, 4, 5, 6
D_ACTIVE, D_INACTIVE, D_PERSISTENT, D_STATS, D_FAMILY, D_STATS64 = 7, 8, 9, 10, 11, 12
D_TUNNEL, D_TUNNEL_PORT, D_TUNNEL_FLAGS = 13, 14, 15
N_CONNECTIONS, N_IN_PACKETS, N_OUT_PACKETS, N_IN_BYTES, N_OUT_BYTES = 1, 2, 3, 4, 5
I_VERSION, I_TABLE_SIZE = 1, 2

MASQUERADE, METHOD_MASK = 0, 0x7
PERSISTENT, HASHED = 0x1, 0x2  # the kernel itself sets the second
ALL = 0xFFFFFFFF
_MOST_WEIGHT = 0x7FFFFFFF  # the kernel's is an int
_SCHEDULER_ROOM = 16  # IP_VS_SCHEDNAME_MAXLEN, with the 0 at the end

GENERIC = struct.Struct("=BBH")
U16, U32, U64 = struct.Struct("=H"), struct.Struct("=I"), struct.Struct("=Q")
NET16, NET32 = struct.Struct("!H"), struct.Struct("!I")
FLAGS = struct.Struct("=II")  # flags, and which of them are meant


REMEMBERED = 1 << 14
"""Texts of addresses and keys whose octets are remembered: more than ten thousand services, which are asked for one
after the other."""


class Timeouts(NamedTuple):
    """Seconds after which an idle connection is forgotten; 0 leaves one as it is."""

    tcp: int = 0
    tcp_fin: int = 0
    udp: int = 0


def command(number: int, attributes: bytes = b"") -> bytes:
    """A payload of the IPVS family, or a question to the controller."""
    return GENERIC.pack(number, 1, 0) + attributes


def family_question() -> bytes:
    """Asks the controller for the number of IPVS' family."""
    return command(_GETFAMILY, pack_attr(G_FAMILY_NAME, FAMILY_NAME.encode() + b"\0"))


def change(operation: Operation) -> bytes:
    """The payload that does one operation on a service or a destination. Raises ValueError when it can't be said."""
    kind, service, settings, backend, destination = operation
    number = COMMANDS.get(kind, 0)
    if number >= NEW_DEST:
        if backend is None or (destination is None and number != DEL_DEST):
            raise ValueError(f"{kind} without a backend or its destination")
        usage = _usage(destination) if destination is not None and number != DEL_DEST else b""
        return command(number, _service(service) + pack_nested(C_DESTINATION, _destination_key(backend), usage))
    if number == DEL_SERVICE:
        return command(number, _service(service))
    if not number or settings is None:
        raise ValueError(f"{kind} is no operation of IPVS or has no settings")
    attributes = _settings(settings, ":" in service.address)
    return command(number, pack_nested(C_SERVICE, _service_key(service), attributes))


def service_question(key: ServiceKey) -> bytes:
    """Asks for one service."""
    return command(GET_SERVICE, _service(key))


def destinations_question(key: ServiceKey) -> bytes:
    """Asks for a service's destinations (to be dumped)."""
    return command(GET_DEST, _service(key))


def timeouts_change(timeouts: Timeouts) -> bytes:
    """Sets the time-outs that are not 0. Raises ValueError when one is no number of seconds that fits."""
    parts = zip((C_TCP, C_TCP_FIN, C_UDP), timeouts, strict=True)
    return command(SET_CONFIG, b"".join(pack_attr(kind, _u32(seconds)) for kind, seconds in parts if seconds))


@lru_cache(maxsize=REMEMBERED)
def _service(key: ServiceKey) -> bytes:
    return pack_nested(C_SERVICE, _service_key(key))


def _service_key(key: ServiceKey) -> bytes:
    if key.protocol not in PROTOCOLS:
        raise ValueError(f"IPVS services are of tcp or udp, not {key.protocol!r}")
    family, address = _address(key.address)
    return (
        pack_attr(S_FAMILY, U16.pack(family))
        + pack_attr(S_PROTOCOL, U16.pack(PROTOCOLS[key.protocol]))
        + pack_attr(S_ADDRESS, address)
        + pack_attr(S_PORT, _port(key.port))
    )


@lru_cache(maxsize=1024)  # few differ
def _settings(settings: Settings, v6: bool) -> bytes:
    scheduler = settings.scheduler.encode("ascii")
    if not 0 < len(scheduler) < _SCHEDULER_ROOM or 0 in scheduler:
        raise ValueError(f"no name of a scheduler: {settings.scheduler!r}")
    return (
        pack_attr(S_SCHEDULER, scheduler + b"\0")
        + pack_attr(S_FLAGS, FLAGS.pack(PERSISTENT if settings.persistence else 0, ALL))
        + pack_attr(S_TIMEOUT, _u32(settings.persistence))
        + pack_attr(S_NETMASK, _netmask(settings, v6))
    )


def _netmask(settings: Settings, v6: bool) -> bytes:
    """IPv4: a mask in network order, IPv6: a length. A prefix of 0 stands for all of the address."""
    whole = 128 if v6 else 32
    length = settings.prefix if settings.persistence and settings.prefix else whole
    if not 0 < length <= whole:
        raise ValueError(f"no length of a network: {length}")
    return U32.pack(length) if v6 else NET32.pack(ALL << (32 - length) & ALL)


def _destination_key(key: BackendKey) -> bytes:
    family, address = _address(key.address)
    return pack_attr(D_FAMILY, U16.pack(family)) + pack_attr(D_ADDRESS, address) + pack_attr(D_PORT, _port(key.port))


@lru_cache(maxsize=1024)  # few differ
def _usage(destination: Destination) -> bytes:
    if not 0 <= destination.weight <= _MOST_WEIGHT:
        raise ValueError(f"no weight: {destination.weight}")
    return (
        pack_attr(D_METHOD, U32.pack(MASQUERADE))
        + pack_attr(D_WEIGHT, _u32(destination.weight))
        + pack_attr(D_UPPER, _u32(destination.upper))
        + pack_attr(D_LOWER, _u32(destination.lower))
    )


@lru_cache(maxsize=REMEMBERED)
def _address(text: str) -> tuple[int, bytes]:
    """Family and the 16 octets of a union nf_inet_addr."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return int(family), socket.inet_pton(family, text).ljust(16, b"\0")
    except (OSError, UnicodeError):
        raise ValueError(f"no IP address: {text!r}") from None


def _port(port: int) -> bytes:
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"no port: {port}")
    return NET16.pack(port)


def _u32(number: int) -> bytes:
    if not 0 <= number <= ALL:
        raise ValueError(f"does not fit into 32 bits: {number}")
    return U32.pack(number)
