"""A lock that tells when it is taken, for tests of who waits for whom."""

from __future__ import annotations

import threading


class Waiting:
    """Stands for the lock of the one that is next, and tells when it is taken `count` times."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._left = count
        self.taken = threading.Event()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._left -= 1
        if not self._left:
            self.taken.set()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
