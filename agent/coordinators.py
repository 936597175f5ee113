"""Coordination on a directory: the `Coordinator` of one machine, for one process or several.

    DIR/lock                    held (flock) during every change, so compare-and-set is one step
    DIR/data/a/b/=value         the value of key "a/b"; "=" can't occur in a key
    DIR/roles/ROLE              held (flock) by the leader of ROLE
    DIR/holders/ID              held (flock) by a process as long as it lives; its ephemerals name it
    DIR/new                     the value being written, renamed into its place when it is on the disk

Nothing has to be tidied after a crash: the kernel frees the locks of a killed process, a value is
either the old or the new one, and ephemerals whose holder's lock is free do not count; the next
process that registers removes them. The directory must be on a local file system (flock).

Changes by this process reach its watchers at once, those of other processes within `poll` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.coordinator_keys import check_key, check_role, check_value
from agent.file_election import FileElection, finished, is_locked, try_lock
from mesos_dns.coordinate import ABSENT, MAX_VALUE, CoordinatorLost, Election, VersionConflict, Versioned

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 10.0
"""Seconds that a change waits for another process's change; one takes a few milliseconds."""

_VALUE = "=value"
_HEAD = struct.Struct(">4sQII16s")
_MAGIC = b"PHK1"
_NOBODY = bytes(16)
_RACY = 100_000_000
"""Nanoseconds within which a file may change twice under one time stamp: it is then read again."""

T = TypeVar("T")


class _Stored(msgspec.Struct, frozen=True):
    """A value file: the version, the value, and who holds it (16 zero bytes: nobody, it stays)."""

    version: int
    value: bytes
    holder: bytes = _NOBODY


class _Seen(msgspec.Struct, frozen=True):
    """A value file as a watch last read it, and the stat that says whether it must be read again."""

    stat: tuple[int, int, int]
    stored: _Stored | None
    racy: bool


