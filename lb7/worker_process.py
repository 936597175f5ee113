"""A worker process seen from the edge's own: starts it, feeds and hears it, and replaces it when it ends or hangs.

A worker tells its counters every second. One that is silent for some seconds is *quiet*: others serve its sockets too;
one that stays silent is killed. Silence is counted in turns of this process' own loop, so that a machine that stood
still blames nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any, Protocol

from lb7.channel import Channel, ChannelError
from lb7.wire import UP, Applied, Counters, Fault, Held, Log, Ready, Told, Up
from lb7.worker_child import Child
from lb7.worker_feed import Feed, Wanted
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks whether a worker was heard."""
QUIET, SILENT = 6, 24
"""Ticks without a word after which a worker is quiet, and is killed."""
STARTING = 120
"""The same as SILENT before its first word: a busy machine with a slow disk takes seconds to start Python."""
PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each further start of a worker that ended within `STEADY` seconds."""
STEADY = 10.0
SAY_EVERY = 30.0
"""Seconds between two lines of the log about the same failure of one worker."""
LAST_ANSWERS = 2.0
"""Seconds before a draining worker is killed in which it answers those whose requests it still holds."""
_ENDING = 5.0
"""Seconds that a worker has to end after its channel did."""
_ROOT = Path(__file__).resolve().parent.parent
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONHOME", "TZ", "LANG", "SSL_CERT_FILE", "ASAN_OPTIONS", "LD_PRELOAD")


class Hearer(Protocol):
    """Who hears what workers say."""

    def counted(self, serial: int, block: Counters) -> None:
        """New counters."""

    def holds(self, clusters: tuple[str, ...]) -> None:
        """Requests for these begin to be held."""

    def logged(self, records: list[dict[str, Any]], lost: int) -> None:
        """Records of the access log."""

    def told(self, answer: Told) -> None:
        """An answer."""

    def failed(self, number: int, fault: Fault) -> None:
        """Something went wrong in a worker."""

    def changed(self, worker: WorkerProcess) -> None:
        """It serves now, or no longer."""


class WorkerProcess:
    """See the module. `replaced` counts further starts; `version` is what it has applied, -1 when nothing yet. `serial`
    is never another one's, as `number` is that of one which drains still."""

    def __init__(
        self, number: int, wanted: Wanted, hearer: Hearer, *, confine: bool = True, serial: int | None = None
    ) -> None:
        self.number = number
        self.serial = number if serial is None else serial
        self.pid = 0
        self.version = -1
        self.replaced = 0
        self.quiet = False
        self.draining = False
        self.feed: Feed | None = None
        self._wanted, self._hearer, self._confine = wanted, hearer, confine
        self._task: asyncio.Task[None] | None = None
        self._heard = self._greeted = False
        self._seldom = Seldom(log, SAY_EVERY)
        self._last_words = ""

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.number} pid={self.pid} version={self.version} quiet={self.quiet}>"

    @property
    def serves(self) -> bool:
        """Whether it can be given sockets."""
        return self.version >= 0 and not self.quiet and not self.draining

    def start(self) -> None:
        """Begin to keep a worker running."""
        self._task = asyncio.get_running_loop().create_task(self._keep_running(), name=f"pharos-l7-{self.number}")

    async def drain(self, timeout: float) -> None:
        """Have it end when its connections have ended; after so many seconds or when this is cancelled it is killed."""
        self.draining = True
        self._hearer.changed(self)
        if self._task is None:
            return
        if self.feed is None:  # it is not there: there is nothing to drain
            await self.close()
            return
        self.feed.drain(timeout - min(LAST_ANSWERS, timeout / 2))
        try:
            await asyncio.wait((self._task,), timeout=timeout)
        finally:
            await self.close()

    async def close(self) -> None:
        """End it at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                code = await self._run_once()
            except OSError as error:
                self._seldom("a worker of l7 could not be started worker=%d error=%s", self.number, error)
            else:
                if self.draining:
                    return
                self._seldom("a worker of l7 ended worker=%d code=%s said=%r", self.number, code, self._last_words)
            self.replaced += 1
            failures = 0 if loop.time() - began >= STEADY else min(failures + 1, len(PAUSES))
            await asyncio.sleep(PAUSES[max(0, failures - 1)])

    async def _run_once(self) -> int:
        """One process from its start to its end; its exit code."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        channel = Channel(here, UP)
        child = None
        tasks: list[asyncio.Task[None]] = []
        self._heard = self._greeted = False
        try:
            child = await self._spawn(there)
            there.close()
            self.pid = child.pid
            self.feed = Feed(channel, self.number, self._wanted, confine=self._confine)
            parts = (self._hear(channel), self.feed.run(), self._watch(child))
            tasks = [asyncio.create_task(part) for part in parts]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[2].done():  # the channel has ended, and the process is about to
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ENDING):
                        await child.wait()
        finally:
            there.close()
            await self._finish(child, tasks)
            channel.close()
            self.feed = None
            self.pid, self.version, self.quiet = 0, -1, False
            self._hearer.changed(self)
        return child.code or 0

    async def _spawn(self, there: socket.socket) -> Child:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        program = (sys.executable, "-s", "-P", "-m", "lb7.worker", "--fd", "0")
        return await Child.start(program, there, environment | {"PYTHONPATH": str(_ROOT)})

    async def _hear(self, channel: Channel[Up]) -> None:
        """Until the channel ends."""
        while True:
            try:
                message, _ = await channel.receive()
            except ChannelError:
                return
            self._heard = True
            if isinstance(message, Counters):
                self._hearer.counted(self.serial, message)
            elif isinstance(message, Held):
                self._hearer.holds(message.clusters)
            elif isinstance(message, Log):
                self._hearer.logged(message.records, message.lost)
            elif isinstance(message, Applied):
                first = self.version < 0
                self.version = message.version
                if first:
                    self._hearer.changed(self)
            elif isinstance(message, Told):
                self._hearer.told(message)
            elif isinstance(message, Fault):
                self._hearer.failed(self.number, message)
            elif isinstance(message, Ready):
                self._greeted = True
            await asyncio.sleep(0)

    async def _watch(self, child: Child) -> None:
        """Until it has been silent for too long; it is killed then."""
        missed = 0
        while missed < (SILENT if self._greeted else STARTING):
            await asyncio.sleep(TICK)
            missed, self._heard = 0 if self._heard else missed + 1, False
            if self.quiet != (missed >= QUIET and self._greeted):
                self.quiet = not self.quiet
                self._hearer.changed(self)
        self._seldom("a worker of l7 hangs worker=%d silent=%ss", self.number, missed * TICK)
        child.kill()

    async def _finish(self, child: Child | None, tasks: list[asyncio.Task[None]]) -> None:
        """End the process and all that has to do with it, also when this is cancelled."""
        for task in tasks[1:]:
            task.cancel()
        waiting: list[asyncio.Future[Any]] = list(tasks)
        if child is not None:
            child.kill()
            waiting.append(asyncio.create_task(child.wait()))
        if waiting:  # its last words and counters are still in the pipes, which end with it
            _, late = await asyncio.wait(waiting, timeout=SILENT * TICK)
            for part in late:
                part.cancel()
        if child is not None:
            self._last_words = child.last_words
            child.close()
        for task in tasks:
            task.cancel()
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                if not isinstance(error, ChannelError):
                    log.error("the channel of a worker of l7 failed worker=%d", self.number, exc_info=error)
