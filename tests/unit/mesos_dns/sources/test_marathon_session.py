"""One connection: what is wanted when; the conversation itself is in tests/conversation."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import pytest

from mesos_dns.catalog import Catalog
from mesos_dns.config import Duration, MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.marathon_book import MarathonBook
from mesos_dns.sources.marathon_calls import Documents, MarathonCalls
from mesos_dns.sources.marathon_client import MarathonClient, MarathonError
from mesos_dns.sources.marathon_read import ReadApp
from mesos_dns.sources.marathon_session import MarathonSession, Timing
from tests.fakes.marathon import Marathons, app
from tests.fakes.replay import no_names

pytestmark = pytest.mark.asyncio

WEB = app("/shop/web", 2)
UNREADABLE = b"event: status_update_event\r\ndata: {half\r\n\r\n"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


class Session:
    """Runs a session against an instance, and notes when it was in sync."""

    def __init__(self, marathon: Marathons, *, framework_id: str = "", timing: Timing | None = None) -> None:
        self.config = MarathonConfig(urls=marathon.instances.urls, connect_timeout=Duration(20), resync=Duration(0))
        self.hosts = Hosts(resolve=no_names)
        self.catalog = Catalog()
        self.book = MarathonBook(CatalogPublisher(self.catalog, "marathon"), "mesos", self.hosts)
        self.counters = SourceCounters()
        self.synced: list[MarathonCalls] = []
        self._framework_id = framework_id
        self._timing = timing or Timing(check=3600.0)

    async def run(self) -> None:
        """Until it ends in MarathonError."""
        async with MarathonClient(self.config, self.config.urls, self.hosts, self.counters) as client:
            session = MarathonSession(
                client,
                self.config,
                self.book,
                self.hosts,
                self.counters,
                Complaints(logging.getLogger("test")),
                self.synced.append,
                framework_id=self._framework_id,
                timing=self._timing,
                dice=random.Random(1),
            )
            await session.run(self.config.urls[0])


async def test_the_order_of_what_is_asked() -> None:
    async with Marathons(WEB) as marathon:
        session = Session(marathon)
        task = asyncio.create_task(session.run())
        async with asyncio.timeout(20):
            while not session.synced:
                await asyncio.sleep(0.005)
        assert marathon.instances.requests == [
            "GET /v2/events",
            "GET /v2/info",
            "GET /v2/leader",
            "HEAD /v2/pods",
            "GET /v2/apps",
            "GET /v2/pods::status",
        ]
        marathon.marathon.events.close()
        with pytest.raises(MarathonError, match="ended the event stream"):
            await asyncio.wait_for(task, 20)
        assert session.counters.connects == 1


async def test_another_framework_than_expected() -> None:
    async with Marathons(WEB) as marathon:
        session = Session(marathon, framework_id="F9")
        with pytest.raises(MarathonError, match="expected F9"):
            await asyncio.wait_for(session.run(), 20)
        assert not session.synced
        assert not list(session.catalog.entities())


async def test_a_leader_that_is_none_any_more_ends_it() -> None:
    async with Marathons(WEB, count=2) as marathon:
        session = Session(marathon, timing=Timing(check=0.05))
        task = asyncio.create_task(session.run())
        async with asyncio.timeout(20):
            while not session.synced:
                await asyncio.sleep(0.005)
        marathon.instances.usurp(1)
        with pytest.raises(MarathonError) as error:
            await asyncio.wait_for(task, 20)
        assert error.value.kind == "moved"


async def test_what_was_read_alone_outlives_a_whole_document_that_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    everything, held = MarathonCalls.everything, asyncio.Event()
    held.set()

    async def late(calls: MarathonCalls) -> Documents:
        found = await everything(calls)
        await held.wait()
        return found

    monkeypatch.setattr(MarathonCalls, "everything", late)
    async with Marathons(WEB) as marathon:
        session = Session(marathon)
        task = asyncio.create_task(session.run())
        await until(lambda: len(session.synced) == 1)
        held.clear()
        marathon.marathon.events.send(UNREADABLE)  # everything is read again
        await until(lambda: marathon.instances.requests.count("GET /v2/pods::status") == 2)
        marathon.marathon.create(app("/late", 1))
        await until(lambda: session.book.app(marathon.framework.id, "/late"))
        held.set()
        await until(lambda: len(session.synced) == 2)
        assert session.book.app(marathon.framework.id, "/late")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_answer_about_one_app_that_comes_after_a_newer_document_is_not_the_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, held = MarathonCalls.app, asyncio.Event()

    async def late(calls: MarathonCalls, app_id: str) -> ReadApp | None:
        found = await one(calls, app_id)
        await held.wait()
        return found

    monkeypatch.setattr(MarathonCalls, "app", late)
    async with Marathons(WEB) as marathon:
        session = Session(marathon)
        task = asyncio.create_task(session.run())
        await until(lambda: len(session.synced) == 1)
        new = marathon.start("/shop/web")
        await until(lambda: "GET /v2/apps/shop/web" in marathon.instances.requests)
        gone = marathon.kill("/shop/web")
        marathon.marathon.events.send(UNREADABLE)
        await until(lambda: len(session.synced) == 2)
        assert session.book.health(marathon.framework.id, new) is not None
        assert session.book.health(marathon.framework.id, gone) is None
        held.set()
        await until(lambda: marathon.instances.requests.count("GET /v2/apps/shop/web") >= 2)
        instances = marathon.simulated("/shop/web").instances
        await until(lambda: session.book.task_count(marathon.framework.id) == len(instances))
        assert all(session.book.health(marathon.framework.id, task_id) for task_id in instances)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_app_with_a_name_that_is_a_path_is_read_with_all() -> None:
    async with Marathons(WEB, app("/odd/tasks")) as marathon:
        session = Session(marathon)
        task = asyncio.create_task(session.run())
        async with asyncio.timeout(20):
            while not session.synced:
                await asyncio.sleep(0.005)
        marathon.start("/odd/tasks")
        async with asyncio.timeout(20):
            while len(session.synced) < 2:
                await asyncio.sleep(0.005)
        assert session.book.task_count(marathon.framework.id) == 4
        assert session.counters.reads == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
