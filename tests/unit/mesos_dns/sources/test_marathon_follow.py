"""One Marathon's follower: its URLs, their order, and how long it waits; conversations are in tests/conversation."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from mesos_dns.catalog import Catalog
from mesos_dns.config import Duration, MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources import marathon_follow
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.marathon_book import MarathonBook
from mesos_dns.sources.marathon_client import MarathonError
from mesos_dns.sources.marathon_follow import Follower
from tests.fakes.marathon import Marathons, app
from tests.fakes.replay import no_names
from tests.ports import free_ports

pytestmark = pytest.mark.asyncio


class Waits(random.Random):
    """Dice that remember the bounds that they were given, and always fall on nothing."""

    def __init__(self) -> None:
        super().__init__(1)
        self.bounds: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append(b)
        return 0.0


def follower(*urls: str, dice: random.Random | None = None) -> tuple[Follower, SourceCounters, list[str]]:
    """A follower, what it counts, and its details whenever they changed."""
    hosts, counters, told = Hosts(resolve=no_names), SourceCounters(), list[str]()
    book = MarathonBook(CatalogPublisher(Catalog(), "marathon"), "mesos", hosts)
    complain = Complaints(logging.getLogger("test"))
    config = MarathonConfig(urls=urls, connect_timeout=Duration(20), resync=Duration(0))
    found = Follower(config, urls, book, hosts, counters, complain, lambda: told.append(found.detail), dice=dice)
    return found, counters, told


async def test_urls_are_made_alike_and_bad_ones_left_out(caplog: pytest.LogCaptureFixture) -> None:
    one, _, _ = follower("http://a.example:8080", "http://A.example:8080/", "ftp://b", "http://me:s3cret@c")
    assert one.urls == ("http://a.example:8080",)
    assert caplog.text.count("is not used") == 2
    assert "s3cret" not in caplog.text


async def test_the_pause_grows_and_has_a_bound() -> None:
    dice = Waits()
    one, _, _ = follower(dice=dice)
    for _ in range(12):
        await one._pause()
    assert dice.bounds[:4] == [0.1, 0.2, 0.4, 0.8]
    assert dice.bounds[-1] == marathon_follow.BACKOFF_MOST


async def test_a_refused_login_is_tried_seldom() -> None:
    dice = Waits()
    one, _, _ = follower(dice=dice)
    one._refused = True
    for _ in range(12):
        await one._pause()
    assert dice.bounds[:3] == [1.0, 2.0, 4.0]
    assert dice.bounds[-1] == marathon_follow.BACKOFF_AUTH_MOST


async def test_other_urls_end_the_pause() -> None:
    one, _, _ = follower(dice=random.Random(1))
    one._attempts = 9
    pause = asyncio.create_task(one._pause())
    await asyncio.sleep(0)
    one.set_urls(["http://a.example"])
    await asyncio.wait_for(pause, 20)
    assert one._attempts == 0


async def test_every_url_is_tried_in_a_round_and_each_loss_is_told() -> None:
    urls = [f"http://127.0.0.1:{port}" for port in free_ports(3)]
    one, counters, told = follower(*urls)
    await one._round()
    assert counters.errors["connect"] == 3
    assert [detail.partition("/v2")[0] for detail in told] == urls
    assert not one.connected


async def test_without_urls_that_is_said() -> None:
    one, _, told = follower()
    await one._round()
    assert told == ["no URL of this Marathon is known"]


async def test_the_instance_that_was_lost_is_tried_last() -> None:
    async with Marathons(app("/a"), count=2) as marathon:
        one, counters, _ = follower(*marathon.instances.urls)
        round_ = asyncio.create_task(one._round())
        async with asyncio.timeout(20):
            while not one.connected:
                await asyncio.sleep(0.005)
        marathon.marathon.events.close()
        await asyncio.wait_for(round_, 20)
        assert counters.reconnects == 1
        assert one._lost_via == marathon.instances.urls[0]
        asked = len(marathon.instances.all[1].gate.requests)
        round_ = asyncio.create_task(one._round())
        async with asyncio.timeout(20):
            while not one.connected:
                await asyncio.sleep(0.005)
        assert marathon.instances.all[1].gate.requests[asked:] == ["GET /v2/events"]
        round_.cancel()
        await asyncio.gather(round_, return_exceptions=True)


async def test_the_same_loss_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    one, counters, _ = follower()
    for _ in range(3):
        one._lost(MarathonError("connect", "refused"))
    one._lost(MarathonError("connect", "reset"))
    assert len(caplog.records) == 2
    assert counters.errors["connect"] == 4
