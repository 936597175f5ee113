"""What stands before the simulated Marathon: logins, instances that stand by, faults."""

from __future__ import annotations

import asyncio
import base64

import aiohttp
import pytest

from tests.fakes.marathon import Marathons, app

pytestmark = pytest.mark.asyncio

SSE = {"Accept": "text/event-stream"}
WEB = app("/web", 2)


async def get(url: str, **options: object) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers; redirects are not followed."""
    async with aiohttp.ClientSession() as session:
        async with session.get(url, allow_redirects=False, **options) as answer:  # type: ignore[arg-type]
            return answer.status, await answer.text(), dict(answer.headers)


async def test_who_may_ask() -> None:
    async with Marathons(WEB, credentials=("me", "secret")) as marathon:
        url = marathon.instances.urls[0] + "/v2/info"
        assert (await get(url))[0] == 401
        for pair, status in ((b"me:wrong", 401), (b"me:secret", 200)):
            header = "Basic " + base64.b64encode(pair).decode()
            assert (await get(url, headers={"Authorization": header}))[0] == status
    async with Marathons(WEB, credentials="t0ken") as marathon:
        url = marathon.instances.urls[0] + "/v2/info"
        assert (await get(url, headers={"Authorization": "token=t0ken"}))[0] == 200
        assert (await get(url, headers={"Authorization": "token=other"}))[0] == 401


async def test_one_that_stands_by_redirects_readers_of_events_and_passes_on_the_rest() -> None:
    async with Marathons(WEB, count=2) as marathon:
        leader, standby = marathon.instances.urls
        status, _, headers = await get(standby + "/v2/events?event_type=x", headers=SSE)
        assert (status, headers["Location"]) == (302, leader + "/v2/events?event_type=x")
        status, text, headers = await get(standby + "/v2/apps?embed=apps.tasks")
        assert (status, headers["X-Marathon-Leader"]) == (200, leader)
        assert text == (await get(leader + "/v2/apps?embed=apps.tasks"))[1]
        assert (await get(standby + "/v2/apps/nothing"))[0] == 404
        assert (await get(standby + "/ping"))[1] == "pong\n"


async def test_one_that_stands_by_passes_on_events() -> None:
    async with Marathons(WEB, count=2, standby="proxy") as marathon:
        async with aiohttp.ClientSession() as session:
            async with session.get(marathon.instances.urls[1] + "/v2/events", headers=SSE) as answer:
                assert answer.content_type == "text/event-stream"
                marathon.start("/web")
                async with asyncio.timeout(20):
                    while b"status_update_event" not in await answer.content.readline():
                        pass


async def test_one_that_sends_everybody_away() -> None:
    async with Marathons(WEB, count=2, standby="redirect-all") as marathon:
        leader, standby = marathon.instances.urls
        assert (await get(standby + "/v2/info"))[2]["Location"] == leader + "/v2/info"
        marathon.instances.election.elsewhere = "http://login.example"
        assert (await get(standby + "/v2/info"))[2]["Location"] == "http://login.example/v2/info"


async def test_without_a_leader_nobody_answers() -> None:
    async with Marathons(WEB, count=2) as marathon:
        await marathon.instances.lose_leader()
        for url in marathon.instances.urls:
            assert (await get(url + "/v2/apps"))[0] == 503


async def test_a_dead_leader() -> None:
    async with Marathons(WEB, count=2) as marathon:
        leader = marathon.instances.election.leader
        await marathon.instances.lose_leader(dead=True)
        marathon.instances.election.leader = leader  # the others do not know yet
        assert (await get(marathon.instances.urls[1] + "/v2/apps"))[0] == 502


async def test_faults() -> None:
    async with Marathons(WEB) as marathon:
        url = marathon.instances.urls[0]
        faults = marathon.faults
        faults.unavailable = True
        assert (await get(url + "/v2/apps"))[0] == 503
        faults.clear()
        faults.status = 500
        assert (await get(url + "/v2/apps"))[0] == 500
        assert (await get(url + "/ping"))[0] == 200
        faults.clear()
        faults.empty = True
        assert (await get(url + "/v2/apps"))[1] == '{"apps":[]}'
        assert (await get(url + "/v2/apps/web"))[0] == 404
        faults.clear()
        faults.truncate = True
        with pytest.raises(aiohttp.ClientPayloadError):
            await get(url + "/v2/apps")
        faults.clear()
        faults.stall = True
        with pytest.raises(TimeoutError):
            await get(url + "/v2/apps", timeout=aiohttp.ClientTimeout(total=0.1))
        faults.clear()
        faults.slow = 0.01
        assert (await get(url + "/v2/apps"))[0] == 200
        assert marathon.instances.requests.count("GET /v2/apps") == 6


async def test_changes_that_go_wrong() -> None:
    async with Marathons(WEB) as marathon:
        url = marathon.instances.urls[0] + "/v2/apps/web"
        faults = marathon.faults

        async def put(instances: int) -> tuple[int, str]:
            async with aiohttp.ClientSession() as session:
                async with session.put(url + "?force=true", json={"instances": instances}) as answer:
                    return answer.status, await answer.text()

        faults.write_status = 502
        assert (await put(3))[0] == 502
        assert marathon.simulated("/web").definition.instances == 2
        faults.clear()
        faults.mumbled = True
        assert (await put(3)) == (200, "<html>done</html>")
        assert marathon.simulated("/web").definition.instances == 3
        faults.clear()
        faults.unanswered = True
        with pytest.raises(aiohttp.ClientError):
            await put(4)
        assert marathon.simulated("/web").definition.instances == 4
        assert (await get(url))[0] == 200
