"""What a server and its followers say to each other on /v1/watch: messages, positions, buckets and digests.

Each message is one JSON object; a frame holds one or more of them, one a line. `v` is the position "EPOCH.N":
EPOCH is random per start of the server, N counts its deltas. By the fields that it has a
message is:

    hello    the first one, alone in its frame: {"hello":1,"v","resume","stale","as_of","via","sources","version"}
    delta    one change: {"v","kind","put":[entity…],"drop":[key…]}; its N follows the one before
    slice    a part of the whole: {"v","kind","put":[entity…],"buckets":[…]}; N stays
    synced   the whole has been told of these buckets: {"v","synced":true,"buckets":[…]}
    status   how far what the server says can be trusted: {"v","stale","as_of","via","sources"}
    wait     others are told the whole first; in each heartbeat until it begins: {"v","wait":N}

`stale` is for how many seconds the server itself has been without a source (0: it is in sync), `as_of`
when what it says was last known to be right (epoch seconds, by its clock), `via` the epochs of the servers that it
came through, the sender's first. `sources` says for how many seconds each of its sources has been lost (0: it is in
sync; since 1970: it was never heard), those that do not count for `stale` (files) included.

A follower answers a hello without `resume` with {"digests":TEXT} or {"full":true}. A delta's entity is a JSON object of
the model's struct, a key a JSON array of texts. What a reader does not know (a kind, a field) is passed over: the
other side may be newer.

Keys are spread over 1,024 buckets by the CRC-32 of their JSON. The digest of a bucket is the exclusive or
of 8 octets of BLAKE2b of each entity's JSON, with the epoch as key, so that nobody who chooses what an
entity says can choose it to vanish from a digest.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Collection
from hashlib import blake2b
from typing import TypeVar
from zlib import crc32

import msgspec

from mesos_dns.catalog_file import KINDS
from mesos_dns.model import Entity, Key
from mesos_dns.sharing import shared
from mesos_dns.watch_sound import fault_of

BUCKETS = 1024
DIGEST_OCTETS = 8
DIGESTS_OCTETS = BUCKETS * DIGEST_OCTETS

MOST_ENTITIES = 500
"""Entities of one message: about 5 ms to decode and to apply."""

SLICE_OCTETS = 1 << 18
"""A message that has so many is full: a slow line brings it within the time that a silent server is given."""

MAX_ENTITY = 8 << 20
"""Octets of the largest entity that is told."""

MAX_MESSAGE = 64 << 20
"""Octets of the largest message that a follower takes."""

MAX_ANSWER = 16 << 10
"""Octets of the largest message that a server takes: digests are 11 KiB."""

MAX_CHAIN = 16
"""Servers in a row at most."""

MAX_SOURCES = 64
"""Sources that a server names at most."""

ORDER = ("node", "framework", *(kind for kind in KINDS if kind not in ("node", "framework", "task")), "task")
"""Kinds in the order in which they are told: what tasks are joined with comes before them."""

ALL_BUCKETS = frozenset(range(BUCKETS))

_POSITION = re.compile(r"([0-9a-f]{8,64})\.(0|[1-9][0-9]{0,17})")
_T = TypeVar("_T")

encode = msgspec.json.Encoder().encode


class WireError(ValueError):
    """The other side said what is no message of this protocol."""


class Message(msgspec.Struct, frozen=True):
    """Any message of a server, as `decode_message` reads it; `put` is still JSON."""

    v: str
    hello: int = 0
    resume: bool = False
    stale: float | None = None
    as_of: float = 0.0
    via: tuple[str, ...] | None = None
    sources: dict[str, float] | None = None
    wait: int = 0
    version: str = ""
    kind: str = ""
    put: msgspec.Raw = msgspec.Raw(b"[]")
    drop: tuple[tuple[str, ...], ...] = ()
    buckets: tuple[int, ...] | None = None
    synced: bool = False

    @property
    def position(self) -> tuple[str, int]:
        """(epoch, N). Raises WireError."""
        return read_position(self.v)


class Answer(msgspec.Struct, frozen=True):
    """What a follower says to a hello without `resume`."""

    digests: str = ""
    full: bool = False


_message = msgspec.json.Decoder(Message)
_answer = msgspec.json.Decoder(Answer)
_entities = {kind: msgspec.json.Decoder(list[wanted]) for kind, wanted in KINDS.items()}  # type: ignore[valid-type]
_entity = {kind: msgspec.json.Decoder(wanted) for kind, wanted in KINDS.items()}
_raws = msgspec.json.Decoder(list[msgspec.Raw])


# --- positions and keys -----------------------------------------------------------------------------


def read_position(text: str) -> tuple[str, int]:
    """(epoch, N) of "EPOCH.N". Raises WireError."""
    found = _POSITION.fullmatch(text)
    if found is None:
        raise WireError(f"expected EPOCH.N, got {text[:80]!r}")
    return found[1], int(found[2])


def position_text(epoch: str, number: int) -> str:
    """The counterpart of `read_position`."""
    return f"{epoch}.{number}"


def bucket_of(key: Key) -> int:
    """The bucket that a key belongs to, the same on every machine."""
    try:
        return crc32(encode(key)) % BUCKETS
    except ValueError:  # a text that is no Unicode: it is never told, but must be somewhere
        return crc32(ascii(key).encode()) % BUCKETS


# --- entities ---------------------------------------------------------------------------------------


def encode_entity(entity: Entity) -> bytes | None:
    """An entity's JSON; None when it can't be told: it has a text that is no Unicode, or is too large."""
    try:
        encoded = encode(entity)
    except (ValueError, OverflowError):
        return None
    return encoded if len(encoded) <= MAX_ENTITY else None


def decode_entities(kind: str, raw: bytes) -> tuple[list[Entity], list[str]]:
    """The good entities of a JSON array, and why the others are none. Raises WireError when it is no array.

    `kind` is one of KINDS.
    """
    found: list[Entity] = []
    refused: list[str] = []
    entities: list[Entity]
    try:
        entities = _entities[kind].decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        entities, refused = _one_by_one(kind, raw)
    for entity in entities:
        reason = fault_of(entity)
        if reason:
            refused.append(f"{kind} {ascii(entity.key)[:200]}: {reason}")
        else:
            found.append(shared(entity))
    return found, refused


def _one_by_one(kind: str, raw: bytes) -> tuple[list[Entity], list[str]]:
    """As `decode_entities`, for an array in which not all is well."""
    found, refused = [], []
    for item in _decoded(_raws, raw):
        try:
            found.append(_entity[kind].decode(item))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refused.append(f"{kind}: {error}"[:300])
    return found, refused


# --- messages ---------------------------------------------------------------------------------------


def delta_message(position: str, kind: str, put: list[bytes], drop: list[bytes]) -> bytes:
    """One change of one kind: encoded entities and encoded keys."""
    return b'{"v":"%b","kind":"%b","put":[%b],"drop":[%b]}' % (
        position.encode(),
        kind.encode(),
        b",".join(put),
        b",".join(drop),
    )


def slice_message(position: str, kind: str, put: list[bytes], buckets: Collection[int]) -> bytes:
    """A part of the whole: encoded entities of one kind (one or more an item), and the buckets they are in."""
    return b'{"v":"%b","kind":"%b","put":[%b],"buckets":%b}' % (
        position.encode(),
        kind.encode(),
        b",".join(put),
        encode(sorted(buckets)),
    )


def synced_message(position: str, buckets: frozenset[int]) -> bytes:
    """The whole of these buckets has been told."""
    return encode({"v": position, "synced": True, "buckets": sorted(buckets)})


def wait_message(position: str, waiting: int) -> bytes:
    """So many wait to be told the whole, the follower among them."""
    return encode({"v": position, "wait": waiting})


def decode_message(data: bytes | str) -> Message:
    """A server's message. Raises WireError."""
    message = _decoded(_message, data)
    read_position(message.v)
    sources = message.sources or {}
    if len(sources) > MAX_SOURCES or any(len(name) > 64 for name in sources):
        raise WireError(f"more than {MAX_SOURCES} sources")
    numbers = (message.as_of, 0.0 if message.stale is None else message.stale, *sources.values())
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise WireError("a time that is none")
    if message.via is not None and (len(message.via) > MAX_CHAIN or any(len(epoch) > 64 for epoch in message.via)):
        raise WireError(f"more than {MAX_CHAIN} servers in a row")
    if message.buckets is not None and not all(0 <= bucket < BUCKETS for bucket in message.buckets):
        raise WireError("a bucket that is none")
    return message


