"""Finds containers with a network of their own, from a folder with a file for each.

    async for change in NamespaceFolder("/var/run/dcos/cni/l4lb").changes():
        ...

A file's name is the container's id, its content the path of the container's network namespace: what the CNI plugin
of dcos-net writes. A container that can't reach virtual addresses through the host gets a data plane inside.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

MOST = 10_000
"""Containers that are followed; more are said and left out."""
MOST_OF_A_PATH = 4096
"""Octets of a path, PATH_MAX."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the folder."""

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_NS_GET_NSTYPE = 0xB703
_CLONE_NEWNET = 0x40000000
_OWN = "/proc/self/ns/net"


class Container(NamedTuple):
    """A container's id, the path of its network namespace, and what the kernel tells that apart by."""

    id: str
    path: str
    identity: tuple[int, int]


class Change(NamedTuple):
    """A container that has come, or gone."""

    is_there: bool
    container: Container


def differences(before: Mapping[str, Container], now: Mapping[str, Container]) -> list[Change]:
    """What has gone and what has come, by id; a container whose namespace is another one now has done both."""
    gone = [Change(False, each) for key, each in before.items() if now.get(key) != each]
    return gone + [Change(True, each) for key, each in now.items() if before.get(key) != each]


def parse_path(content: bytes) -> str:
    """The path that a file holds. Raises ValueError: it is to be one absolute path."""
    text = content.strip(b"\n ")
    if len(text) > MOST_OF_A_PATH:
        raise ValueError(f"a path of more than {MOST_OF_A_PATH} octets")
    if not text.startswith(b"/") or any(octet < 0x20 for octet in text):
        raise ValueError(f"not an absolute path: {text[:80]!r}")
    return os.fsdecode(text)


class NamespaceFolder:
    """See the module. Files that are no good are said once and left out. `rejected` counts those of the last look."""

    def __init__(self, folder: str | Path, every: float = LOOK_EVERY) -> None:
        self.rejected = 0
        self._folder = Path(folder)
        self._every = every
        self._said: dict[str, str] = {}

    async def changes(self) -> AsyncIterator[Change]:
        """Containers that come and go, first those that are there; without end."""
        known: Mapping[str, Container] = {}
        while True:
            now = await asyncio.to_thread(self.look)
            if now is not None:
                for change in differences(known, now):
                    yield change
                known = now
            await asyncio.sleep(self._every)

    def look(self) -> Mapping[str, Container] | None:
        """The containers by id; None when the folder can't be read. Blocks.

        No folder is no containers. Of two with one namespace the first by id counts (containers of a pod share it),
        and the host's own namespace is none.
        """
        bad: dict[str, str] = {}
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if not entry.name.startswith("."))
        except FileNotFoundError:
            names = []
        except OSError as error:
            self._say({"": str(error)})
            return None
        if len(names) > MOST:
            bad[""] = f"more than {MOST} files, the others are left out"
        found: dict[str, Container] = {}
        taken = {_identity(_OWN)}
        for name in names[:MOST]:
            try:
                container = self._container(name)
            except (OSError, ValueError) as error:
                bad[name] = str(error)
                continue
            if container.identity not in taken:
                taken.add(container.identity)
                found[name] = container
        self._say(bad)
        return found

    def _container(self, name: str) -> Container:
        if not _ID.fullmatch(name):
            raise ValueError("not a container's id")
        descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("not a file")
            path = parse_path(os.read(descriptor, MOST_OF_A_PATH + 2))
        finally:
            os.close(descriptor)
        return Container(name, path, _identity(path))

    def _say(self, bad: dict[str, str]) -> None:
        for name, reason in bad.items():
            if self._said.get(name) != reason:
                log.warning("container's network not used folder=%s file=%r reason=%s", self._folder, name, reason)
        self._said = bad
        self.rejected = len(bad)


def _identity(path: str) -> tuple[int, int]:
    """Device and inode of a network namespace. Raises OSError or ValueError: there is none."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a device or a FIFO may do something
        raise ValueError("not a network namespace")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
        except OSError:
            raise ValueError("not a network namespace") from None
        if kind != _CLONE_NEWNET:
            raise ValueError("a namespace of another kind")
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino
    finally:
        os.close(descriptor)
