"""The file source: static records from master files, which are watched and read again when they change.

A file with a SOA record is a zone of its own; the records of other files are added to the zones that
Pharos serves anyway. What a file last said well stays when it is removed, can't be read, or has no
valid record left after an edit; the source is then marked stale and says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat as mode
from collections.abc import Iterable

import msgspec

from mesos_dns.config import FileConfig
from mesos_dns.model import StaticRecords, Sync
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.master_file import MAX_SET, SINGLE, MasterFile, TooManyRecords, parse
from mesos_dns.watched_file import SETTLE, Stamp, opened, stamp_of

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 20
FAULTS_LOGGED = 20
"""Faults of one file that are logged; the rest is counted."""


class _Watched(msgspec.Struct):
    """One configured path: what was read last, what was last good, and what is wrong with it now."""

    stamp: Stamp | None = None
    good: MasterFile | None = None
    problem: str = ""


class FileSource:
    """Publishes the record sets of `config.paths`; `counters.malformed` counts what was left out.

    `unread` is True while a file was never read, nor anything known from before the start: the source counts as synced
    (a file may come later, and the process is ready without it), but what it says is no reason to give up more.
    """

    def __init__(self, config: FileConfig, publish: Publisher) -> None:
        self.counters = SourceCounters()
        self._interval = float(config.interval)
        self._publish = publish
        self._files = {path: _Watched() for path in config.paths}
        self._complain = Complaints(log)
        self._looked = False
        self._restored = bool(publish.said())

    @property
    def unread(self) -> bool:
        """See the class."""
        return not self._restored and any(watched.good is None for watched in self._files.values())

    def __repr__(self) -> str:
        return (
            f"<FileSource files={len(self._files)} problems={[f.problem for f in self._files.values() if f.problem]}>"
        )

    async def run(self) -> None:
        """Read the files, and look for changes every `interval`, until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(self._interval)

    async def _look(self) -> None:
        """One look at every file; publishes when a file changed or at the first look."""
        fresh = not self._looked
        changed = await self._changed()
        for path in changed:
            fresh = await self._read(path, self._files[path]) or fresh
        if fresh:
            await self._tell()
        problems = [watched.problem for watched in self._files.values() if watched.problem]
        self._publish.mark(connected=not problems, synced=True, detail="; ".join(problems))
        self._looked = True

    async def _changed(self) -> list[str]:
        """The paths whose stamp is another one than that of the last read, and no longer changes."""
        stamps = await asyncio.to_thread(_stamps, list(self._files))
        changed = [
            path for path, watched in self._files.items() if stamps[path] != watched.stamp or watched.stamp is None
        ]
        written = [path for path in changed if self._looked and stamps[path] is not None]
        if written:
            await asyncio.sleep(min(SETTLE, self._interval))
            again = await asyncio.to_thread(_stamps, written)
            changed = [path for path in changed if path not in again or again[path] == stamps[path]]
        return changed

    async def _read(self, path: str, watched: _Watched) -> bool:
        """Read one file; True when it gave something new to publish."""
        try:
            stamp, size, found = await asyncio.to_thread(_load, path)
        except (OSError, ValueError) as error:
            watched.stamp = None
            self._refuse(path, watched, getattr(error, "strerror", None) or str(error))
            return False
        watched.stamp = stamp
        if isinstance(found, str):
            self._refuse(path, watched, found)
            return False
        self.counters.bytes += size
        self._report(path, found)
        if not found.sets and (found.fault_count or watched.good is not None):
            self._refuse(path, watched, "no valid record in it")
            return False
        watched.good, watched.problem = found, ""
        log.info(
            "static file read file=%s sets=%d faults=%d zone=%s", path, len(found.sets), found.fault_count, found.zone
        )
        return True

    def _refuse(self, path: str, watched: _Watched, reason: str) -> None:
        kept = "what it last said stays" if watched.good is not None else "it was not read since the start"
        problem = f"{path}: {reason}; {kept}"
        if problem != watched.problem:
            self.counters.errors["document"] += 1
            log.warning("static file not usable %s", problem)
        watched.problem = problem

    def _report(self, path: str, found: MasterFile) -> None:
        self.counters.malformed += found.fault_count
        for fault in found.faults[:FAULTS_LOGGED]:
            self._complain(f"static file: left out {path}:{fault.line}: {fault.text}")
        if found.fault_count > FAULTS_LOGGED:
            log.warning("static file: more was left out file=%s faults=%d", path, found.fault_count)

    async def _tell(self) -> None:
        """Publish the union of all files."""
        good = [watched.good for watched in self._files.values() if watched.good is not None]
        records, conflicts = await asyncio.to_thread(merge, good)
        for conflict in conflicts[:FAULTS_LOGGED]:
            self._complain(f"static files: {conflict}")
        # While a file was never read, what an earlier process knew of it is not given up.
        kept = frozenset(self._publish.said()) if len(good) < len(self._files) else frozenset()
        await self._publish.sync(Sync(changed=tuple(records), kept=kept, kinds=frozenset({"records"})))
        self.counters.syncs += 1


