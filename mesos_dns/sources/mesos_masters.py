"""The masters' election in ZooKeeper: who leads, and which masters there are.

Each master keeps an ephemeral, sequential znode in the election's path: `json.info_N` with a
MasterInfo in JSON (Mesos 0.24 and later), before that `info_N` with the same in protobuf. The parent
numbers both in one sequence, and the lowest number leads. A master that can't be read is no leader,
but nobody takes its place either: the last word stays. What a znode says never changes.
"""

from __future__ import annotations

import logging
import re
import socket
import struct
from collections.abc import Callable, Iterator

import msgspec

from mesos_dns.model import canonical_address
from mesos_dns.sources.counters import Complaints
from mesos_dns.sources.mesos_client import DEFAULT_PORT
from mesos_dns.sources.mesos_wire import pid_address
from mesos_dns.zookeeper import Session, Stat
from mesos_dns.zookeeper_tree import Kind, Tree

log = logging.getLogger(__name__)

MAX_INFO = 1 << 16
_NAME = re.compile(r"(json\.)?info_\d{10}")


class SeenMaster(msgspec.Struct, frozen=True):
    """A master as it registered: an address ("" when it told none), a host name ("" likewise) and a port."""

    address: str
    hostname: str
    port: int

    @property
    def host(self) -> str:
        """The address, or the name where there is none."""
        return self.address or self.hostname


class _Address(msgspec.Struct):
    hostname: str | None = None
    ip: str | None = None
    port: int | None = None


class _Info(msgspec.Struct):
    address: _Address | None = None
    hostname: str | None = None
    ip: int | None = None
    pid: str | None = None
    port: int | None = None


def decode_json(data: bytes) -> SeenMaster:
    """A `json.info_N` znode's master. Raises ValueError."""
    try:
        info = msgspec.json.decode(data, type=_Info)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no MasterInfo in JSON: {error}") from None
    return _seen(info)


def decode_binary(data: bytes) -> SeenMaster:
    """An `info_N` znode's master (protobuf: mesos.proto's MasterInfo). Raises ValueError."""
    info = _Info()
    for number, value in _fields(data):
        if number == 2 and isinstance(value, int):
            info.ip = value
        elif number == 3 and isinstance(value, int):
            info.port = value
        elif number == 4 and isinstance(value, bytes):
            info.pid = _text(value)
        elif number == 5 and isinstance(value, bytes):
            info.hostname = _text(value)
        elif number == 7 and isinstance(value, bytes):
            info.address = _binary_address(value)
    return _seen(info)


def _binary_address(data: bytes) -> _Address:
    address = _Address()
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            address.hostname = _text(value)
        elif number == 2 and isinstance(value, bytes):
            address.ip = _text(value)
        elif number == 3 and isinstance(value, int):
            address.port = value
    return address


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"no MasterInfo in protobuf: {error}") from None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """A protobuf message's fields: numbers as int, everything with a length as bytes. Raises ValueError."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 2, 5):
            size, at = _varint(data, at) if wire == 2 else (8 if wire == 1 else 4, at)
            if size > len(data) - at:
                raise ValueError("no MasterInfo in protobuf: it ends early")
            value = data[at : at + size]
            at += size
        else:
            raise ValueError(f"no MasterInfo in protobuf: wire type {wire}")
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("no MasterInfo in protobuf: it ends early")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("no MasterInfo in protobuf: a number is too long")


def _seen(info: _Info) -> SeenMaster:
    """Where a master is, by the newest of the ways in which it says so."""
    address, told = "", info.address
    port = info.port or DEFAULT_PORT
    if told is not None:
        address, port = canonical_address(told.ip or ""), told.port or port
    if not address and (at := pid_address(info.pid or "")) is not None:
        address, port = canonical_address(at[0]), at[1]
    if not address and info.ip is not None and 0 < info.ip < 1 << 32:
        # In network byte order, read as the integer of a little-endian machine.
        address = socket.inet_ntoa(struct.pack("<I", info.ip))
    hostname = (told.hostname if told is not None else None) or info.hostname or ""
    if not (address or hostname) or not 0 < port < 65536:
        raise ValueError("it tells neither an address nor a host name, or no legal port")
    return SeenMaster(address, hostname, port)


class MasterGroup:
    """The masters below `path`; `changed` is called when `leader` or `masters` is another one, with whether
    it is the leader.

    `leader` is None until one was seen; `masters` are in the order of their registration.
    """

    def __init__(self, session: Session, path: str, changed: Callable[[bool], None], complain: Complaints) -> None:
        self.leader: SeenMaster | None = None
        self.masters: tuple[SeenMaster, ...] = ()
        self.session = session
        self._path = path
        self._changed = changed
        self._complain = complain
        self._seen: dict[int, SeenMaster | None] = {}
        self._unread: set[int] = set()
        self._tree = Tree(session, path, self, complain)

    def __repr__(self) -> str:
        return f"<MasterGroup {self._path} leader={self.leader} masters={len(self.masters)}>"

    def start(self) -> None:
        """Begin to watch the election."""
        self._tree.start()

    async def close(self) -> None:
        """Stop watching."""
        await self._tree.close()

    @property
    def failure(self) -> str:
        """Why nobody is known to lead, for people; "" when somebody is."""
        if self.session.failure:
            return f"ZooKeeper: {self.session.failure}"
        if not self._tree.present:
            return f"ZooKeeper has no {self._path or '/'}"
        return "" if self._seen or self._unread else f"no master is registered in ZooKeeper's {self._path or '/'}"

    def kind(self, parent: str, name: str) -> Kind:
        """Registrations are read; the log's replicas and whatever else there is are not."""
        if not _NAME.fullmatch(name):
            return Kind.IGNORED
        self._unread.add(int(name[-10:]))
        return Kind.LEAF

    def leaf(self, path: str, data: bytes, stat: Stat) -> None:
        """A master has registered."""
        in_json = path.rpartition("/")[2].startswith("json.")
        seen = None
        try:
            if len(data) > MAX_INFO:
                raise ValueError(f"over {MAX_INFO} bytes")
            seen = decode_json(data) if in_json else decode_binary(data)
        except ValueError as error:
            self._complain(f"ZooKeeper: the master registered in {path} is left out: {error}")
        self._unread.discard(int(path[-10:]))
        self._seen[int(path[-10:])] = seen
        self._look()

    def gone(self, path: str) -> None:
        """A master's session has ended."""
        self._unread.discard(int(path[-10:]))
        self._seen.pop(int(path[-10:]), None)
        self._look()

    def complete(self) -> None:
        """All registrations have been read: nothing more to do than after each."""

    def _look(self) -> None:
        """See who leads now, unless a registration that is not read yet has a lower number."""
        if not self._seen or min(self._seen) > min(self._unread, default=min(self._seen)):
            return
        leader = self._seen[min(self._seen)] or self.leader
        masters = tuple(seen for _, seen in sorted(self._seen.items()) if seen is not None)
        if (leader, masters) == (self.leader, self.masters):
            return
        moved = leader != self.leader
        if moved:
            log.info("ZooKeeper names the leading master master=%s path=%s", leader, self._path)
        self.leader, self.masters = leader, masters
        self._changed(moved)
