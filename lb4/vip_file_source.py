"""The VIP file source: publishes the VIPs of one file, which is watched and read again when it changes.

The file counts as a whole: one bad VIP, and what it last said well stays, as it does when the file is removed or
can't be read. The source is then marked stale and says why. A process that starts with a bad file goes on with what
the saved catalog has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat as mode
from pathlib import Path

from lb4.vip_file import read_vips
from mesos_dns.model import DEFAULT_CLUSTER, Sync, Vip
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.toml_tables import MAX_BYTES, TomlError
from mesos_dns.watched_file import SETTLE, Stamp, opened, stamp_of

log = logging.getLogger(__name__)

INTERVAL = 0.4
"""Seconds between two looks: with SETTLE and the reading, an edit is taken over within a second."""
PROBLEMS_LOGGED = 20
"""Problems of one file that are logged; of the rest the number."""


class VipFileSource:
    """Publishes the VIPs of the file `path`; `counters.malformed` counts problems, `counters.syncs` good files.

    `unread` is True while the file was never read, nor anything known of it from before the start: the process is ready
    without it, but what it says is no reason to give up more.
    """

    def __init__(
        self, publish: Publisher, path: Path, *, cluster: str = DEFAULT_CLUSTER, interval: float = INTERVAL
    ) -> None:
        self.counters = SourceCounters()
        self.problem = ""
        """Why the file as it is now is not taken."""
        self._path = str(path)
        self._publish = publish
        self._cluster = cluster
        self._interval = interval
        self._stamp: Stamp | None = None
        self._looked = False
        self._good = False

    @property
    def unread(self) -> bool:
        """See the class."""
        return not self._good and not self._publish.said()

    def __repr__(self) -> str:
        return f"<VipFileSource file={self._path!r} vips={len(self._publish.said())} problem={self.problem!r}>"

    async def run(self) -> None:
        """Read the file, and look for changes every `interval`, until cancelled."""
        while True:
            await self._look()
            self._publish.mark(connected=not self.problem, synced=True, detail=self.problem)
            self._looked = True
            await asyncio.sleep(self._interval)

    async def _look(self) -> None:
        """Read the file when it is another one than at the last look, and is no longer being written."""
        try:
            stamp = await asyncio.to_thread(_stamp_of, self._path)
            if stamp == self._stamp:
                return
            if self._looked:
                await asyncio.sleep(min(SETTLE, self._interval))
                if await asyncio.to_thread(_stamp_of, self._path) != stamp:
                    return
            self._stamp, raw = await asyncio.to_thread(_load, self._path)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
            self._stamp = None
            self._refuse([getattr(error, "strerror", None) or str(error)])
            return
        if not raw.strip() and self._publish.said():
            self._refuse(["is empty: write `vip = []` to have no VIPs"])
            return
        try:
            vips = await asyncio.to_thread(read_vips, raw, self._path, self._cluster)
        except TomlError as error:
            self._refuse([str(problem) for problem in error.problems])
            return
        await self._take(vips, len(raw))

    async def _take(self, vips: tuple[Vip, ...], size: int) -> None:
        await self._publish.sync(Sync(changed=vips, kinds=frozenset({"vip"})))
        self.problem, self._good = "", True
        self.counters.syncs += 1
        self.counters.bytes += size
        log.info("vip file read file=%s vips=%d", self._path, len(vips))

    def _refuse(self, problems: list[str]) -> None:
        """Keep what is known; each problem is one line of the log, once for one content of the file."""
        first = problems[0] if len(problems) == 1 else f"{problems[0]} (and {len(problems) - 1} more)"
        kept = "it was not read since the start" if not self._good else "what it last said stays"
        problem = f"{self._path}: {first}; {kept}"
        if problem == self.problem and self._stamp is None:
            return
        self.problem = problem
        self.counters.errors["document"] += 1
        self.counters.malformed += len(problems)
        log.warning("vip file not taken file=%s problems=%d; %s", self._path, len(problems), kept)
        for text in problems[:PROBLEMS_LOGGED]:
            log.warning("vip file: %s: %s", self._path, text)
        if len(problems) > PROBLEMS_LOGGED:
            log.warning("vip file: and more problems file=%s more=%d", self._path, len(problems) - PROBLEMS_LOGGED)


def _stamp_of(path: str) -> Stamp:
    """A file's stamp. Raises OSError, ValueError."""
    return stamp_of(os.stat(path))


def _load(path: str) -> tuple[Stamp, bytes]:
    """A file's stamp and bytes, one more than are allowed at most. Raises OSError, ValueError.

    A pipe or a device is refused without waiting for it.
    """
    with opened(path) as (fd, status):
        if not mode.S_ISREG(status.st_mode):
            raise OSError("no regular file")
        pieces, left = [], MAX_BYTES + 1
        while left and (piece := os.read(fd, left)):
            pieces.append(piece)
            left -= len(piece)
        if stamp_of(os.fstat(fd)) != stamp_of(status):
            raise OSError("changed while it was read")
    return stamp_of(status), b"".join(pieces)
