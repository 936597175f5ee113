"""How long and how many the proxy's connections may be, and things in the order of their last use."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from mesos_dns.connections import files_for_connections

T = TypeVar("T")

_PARTS = 8
"""A use is written down at most this often within the time that a thing may be idle: most uses cost nothing."""
_TICK = 1.0
"""Seconds between two looks at most."""
_SWEEP = 256
"""Things ended by one look at most; the next look then comes soon. Nothing else waits for long."""
_SOON = 0.02


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and numbers; what needs open files is bounded by them as well, see `connections_at_most`."""

    connections: int = 50_000
    """TCP connections at once, of all services; more wait with the kernel until there is room."""
    flows: int = 20_000
    """UDP clients at once, of all services; the one that was silent longest gives way."""
    connect: float = 3.0
    """How long a backend may take to accept a connection."""
    attempts: int = 3
    """Backends that are tried for one connection."""
    idle: float = 8100.0
    """After which an idle TCP connection is ended, give or take an eighth, as IPVS' `tcp` timeout."""
    half_closed: float = 120.0
    """The same, when one side has said that it sends no more, as IPVS' `tcpfin`."""
    udp_idle: float = 30.0
    """After which a UDP client is forgotten."""

    @property
    def connections_at_most(self) -> int:
        """Connections that the process has files for: three quarters of them, and each connection takes two."""
        return max(1, min(self.connections, files_for_connections() * 3 // 8))

    @property
    def flows_at_most(self) -> int:
        """Flows that the process has files for: a fifth of them, one each."""
        return max(1, min(self.flows, files_for_connections() // 5))


class Ages(Generic[T]):
    """Things, each with the time of its last use; `ended` is called with each that was not used for `limit` seconds.

    It is in order of last use within an eighth of the limit. There is a timer only while there are things.
    """

    def __init__(self, limit: float, ended: Callable[[T], None], loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._limit = limit
        self._ended = ended
        self._loop = loop or asyncio.get_running_loop()
        self._order: OrderedDict[T, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._order)

    def used(self, thing: T, now: float) -> float:
        """A thing is new, or was used; the time before which it need not be said again."""
        self._order[thing] = now
        self._order.move_to_end(thing)
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause, self._sweep)
        return now + self._limit / _PARTS

    def discard(self, thing: T) -> None:
        """A thing is gone, if it was there."""
        self._order.pop(thing, None)

    def oldest(self) -> T | None:
        """What was not used for longest."""
        return next(iter(self._order), None)

    def close(self) -> None:
        """Forget all of them."""
        self._order.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _pause(self) -> float:
        return min(_TICK, self._limit / _PARTS)

    def _sweep(self) -> None:
        """`ended` may take things out, and put things in."""
        self._timer = None
        before = self._loop.time() - self._limit - self._limit / _PARTS
        pause = self._pause
        for _ in range(_SWEEP):
            thing = next(iter(self._order), None)
            if thing is None or self._order[thing] > before:
                break
            del self._order[thing]
            self._ended(thing)
        else:
            pause = min(pause, _SOON)
        if self._order and self._timer is None:
            self._timer = self._loop.call_later(pause, self._sweep)
