"""A file that is looked at now and then: what tells that it is another one, and reading it without waiting for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int, int]
"""A file's mtime in ns, size and inode."""

SETTLE = 0.1
"""Seconds that a changed file must stay as it is before it is read: editors write in several steps."""


def stamp_of(status: os.stat_result) -> Stamp:
    """What differs when the file does."""
    return (status.st_mtime_ns, status.st_size, status.st_ino)


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[int, os.stat_result]]:
    """A descriptor for reading and what is there, whatever it is: a pipe or a device is not waited for.

    Raises OSError, ValueError (a path with a NUL in it).
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd, os.fstat(fd)
    finally:
        os.close(fd)
