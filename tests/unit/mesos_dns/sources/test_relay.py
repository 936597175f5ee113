"""Which server is tried when, and how long is waited; the conversation itself is in tests/conversation."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from mesos_dns.catalog import Catalog
from mesos_dns.config import RelayConfig
from mesos_dns.hosts import Hosts
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources import relay
from mesos_dns.sources.relay import RelaySource
from mesos_dns.sources.relay_link import RelayError
from tests.fakes.relaying import free_port
from tests.fakes.replay import no_names

pytestmark = pytest.mark.asyncio

SERVERS = tuple(f"http://s{number}:8123" for number in range(5))


def source(*servers: str, as_of: float = 0.0, right: dict[str, float] | None = None, seed: int = 1) -> RelaySource:
    config, publisher = RelayConfig(servers=servers or SERVERS), CatalogPublisher(Catalog(), "relay")
    hosts, dice = Hosts(resolve=no_names), random.Random(seed)
    return RelaySource(config, publisher, hosts=hosts, as_of=as_of, right=right, dice=dice)


async def test_servers_are_tried_in_random_order_and_the_lost_one_last() -> None:
    firsts = {source(seed=seed)._order()[0] for seed in range(40)}
    assert firsts == set(SERVERS)
    one = source()
    one.server = SERVERS[2]
    for _ in range(20):
        order = one._order()
        assert sorted(order) == sorted(SERVERS)
        assert order[-1] == SERVERS[2]


async def test_a_server_listed_twice_is_one() -> None:
    assert source("http://h", "http://h:8123/", "http://h:8123")._order() == ["http://h:8123"]


def late(**as_of: float) -> dict[str, dict[str, float]]:
    """Servers that name no sources."""
    return {server: {"": when} for server, when in as_of.items()}


async def test_of_servers_out_of_date_one_of_the_newest_is_followed() -> None:
    one = source(as_of=1000.0)
    assert one._newest(late(a=100.0, b=900.0)) == ""
    assert one._newest(late(a=945.0, b=900.0)) == "a"
    assert one._newest(late(a=945.0, b=2000.0)) == "b"
    assert one._newest(late(a=1960.0, b=2000.0)) == "a"  # as good, and the first in random order
    one.server = "b"
    assert one._newest(late(a=1960.0, b=2000.0)) == "b"  # as good, and the one of before


async def test_servers_are_compared_source_by_source() -> None:
    now = time.time()
    one = source(as_of=now - 5000, right={"mesos": now - 100, "serversets": now - 5000})
    # Mesos goes on, serversets are lost everywhere: what is known of them here is no reason to stay behind.
    assert one._newest({"a": {"mesos": now, "serversets": now - 5030}}) == "a"
    assert one._newest({"a": {"mesos": now, "serversets": now - 5090}}) == ""
    assert one._newest({"a": {"mesos": now - 200, "serversets": now}}) == ""
    assert one._newest({"a": {"mesos": now, "file": 0.0}}) == "a"  # nothing was known of files here
    assert one._newest({"a": {"mesos": now}}) == "a"  # it is told not to follow that source
    several = {"a": {"mesos": now, "serversets": now - 5000}, "b": {"mesos": now, "serversets": now - 4000}}
    assert one._newest(several) == "b"
    # Each is behind the other: there still is one to follow.
    assert (
        one._newest({"a": {"mesos": now - 90, "serversets": now}, "b": {"mesos": now, "serversets": now - 4000}}) == "a"
    )
    ahead = source(right={"mesos": now + 9000})  # our own clock was set back
    assert ahead._newest({"a": {"mesos": now - 30}}) == "a"
    restored = source(as_of=now - 100)
    assert restored._newest({"a": {"mesos": now, "file": 0.0}}) == ""  # what was saved may have been of a file
    assert source(as_of=now - 100, right={"mesos": now - 100})._newest({"a": {"mesos": now, "file": 0.0}}) == "a"


async def test_staying_behind_with_everything_has_an_end() -> None:
    now, loop = time.time(), asyncio.get_running_loop()
    one = source(right={"mesos": now, "file": now})
    for alone, lost, followed in ((80, 90, False), (100, 90, True), (290, 90_000, False), (301, 90_000, True)):
        one._alone_at = loop.time() - alone
        assert one._newest({"a": {"mesos": now, "file": now - lost}}) == ("a" if followed else "")
    assert one._newest({"a": {"file": 0.0}, "b": {"file": now - 900}}) == "b"


async def test_what_it_tells_of_its_sources_to_those_who_follow_this_process() -> None:
    one = source(as_of=5.0, right={"mesos": 7.0, "file": 0.0, "": 3.0})
    assert one.sources == {"mesos": 7.0, "file": 0.0}
    one._past.live = frozenset({"mesos"})
    assert one.sources == {"mesos": None, "file": 0.0}
    assert one.right == {"mesos": 7.0, "file": 0.0, "": 3.0}
    one._lost("http://h", RelayError("stale", "a look around"))
    assert one.sources["mesos"] is None
    one._lost("http://h", RelayError("connect", "gone"))
    assert one.sources["mesos"] == 7.0


async def test_pauses_grow_with_full_jitter_and_end_with_a_good_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    one = source()
    monkeypatch.setattr(one._dice, "uniform", lambda low, high: high)
    monkeypatch.setattr(relay.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    for _ in range(8):
        await one._pause(0.5)
    assert slept == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]
    await one._pause(5.0)
    assert len(slept) == 8
    await one._pause(0.0)
    assert slept[-1] == 0.1


async def test_what_fails_inside_does_not_end_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    one = source(f"http://127.0.0.1:{free_port()}")
    rounds = 0

    async def broken() -> float:
        nonlocal rounds
        rounds += 1
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(one, "_round", broken)
    monkeypatch.setattr(one._dice, "uniform", lambda low, high: 0.0)
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(20):
        while rounds < 3:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert one.counters.errors["internal"] >= 2
