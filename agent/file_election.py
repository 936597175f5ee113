"""Locks that die with their process: elections by who holds the lock on a file.

A flock belongs to an open file and the kernel frees it when the process ends, however it ends. A
process that forks without exec shares its locks with the child until both are gone: workers must
be started by spawn.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class FileElection:
    """One candidacy: whoever holds the lock on the role's file leads, as long as the file is that file."""

    def __init__(self, path: Path, poll: float) -> None:
        self._path = path
        self._poll = poll
        self._fd = -1
        self._won = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()

    def __repr__(self) -> str:
        return f"<Election {self._path.name} leading={self.leading}>"

    @property
    def leading(self) -> bool:
        """True while this candidate is the leader."""
        return self._won.is_set()

    async def won(self) -> None:
        """Return when this candidate leads."""
        await self._won.wait()

    async def lost(self) -> None:
        """Return when this candidate does not lead (any more)."""
        await self._lost.wait()

    async def stand(self) -> None:
        """Try to lead, watch the lock while leading, and again, until cancelled."""
        complaint = ""
        try:
            while True:
                try:
                    leads = await finished(self._holds)
                except OSError as error:
                    leads = False
                    if str(error) != complaint:
                        complaint = str(error)
                        log.warning("election impaired role=%s reason=%s", self._path.name, error)
                self._become(leads)
                await asyncio.sleep(self._poll)
        finally:
            self._become(False)
            self._release()

    def _become(self, leads: bool) -> None:
        if leads == self.leading:
            return
        log.info("leadership %s role=%s", "won" if leads else "lost", self._path.name)
        if leads:
            self._lost.clear()
            self._won.set()
        else:
            self._won.clear()
            self._lost.set()

    def _holds(self) -> bool:
        """Take the lock if it is free; False too when the locked file is no longer the role's file."""
        if self._fd < 0:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not try_lock(fd, fcntl.LOCK_EX):
                os.close(fd)
                return False
            self._fd = fd
        try:
            there, ours = self._path.stat(), os.fstat(self._fd)
        except OSError:
            self._release()
            raise
        if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return True
        self._release()
        return False

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


async def finished(work: Callable[[], T]) -> T:
    """Run `work` in a thread; when cancelled, first wait until it has ended, so that its outcome can be undone."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # seen: what counts now is the cancellation
        raise


def try_lock(fd: int, kind: int) -> bool:
    """Lock an open file (LOCK_EX or LOCK_SH) unless another holds it; the lock lives as long as the file is open."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """True when a living process holds this file's lock (a shared try, so that askers never meet)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)
