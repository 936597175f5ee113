"""The source's standing and back-off; what it says is tested in conversation."""

from __future__ import annotations

import asyncio
import random

import pytest

from mesos_dns.config import MesosConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import Sync
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources import mesos
from mesos_dns.sources.mesos import MesosSource
from tests.fakes.followed import Followed
from tests.fakes.following import Following
from tests.fakes.mesos_master import FakeMaster, agent, framework, state_of, subscribed, task
from tests.fakes.replay import no_names

pytestmark = pytest.mark.asyncio


class Dice(random.Random):
    """Remembers the spans that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.spans.append(b)
        return 0.0


async def spans(*masters: str, count: int) -> list[float]:
    dice = Dice()
    config = MesosConfig(masters=masters)
    source = MesosSource(config, Followed().publisher, dice=dice, hosts=Hosts(resolve=no_names))
    running = asyncio.create_task(source.run())
    async with asyncio.timeout(20):
        while len(dice.spans) < count:
            await asyncio.sleep(0.001)
    running.cancel()
    return dice.spans[:count]


async def test_back_off_grows_to_its_cap(free_port: int) -> None:
    found = await spans(f"127.0.0.1:{free_port}", count=12)
    assert found[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(found) == mesos.BACKOFF_UNKNOWN


async def test_back_off_is_short_while_a_master_answers() -> None:
    async with FakeMaster() as master:
        master.v1["SUBSCRIBE"] = None

        async def refuse(request: object) -> object:
            from aiohttp import web

            return web.Response(status=503)

        master.before = refuse  # type: ignore[assignment]
        assert max(await spans(master.place, count=12)) == mesos.BACKOFF_KNOWN


async def test_no_master_at_all_is_no_crash() -> None:
    assert len(await spans(count=3)) == 3


async def test_a_masters_text_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="ftp"):
        MesosSource(MesosConfig(masters=("ftp://x",)), Followed().publisher)


async def test_the_standing_says_what_is() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        status = follow.catalog.sources["mesos"]
        master.send(subscribed(state_of([task(1)], [agent(1)])))
        await follow.until(lambda: status.synced and status.connected)
        assert master.place in status.detail
        assert follow.source.counters.last_sync_at > 0
        master.cut()
        await follow.until(lambda: not status.connected)
        assert status.synced, "what was said stays said"
        assert "closed" in status.detail


async def test_nothing_follows_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    sync = CatalogPublisher.sync

    async def slow(publisher: CatalogPublisher, change: Sync) -> None:
        begun.set()
        await go_on.wait()
        await sync(publisher, change)

    monkeypatch.setattr(CatalogPublisher, "sync", slow)
    async with FakeMaster() as master:
        followed = Followed()
        source = MesosSource(MesosConfig(masters=(master.place,)), followed.publisher, hosts=Hosts(resolve=no_names))
        running = asyncio.create_task(source.run())
        master.send(subscribed(state_of([task(1)], [agent(1)])))
        await asyncio.wait_for(begun.wait(), 20)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=0.2)
        assert not done, "a document is being applied"
        go_on.set()
        await asyncio.wait([running], timeout=20)
        assert running.cancelled()
        assert followed.running() == {("F1", "t1")}


async def test_names_that_nobody_uses_are_not_refreshed() -> None:
    asked: list[str] = []

    async def resolve(host: str) -> tuple[str, ...]:
        asked.append(host)
        return ("10.0.0.9",)

    hosts = Hosts(resolve=resolve)
    schedulers = {"frameworks": [{"id": "F1", "name": "framework1", "pid": "s@10.9.0.1:1", "hostname": "driver-1"}]}
    named = framework(1)
    named["framework_info"]["hostname"] = "driver-1"
    async with FakeMaster() as master, Following(master.place, hosts=hosts) as follow:
        master.gets["/master/state-summary"] = schedulers
        master.send(subscribed(state_of([], [agent(1)], [named])))
        await follow.until(lambda: follow.frameworks() and follow.frameworks()["F1"].port == 1)
        master.send(subscribed(state_of([], [agent(1)], [named])))
        await follow.until(lambda: follow.source.counters.syncs == 2)
        await follow.until(lambda: "resolve driver-1" not in {each.get_name() for each in asyncio.all_tasks()})
        assert asked == ["driver-1"], "its pid is known: no further document waits for the name"
