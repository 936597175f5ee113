"""The catalog's file: how it is laid out, written without holding the loop, and read with suspicion.

File layout (integers big-endian):

    magic "PHAROSCT", u16 format version, f64 creation time (epoch seconds)
    frames: u32 length, then msgpack [source, as-of time, kind, [entity, ...]] or ["", 0, "", extra]
    u32 0, then the SHA-256 of everything before

Entities are msgpack maps, so that a newer Pharos reads an older one's file: fields that it does not
know are passed over, fields that are missing get their defaults. The *as-of* time is when the source
was last known to be right: a source that is stale keeps the time at which it became so, however
often the file is written again, so `max_age` counts from the last true word and not from the last save.

A process must start whatever is on its disk: a file that is damaged, truncated, foreign, too large or
of another format is refused with one log line, and an entity that does not decode costs only itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from mesos_dns.model import (
    App,
    Draining,
    Ensemble,
    Entity,
    Framework,
    HealthOverlay,
    Key,
    Leadership,
    Node,
    StaticRecords,
    Suspect,
    Task,
    Vip,
    VipAddress,
)
from mesos_dns.sharing import shared

log = logging.getLogger(__name__)

MAGIC = b"PHAROSCT"
FORMAT = 1
MAX_FILE = 4 << 30
"""Bytes of the largest file that is read: 10 times what a million tasks need."""

MAX_FRAME = 64 << 20
"""Bytes of the largest frame that is read (256 entities are 100 KiB; a large record set is 1 MiB)."""

SLICE = 256
"""Entities encoded per loop turn: about 1 ms."""

WRITE_SIZE = 1 << 20
"""Bytes that are collected before the writing thread gets them."""

KINDS: Mapping[str, type[Entity]] = {
    "node": Node,
    "framework": Framework,
    "task": Task,
    "leadership": Leadership,
    "app": App,
    "health": HealthOverlay,
    "vip_address": VipAddress,
    "vip": Vip,
    "reachability": Suspect,
    "draining": Draining,
    "ensemble": Ensemble,
    "records": StaticRecords,
}

_HEAD = struct.Struct(">8sHd")
_LENGTH = struct.Struct(">I")
_encode = msgspec.msgpack.Encoder().encode


class SavedSource(msgspec.Struct, frozen=True):
    """What one source said, and when that was last known to be right (epoch seconds)."""

    as_of: float
    entities: tuple[Entity, ...]


class Saved(msgspec.Struct, frozen=True):
    """A loaded file: when it was written, each source that is young enough, and the extra values."""

    created: float
    sources: Mapping[str, SavedSource]
    extra: Mapping[str, int | str]


class Refused(ValueError):
    """A file that can't be used; the text says why."""


class CatalogFile:
    """Reads and writes one catalog file. `max_age` is in seconds."""

    def __init__(self, path: Path, max_age: float) -> None:
        self.path = path
        self.max_age = max_age

    def __repr__(self) -> str:
        return f"<CatalogFile {str(self.path)!r} max_age={self.max_age:g}>"

    async def save(
        self,
        catalog_snapshot: Mapping[str, Mapping[Key, Entity]],
        extra: Mapping[str, int | str],
        as_of: Mapping[str, float] | None = None,
    ) -> int:
        """Replace the file by this snapshot (source → key → entity), mode 0600; its size in bytes.

        `as_of` defaults to now for every source. The loop gets a turn after every slice; files are
        touched in a thread. The old file stays until the new one is whole and on the disk.
        Raises OSError (full disk, no permission); nothing is left behind then.
        """
        now = time.time()
        writer = _Writer(self.path)
        try:
            writer.add(_HEAD.pack(MAGIC, FORMAT, now))
            for frame in _frames(catalog_snapshot, extra, as_of or {}, now):
                writer.add(_LENGTH.pack(len(frame)) + frame)
                if writer.waiting >= WRITE_SIZE:
                    await _in_thread(writer.flush)
                await asyncio.sleep(0)
            writer.add(_LENGTH.pack(0))
            await _in_thread(writer.finish)
        except BaseException:
            await _in_thread(writer.abandon)
            raise
        return writer.size

    def load(self, now: float | None = None) -> Saved | None:
        """Read the file (blocking); None when there is none or it is refused, which is logged."""
        now = time.time() if now is None else now
        try:
            with self.path.open("rb") as file:
                saved, skipped = _read(file, now - self.max_age)
        except FileNotFoundError:
            return None
        except (OSError, Refused, msgspec.MsgspecError) as error:
            log.warning("saved catalog refused, starting without it file=%s reason=%s", self.path, error)
            return None
        for what, count in skipped.items():
            log.warning("saved catalog: left out %s count=%d file=%s", what, count, self.path)
        return saved


def _frames(
    snapshot: Mapping[str, Mapping[Key, Entity]],
    extra: Mapping[str, int | str],
    as_of: Mapping[str, float],
    now: float,
) -> Iterator[bytes]:
    """The file's frames, each at most SLICE entities of one source and kind."""
    yield _encode(["", 0.0, "", dict(extra)])
    for source, entities in snapshot.items():
        time_said = as_of.get(source, now)
        yield _encode([source, time_said, "", {}])
        collected: dict[str, list[Entity]] = {}
        for key, entity in entities.items():
            several = collected.setdefault(key[0], [])
            several.append(entity)
            if len(several) == SLICE:
                yield _frame(source, time_said, key[0], several)
                several.clear()
        for kind, several in collected.items():
            yield _frame(source, time_said, kind, several)


