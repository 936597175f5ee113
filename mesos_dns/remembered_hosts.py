"""The last known addresses of host names, kept on disk for the next start from cold.

The file is one JSON document that only its owner can read: {"format": 1, "hosts": {NAME: {"addresses":
[…], "seen": EPOCH SECONDS}}}, the name that was seen longest ago first. One that is damaged, too large or
of another format is refused as a whole with one log line: a process must start whatever is on its disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from pathlib import Path

import msgspec

from mesos_dns.hosts import is_host
from mesos_dns.hosts_file import folded
from mesos_dns.model import canonical_address

log = logging.getLogger(__name__)

FORMAT = 1
MAX_NAMES = 50_000
"""Names that are remembered at most; those seen longest ago give way."""

MAX_ADDRESSES = 16
"""Addresses of one name that are remembered."""

MAX_FILE = 64 << 20
"""Bytes of the largest file that is read: MAX_NAMES of the longest names with all their addresses fit."""

MAX_AGE = 30 * 86400.0
"""Seconds after which addresses that nobody has told again are forgotten."""

SEEN_STEP = 86400.0
"""Seconds by which a name's time may lag behind: telling the same again is no reason to write the file."""

INTERVAL = 5.0
"""Seconds from the first change to its save, and between saves."""

RETRY = 60.0
"""Seconds until a save that the disk did not take is tried again."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    addresses: tuple[str, ...]
    seen: float


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    hosts: dict[str, _Entry]


class RememberedHosts:
    """See the module. `restore` once, `note` what is learned, `run` to keep the file, `save` at the end.

    saves, errors: how often the file was written, and how often the disk did not take it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saves = 0
        self.errors = 0
        self._known: dict[str, _Entry] = {}
        self._changed = asyncio.Event()
        self._writing = threading.Lock()
        self._complaint = ""

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: str) -> tuple[str, ...]:
        """The last known addresses of a folded name; () when there are none."""
        entry = self._known.get(name)
        return entry.addresses if entry is not None else ()

    def note(self, name: str, addresses: tuple[str, ...]) -> None:
        """A folded name was just resolved to these (canonical) addresses."""
        now, kept = time.time(), addresses[:MAX_ADDRESSES]
        before = self._known.pop(name, None)
        if before is not None and set(before.addresses) == set(kept) and 0 <= now - before.seen < SEEN_STEP:
            self._known[name] = before
            return
        self._known[name] = _Entry(kept, now)
        if len(self._known) > MAX_NAMES:
            del self._known[next(iter(self._known))]
        self._changed.set()

    async def restore(self) -> None:
        """Read the file; what was noted already is newer and stays."""
        found = await asyncio.to_thread(self._load)
        self._known = {**{name: entry for name, entry in found.items() if name not in self._known}, **self._known}

    async def run(self) -> None:
        """Save when something changed, at most every INTERVAL, until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(INTERVAL)
            if not await self.save():
                await asyncio.sleep(RETRY)

    async def save(self) -> bool:
        """Write the file if anything changed; False (logged once per reason) when the disk does not take it."""
        if not self._changed.is_set():
            return True
        self._changed.clear()
        oldest = time.time() - MAX_AGE
        self._known = {name: entry for name, entry in self._known.items() if entry.seen >= oldest}
        try:
            await asyncio.to_thread(self._write, _Document(FORMAT, dict(self._known)))
        except OSError as error:
            self._changed.set()
            self.errors += 1
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("last known addresses not saved, the old file stays file=%s reason=%s", self.path, error)
            return False
        except asyncio.CancelledError:
            self._changed.set()  # nobody knows whether it was written
            raise
        self.saves += 1
        self._complaint = ""
        return True

    # --- in threads --------------------------------------------------------------------------------

    def _load(self) -> dict[str, _Entry]:
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_FILE:
                    raise ValueError(f"{size} bytes, at most {MAX_FILE} are read")
                return _checked(file.read(MAX_FILE), time.time())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            log.warning("last known addresses refused, starting without file=%s reason=%s", self.path, error)
            return {}

    def _write(self, document: _Document) -> None:
        """Replace the file, mode 0600, on the disk when it returns. Raises OSError; nothing is left behind then."""
        data = msgspec.json.format(msgspec.json.encode(document), indent=1)
        spare = self.path.with_name(self.path.name + ".new")
        with self._writing:  # a save that was given up may still be at it
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            spare.unlink(missing_ok=True)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                with os.fdopen(os.open(spare, flags, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                spare.replace(self.path)
            except OSError:
                spare.unlink(missing_ok=True)
                raise
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _checked(data: bytes, now: float) -> dict[str, _Entry]:
    """The entries of a document that are young enough. Raises ValueError when it is not what we write.

    A time in the future (a clock that was wrong) counts as now.
    """
    document = msgspec.json.decode(data, type=_Document)
    if document.format != FORMAT:
        raise ValueError(f"format {document.format}, this version reads format {FORMAT}")
    if len(document.hosts) > MAX_NAMES:
        raise ValueError(f"{len(document.hosts)} names, at most {MAX_NAMES} are read")
    found = {}
    for name, entry in document.hosts.items():
        if name != folded(name) or not is_host(name) or canonical_address(name):
            raise ValueError(f"{name[:300]!r} is no host name")
        if not 0 < len(entry.addresses) <= MAX_ADDRESSES:
            raise ValueError(f"{len(entry.addresses)} addresses of {name}")
        for address in entry.addresses:
            if address != canonical_address(address):
                raise ValueError(f"{address[:100]!r} of {name} is no canonical address")
        if entry.seen >= now - MAX_AGE:
            found[name] = msgspec.structs.replace(entry, seen=min(entry.seen, now))
    return found