def merge(files: Iterable[MasterFile]) -> tuple[list[StaticRecords], list[str]]:
    """One record set per owner and type out of all files, and a text for each conflict.

    Files of one zone add up, the lower TTL holding for a set (RFC 2181 §5.2). Where zones differ, the
    longer one is the authority for the name, and a zone of its own comes before additions to others.
    """
    sets: dict[tuple[str, int], StaticRecords] = {}
    conflicts: list[str] = []
    for file in files:
        for key, new in file.sets.items():
            old = sets.get(key)
            sets[key] = new if old is None else _joined(old, new, conflicts)
    return list(sets.values()), conflicts


def _joined(old: StaticRecords, new: StaticRecords, conflicts: list[str]) -> StaticRecords:
    what = f"{new.owner} type {new.rtype}"
    if old.zone != new.zone:
        winner = max(old, new, key=lambda records: len(records.zone))
        conflicts.append(f"{what} is in two zones: {winner.zone}'s is served")
        return winner
    rdata = tuple(dict.fromkeys(old.rdata + new.rdata))
    if new.rtype in SINGLE and len(rdata) > 1:
        conflicts.append(f"{what} is in two files: the first one's is served")
        return old
    if sum(len(data) + 12 for data in rdata) > MAX_SET:
        conflicts.append(f"{what} of two files together is over {MAX_SET} octets: the first one's is served")
        return old
    return StaticRecords(new.owner, new.rtype, min(old.ttl, new.ttl), rdata, new.zone)


def _stamps(paths: list[str]) -> dict[str, Stamp | None]:
    """Each path's stamp; None when it can't be had."""
    found: dict[str, Stamp | None] = {}
    for path in paths:
        try:
            found[path] = stamp_of(os.stat(path))
        except (OSError, ValueError):
            found[path] = None
    return found


def _load(path: str) -> tuple[Stamp, int, MasterFile | str]:
    """Read and parse a file: its stamp, its size, and its content or why that can't be taken. Raises OSError."""
    with opened(path) as (fd, status), os.fdopen(fd, "rb", closefd=False) as file:
        stamp = stamp_of(status)
        if not mode.S_ISREG(status.st_mode):
            return stamp, 0, "no regular file"
        if status.st_size > MAX_BYTES:
            return stamp, 0, f"over {MAX_BYTES} bytes"
        lines: list[bytes] = []
        size = 0
        # In pieces, so that no single call keeps the event loop's thread waiting.
        while piece := file.readlines(1 << 16):
            size += sum(map(len, piece))
            lines += piece
            if size > MAX_BYTES:
                break
        if stamp_of(os.fstat(fd)) != stamp:
            raise OSError(f"{path} changed while it was read")
    if lines and lines[0].startswith(b"\xef\xbb\xbf"):
        lines[0] = lines[0][3:]
    try:
        return stamp, size, parse(lines)
    except TooManyRecords as error:
        return stamp, 0, str(error)
