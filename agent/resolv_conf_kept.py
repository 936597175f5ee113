"""Keeps a resolv.conf pointing at the resolver while Pharos runs, beside a watchdog for when it does not.

    kept = KeptResolvConf(file, upstreams, changed)
    servers = await kept.start()      # nobody else keeps it; the original's servers
    ... the resolver answers ...
    await kept.take()
    ... kept.run() ...                # until cancelled
    await kept.close()                # as it was

What somebody else writes to the file meanwhile (a DHCP client, NetworkManager) is the new original: it is
saved, `changed` is told its servers, and ours is put back. When that happens again and again, the pauses
grow: two programs that fight cost nothing, and either text has servers that answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from agent.resolv_conf_file import ResolvConf
from agent.resolv_conf_watchdog import END, FAULT, GAVE, HELD, HOLD, READY, TOOK, WATCH, Task
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

T = TypeVar("T")

PROGRAM = Path(__file__).with_name("resolv_conf_watchdog.py")
LOOK_EVERY = 2.0
"""Seconds between two looks at the file."""
SETTLE = 0.3
"""Seconds for which a changed file must stay the same: not everybody writes atomically."""
PAUSES = (2.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before the next look, after so many changes by others."""
CALM = 300.0
"""Seconds without such a change after which the pauses are short again."""
SAY_EVERY = 60.0
"""Seconds between two lines of the log about the same thing."""
LOCK_WAIT = 5.0
"""Seconds for a predecessor's watchdog to end."""
HOLD_WAIT, END_WAIT = 1.0, 2.0
"""Seconds for a watchdog to say that it writes no more, and to end by itself; then it is killed."""
STARTING = 30.0
"""Seconds for a watchdog to start on a busy machine, and to say that it holds."""
_SETTLE_ROUNDS = 10


