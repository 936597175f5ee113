"""Which of a Marathon's URLs is asked, and whose answers count."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from lb7.autoscale.changes import Scale
from lb7.autoscale.marathon_peer import Peer
from mesos_dns.config import Duration, MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.marathon_client import MarathonClient, MarathonError
from tests.fakes.acting import entity
from tests.fakes.marathon import Marathons, app
from tests.fakes.replay import no_names

pytestmark = pytest.mark.asyncio

NOWHERE = "http://127.0.0.1:1"


@contextlib.asynccontextmanager
async def peer(marathon: Marathons, *urls: str, framework_id: str | None = None) -> AsyncIterator[Peer]:
    config = MarathonConfig(connect_timeout=Duration(20))
    async with MarathonClient(config, urls, Hosts(resolve=no_names), SourceCounters()) as client:
        yield Peer(client, urls, marathon.framework.id if framework_id is None else framework_id)


async def test_a_url_that_answered_is_asked_first_and_gets_the_change() -> None:
    async with Marathons(app("/web", 3), count=2) as marathon:
        async with peer(marathon, NOWHERE, *marathon.instances.urls) as found:
            told = await found.app(entity(marathon))
            assert told is not None
            assert told.instances == 3
            status, _ = await found.send(Scale("/web", 3, 4).request(), 0.0)
            assert status == 200
        assert "PUT /v2/apps/web" in marathon.instances.all[0].gate.requests
        assert marathon.instances.requests.count("GET /v2/info") == 1
        assert marathon.instances.all[1].gate.requests == []


async def test_another_marathon_that_has_no_such_app_is_passed_over() -> None:
    async with Marathons() as other, Marathons(app("/web", 3)) as marathon:
        other.framework.id = "another"
        async with peer(marathon, *other.instances.urls, *marathon.instances.urls) as found:
            told = await found.app(entity(marathon))
            assert told is not None
            assert told.instances == 3


async def test_the_first_failure_is_the_one_that_is_told() -> None:
    async with Marathons(app("/web", 3)) as marathon:
        marathon.faults.unavailable = True
        async with peer(marathon, NOWHERE, *marathon.instances.urls) as found:
            with pytest.raises(MarathonError, match=NOWHERE):
                await found.app(entity(marathon))


async def test_statuses_that_are_answers_and_those_that_are_not() -> None:
    async with Marathons(app("/web", 3)) as marathon:
        async with peer(marathon, *marathon.instances.urls) as found:
            assert (await found.send(Scale("/web", 3, -1).request(), 0.0))[0] == 422
            marathon.faults.write_status = 503
            with pytest.raises(MarathonError) as error:
                await found.send(Scale("/web", 3, 4).request(), 0.0)
            assert (error.value.status, error.value.unsent) == (503, False)


async def test_lists() -> None:
    async with Marathons(app("/web", 1, env={"SIMULATE_HEALTH": "false"})) as marathon:
        async with peer(marathon, *marathon.instances.urls) as found:
            assert await found.deployments() == frozenset()
            marathon.marathon.hold_back("/web", 50)
            running = marathon.marathon.update(marathon.simulated("/web"), {"instances": 2})
            assert await found.deployments() == {running.id}
            assert set(await found.queue()) == {"/web"}


async def test_an_answer_of_another_marathon_is_none() -> None:
    async with Marathons(app("/web", 3)) as marathon:
        async with peer(marathon, *marathon.instances.urls, framework_id="F-0") as found:
            for name in ("/web", "/none"):
                with pytest.raises(MarathonError, match="not of 'F-0'"):
                    await found.app(entity(marathon, name))
        async with peer(marathon, *marathon.instances.urls, framework_id="") as found:
            assert await found.app(entity(marathon, "/none")) is None
