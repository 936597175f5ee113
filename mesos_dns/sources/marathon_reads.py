"""Single things that have to be read again: never two reads of one at a time, and never more than asked for.

What is wanted while it is being read is read once more afterwards. A read that fails for a reason of the outside is
tried again after a pause; when many fail in a row, the connection is given up by `broken`. What was read in vain
(there is no such thing, or we may not see it) rests for a while: whatever speaks of it meanwhile is one more read
afterwards. Pauses grow from one read in vain of the same thing to the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mesos_dns.sources.marathon_client import MarathonError

log = logging.getLogger(__name__)

PARALLEL = 8
RETRY_FIRST, RETRY_MOST = 0.1, 3.0
"""Seconds of the first and the longest pause."""

MOST_FAILURES = 12
"""Failed reads in a row after which the connection is given up."""


class Reads:
    """See the module. `read` tells whether it found anything, or raises MarathonError; `start` begins."""

    def __init__(self, read: Callable[[str], Awaitable[bool]], parallel: int = PARALLEL) -> None:
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._read = read
        self._parallel = parallel
        self._started = False
        self._waiting: dict[str, None] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._vain: dict[str, int] = {}
        self._failures = 0

    def __len__(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many are being read."""
        return len(self._running)

    def want(self, name: str) -> None:
        """Read this (again)."""
        if name in self._running or name in self._later:
            self._again.add(name)
            return
        self._waiting[name] = None
        self._next()

    def forget(self) -> None:
        """Something that is about to begin reads everything that waits. What is being read is not given up."""
        self._waiting.clear()
        for later in self._later.values():
            later.cancel()
        self._again.difference_update(self._later)
        self._later.clear()
        self._vain.clear()

    def start(self) -> None:
        """Begin with what was wanted so far."""
        self._started = True
        self._next()

    async def close(self) -> None:
        """Give everything up."""
        self._started = False
        self.forget()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self.broken.done():
            self.broken.cancel()

    def _next(self) -> None:
        while self._started and self._waiting and len(self._running) < self._parallel:
            name = next(iter(self._waiting))
            del self._waiting[name]
            self._running[name] = asyncio.get_running_loop().create_task(self._run(name), name=f"read {name}")

    async def _run(self, name: str) -> None:
        try:
            found = await self._read(name)
            self._failures = 0
            if found:
                self._vain.pop(name, None)
            else:
                self._pause(name)
        except MarathonError as error:
            self._failed(name, error)
        except Exception as error:
            log.exception("reading again failed id=%s", name)
            self._break(MarathonError("internal", f"internal error: {error!r}"))
        finally:
            del self._running[name]
            if name in self._again and name not in self._later:
                self._again.discard(name)
                if self._started:
                    self.want(name)
            self._next()

    def _failed(self, name: str, error: MarathonError) -> None:
        self._failures += 1
        log.debug("reading again failed id=%s error=%s", name, error)
        if self._failures >= MOST_FAILURES or error.kind in ("moved", "auth", "redirect"):
            self._break(error)
            return
        self._again.add(name)
        self._pause(name)

    def _pause(self, name: str) -> None:
        """Nothing is read of this for a while."""
        times = self._vain[name] = self._vain.get(name, 0) + 1
        pause = min(RETRY_MOST, RETRY_FIRST * 2 ** min(times - 1, 10))
        self._later[name] = asyncio.get_running_loop().call_later(pause, self._rested, name)

    def _rested(self, name: str) -> None:
        """The pause is over: read what is wanted by now; what is not is forgotten."""
        del self._later[name]
        if name in self._again:
            self._again.discard(name)
            self.want(name)
        else:
            self._vain.pop(name, None)

    def _break(self, error: MarathonError) -> None:
        if not self.broken.done():
            self.broken.set_exception(error)
