"""A leader's lease: whether this process may act is asked of the clock at the moment of acting.

A process can be stopped at any instruction and go on a minute later, so no event and no timer can say
in time that leading is over. `held` compares the clock with the end of the lease whenever it is asked;
the timer here only wakes those who wait for the loss. The clock is CLOCK_BOOTTIME: it also counts the
time that the machine was suspended.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import TypeAlias

log = logging.getLogger(__name__)

Clock: TypeAlias = Callable[[], float]


def boottime() -> float:
    """Seconds since the machine started, suspended or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """See the module. `extend` while there is proof, `end` at once when there is doubt."""

    def __init__(self, role: str, clock: Clock = boottime) -> None:
        self.role = role
        self._clock = clock
        self._until = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._won = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()

    def __repr__(self) -> str:
        return f"<Lease {self.role} held={self.held}>"

    @property
    def held(self) -> bool:
        """True while the lease runs."""
        return self._clock() < self._until

    async def won(self) -> None:
        """Return when the lease is held."""
        while True:
            await self._won.wait()
            if self.held:
                return
            self._ran_out()

    async def lost(self) -> None:
        """Return when the lease is not held (any more)."""
        await self._lost.wait()

    def extend(self, until: float) -> None:
        """Let the lease run until then; a time that has passed changes nothing."""
        if self._clock() >= until:
            return
        if self._won.is_set() and not self.held:
            self._ran_out()  # for those who wait: in between it was lost, whatever is true now
        self._until = until
        self._set_timer()
        if not self._won.is_set():
            log.info("leadership won role=%s", self.role)
            self._lost.clear()
            self._won.set()

    def end(self, reason: str) -> None:
        """Give the lease up now."""
        self._until = -math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._won.is_set():
            log.info("leadership lost role=%s reason=%s", self.role, reason)
            self._won.clear()
            self._lost.set()

    def _ran_out(self) -> None:
        if self.held:
            self._set_timer()  # the loop's clock is not ours
        else:
            self.end("no write was acknowledged in time")

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._until - self._clock(), self._ran_out)