def _frame(source: str, time_said: float, kind: str, entities: list[Entity]) -> bytes:
    """One frame; an entity that can't be encoded (a text that is no Unicode) is left out."""
    try:
        return _encode([source, time_said, kind, entities])
    except (ValueError, OverflowError):
        return _encode([source, time_said, kind, [entity for entity in entities if _encodable(entity)]])


def _encodable(entity: Entity) -> bool:
    try:
        _encode(entity)
    except (ValueError, OverflowError) as error:
        _complain(ascii(entity.key), str(error))
        return False
    return True


@lru_cache(maxsize=4096)
def _complain(key: str, reason: str) -> None:
    """Log what can't be saved; the cache keeps it to once per entity and not once per save."""
    log.warning("entity not saved key=%s reason=%s", key, reason)


async def _in_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread; when cancelled, wait until it has ended, so that no two steps ever overlap."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # seen: what counts now is the cancellation
        raise


class _Writer:
    """Collects bytes on the loop (`add`); hashes and writes them in a thread (the rest)."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self.waiting = 0
        self._path = path
        self._spare = path.with_name(path.name + ".new")
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._chunks: list[bytes] = []

    def add(self, data: bytes) -> None:
        self._chunks.append(data)
        self.waiting += len(data)
        self.size += len(data)

    def flush(self) -> None:
        data = b"".join(self._chunks)
        self._chunks, self.waiting = [], 0
        self._digest.update(data)
        self._open().write(data)

    def finish(self) -> None:
        """Write the rest and the checksum, bring it to the disk, and put the file in its place."""
        self.flush()
        with self._open() as file:
            file.write(self._digest.digest())
            file.flush()
            os.fsync(file.fileno())
        self.size += self._digest.digest_size
        self._spare.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def abandon(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._spare.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        """The new file, which only its owner can read; what a killed process left there is removed."""
        if self._file is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._spare.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._spare, flags, 0o600), "wb")
        return self._file


def _read(file: BinaryIO, oldest: float) -> tuple[Saved, dict[str, int]]:
    """Decode a whole file; sources whose as-of time is before `oldest` are left out and counted."""
    created = _verify(file)
    extra: dict[str, int | str] = {}
    as_of: dict[str, float] = {}
    entities: dict[str, list[Entity]] = {}
    skipped: dict[str, int] = {}
    decode = msgspec.msgpack.Decoder(tuple[str, float, str, msgspec.Raw]).decode
    while length := _LENGTH.unpack(file.read(_LENGTH.size))[0]:
        source, said, kind, body = decode(file.read(length))
        if not source:
            extra.update(msgspec.msgpack.decode(body, type=dict[str, int | str]))
        elif said < oldest:
            skipped[f"source {source}, too old"] = 1
        elif not kind:
            as_of[source], entities[source] = said, []
        elif kind not in KINDS:
            skipped[f"unknown kind {kind}"] = skipped.get(f"unknown kind {kind}", 0) + 1
        else:
            for raw in _entities(kind, body):
                if raw is None:
                    skipped[f"malformed {kind}"] = skipped.get(f"malformed {kind}", 0) + 1
                else:
                    entities.setdefault(source, []).append(shared(raw))
    sources = {name: SavedSource(when, tuple(entities.get(name, ()))) for name, when in as_of.items()}
    return Saved(created, sources, extra), skipped


def _entities(kind: str, body: bytes) -> list[Any]:
    """The entities of one frame; None stands for each that does not decode."""
    wanted = KINDS[kind]
    try:
        return msgspec.msgpack.decode(body, type=list[wanted])  # type: ignore[valid-type]
    except msgspec.ValidationError:
        return [_entity(wanted, raw) for raw in msgspec.msgpack.decode(body, type=list[msgspec.Raw])]


def _entity(wanted: type[Entity], raw: bytes) -> Entity | None:
    try:
        return msgspec.msgpack.decode(raw, type=wanted)
    except msgspec.ValidationError:
        return None


def _verify(file: BinaryIO) -> float:
    """Check head, frame lengths and checksum; the creation time. Leaves the file at the first frame."""
    size = os.fstat(file.fileno()).st_size
    if size > MAX_FILE:
        raise Refused(f"{size} bytes, at most {MAX_FILE} are read")
    head = file.read(_HEAD.size)
    if head[: len(MAGIC)] != MAGIC:
        raise Refused("not a catalog of Pharos (another magic number)")
    if len(head) < _HEAD.size:
        raise Refused("truncated")
    _, version, created = _HEAD.unpack(head)
    if version != FORMAT:
        raise Refused(f"format {version}, this version reads format {FORMAT}")
    digest = hashlib.sha256(head)
    while True:
        prefix = file.read(_LENGTH.size)
        if len(prefix) < _LENGTH.size:
            raise Refused("truncated")
        digest.update(prefix)
        length = _LENGTH.unpack(prefix)[0]
        if length == 0:
            break
        if length > MAX_FRAME:
            raise Refused("damaged (a frame of impossible length)")
        body = file.read(length)
        if len(body) < length:
            raise Refused("truncated")
        digest.update(body)
    if file.read(digest.digest_size + 1) != digest.digest():
        raise Refused("damaged (the checksum does not match)")
    file.seek(_HEAD.size)
    return float(created)