def decode_answer(data: bytes | str) -> bytes | None:
    """The digests that a follower sends; None when it wants all. Raises WireError."""
    answer = _decoded(_answer, data)
    if answer.full:
        return None
    try:
        digests = base64.b64decode(answer.digests, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"digests: {error}") from None
    if len(digests) != DIGESTS_OCTETS:
        raise WireError(f"digests: expected {DIGESTS_OCTETS} octets, got {len(digests)}")
    return digests


def answer_message(digests: bytes | None) -> bytes:
    """The counterpart of `decode_answer`."""
    return encode(Answer(full=True) if digests is None else Answer(digests=base64.b64encode(digests).decode()))


def _decoded(decoder: msgspec.json.Decoder[_T], data: bytes | str | msgspec.Raw) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise WireError(str(error)[:300]) from None


# --- digests ----------------------------------------------------------------------------------------


class Digests:
    """The digests of all buckets; what is toggled twice is gone. `epoch` is the server's."""

    def __init__(self, epoch: str) -> None:
        self._key = epoch.encode()[:64]
        self._sums = [0] * BUCKETS

    def of(self, encoded: bytes) -> int:
        """What an entity's JSON brings into its bucket."""
        return int.from_bytes(blake2b(encoded, digest_size=DIGEST_OCTETS, key=self._key).digest(), "big")

    def toggle(self, bucket: int, value: int) -> None:
        """Take a value into a bucket, or out of it."""
        self._sums[bucket] ^= value

    def octets(self) -> bytes:
        """All digests in the order of the buckets."""
        return b"".join(value.to_bytes(DIGEST_OCTETS, "big") for value in self._sums)

    def differing(self, other: bytes) -> frozenset[int]:
        """The buckets whose digests are not those of `other` (DIGESTS_OCTETS octets)."""
        theirs = struct.unpack(f">{BUCKETS}Q", other)
        return frozenset(n for n, (own, their) in enumerate(zip(self._sums, theirs, strict=True)) if own != their)
