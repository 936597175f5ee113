"""The process that gives resolv.conf back when Pharos can't: `python -I -S resolv_conf_watchdog.py CHANNEL JSON`.

It is started by `resolv_conf_kept.py` with an inherited socket and what it has to know (`Task`), before the
file is touched. It asks the resolver as a program would: when that fails three times in a row it gives the
original back, and puts the resolver's addresses there again after two answers. When the channel ends
without a goodbye, Pharos is dead: it gives the original back and ends. Signals that end a whole service do not
end it. It keeps only the rights to write the file, and writes nothing but the file and its saved original.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.resolv_conf_file import ResolvConf

READY, WATCH, HOLD, HELD, END = b"R", b"W", b"H", b"h", b"Q"
"""It is there; watch the resolver; touch the file no more unless the channel ends; so it is; goodbye."""
GAVE, TOOK, FAULT = b"G", b"T", b"E"
"""What it did or could not do, with a text."""
FAILURES, ANSWERS = 3, 2
"""Failed questions in a row after which the original comes back, answers after which it goes again."""
_ANSWERED = (0, 3)  # NOERROR; NXDOMAIN: a cluster need not have the name

_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _CAPABILITY_VERSION = 38, 24, 0x20080522
_CHOWN, _DAC_OVERRIDE, _FOWNER, _LAST_CAPABILITY = 0, 1, 3, 63


class Task(NamedTuple):
    """What it is started with: files as text, IPs as text, seconds; `lock` is the file that it inherits the lock by."""

    path: str
    saved: str
    addresses: list[str]
    upstreams: list[str]
    name: str = "ready.spartan"
    port: int = 53
    interval: float = 5.0
    timeout: float = 1.0
    lock: int = -1


class Watchdog:
    """One watchdog. `channel` is a SEQPACKET socket whose other end only Pharos has."""

    def __init__(self, task: Task, file: ResolvConf, channel: socket.socket) -> None:
        self._task, self._file, self._channel = task, file, channel
        self._watching = False
        self._failed = self._answered = 0
        self._question: socket.socket | None = None
        self._wire = b""
        self._next = time.monotonic() + task.interval
        """When the next question is asked, or the open one has failed."""

    def run(self) -> None:
        """Until goodbye, or until the channel has ended and the file is given back."""
        self._say(READY)
        while True:
            sockets = [self._channel, *([self._question] if self._question else [])]
            wait = max(0.0, self._next - time.monotonic()) if self._watching else None
            ready = select.select(sockets, [], [], wait)[0]
            if self._channel in ready:
                message = self._hear()
                if message == END:
                    return
                if not message:
                    self._end()
                    return
            elif self._question in ready:
                self._read_answer()
            elif self._watching and time.monotonic() >= self._next:
                self._tick()

    def _hear(self) -> bytes:
        try:
            message = self._channel.recv(64)
        except OSError:
            return b""
        if message == WATCH:
            self._watching = True
            self._next = time.monotonic() + self._task.interval
        elif message == HOLD:
            self._watching = False
            self._close_question()
            self._say(HELD)
        return message

    def _tick(self) -> None:
        """The open question has failed, or it is time for one."""
        if self._question is not None:
            self._count(False)
            return
        self._next = time.monotonic() + self._task.timeout
        address = self._task.addresses[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        # A name that was never asked before: workers would go on answering a known one while Pharos itself hangs.
        self._wire = question(f"{os.urandom(8).hex()}.{self._task.name}")
        try:
            self._question = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._question.connect((address, self._task.port))
            self._question.send(self._wire)
        except OSError:
            self._count(False)

    def _read_answer(self) -> None:
        assert self._question is not None  # noqa: S101 - it was just selected
        try:
            reply = self._question.recv(4096)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self._count(False)
            return
        if is_answer(self._wire, reply):
            self._count(reply[3] & 15 in _ANSWERED)

    def _count(self, answered: bool) -> None:
        """What has come of a question, and what follows. Whether the original is given back is read from disk:
        Pharos writes there, too."""
        self._close_question()
        self._next = time.monotonic() + self._task.interval
        self._failed, self._answered = (0, self._answered + 1) if answered else (self._failed + 1, 0)
        try:
            if self._failed >= FAILURES and self._file.look().state != "paused":
                self._give_back(f"{self._failed} questions for {self._task.name} without an answer", pause=True)
            elif self._answered >= ANSWERS and self._file.look().state == "paused":
                self._file.take()
                self._say(TOOK)
        except (OSError, ValueError) as error:
            self._say(FAULT + str(error).encode(errors="replace"))

    def _close_question(self) -> None:
        if self._question is not None:
            self._question.close()
            self._question = None

    def _end(self) -> None:
        """Pharos is dead."""
        try:
            self._give_back("Pharos has ended", pause=False)
        finally:
            if self._task.lock >= 0:
                self._file.unlock(self._task.lock)

    def _give_back(self, reason: str, *, pause: bool) -> None:
        result = self._file.release(self._task.upstreams, pause=pause)
        if result == "nothing":
            self._say(FAULT + b"the original is not known and upstreams names no server by UDP or TCP on port 53")
        else:
            self._say(GAVE + f"{reason}: {result}".encode())

    def _say(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody is there, or nobody reads
            self._channel.send(message[:1000], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def question(name: str) -> bytes:
    """A query for the A record of `name` with a random id (RFC 1035 §4.1)."""
    labels = b"".join(bytes([len(label)]) + label for label in name.encode("ascii").split(b".") if label)
    return os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def is_answer(wire: bytes, reply: bytes) -> bool:
    """Whether a message answers this query: its id, its question, and QR (RFC 5452 §9.1)."""
    same = reply[:2] == wire[:2] and reply[4:6] == b"\0\1"
    return (
        same
        and len(reply) >= len(wire)
        and bool(reply[2] & 0x80)
        and reply[12 : len(wire)].lower() == wire[12:].lower()
    )


def confine() -> None:
    """Keep the rights to write files of any owner, where we have them, and no other. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    keep = (1 << _CHOWN) | (1 << _DAC_OVERRIDE) | (1 << _FOWNER)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for number in range(_LAST_CAPABILITY + 1):
        if not keep >> number & 1:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # without CAP_SETPCAP no_new_privs does it
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; each twice: low and high half
    if libc.capget(header, sets) == 0:
        sets = (ctypes.c_uint32 * 6)(sets[0] & keep, sets[1] & keep)
        if libc.capset(header, sets) == 0:
            return
    raise OSError(ctypes.get_errno(), "capabilities could not be given up")


def main(arguments: list[str]) -> int:
    """The exit code: 0, or 1 for what the channel tells."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(arguments[0]))
    try:
        os.chdir("/")
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        from agent.resolv_conf_file import ResolvConf

        task = Task(*json.loads(arguments[1]))
        file = ResolvConf(Path(task.path), Path(task.saved), task.addresses)
        confine()
        Watchdog(task, file, channel).run()
    except (ImportError, OSError, TypeError, ValueError) as error:
        with contextlib.suppress(OSError):
            channel.send(FAULT + str(error).encode(errors="replace")[:500], socket.MSG_DONTWAIT)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
