"""Connections that were made and that failed, from the kernel's table of them (/proc/net/ip_vs_conn).

A line: protocol, client address and port, virtual address and port, backend address and port, state, seconds until
the entry is forgotten; then the name and data of a persistence engine. Numbers are hexadecimal but for the
last one; IPv6 addresses are in brackets. As dcos-net counts: a connection that was not there at the look before and is
beyond its handshake was made; one that is still in its handshake and will be forgotten before the next look has failed.
"""

from __future__ import annotations

import io
import ipaddress
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lb4.services import BackendKey, ServiceKey

TABLE = Path("/proc/net/ip_vs_conn")
MOST_OCTETS = 8 << 20
"""Of the table that are read: about 80,000 connections. What is behind is not counted."""

STRETCH, PAUSE = 1_000, 0.002
"""Lines that are looked at without a pause, and its seconds. A look runs in a thread, and the event loop waits while
that computes: it has its turns in the pauses."""

_HANDSHAKE = frozenset({"SYN_SENT", "SYN_RECV"})
_ADDRESS = r"([0-9A-Fa-f]{8}|\[[0-9A-Fa-f:]{2,39}\])"
_LINE = re.compile(
    rf"(TCP|UDP)\s+{_ADDRESS}\s+([0-9A-Fa-f]{{4}})\s+{_ADDRESS}\s+([0-9A-Fa-f]{{4}})\s+"
    rf"{_ADDRESS}\s+([0-9A-Fa-f]{{4}})\s+([A-Z0-9_]+)\s+(\d{{1,10}})(?:\s.*)?"
)


class Connection(NamedTuple):
    """One entry; `expires` in seconds."""

    client: BackendKey
    service: ServiceKey
    backend: BackendKey
    state: str
    expires: int


def read_line(line: str) -> Connection | None:
    """A connection; None for a heading, another protocol, or what can't be read."""
    match = _LINE.fullmatch(line.strip())
    if match is None:
        return None
    service = _service(*match.group(1, 4, 5))
    try:
        client, backend = _address(match[2]), _address(match[6])
    except ValueError:
        return None
    if service is None:
        return None
    return Connection(
        BackendKey(client, int(match[3], 16)), service, BackendKey(backend, int(match[7], 16)), match[8], int(match[9])
    )


@lru_cache(maxsize=1 << 16)
def _service(protocol: str, address: str, port: str) -> ServiceKey | None:
    """Of the texts of a line. Services are few, their connections many: each is read once."""
    try:
        return ServiceKey(protocol.lower(), _address(address), int(port, 16))
    except ValueError:
        return None


def _address(text: str) -> str:
    """Raises ValueError."""
    if text.startswith("["):
        return str(ipaddress.IPv6Address(text[1:-1]))
    return str(ipaddress.IPv4Address(int(text, 16)))


def _is_address(text: str) -> bool:
    """Whether a text that _ADDRESS allows is one, cheaper than to read it."""
    if not text.startswith("["):
        return True
    try:
        socket.inet_pton(socket.AF_INET6, text[1:-1])
    except OSError:
        return False
    return True


def read_table(path: Path = TABLE) -> tuple[list[str], bool]:
    """The lines of the table, and whether there were more than are read. Raises OSError."""
    with path.open("rb") as file:
        data = file.read(MOST_OCTETS + 1)
    whole = len(data) <= MOST_OCTETS
    # Not `splitlines`: other threads would have to wait until it has made all of them.
    lines = [line.rstrip("\n") for line in io.StringIO(data.decode("ascii", "replace"))]
    return (lines if whole else lines[:-1]), not whole


class ConnectionCounts:
    """Totals by service. `look` is to be called every `interval` seconds, give or take `splay`, in a thread."""

    def __init__(self, interval: float = 10.0, splay: float = 2.0) -> None:
        self.made: Counter[ServiceKey] = Counter()
        self.failed: Counter[ServiceKey] = Counter()
        self.tables_cut = 0
        self._horizon = interval + splay
        self._known: set[int] = set()

    def look(self, lines: Iterable[str], *, cut: bool = False) -> None:
        """Count what the table says now. About 2 µs a line, with a pause now and then."""
        now: set[int] = set()
        left = STRETCH
        for line in lines:
            self._see(line, now)
            left -= 1
            if not left:
                time.sleep(PAUSE)
                left = STRETCH
        self._known = now
        self.tables_cut += cut

    def _see(self, line: str, now: set[int]) -> None:
        """Count an entry, and note it in `now`. The texts before its state say which it is."""
        line = line.strip()
        match = _LINE.fullmatch(line)
        if match is None:
            return
        state = match[8]
        number = hash(line[: match.end(7)])
        if number in self._known and state not in _HANDSHAKE:
            now.add(number)
            return
        protocol, client, address, port, backend, expires = match.group(1, 2, 4, 5, 6, 9)
        service = _service(protocol, address, port)
        if service is None or not _is_address(client) or not _is_address(backend):
            return
        if state not in _HANDSHAKE:
            if number not in now:
                self.made[service] += 1
            now.add(number)
        elif int(expires) < self._horizon:
            self.failed[service] += 1

    def keep(self, services: Iterable[ServiceKey]) -> None:
        """Forget the totals of all other services. Not to be called during a look."""
        wanted = set(services)
        for counts in (self.made, self.failed):
            for key in [key for key in counts if key not in wanted]:
                del counts[key]
