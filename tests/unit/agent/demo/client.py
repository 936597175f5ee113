"""A subscriber of a simulated master: reads RecordIO records off one connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

HEADERS = {"Accept": "application/json"}
LONGEST = 10.0


class Subscription:
    """Records of one stream; heartbeats are counted and passed over by `event`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.heartbeats = 0

    async def record(self) -> dict[str, Any]:
        """The next record. Raises EOFError at an orderly end, others on one that breaks or gives none in time."""
        async with asyncio.timeout(LONGEST):
            line = await self.response.content.readuntil(b"\n")
            if not line:
                raise EOFError("the stream ended")
            length = int(line)
            found: dict[str, Any] = json.loads(await self.response.content.readexactly(length))
        return found

    async def event(self) -> dict[str, Any]:
        """The next record that is no heartbeat."""
        while (found := await self.record())["type"] == "HEARTBEAT":
            self.heartbeats += 1
        return found

    async def until_end(self) -> None:
        """Reads on to the orderly end."""
        try:
            while True:
                await self.record()
        except EOFError:
            pass

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next events."""
        return [await self.event() for _ in range(count)]


@asynccontextmanager
async def subscribed(url: str) -> AsyncIterator[Subscription]:
    """A subscription to the master at `url`."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/api/v1", json={"type": "SUBSCRIBE"}, headers=HEADERS) as response,
    ):
        assert response.status == 200
        yield Subscription(response)
