"""When the hosts of followers were last heard: one that has fallen silent may be down or cut off.

A host is judged once one of its followers was in sync: until then megabytes may be on the way to it, which its signs
of life wait behind. One whose connection was ended by somebody is forgotten: its kernel said good-bye, so the host
lives, whatever became of the program. One that fell silent in the middle is remembered until it connects again, or
for HOLD.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

SILENT = 3.0
"""Seconds without a sign of life after which a host is silent; followers show life once a second."""

HOLD = 180.0
"""Seconds for which a host that fell silent is remembered. By its defaults a master gives the tasks of an agent up
after 75 s; a host that is still remembered then runs well, and only its Pharos has gone."""

STALL = 2.0
"""Seconds between two looks from which on it was this process that heard nothing, or nobody who looked."""

MOST = 20_000
"""Hosts that are remembered at most."""


class _Host:
    """`at`: when it was last heard; `within` so many seconds it is to be heard again."""

    __slots__ = ("at", "connections", "in_sync", "within")

    def __init__(self, at: float) -> None:
        self.at = at
        self.within = SILENT
        self.connections = 0
        self.in_sync = False


class Hearing:
    """Hosts by address; see the module. `look` is to be called at least every second by who goes by it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hosts: dict[str, _Host] = {}
        self._looked = clock()

    def __len__(self) -> int:
        """All hosts, heard or silent."""
        return len(self._hosts)

    def enter(self, address: str) -> None:
        """A follower has connected from there."""
        now = self._clock()
        host = self._hosts.get(address)
        if host is None or not host.connections:
            if host is None and len(self._hosts) >= MOST:
                self._give_up(now)
                if len(self._hosts) >= MOST:
                    return
            host = self._hosts[address] = _Host(now)
        host.connections += 1
        host.at = now

    def heard(self, address: str, within: float = SILENT) -> None:
        """It has shown life, and is to do so again within so many seconds."""
        host = self._hosts.get(address)
        if host is not None:
            host.at = self._clock()
            host.within = within

    def in_sync(self, address: str) -> None:
        """A follower there has all that there is: from now on the host is judged."""
        host = self._hosts.get(address)
        if host is not None:
            host.in_sync = True

    def excuse(self, address: str, within: float) -> None:
        """Its next sign of life may come as late as so many seconds after the last. A silent one stays silent."""
        host = self._hosts.get(address)
        if host is not None and self._clock() - host.at < host.within:
            host.within = max(host.within, within)

    def leave(self, address: str, *, silent: bool) -> None:
        """Its connection has ended; `silent`: because nothing was heard."""
        host = self._hosts.get(address)
        if host is None or not host.connections:
            return
        host.connections -= 1
        if host.connections:
            return
        if silent and host.in_sync:
            host.within = SILENT
        else:
            del self._hosts[address]

    def look(self) -> frozenset[str]:
        """The hosts that are silent now. After a stall of this process everybody gets the time back."""
        now = self._clock()
        stall = now - self._looked
        self._looked = now
        self._give_up(now)
        if stall > STALL:
            for host in self._hosts.values():
                host.at = min(now, host.at + stall)
        silent = [address for address, host in self._hosts.items() if host.in_sync and now - host.at >= host.within]
        return frozenset(silent)

    def hears(self, address: str) -> bool:
        """True when it was heard lately, or is connected and not yet judged."""
        host = self._hosts.get(address)
        return host is not None and (not host.in_sync or self._clock() - host.at < host.within)

    def _give_up(self, now: float) -> None:
        for address, host in list(self._hosts.items()):
            if not host.connections and now - host.at > HOLD:
                del self._hosts[address]
                log.info("a host has been silent for long, it is no longer remembered host=%s", address)