class KeptResolvConf:
    """See the module. `upstreams` are the IPs that stand in for an original without servers; the watchdog asks
    for `name` on `port` of the first address each `interval` seconds.

    `replaced` counts changes by others that were taken back, `given` how often the watchdog gave the original
    back, `errors` what the disk did not take, `restarts` the watchdogs that had to be replaced.
    """

    def __init__(
        self,
        file: ResolvConf,
        upstreams: Sequence[str],
        changed: Callable[[list[str]], None],
        *,
        name: str = "ready.spartan",
        port: int = 53,
        interval: float = 5.0,
    ) -> None:
        self.file = file
        self.replaced = self.given = self.errors = self.restarts = 0
        self.paused = False
        """True while the watchdog has given the original back because the resolver does not answer."""
        self.taken = False
        self._task = Task(str(file.path), str(file.saved), list(file.addresses), list(upstreams), name, port, interval)
        self._upstreams, self.changed = list(upstreams), changed
        self._servers: list[str] = []
        self._lock = -1
        self._using = threading.Lock()
        self._closed = False
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._ready, self._held = asyncio.Event(), asyncio.Event()
        self._warn = Seldom(log, SAY_EVERY)
        self._changes, self._changed_at = 0, 0.0

    @property
    def status(self) -> dict[str, object]:
        """For people: the file, whether it is ours now, the original's servers, and what happened to it."""
        return {
            "path": str(self.file.path),
            "state": "paused" if self.paused else "ours" if self.taken else "original",
            "original_nameservers": self._servers,
            "replaced": self.replaced,
            "given_back": self.given,
            "errors": self.errors,
        }

    async def start(self) -> list[str]:
        """Become the only keeper; the original's name servers. The file stays as it is.

        Raises OSError when it can't be read, or when another Pharos keeps it (BlockingIOError).
        """
        deadline = time.monotonic() + LOCK_WAIT
        while self._lock < 0:
            try:
                self._lock = await asyncio.to_thread(self.file.lock)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise BlockingIOError(error.errno, f"another Pharos keeps {str(self.file.path)!r}") from None
                await asyncio.sleep(0.1)
        await self._do(self.file.clean, None)
        self._servers = await self._do(self.file.original_nameservers, [])
        return self._servers

    async def take(self) -> None:
        """Point the file at the resolver: call it when that answers. Raises OSError, and the file is as it was."""
        await self._watch()
        await self._do(self.file.take, None)
        log.info(
            "resolv.conf points at the resolver file=%s addresses=%s", self.file.path, ",".join(self.file.addresses)
        )
        self.taken = True
        self._tell(WATCH)

    async def run(self) -> None:
        """Look after the file and the watchdog until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(0.9, 1.1) * (LOOK_EVERY if not self._changes else self._pause()))
            try:
                if self.taken:
                    await self._look()
            except OSError as error:
                self.errors += 1
                self._changes = min(self._changes + 1, len(PAUSES) - 1)
                self._changed_at = time.monotonic()
                self._say("resolv.conf can't be kept file=%s reason=%s", error)

    async def close(self) -> None:
        """Give the original back and let the watchdog end. Call it once, when `run` has ended. One that hangs is
        killed first: it could write afterwards."""
        try:
            if self._channel is not None and not await self._holds():
                await self._end_watchdog()
            if self._lock >= 0:  # also what a take that was cancelled, or a crash before this life, has left
                await self._do(self._release, None, last=True)
            self._tell(END)
        finally:
            self._closed = True
            await self._end_watchdog()
            lock, self._lock = self._lock, -1
            if lock >= 0:
                await asyncio.to_thread(self.file.unlock, lock)

    # --- the file ---------------------------------------------------------------------------------

    def _pause(self) -> float:
        if time.monotonic() - self._changed_at > CALM:
            self._changes = 0
        return PAUSES[self._changes]

    async def _look(self) -> None:
        if self._process is None or self._process.returncode is not None or self._channel is None:
            self.restarts += 1
            self._say("the watchdog of resolv.conf ended, another is started file=%s code=%s", self._exit_code())
            await self._end_watchdog()
            await self._watch()
            self._tell(WATCH)
        seen = await self._do(self.file.look, None)
        for _ in range(_SETTLE_ROUNDS):
            if seen is None or seen.state != "changed":
                break
            await asyncio.sleep(SETTLE)
            again = await self._do(self.file.look, None)
            if again == seen:
                await self._put_back()
                break
            seen = again
        else:  # still being written
            return
        self.paused = seen is not None and seen.state == "paused"
        servers = await self._do(self.file.original_nameservers, self._servers)
        if servers != self._servers:
            self._servers = servers
            log.info("the name servers of the original changed file=%s servers=%s", self.file.path, ",".join(servers))
            self.changed(servers)

    async def _put_back(self) -> None:
        await self._do(self.file.take, None)
        self.replaced += 1
        self._changes, self._changed_at = min(self._changes + 1, len(PAUSES) - 1), time.monotonic()
        self._say("somebody else wrote it: that is the original now, ours is back file=%s changes=%s", self.replaced)

    def _release(self) -> None:
        try:
            result = self.file.release(self._upstreams)
            level = logging.INFO if self.taken or result != "not ours" else logging.DEBUG
            log.log(level, "resolv.conf given back file=%s result=%s", self.file.path, result)
        except OSError as error:
            self.errors += 1
            level = logging.ERROR if self.taken else logging.DEBUG  # what could not be taken has said why
            log.log(level, "resolv.conf not given back file=%s reason=%s", self.file.path, error)

    async def _do(self, call: Callable[[], T], otherwise: T, *, last: bool = False) -> T:
        """A call in a thread. One that a cancelled task has left behind does nothing after the last one."""

        def exclusively() -> T:
            with self._using:
                if self._closed:
                    return otherwise
                self._closed = last
                return call()

        return await asyncio.to_thread(exclusively)

    # --- the watchdog -----------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Start a watchdog and wait until it is there. Raises OSError."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        self._ready.clear()
        self._channel = here
        asyncio.get_running_loop().add_reader(here.fileno(), self._hear, here)
        with there:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(PROGRAM),
                str(there.fileno()),
                json.dumps(self._task._replace(lock=self._lock)),
                pass_fds=(there.fileno(), self._lock),  # it keeps the lock as long as it lives
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,  # what it has to say comes by its channel
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ},
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STARTING):
                await self._ready.wait()
        if self._channel is not here or not self._ready.is_set():
            await self._end_watchdog()
            raise OSError("its watchdog could not be started")

    async def _holds(self) -> bool:
        """Whether the watchdog writes no more."""
        self._tell(HOLD)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_WAIT):
                await self._held.wait()
        return self._held.is_set()

    def _hear(self, here: socket.socket) -> None:
        try:
            message = here.recv(2048)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            message = b""
        kind, text = message[:1], message[1:].decode("utf-8", "replace")
        if not kind:
            self._close_channel()
        elif kind == READY:
            self._ready.set()
        elif kind == HELD:
            self._held.set()
        elif kind == GAVE:
            self.given += 1
            self.paused = True
            self._say("the watchdog gave resolv.conf back file=%s reason=%s", text)
        elif kind == TOOK:
            self.paused = False
            self._say("the resolver answers again, resolv.conf points at it file=%s%s", "")
        elif kind == FAULT:
            self.errors += 1
            self._say("the watchdog of resolv.conf failed file=%s reason=%s", text)

    def _tell(self, message: bytes) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it has ended: the next look sees that
                self._channel.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _close_channel(self) -> None:
        """Wakes those who wait for its words: there will be none."""
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None
        self._ready.set()
        self._held.set()

    async def _end_watchdog(self) -> None:
        """It ends by itself; killed where it does not."""
        process, self._process = self._process, None
        if process is not None:
            waiting = asyncio.ensure_future(process.wait())
            done, _ = await asyncio.wait((waiting,), timeout=END_WAIT if self._channel is None or self._closed else 0)
            if not done:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                if not (await asyncio.wait((waiting,), timeout=END_WAIT))[0]:  # the disk hangs, and it with that
                    waiting.cancel()
        self._close_channel()
        self._held.clear()

    def _exit_code(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    def _say(self, text: str, what: object) -> None:
        self._warn(text, self.file.path, what)
