"""The messages between the edge's process and a worker: what each may say, as msgpack.

    down   Hello, then in any order: Configure, Certificates, Apply…, Listen, Unlisten, Mark, Ask, Drain
    up     Ready, then: Applied, Counters, Held, Told, Log, Fault

A worker does what it is told in order, so that `Applied` (the answer to `Mark`) says that all before it is done. Its
`Counters` come at least once a second, changed or not: they are its heartbeat. Frames are in `lb7/channel.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias, cast

import msgspec

from lb7.settings import Settings
from lb7.table import HostRules, TableDelta

Value: TypeAlias = int | float | list[int | float]
"""A count, a sum, or a list of them such as a histogram's buckets."""
Counts: TypeAlias = dict[str, Value]

Kind: TypeAlias = Literal["clusters", "hosts", "listeners"]
Refuse: TypeAlias = Callable[[Kind, Any, Any, str], None]
"""Hears of an entry of the table that workers can't be told: its kind, key and value, and why."""

PART, PART_OCTETS = 500, 1 << 20
"""Entries of the table, and their octets, in one message at most, so that neither end works on one for long."""
MOST_ENTRY = 4 << 20
"""Octets of one entry at most: of a cluster, some 40,000 servers."""
MOST_KEY = 4096
"""The same of what it goes by, which comes back with counters and records."""
PART_OF_CERTIFICATES = 50


class Certificate(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One PEM file: its name in the folder, the names that it is for ("*.example.com" too), and what is in it."""

    name: str
    names: tuple[str, ...]
    pem: bytes

    def __repr__(self) -> str:  # its key is nobody's business
        return f"<Certificate {self.name} names={','.join(self.names)}>"


class Hello(msgspec.Struct, frozen=True, tag="hello", array_like=True):
    """Comes first: the worker's number, and what it goes by. `confine`: give up all privileges."""

    number: int
    settings: Settings
    confine: bool = True


class Configure(msgspec.Struct, frozen=True, tag="configure", array_like=True):
    """Other settings, from now on."""

    settings: Settings


class Certificates(msgspec.Struct, frozen=True, tag="certificates", array_like=True):
    """Certificates that are new or others, and the names of all there are, the one for unknown server names first.
    `more`: further ones follow; they are used when all are there."""

    changed: tuple[Certificate, ...]
    order: tuple[str, ...]
    more: bool = False


class Apply(msgspec.Struct, frozen=True, tag="apply", array_like=True):
    """A change of the table. `more`: a further part of it follows; nothing of it counts before all is there."""

    delta: TableDelta
    more: bool = False


class Listen(msgspec.Struct, frozen=True, tag="listen", array_like=True):
    """Accept on `count` sockets, which come with this message, for a listener of the table. `slot` is the number of the
    worker that they were made for, which may be another one."""

    listener: str
    slot: int
    count: int


class Unlisten(msgspec.Struct, frozen=True, tag="unlisten", array_like=True):
    """Accept no more on those sockets; connections go on."""

    listener: str
    slot: int


class Mark(msgspec.Struct, frozen=True, tag="mark", array_like=True):
    """Say `Applied` with this version."""

    version: int


class Ask(msgspec.Struct, frozen=True, tag="ask", array_like=True):
    """Say `Told` with this number: how the servers of these clusters are."""

    number: int
    clusters: tuple[str, ...]


class Drain(msgspec.Struct, frozen=True, tag="drain", array_like=True):
    """Accept nothing more, end connections as soon as they have no request, and then yourself. `hold`: seconds that a
    request may still wait for an app that sleeps."""

    hold: float = 0.0


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True):
    """The worker has started and wants its table."""

    pid: int


class Applied(msgspec.Struct, frozen=True, tag="applied", array_like=True):
    """All that was sent before that mark is done."""

    version: int


