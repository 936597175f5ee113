"""Resolve the host names that masters speak of, off the event loop, and remember the last known answer.

How a name is resolved is the caller's choice: through `boot_names` in a running process, through the
system's resolver (so /etc/hosts holds), in threads, where nothing is said. Each look-up has a time
limit. A name that stops resolving keeps its last known addresses; one that never resolved, or whose
addresses are only remembered, is tried again in the background. Nobody waits for a slow name:
`lookup` answers at once with what is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable

from mesos_dns.model import canonical_address

log = logging.getLogger(__name__)

REFRESH = 300.0
RETRY_MIN, RETRY_MAX = 1.0, 60.0
LIMIT = 5.0
PARALLEL = 8
MAX_NAMES = 50_000
MAX_THREADS = 64
"""Look-ups of the system's resolver that are under way at most, given up ones included."""
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]
"""Host name → its canonical addresses, or `Remembered` ones. Raises OSError or UnicodeError when there are none."""


class Remembered(tuple[str, ...]):
    """Addresses that a name had when it could be resolved, which it can't be now: good, and to be asked for again."""

    __slots__ = ()


def is_host(text: str) -> bool:
    """True for an IP address and for what can be a host name."""
    return bool(canonical_address(text) or _NAME.fullmatch(text))


_threads = threading.BoundedSemaphore(MAX_THREADS)


async def system_resolve(name: str) -> tuple[str, ...]:
    """The canonical addresses of a name by getaddrinfo, in its order. Raises OSError or UnicodeError.

    In a daemon thread of its own: a loop's pool is small, and neither it nor the process ends before
    a look-up does, which takes half a minute when no name server answers.
    """
    if not _threads.acquire(blocking=False):
        raise OSError(f"{MAX_THREADS} look-ups are under way already")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()
    threading.Thread(target=_ask_system, args=(name, loop, answer), name=f"resolve {name}", daemon=True).start()
    return await answer


def _ask_system(name: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[tuple[str, ...]]) -> None:
    """The thread of one look-up."""
    outcome: tuple[str, ...] | Exception
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        addresses = (canonical_address(str(item[4][0])) for item in found)
        outcome = tuple(dict.fromkeys(address for address in addresses if address))
    except (OSError, UnicodeError) as error:
        outcome = error
    finally:
        _threads.release()
    with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
        loop.call_soon_threadsafe(_tell, answer, outcome)


def _tell(answer: asyncio.Future[tuple[str, ...]], outcome: tuple[str, ...] | Exception) -> None:
    if answer.done():
        return  # given up
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


class Hosts:
    """Names and their last known addresses. `changed` is called with a name whose addresses became others."""

    def __init__(
        self, changed: Callable[[str], None] | None = None, resolve: Resolve = system_resolve, limit: float = LIMIT
    ) -> None:
        self.changed = changed or (lambda name: None)
        self._resolve = resolve
        self._limit = limit
        self._known: dict[str, tuple[str, ...]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._first: dict[str, asyncio.Event] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._gate = asyncio.Semaphore(PARALLEL)

    def lookup(self, host: str) -> tuple[str, ...] | None:
        """Addresses of a host: itself when it is an address, else what is known; None: not resolved yet.

        () means that it can't be resolved. The first look-up of a name starts to resolve it.
        """
        address = canonical_address(host)
        if address:
            return (address,)
        if host in self._known:
            return self._known[host]
        if not _NAME.fullmatch(host):
            return ()
        if host not in self._tasks and len(self._tasks) < MAX_NAMES:
            self._first[host], self._wake[host] = asyncio.Event(), asyncio.Event()
            self._tasks[host] = asyncio.create_task(self._keep(host), name=f"resolve {host}")
        return None

    async def settle(self, hosts: Iterable[str], limit: float) -> None:
        """Wait until each host had its first attempt, or `limit` seconds."""
        waiting = [self._first[host] for host in hosts if self.lookup(host) is None and host in self._first]
        if waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    for event in waiting:
                        await event.wait()

    def forget(self, host: str) -> None:
        """Nobody needs a name any more: stop refreshing it."""
        task = self._tasks.pop(host, None)
        if task is not None:
            task.cancel()
        self._first.pop(host, None)
        self._wake.pop(host, None)
        self._known.pop(host, None)

    def again(self, host: str) -> None:
        """Nobody answers there: look a name up again soon; until then its addresses are those that are known."""
        wake = self._wake.get(host)
        if wake is not None:
            wake.set()

    async def close(self) -> None:
        """Stop every background attempt."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, host: str) -> None:
        pause = RETRY_MIN
        while True:
            addresses = await self._attempt(host)
            fresh = bool(addresses) and not isinstance(addresses, Remembered)
            if addresses:
                self._learn(host, tuple(addresses))
            elif host not in self._known:
                log.warning("a host name can't be resolved; trying again host=%s", host)
                self._learn(host, ())
            self._first[host].set()
            await self._rest(host, (REFRESH if fresh else pause) * random.uniform(0.8, 1.2))
            pause = RETRY_MIN if fresh else min(pause * 2, RETRY_MAX)

    async def _rest(self, host: str, seconds: float) -> None:
        """Wait until a name is to be looked up again: less when somebody asks for that, but not nothing."""
        wake = self._wake[host]
        wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.sleep(RETRY_MIN)
                await wake.wait()

    async def _attempt(self, host: str) -> tuple[str, ...]:
        async with self._gate:
            try:
                async with asyncio.timeout(self._limit):
                    return await self._resolve(host)
            except (OSError, TimeoutError, UnicodeError):
                return ()

    def _learn(self, host: str, addresses: tuple[str, ...]) -> None:
        before = self._known.get(host)
        self._known[host] = addresses
        # Round robin answers come in any order; only another set is a change.
        if before is None or set(before) != set(addresses):
            self.changed(host)
        else:
            self._known[host] = before
