"""A DNS worker seen from the process that fills the table: starts it, hears from it, replaces it when it fails.

A worker is a process of its own, so that a fault in native code costs a few milliseconds of one worker
and not the appliance. Its socket stays open here: while no worker reads it, queries wait in it and the
owner is told to (`up`, `down`). A worker that ends is noticed at once by its closed channel, one that hangs
by its heartbeat; either is replaced, with growing pauses when it keeps failing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from mesos_dns.fastpath import FastPath
from mesos_dns.worker import FAULT, READY

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("worker.py")
TICK = 0.2
"""Seconds between two looks at a heartbeat; a worker's own wait for a query is as long."""
MISSED = 4
"""Ticks without a heartbeat after which a worker hangs."""
STARTING = 100
"""The same before it is ready: a busy machine with a slow disk takes seconds to start Python."""
PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each further start of a worker that ended within `STEADY` seconds."""
STEADY = 10.0
SAY_EVERY = 30.0
"""Seconds between two lines of the log about failures of one worker."""
_BATCH = 64
_MESSAGE = 65536
_CHANNEL = 1 << 20
"""Octets of queries that wait for Python, at most; the system may allow less."""


class Worker:
    """One worker on one UDP socket.

    `heard(header, packet)` gets what it hands over, `up(self)` and `down(self)` whether it reads the socket,
    `failed()` each time that it has to be replaced.
    """

    def __init__(
        self,
        fast: FastPath,
        number: int,
        sock: socket.socket,
        wildcard: bool,
        *,
        heard: Callable[[bytes, bytes], None],
        up: Callable[[Worker], None],
        down: Callable[[Worker], None],
        failed: Callable[[], None],
    ) -> None:
        self.pid = 0
        self._fast, self._number, self._socket, self._wildcard = fast, number, sock, wildcard
        self._heard, self._up, self._down, self._failed = heard, up, down, failed
        self._task: asyncio.Task[None] | None = None
        self._ready = False
        self._said = -SAY_EVERY
        self._ended = asyncio.Event()
        self._header = fast.module.HANDED_SIZE

    def start(self) -> None:
        """Begin to keep a worker running."""
        self._task = asyncio.get_running_loop().create_task(self._keep_running(), name=f"pharos-dns-{self._number}")

    def close(self) -> list[asyncio.Future[None]]:
        """End it after its batch; what is then still ending."""
        if self._task is None or self._task.done():
            return []
        self._task.cancel()
        return [self._task]

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                code = await self._run_once()
            except OSError as error:
                self._say("a DNS worker could not be started worker=%d error=%s", error)
            else:
                self._say("a DNS worker ended worker=%d code=%s", code)
            self._failed()
            failures = 0 if loop.time() - began >= STEADY else min(failures + 1, len(PAUSES))
            await asyncio.sleep(PAUSES[max(0, failures - 1)])

    async def _run_once(self) -> int | None:
        """One worker from its start to its end; its exit code."""
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        self._ready = False
        self._ended.clear()
        process = None
        try:
            with contextlib.suppress(OSError):
                there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHANNEL)
            loop.add_reader(here.fileno(), self._drain, here)
            process = await self._spawn(there)
            self.pid = process.pid
            there.close()
            await self._watch(process)
            return await process.wait()
        finally:
            there.close()
            if process is not None:
                await self._finish(process)
            while self._drain(here):  # what it has handed over is answered still
                pass
            loop.remove_reader(here.fileno())
            here.close()
            self._down(self)
            self._fast.table.release(self._number)

    async def _spawn(self, there: socket.socket) -> asyncio.subprocess.Process:
        table = self._fast.table
        files = (table.table_fd, table.desk_fd, self._socket.fileno(), there.fileno())
        numbers = (files[0], files[1], self._number, files[2], files[3], int(self._wildcard), os.getpid())
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(PROGRAM),
            *map(str, numbers),
            pass_fds=files,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,  # what it has to say comes by its channel
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ},
        )

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Until its channel closes; kill it when its heart has stopped for too many ticks."""
        before, missed = -1, 0
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._ended.wait()
            now = self._fast.table.heartbeat(self._number)
            missed = missed + 1 if now == before else 0
            before = now
            self._fast.table.reclaim()
            if missed >= (MISSED if self._ready else STARTING):
                self._say("a DNS worker hangs worker=%d silent=%ss", missed * TICK)
                self._signal(process, signal.SIGKILL)
                return

    async def _finish(self, process: asyncio.subprocess.Process) -> None:
        """End the process, whatever it does, and take its exit code; a cancelled task does so too."""
        if process.returncode is not None:
            return
        self._signal(process, signal.SIGTERM)
        waiting = asyncio.ensure_future(process.wait())
        done, _ = await asyncio.wait((waiting,), timeout=5 * TICK)
        if not done:
            self._signal(process, signal.SIGKILL)
            await waiting

    @staticmethod
    def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    def _drain(self, here: socket.socket) -> bool:
        """Take what the worker hands over; True when there may be more. An empty message is the channel's end."""
        for _ in range(_BATCH):
            try:
                message = here.recv(_MESSAGE)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                message = b""
            if not message:
                asyncio.get_running_loop().remove_reader(here.fileno())
                self._ended.set()
                self._down(self)
                return False
            if message == READY:
                self._ready = True
                self._up(self)
            elif message.startswith(FAULT):
                self._say(
                    "a DNS worker can't start worker=%d error=%s", message[len(FAULT) :].decode("utf-8", "replace")
                )
            else:
                self._heard(message[: self._header], message[self._header :])
        return True

    def _say(self, text: str, what: object) -> None:
        """An error, the first time and then once in a while: a worker may fail several times a second."""
        now = asyncio.get_running_loop().time()
        level = logging.ERROR if now - self._said >= SAY_EVERY else logging.DEBUG
        if level == logging.ERROR:
            self._said = now
        log.log(level, text, self._number, what)
