"""One edge, followed: a connection to its /v1/demand, made again when it is lost, and what it told.

What is wrong is said once, until it is something else. An edge that tells nothing whole for SILENCE seconds is lost:
it tells something every second.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

from lb7.autoscale.demand_window import EdgeWindow
from lb7.autoscale.edge_client import EdgeClient, EdgeError
from lb7.demand_shapes import LINES, MOST_LINE, PATH, read_block
from mesos_dns.model import Key

log = logging.getLogger(__name__)

SILENCE = 3.0
PAUSE_FIRST, PAUSE_MOST = 0.2, 3.0
"""Seconds before another try, at first and at most, times a random part."""


class EdgeFeed:
    """See the module: `run` until cancelled. `woken` hears of apps whose requests have begun to be held. `failures`
    counts connections that could not be made or were lost, by what was wrong, `blocks` what was told."""

    def __init__(self, client: EdgeClient, window: float, woken: Callable[[Key], None]) -> None:
        self.client = client
        self.window = EdgeWindow(window)
        self.error = "not asked yet"
        self.blocks = 0
        self.failures: Counter[str] = Counter()
        self._woken = woken
        self._connected = False
        self._heard = 0.0
        self._reported = ""
        self._dice = random.Random()

    def __repr__(self) -> str:
        return f"<EdgeFeed {self.client.url} state={self.state}>"

    @property
    def state(self) -> str:
        """connected; starting: too little is known for rates yet; lost."""
        if not self.connected:
            return "lost"
        return "connected" if self.window.ready else "starting"

    @property
    def connected(self) -> bool:
        """Whether it tells what it counts now."""
        return self._connected and self.window.known and self.age <= SILENCE

    @property
    def age(self) -> float:
        """Seconds since its last block."""
        return asyncio.get_running_loop().time() - self._heard

    async def run(self) -> None:
        """Follow until cancelled."""
        pause = PAUSE_FIRST
        try:
            while True:
                before = self.blocks
                try:
                    await self._follow()
                except EdgeError as error:
                    self._failed(error.kind, str(error))
                except Exception as error:
                    log.exception("following an edge failed and starts again edge=%s", self.client.url)
                    self._failed("internal", f"internal error: {error!r}"[:300])
                pause = PAUSE_FIRST if self.blocks > before + 1 else min(2 * pause, PAUSE_MOST)
                await asyncio.sleep(pause * self._dice.uniform(0.5, 1.0))
        finally:
            self._connected = False
            await self.client.close()

    async def _follow(self) -> None:
        """One connection, until it is lost. Raises EdgeError."""
        self.window.connected()
        try:
            async with self.client.get(PATH, LINES, {"watch": "true"}) as pieces:
                lines = _lines(pieces)
                while True:
                    try:
                        async with asyncio.timeout(SILENCE):
                            line = await anext(lines)
                    except TimeoutError:
                        raise EdgeError("silent", f"silent for {SILENCE:g} s") from None
                    except StopAsyncIteration:
                        raise EdgeError("closed", "it closed the connection") from None
                    self._take(line)
                    await asyncio.sleep(0)  # many lines may be there at once
        finally:
            self._connected = False

    def _take(self, line: bytes) -> None:
        try:
            block = read_block(line)
            woken = self.window.take(block)
        except ValueError as error:
            raise EdgeError("malformed", f"what it tells is malformed: {error}") from None
        self.blocks += 1
        self._heard = asyncio.get_running_loop().time()
        self._connected = True
        if self._reported and self.window.known:
            log.info("an edge tells its demand again edge=%s", self.client.url)
            self._reported = ""
        for key in woken:
            self._woken(key)

    def _failed(self, kind: str, text: str) -> None:
        self.failures[kind] += 1
        self.error = text
        if text != self._reported:
            log.warning("an edge does not tell its demand edge=%s error=%s", self.client.url, text)
            self._reported = text


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines. Raises EdgeError for one that is too long."""
    rest = bytearray()
    async for piece in pieces:
        start = len(rest)
        rest += piece
        while (end := rest.find(b"\n", start)) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            start = 0
            yield line
        if len(rest) > MOST_LINE:
            raise EdgeError("malformed", f"a line of more than {MOST_LINE} octets")
