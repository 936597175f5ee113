"""Says which process keeps a device of this network namespace: one at a time.

The claim is a name among the abstract unix sockets (unix(7)), of which each network namespace has its own. It needs
no file, and the kernel frees it when the process ends, however it ends. Any local user can take such a name, so the
one who has it is looked at: who could not change a device anyway does not count. Everything here may block a little.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from pathlib import Path

NAME = "pharos-device"
"""What the claims' names begin with."""
BACKLOG = 1024
"""Processes that may ask who we are between two looks of ours."""
ANSWER_WAIT = 0.2
"""Seconds that one may take between having the name and telling who it is."""

_NET_ADMIN = 12
_UCRED = struct.Struct("3i")  # pid, uid, gid


class Claim:
    """What those of this process share that follow each other on a device: the claim, and what each of them wants.

    Use all of it with `lock`. `added` are the addresses that were added here.
    """

    def __init__(self, mark: int) -> None:
        self.lock = threading.Lock()
        self.added: set[str] = set()
        self._mark = mark
        self._held: dict[str, socket.socket] = {}
        self._wanted: dict[object, frozenset[str]] = {}

    def join(self, who: object, wanted: frozenset[str]) -> None:
        """One more that keeps these addresses."""
        self._wanted[who] = wanted

    def is_in(self, who: object) -> bool:
        """Whether it has joined."""
        return who in self._wanted

    def others(self, who: object) -> frozenset[str]:
        """The addresses that the others here want."""
        return frozenset().union(*(wanted for other, wanted in self._wanted.items() if other != who))

    def is_shared(self, who: object) -> bool:
        """Whether there are others here."""
        return any(other != who for other in self._wanted)

    def leave(self, who: object) -> None:
        """The last one lets the claim go."""
        self._wanted.pop(who, None)
        if not self._wanted:
            self.release()

    def has(self, device: str) -> bool:
        """Whether the device is ours to change; claims it where nobody has. Raises OSError."""
        held = self._held.get(device)
        if held is not None:
            _forget_callers(held)
            return True
        name = f"\0{NAME}-{device}-{self._mark}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind(name)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return not _is_kept(name)
        self._held[device] = sock
        return True

    def release(self) -> None:
        """Let others have it."""
        while self._held:
            self._held.popitem()[1].close()


def _forget_callers(sock: socket.socket) -> None:
    """They have learned what they wanted to know."""
    with contextlib.suppress(OSError):  # there is no more
        for _ in range(BACKLOG):
            sock.accept()[0].close()


def _is_kept(name: str) -> bool:
    """Whether one that counts has this name. Who does not tell, or lets nobody ask, does not count."""
    deadline = time.monotonic() + ANSWER_WAIT
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.connect(name)
                pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
                return _counts(pid, uid)
            except OSError as error:
                if error.errno != errno.ECONNREFUSED or time.monotonic() > deadline:
                    return False
        time.sleep(0.01)


def _counts(pid: int, uid: int) -> bool:
    """Whether a process may change devices: root's, our own user's, or one with CAP_NET_ADMIN in our user namespace
    (anybody has all capabilities in a user namespace of his own)."""
    if uid in (0, os.geteuid()):
        return True
    try:
        if os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino:
            return False
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        (effective,) = (line.split()[1] for line in lines if line.startswith("CapEff:"))
        return bool(int(effective, 16) >> _NET_ADMIN & 1)
    except (OSError, ValueError):
        return False
