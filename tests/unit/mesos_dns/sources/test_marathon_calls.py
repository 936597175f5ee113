"""What is asked of a leading Marathon, and which answers are taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mesos_dns.config import Duration, MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import Health
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.marathon_calls import EVENTS, MarathonCalls, is_addressable
from mesos_dns.sources.marathon_client import MarathonClient, MarathonError
from mesos_dns.sources.marathon_read import BadApp
from tests.fakes.marathon import Marathons, app
from tests.fakes.replay import no_names

WEB, DB = app("/shop/web", 2), app("/shop/db", 1)


@asynccontextmanager
async def calls(marathon: Marathons, instance: int = 0) -> AsyncIterator[MarathonCalls]:
    """Calls to one instance, begun."""
    config = MarathonConfig(urls=marathon.instances.urls, connect_timeout=Duration(20))
    hosts = Hosts(resolve=no_names)
    async with MarathonClient(config, config.urls, hosts, SourceCounters()) as client:
        found = MarathonCalls(client, marathon.instances.urls[instance], config, lambda _: Health.HEALTHY)
        await found.begin()
        yield found


def test_paths() -> None:
    assert "event_type=status_update_event" in EVENTS
    assert "plan-format=light" in EVENTS
    assert is_addressable("/a/b")
    assert not is_addressable("/a/tasks")
    assert not is_addressable("/versions")
    assert is_addressable("/tasks/a")


@pytest.mark.asyncio
async def test_everything_and_one() -> None:
    async with Marathons(WEB, DB) as marathon, calls(marathon) as ask:
        assert (ask.framework_id, ask.name, ask.with_pods) == (marathon.framework.id, "marathon", True)
        found = await ask.everything()
        assert [read.app.id for read in found.apps] == ["/shop/web", "/shop/db"]
        assert found.task_count() == 3
        assert found.bad == []
        read = await ask.app("/shop/web")
        assert read is not None
        assert (read.app.id, len(read.overlays)) == ("/shop/web", 2)
        assert await ask.app("/nothing") is None
        assert await ask.pod("/nothing") is None
        await ask.check_leader()


@pytest.mark.asyncio
async def test_an_app_that_is_another_one_is_refused() -> None:
    async with Marathons(WEB) as marathon, calls(marathon) as ask:
        marathon.marathon.apps["/other"] = marathon.simulated("/shop/web")
        with pytest.raises(BadApp, match="asked for '/other'"):
            await ask.app("/other")


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["truncate", "garble", "wrong"])
async def test_broken_documents(fault: str) -> None:
    async with Marathons(WEB) as marathon, calls(marathon) as ask:
        setattr(marathon.faults, fault, True)
        with pytest.raises(MarathonError) as error:
            await ask.everything()
        assert error.value.kind in ("connect", "document")
        with pytest.raises((MarathonError, BadApp)):
            await ask.app("/shop/web")


@pytest.mark.asyncio
async def test_documents_without_tasks_do_not_count_as_idle() -> None:
    async with Marathons(WEB) as marathon, calls(marathon) as ask:
        marathon.faults.no_tasks = True
        found = await ask.everything()
        assert not found.apps[0].tasks_told
        assert found.task_count() == 1


@pytest.mark.asyncio
async def test_another_leader_is_noticed() -> None:
    async with Marathons(WEB, count=2, standby="proxy") as marathon, calls(marathon) as ask:
        await ask.app("/shop/web")
        marathon.instances.usurp(1)
        with pytest.raises(MarathonError, match="leads now") as error:
            await ask.app("/shop/web")  # the header that every answer has
        assert error.value.kind == "moved"
        with pytest.raises(MarathonError, match="names") as error:
            await ask.check_leader()
        assert error.value.kind == "moved"


@pytest.mark.asyncio
async def test_a_redirect_to_another_leader_is_noticed() -> None:
    async with Marathons(WEB, count=2, standby="redirect-all") as marathon, calls(marathon) as ask:
        marathon.instances.usurp(1)
        with pytest.raises(MarathonError, match="no longer leads"):
            await ask.app("/shop/web")


@pytest.mark.asyncio
async def test_a_marathon_that_has_not_registered_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Marathons(WEB) as marathon:
        marathon.framework.id = ""
        with pytest.raises(MarathonError, match="not registered"):
            async with calls(marathon):
                pass


@pytest.mark.asyncio
async def test_a_marathon_without_pods() -> None:
    async with Marathons(WEB) as marathon:
        marathon.marathon.pods.enabled = False
        async with calls(marathon) as ask:
            assert not ask.with_pods
            assert (await ask.everything()).pods == []


@pytest.mark.asyncio
async def test_pods_are_read_whole() -> None:
    pod: dict[str, Any] = {"id": "/p", "containers": [{"name": "c"}]}
    async with Marathons(WEB) as marathon, calls(marathon) as ask:
        marathon.marathon.pods.put(pod)
        found = await ask.everything()
        assert [read.app.kind for read in found.pods] == ["pod"]
        read = await ask.pod("/p")
        assert read is not None
        assert len(read.overlays) == 1
