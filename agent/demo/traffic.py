"""A client of the edge for the demo: requests for one host at a rate that changes, and what became of them."""

from __future__ import annotations

import asyncio
import time

CLIENTS = 16
PATIENCE = 90.0
"""Seconds that an answer may take: a request for an app that sleeps waits until it is awake."""
BEHIND = 0.5
"""Seconds of requests that may be overdue at most; those beyond are not made up for."""
_LONGEST = 65536


class Traffic:
    """`rate` requests a second while `run` runs, on connections that are kept; 0: none.

    `answered` counts answers of status 200, `failed` all others and none at all, `longest` is the slowest one's time in
    seconds since it was last set to 0.
    """

    def __init__(self, port: int, host: str) -> None:
        self.rate = 0.0
        self.answered = self.failed = 0
        self.longest = 0.0
        self._port, self._host = port, host
        self._due = 0.0
        self._turns = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._client())

    async def _client(self) -> None:
        """One connection after another; each is used until it breaks."""
        while True:
            await self._turn()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_LONGEST)
            except OSError:
                self.failed += 1
                continue
            try:
                await self._ask(reader, writer)
                while True:
                    await self._turn()
                    await self._ask(reader, writer)
            except (OSError, EOFError, ValueError, TimeoutError):
                self.failed += 1
            finally:
                writer.close()

    async def _turn(self) -> None:
        """Until the next request is due, which is then this client's."""
        async with self._turns:
            while True:
                now = asyncio.get_running_loop().time()
                if self.rate <= 0:
                    self._due = now
                    await asyncio.sleep(0.02)
                    continue
                self._due = max(self._due + 1 / self.rate, now - BEHIND)
                await asyncio.sleep(self._due - now)
                return

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Raises OSError, EOFError, ValueError, TimeoutError where there is no answer."""
        began = time.monotonic()
        writer.write(f"GET / HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            _, _, length = head.partition("\r\ncontent-length:")
            await reader.readexactly(int(length.partition("\r\n")[0]))
        self.longest = max(self.longest, time.monotonic() - began)
        if head.split(" ", 2)[1] == "200":
            self.answered += 1
        else:
            self.failed += 1
