"""Give the event loop its turns during long work."""

from __future__ import annotations

import asyncio
import time

TURN = 0.008
"""Seconds of work at a stretch."""


class Pace:
    """Knows how long the loop has waited since its last turn."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def turn(self) -> None:
        """Give the loop a turn when it has waited for long enough (about 100 ns when not)."""
        if time.perf_counter() - self._began > TURN:
            await asyncio.sleep(0)
            self._began = time.perf_counter()

    def rested(self) -> None:
        """The loop has just had a turn for another reason."""
        self._began = time.perf_counter()
