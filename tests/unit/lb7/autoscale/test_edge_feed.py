"""One edge that is followed: found again when it was lost, and not believed whatever it says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from aiohttp import web

from lb7.autoscale import edge_feed
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.edge_client import EdgeClient
from lb7.autoscale.edge_feed import EdgeFeed
from lb7.demand_shapes import LINES, MOST_LINE
from mesos_dns.hosts import Hosts
from mesos_dns.model import Key
from tests.fakes.telling_edge import KEY, TellingEdge, block, row

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_feed, "PAUSE_FIRST", 0.01)
    monkeypatch.setattr(edge_feed, "PAUSE_MOST", 0.05)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def following(url: str, woken: list[Key] | None = None) -> AsyncIterator[EdgeFeed]:
    hosts = Hosts()
    feed = EdgeFeed(EdgeClient(url, AutoscaleConfig(), hosts), 10.0, (woken if woken is not None else []).append)
    running = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await hosts.close()


async def test_it_follows() -> None:
    woken: list[Key] = []
    async with TellingEdge() as edge, following(edge.url, woken) as feed:
        edge.rows["/a:1"] = row(requests=1)
        assert feed.state == "lost"
        await until(lambda: feed.connected)
        assert (feed.state, feed.window.edge) == ("starting", "e1")
        edge.uptime, edge.rows["/a:1"] = 2.0, row(requests=6, held=1)
        edge.tell()
        await until(lambda: feed.state == "connected")
        found = feed.window.sums(KEY)
        assert found is not None
        assert found.requests == 5
        assert woken == [KEY]
        assert feed.blocks == 2


async def test_a_connection_that_is_lost_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lb7.autoscale")
    async with TellingEdge() as edge, following(edge.url) as feed:
        edge.rows["/a:1"] = row(requests=1)
        await until(lambda: feed.connected)
        edge.cut()
        await until(lambda: feed.failures == {"closed": 1} and feed.connected)
        assert "closed the connection" in feed.error
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_who_is_silent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_feed, "SILENCE", 0.1)
    async with TellingEdge() as edge, following(edge.url) as feed:
        await until(lambda: feed.blocks)
        await until(lambda: feed.failures.total() >= 2)
        assert "silent" in feed.error


async def test_what_is_wrong_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with following("http://127.0.0.1:1") as feed:
        await until(lambda: feed.failures.total() >= 3)
        assert len(caplog.records) == 1
        assert "127.0.0.1:1" in caplog.text


@pytest.mark.parametrize(
    "lines",
    [
        b"<html>\n",
        msgspec.json.encode(block(2, row())) + b"\n",
        msgspec.json.encode(block(1, row())) + b"\n" + msgspec.json.encode(block(0, row(), whole=False)) + b"\n",
        b'{"edge":"e1"}\n',
        b"[" * 1_000_000 + b"\n",
        b"\n",
        b"\xff\xfe\n",
    ],
    ids=["html", "not-whole", "time-goes-back", "half", "deep", "empty", "no-text"],
)
async def test_what_no_edge_tells(lines: bytes) -> None:
    async def misbehave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": LINES})
        await response.prepare(request)
        await response.write(lines)
        await asyncio.sleep(60)
        return response

    async with TellingEdge() as edge, following(edge.url) as feed:
        edge.misbehave = misbehave
        await until(lambda: feed.failures.total() >= 2)
        assert feed.error.startswith("what it tells is malformed")
        assert not feed.connected
        edge.misbehave = None
        await until(lambda: feed.connected)


async def test_a_line_without_end() -> None:
    async def misbehave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": LINES})
        await response.prepare(request)
        for _ in range(MOST_LINE // (1 << 20) + 2):
            await response.write(b" " * (1 << 20))
        await asyncio.sleep(60)
        return response

    async with TellingEdge() as edge, following(edge.url) as feed:
        edge.misbehave = misbehave
        await until(lambda: feed.failures.total())
        assert "more than" in feed.error
