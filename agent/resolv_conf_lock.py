"""Lets one process at a time keep a resolv.conf, whatever its state_dir is.

The lock (flock(2)) is on a file of its own that nobody but its owner can open: one that others can read, they could
lock as well. It is beside the resolv.conf, and where nothing can be made there beside the saved original. It ends
with the last process that has it, and the last one removes the file. Only the standard library is used: the watchdog
loads this module.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

_TRIES = 10


def lock(path: Path, saved: Path) -> int:
    """An open file whose lock makes this process and those that inherit it the only keepers of `path`.

    Raises BlockingIOError when another has it, OSError when there is no place for it.
    """
    if is_locked(path, saved):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    beside, place = _places(path, saved)
    if os.access(path.parent, os.W_OK):
        place = beside
    else:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(_TRIES):
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        if _is_open_as(place, fd):
            return fd
        os.close(fd)  # the last one removed it just now
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def unlock(fd: int, path: Path, saved: Path) -> None:
    """Give the lock back; only the last of those that inherited it may do so."""
    try:
        for place in _places(path, saved):
            if _is_open_as(place, fd):
                place.unlink(missing_ok=True)
    finally:
        os.close(fd)


def is_locked(path: Path, saved: Path) -> bool:
    """Whether a process keeps `path`. Who may not look believes the file: its owner removes it at its end."""
    for place in _places(path, saved):
        try:
            fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        except PermissionError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def _places(path: Path, saved: Path) -> tuple[Path, Path]:
    """A file that is mounted by itself, as in containers, may have its folder in common with others of its name."""
    which = ""
    if is_mounted(path):
        about = os.stat(path)
        which = f"-{about.st_dev:x}-{about.st_ino:x}"
    return path.with_name(f".pharos-{path.name}{which}.lock"), saved.with_name(f"{saved.name}.lock")


def _is_open_as(place: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(place), os.fstat(fd))
    except (FileNotFoundError, PermissionError):
        return False


def is_mounted(path: Path) -> bool:
    """Whether a file is a mount point by itself, as resolv.conf is in containers (proc(5): /proc/PID/mountinfo)."""
    place = os.fsencode(path.parent.resolve() / path.name).replace(b" ", b"\\040")
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            return any(mount.split(b" ", 5)[4] == place for mount in mounts)
    except (OSError, IndexError):
        return False
