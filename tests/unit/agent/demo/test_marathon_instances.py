"""Several instances of a Marathon: who leads, and what becomes of streams."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.fakes.marathon import Marathons, app

pytestmark = pytest.mark.asyncio

SSE = {"Accept": "text/event-stream"}


async def test_a_fail_over_ends_streams_and_names_the_new_leader() -> None:
    async with Marathons(app("/web"), count=3) as marathon, aiohttp.ClientSession() as session:
        urls = marathon.instances.urls
        async with session.get(urls[0] + "/v2/events", headers=SSE) as stream:
            await marathon.instances.fail_over(2)
            async with asyncio.timeout(20):
                while await stream.content.readany():
                    pass
        for url in urls:
            async with session.get(url + "/v2/leader") as answer:
                assert await answer.json() == {"leader": urls[2].removeprefix("http://")}


async def test_a_dead_leader_can_come_back_where_it_was() -> None:
    async with Marathons(app("/web"), count=2) as marathon, aiohttp.ClientSession() as session:
        urls = marathon.instances.urls
        await marathon.instances.fail_over(1, dead=True)
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(urls[0] + "/ping")
        await marathon.instances.all[0].listen()
        assert marathon.instances.urls == urls
        async with session.get(urls[0] + "/v2/info") as answer:
            assert (await answer.json())["leader"] == urls[1].removeprefix("http://")


async def test_a_usurper_leaves_old_streams_open_and_without_events() -> None:
    async with Marathons(app("/web"), count=2) as marathon, aiohttp.ClientSession() as session:
        async with session.get(marathon.instances.urls[0] + "/v2/events", headers=SSE) as stream:
            async with asyncio.timeout(20):
                while b"attached" not in await stream.content.readline():
                    pass
                await stream.content.readline()  # its data
                marathon.instances.usurp(1)
                marathon.start("/web")
                for _ in range(4):
                    assert (await stream.content.readline()).strip() == b""
        assert marathon.instances.election.leader is marathon.instances.all[1]
