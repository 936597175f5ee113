"""Marathon's event stream: events, keep-alives, filters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from agent.demo.marathon_events import EventBus

SSE = {"Accept": "text/event-stream"}


@pytest_asyncio.fixture
async def bus() -> AsyncIterator[tuple[EventBus, str]]:
    """A bus and where it is served."""
    found = EventBus(keep_alive=0.01)
    app = web.Application()
    app.router.add_get("/v2/events", found.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield found, f"http://127.0.0.1:{runner.addresses[0][1]}/v2/events"
    await runner.cleanup()


async def lines(response: aiohttp.ClientResponse, count: int) -> list[str]:
    """The next lines that are not empty."""
    found: list[str] = []
    while len(found) < count:
        line = (await response.content.readline()).decode().strip()
        if line:
            found.append(line)
    return found


@pytest.mark.asyncio
async def test_an_event_is_told_in_two_lines(bus: tuple[EventBus, str]) -> None:
    events, url = bus
    async with aiohttp.ClientSession() as session, session.get(url, headers=SSE) as response:
        assert response.content_type == "text/event-stream"
        assert (await lines(response, 2))[0] == "event: event_stream_attached"
        events.publish("api_post_event", 0.0, uri="/v2/apps")
        name, data = await lines(response, 2)
        assert name == "event: api_post_event"
        told = json.loads(data.removeprefix("data: "))
        assert told == {"uri": "/v2/apps", "eventType": "api_post_event", "timestamp": "1970-01-01T00:00:00.000Z"}


@pytest.mark.asyncio
async def test_keep_alives_are_empty_lines(bus: tuple[EventBus, str]) -> None:
    _, url = bus
    async with aiohttp.ClientSession() as session, session.get(url, headers=SSE) as response:
        await lines(response, 2)
        await response.content.readline()  # the end of the event
        for _ in range(3):
            assert await response.content.readline() == b"\r\n"


@pytest.mark.asyncio
async def test_a_filter_passes_its_types_only(bus: tuple[EventBus, str]) -> None:
    events, url = bus
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}?event_type=b&event_type=c", headers=SSE) as response,
    ):
        assert await response.content.readline() == b"\r\n"
        while not events.count:
            await response.content.readline()
        for kind in ("a", "b", "a", "c"):
            events.publish(kind, 0.0)
        told = await lines(response, 4)
        assert told[::2] == ["event: b", "event: c"]


@pytest.mark.asyncio
async def test_close_ends_the_streams(bus: tuple[EventBus, str]) -> None:
    events, url = bus
    async with aiohttp.ClientSession() as session, session.get(url, headers=SSE) as response:
        await lines(response, 2)
        events.close()
        await response.content.read()
        assert response.content.at_eof()


@pytest.mark.asyncio
async def test_silent_streams_lose_their_events(bus: tuple[EventBus, str]) -> None:
    events, url = bus
    async with aiohttp.ClientSession() as session, session.get(url, headers=SSE) as response:
        await lines(response, 2)
        events.faults.silent = True
        events.publish("lost", 0.0)
        events.faults.silent = False
        events.faults.mute = True
        events.publish("lost", 0.0)
        events.faults.mute = False
        events.publish("told", 0.0)
        assert (await lines(response, 1)) == ["event: told"]


@pytest.mark.asyncio
async def test_abandoned_streams_get_keep_alives_only(bus: tuple[EventBus, str]) -> None:
    events, url = bus
    async with aiohttp.ClientSession() as session, session.get(url, headers=SSE) as response:
        await lines(response, 2)
        await response.content.readline()
        events.abandon()
        events.publish("lost", 0.0)
        for _ in range(3):
            assert (await response.content.readline()).strip() == b""
        events.send(b"raw\r\n")
        assert (await lines(response, 1)) == ["raw"]