class StateDirCoordinator:
    """The `Coordinator` Protocol on the directory `path`. `close` gives up every lock.

    `poll` (seconds) is how late changes, deaths and lost locks of other processes may be noticed.
    Versions start at 0 and grow by 1 with each write of a key.
    """

    def __init__(self, path: Path, poll: float = 1.0) -> None:
        self.path = path
        self.poll = poll
        self._holder = uuid.uuid4()
        self._holder_fd = -1
        self._changed = asyncio.Event()
        self._complaints: set[str] = set()

    def __repr__(self) -> str:
        return f"<StateDirCoordinator {str(self.path)!r}>"

    def close(self) -> None:
        """Give up this process's ephemerals: they no longer count. Contexts should be left first."""
        fd, self._holder_fd = self._holder_fd, -1
        if fd >= 0:
            os.close(fd)

    # --- elections ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def elect(self, role: str) -> AsyncIterator[Election]:
        """Stand for `role` while the context is open. Raises ValueError when it is no legal segment."""
        check_role(role)
        election = FileElection(self.path / "roles" / role, min(self.poll, 0.25))
        standing = asyncio.create_task(election.stand(), name=f"elect-{role}")
        try:
            yield election
        finally:
            standing.cancel()
            await asyncio.wait([standing])

    # --- values ------------------------------------------------------------------------------------

    async def get(self, key: str) -> Versioned | None:
        """The value of a key, or None. Raises CoordinatorLost, ValueError."""
        path = self._file(key)

        def read() -> Versioned | None:
            stored = _load(path)
            if stored is None or not self._alive(stored.holder):
                return None
            return Versioned(stored.value, stored.version)

        return await self._run(read)

    async def put_if(self, key: str, value: bytes, version: int) -> int:
        """Write when the key's version equals `version`; see the Protocol. On the disk when it returns."""
        path = self._file(key)
        check_value(key, value)

        def write() -> int:
            with self._locked():
                stored = self._current(path)
                _compare(key, stored, version)
                new = _Stored(version + 1, value, stored.holder if stored else _NOBODY)
                self._store(path, new)
                return new.version

        written = await self._run(write)
        self._tell()
        return written

    async def delete_if(self, key: str, version: int) -> None:
        """Delete when the key's version equals `version`; see the Protocol."""
        path = self._file(key)

        def delete() -> None:
            with self._locked():
                stored = self._current(path)
                _compare(key, stored, version)
                if stored is not None:
                    self._remove(path)

        await self._run(delete)
        self._tell()

    @contextlib.asynccontextmanager
    async def register(self, key: str, value: bytes) -> AsyncIterator[None]:
        """Hold `key` while the context is open and this process lives.

        Raises VersionConflict when the key exists (held by a living process or permanent),
        CoordinatorLost, ValueError.
        """
        path = self._file(key)
        check_value(key, value)

        held = False

        def hold() -> None:
            nonlocal held
            with self._locked():
                self._become_holder()
                _compare(key, self._current(path), ABSENT)
                self._store(path, _Stored(0, value, self._holder.bytes))
                held = True

        def release() -> None:
            if not held:
                return
            with self._locked():
                stored = _load(path)
                if stored is not None and stored.holder == self._holder.bytes:
                    self._remove(path)

        try:
            await self._run(hold)
            self._tell()
            yield
        finally:
            # Not removing it is no harm: the next one who looks does, once this process is gone.
            with contextlib.suppress(CoordinatorLost):
                await self._run(release)
            self._tell()

    async def watch(self, prefix: str) -> AsyncIterator[dict[str, bytes]]:
        """All keys below `prefix` ("" = all) now and after each change: whole key → value.

        Raises ValueError for an illegal prefix. While the directory can't be read nothing is
        yielded: the caller keeps what it has.
        """
        if prefix:
            self._file(prefix)
        seen: dict[str, _Seen] = {}
        last: dict[str, bytes] | None = None
        while True:
            changed = self._changed
            try:
                seen, now = await asyncio.to_thread(self._scan, prefix, seen)
            except OSError as error:
                self._complain(f"watch {prefix!r}", error)
            else:
                if now != last:
                    last = now
                    yield dict(now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.poll):
                    await changed.wait()

    # --- in threads --------------------------------------------------------------------------------

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await finished(work)
        except OSError as error:
            raise CoordinatorLost(f"state directory {self.path}: {error}") from error

    def _file(self, key: str) -> Path:
        check_key(key)
        return self.path / "data" / key / _VALUE

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold DIR/lock. Raises TimeoutError (an OSError) when it is not to be had in LOCK_TIMEOUT."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_TIMEOUT
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not try_lock(fd, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.path / 'lock'} is held by another process for over {LOCK_TIMEOUT:g} s")
                time.sleep(0.005)
            yield
        finally:
            os.close(fd)

    def _current(self, path: Path) -> _Stored | None:
        """The value of a file (under the lock); that of a dead holder is removed and counts as absent."""
        stored = _load(path)
        if stored is not None and not self._alive(stored.holder):
            self._remove(path)
            return None
        return stored

    def _store(self, path: Path, stored: _Stored) -> None:
        spare = self.path / "new"
        head = _HEAD.pack(_MAGIC, stored.version, len(stored.value), zlib.crc32(stored.value), stored.holder)
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(head + stored.value)
            file.flush()
            os.fsync(fd)
        _make_folders(path.parent)
        spare.replace(path)
        _sync_folder(path.parent)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
        for folder in path.parents:
            if folder == self.path / "data":
                return
            try:
                folder.rmdir()
            except OSError:
                return  # another key lives in it

    def _become_holder(self) -> None:
        """Create and lock this process's holder file (under the lock); remove what the dead held."""
        if self._holder_fd >= 0:
            return
        folder = self.path / "holders"
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in folder.iterdir():
            if not is_locked(path):
                path.unlink(missing_ok=True)
        fd = os.open(folder / self._holder.hex, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not try_lock(fd, fcntl.LOCK_EX):
            os.close(fd)
            raise OSError(f"{folder / self._holder.hex} is held by another process")
        self._holder_fd = fd
        for folder_name, _, names in os.walk(self.path / "data"):
            if _VALUE in names:
                with contextlib.suppress(CoordinatorLost):
                    self._current(Path(folder_name) / _VALUE)

    def _alive(self, holder: bytes) -> bool:
        return holder == _NOBODY or is_locked(self.path / "holders" / holder.hex())

    def _scan(self, prefix: str, seen: dict[str, _Seen]) -> tuple[dict[str, _Seen], dict[str, bytes]]:
        """Every value below `prefix`; files whose stat is the one in `seen` are not read again."""
        root = self.path / "data"
        start = root / prefix
        found: dict[str, _Seen] = {}
        living: dict[bytes, bool] = {}
        values: dict[str, bytes] = {}
        if seen and not root.is_dir():
            raise FileNotFoundError(f"{root} is gone")
        for folder, _, names in os.walk(start, onerror=_unless_absent):
            if _VALUE not in names or Path(folder) == start:
                continue
            key = str(Path(folder).relative_to(root))
            entry = self._look(key, Path(folder) / _VALUE, seen.get(key))
            if entry is None:
                continue
            found[key] = entry
            if entry.stored is not None:
                holder = entry.stored.holder
                if holder not in living:
                    living[holder] = self._alive(holder)
                if living[holder]:
                    values[key] = entry.stored.value
        return found, values

    def _look(self, key: str, path: Path, before: _Seen | None) -> _Seen | None:
        try:
            now = time.time_ns()
            status = path.stat()
            stat = (status.st_mtime_ns, status.st_size, status.st_ino)
            if before is not None and before.stat == stat and not before.racy:
                return before
            return _Seen(stat, _load(path), now - status.st_mtime_ns < _RACY)
        except FileNotFoundError:
            return None
        except CoordinatorLost as error:
            self._complain(key, error)
            return _Seen(stat, before.stored if before else None, False)

    def _complain(self, what: str, error: Exception) -> None:
        """Log a fault once per place until something else goes wrong there."""
        text = f"{what}: {error}"
        if len(self._complaints) >= 1024:
            self._complaints.clear()
        if text not in self._complaints:
            self._complaints.add(text)
            log.warning("coordination in the state directory is impaired path=%s %s", self.path, text)

    def _tell(self) -> None:
        """Wake every watch of this process."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _compare(key: str, stored: _Stored | None, version: int) -> None:
    found = ABSENT if stored is None else stored.version
    if found != version:
        raise VersionConflict(f"key {key!r}: version {found} found, {version} expected ({ABSENT} means absent)")


def _load(path: Path) -> _Stored | None:
    """Read a value file; None when there is none. Raises CoordinatorLost when it is damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD.size + MAX_VALUE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(data) >= _HEAD.size:
        magic, version, length, checksum, holder = _HEAD.unpack_from(data)
        value = data[_HEAD.size :]
        if magic == _MAGIC and length == len(value) and checksum == zlib.crc32(value):
            return _Stored(version, value, holder)
    raise CoordinatorLost(f"{path} is damaged; restore it or remove it")


def _unless_absent(error: OSError) -> None:
    """What a walk does about a folder that it can't read: only one that was just removed is no matter."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _make_folders(folder: Path) -> None:
    """Create `folder`, each new entry brought to the disk."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
