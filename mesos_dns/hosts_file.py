"""The system's hosts file (/etc/hosts), parsed strictly and read again when it changes."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mesos_dns.hosts import is_host
from mesos_dns.model import canonical_address

log = logging.getLogger(__name__)

CHECK = 1.0
"""Seconds between two looks at whether the file has changed."""

MAX_FILE = 4 << 20
"""Bytes of the largest file that is read."""

MAX_NAMES = 100_000
MAX_ADDRESSES = 64
"""Addresses of one name that are kept."""

_Mark = tuple[int, int, int]
_ABSENT: _Mark = (0, 0, 0)


class HostsText(msgspec.Struct, frozen=True):
    """A hosts file taken apart: name (lower case, no trailing dot) → canonical addresses in the file's order.

    `bad`: the numbers of the lines that say something else, which are passed over.
    """

    addresses: Mapping[str, tuple[str, ...]]
    bad: tuple[int, ...] = ()


def folded(name: str) -> str:
    """A host name as names are compared: lower case, without the trailing dot."""
    return name.lower().removesuffix(".")


def parse(text: str) -> HostsText:
    """ADDRESS NAME… per line; "#" begins a comment. Several lines of one name add up, as in glibc's `multi on`.

    A line with anything that is no address or no host name (an address with a zone id, too) is bad as a whole.
    """
    found: dict[str, dict[str, None]] = {}
    bad: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        address = canonical_address(words[0])
        names = [folded(name) for name in words[1:]]
        if not address or not names or not all(is_host(name) and not canonical_address(name) for name in names):
            bad.append(number)
            continue
        for name in names:
            if name not in found and len(found) >= MAX_NAMES:
                bad.append(number)
                break
            if len(known := found.setdefault(name, {})) < MAX_ADDRESSES:
                known[address] = None
    return HostsText({name: tuple(addresses) for name, addresses in found.items()}, tuple(bad))


class HostsFile:
    """The hosts file as it is now; files are touched in a thread. One that can't be read stays as it was read."""

    def __init__(self, path: Path = Path("/etc/hosts")) -> None:
        self.path = path
        self._mark: _Mark | None = None
        self._looked = 0.0
        self._addresses: Mapping[str, tuple[str, ...]] = {}
        self._looking = asyncio.Lock()
        self._complaint = ""

    async def lookup(self, name: str) -> tuple[str, ...]:
        """The addresses of a folded name; () when the file does not name it."""
        async with self._looking:
            if self._mark is None or time.monotonic() - self._looked >= CHECK:
                await asyncio.to_thread(self._look)
                self._looked = time.monotonic()
        return self._addresses.get(name, ())

    def _look(self) -> None:
        """In a thread: read the file when it is another one than last time."""
        try:
            mark = _mark(self.path)
            if mark == self._mark:
                return
            parsed = parse(_text(self.path))
        except FileNotFoundError:
            self._mark, self._addresses = _ABSENT, {}
            return
        except (OSError, ValueError) as error:
            self._mark = _ABSENT  # the next look tries again
            self._complain(f"{error}; what it said before holds")
            return
        self._mark, self._addresses = mark, parsed.addresses
        self._complain(f"lines are passed over: {len(parsed.bad)}, the first is {parsed.bad[0]}" if parsed.bad else "")

    def _complain(self, text: str) -> None:
        if text and text != self._complaint:
            log.warning("hosts file file=%s reason=%s", self.path, text)
        self._complaint = text


def _mark(path: Path) -> _Mark:
    """What changes with the file. Raises OSError; a pipe would hold the reader up for ever."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is no regular file")
    return status.st_mtime_ns, status.st_size, status.st_ino


def _text(path: Path) -> str:
    """Raises OSError, ValueError (a file that is too large). Octets outside UTF-8 make their lines bad."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_FILE:
            raise ValueError(f"larger than {MAX_FILE} bytes")
        return file.read(MAX_FILE).decode("utf-8", "replace")