class Counters(msgspec.Struct, frozen=True, tag="counters", array_like=True):
    """What was counted since the last block, without what did not change; and figures that go up and down, as they are
    now. Listeners and clusters are by name, which several clusters may have; what they counted is for `Tally.add`."""

    worker: Counts = {}
    listeners: dict[str, Counts] = {}
    clusters: list[tuple[str, bytes]] = []
    now: dict[str, int | float] = {}
    clusters_now: dict[str, dict[str, int | float]] = {}


class Held(msgspec.Struct, frozen=True, tag="held", array_like=True):
    """Requests for these clusters begin to be held; how many, a block of counters just before has told."""

    clusters: tuple[str, ...]


class Told(msgspec.Struct, frozen=True, tag="told", array_like=True):
    """The answer to `Ask`: by cluster, what is known of each server (`_balance.Cluster.status`)."""

    number: int
    servers: dict[str, list[dict[str, str | int | float]]]


class Log(msgspec.Struct, frozen=True, tag="log", array_like=True):
    """Records of the access log; `lost` more were not kept."""

    records: list[dict[str, Any]]
    lost: int = 0


class Fault(msgspec.Struct, frozen=True, tag="fault", array_like=True):
    """Something went wrong; `key` is what it went wrong with ("listener http"), or "" for the worker itself."""

    key: str
    text: str


Down: TypeAlias = Hello | Configure | Certificates | Apply | Listen | Unlisten | Mark | Ask | Drain
Up: TypeAlias = Ready | Applied | Counters | Held | Told | Log | Fault

_ENCODER = msgspec.msgpack.Encoder()
DOWN: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
UP: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)


def encode(message: Down | Up) -> bytes:
    """A message's octets."""
    return _ENCODER.encode(message)


def parts(delta: TableDelta, refuse: Refuse, most: int = PART) -> Iterator[Apply]:
    """A delta as messages with so many entries each; at least one. An entry that can't be told is told as gone, so that
    nothing goes on by what it was before, and a host as one without rules, so that no other host's are for it; `refuse`
    hears of it."""
    part, count, octets = TableDelta({}, {}, {}), 0, 0
    for kind, key, value, size in _told(delta, refuse):
        if count and (count >= most or octets + size > PART_OCTETS):
            yield Apply(part, True)
            part, count, octets = TableDelta({}, {}, {}), 0, 0
        getattr(part, kind)[key] = value
        count, octets = count + 1, octets + size
    yield Apply(part)


def certificate_parts(changed: tuple[Certificate, ...], order: tuple[str, ...]) -> Iterator[Certificates]:
    """Certificates as messages; at least one."""
    starts = range(0, max(1, len(changed)), PART_OF_CERTIFICATES)
    for start in starts:
        part = changed[start : start + PART_OF_CERTIFICATES]
        more = start != starts[-1]
        yield Certificates(part, () if more else order, more)


def _told(delta: TableDelta, refuse: Refuse) -> Iterator[tuple[Kind, Any, Any, int]]:
    """Each entry, and how long it is."""
    for kind in cast("tuple[Kind, ...]", ("clusters", "hosts", "listeners")):
        for key, value in getattr(delta, kind).items():
            size, why = _size(key, value)
            if why and value is not None:
                refuse(kind, key, value, why)
                value = HostRules() if kind == "hosts" else None
                size, why = _size(key, value)
            if not why:  # else it was never told by this key
                yield kind, key, value, size


def _size(key: Any, value: Any) -> tuple[int, str]:
    """Octets, and what is wrong with them."""
    try:
        named, size = len(_ENCODER.encode(key)), len(_ENCODER.encode((key, value)))
    except Exception as error:  # text that is not Unicode, and whatever else there may be
        return 0, f"can't be written: {error}"
    if named > MOST_KEY:
        return size, f"has a name of {named} octets, more than {MOST_KEY}"
    return size, f"is {size} octets long, more than {MOST_ENTRY}" if size > MOST_ENTRY else ""
