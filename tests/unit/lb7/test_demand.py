"""What an edge tells its followers: everything, then what changed; and who is too slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from lb7 import demand
from lb7.demand import MOST_FOLLOWERS, MOST_WAITING, DemandFollower, TooManyFollowers
from lb7.demand_shapes import ROWS, DemandBlock, read_block
from lb7.table import Cluster, TableDelta
from tests.fakes.counting_edge import Edge

pytestmark = pytest.mark.asyncio

PATIENCE = 60.0


async def block(lines: AsyncIterator[bytes]) -> DemandBlock:
    """The next block, of one line."""
    async with asyncio.timeout(PATIENCE):
        return read_block((await anext(lines)).removesuffix(b"\n"))


async def block_of(lines: AsyncIterator[bytes], name: str) -> DemandBlock:
    """The next block that tells of this port."""
    while True:
        found = await block(lines)
        if any(row.cluster_name == name for row in found.apps) or name in found.gone:
            return found


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "EVERY", 0.05)


async def test_first_everything_then_what_changed() -> None:
    edge = Edge("/a:1", "/b:2")
    edge.count("/a:1", 3, active=2, waiting=1)
    async with edge.demand.follow() as follower:
        lines = follower.lines()
        first = await block(lines)
        assert (first.edge, first.epoch, first.at, first.whole) == ("e1", edge.demand.epoch, 1000.0, True)
        assert [(row.cluster_name, row.requests, row.active, row.waiting) for row in first.apps] == [
            ("/a:1", 3, 2, 1),
            ("/b:2", 0, 0, 0),
        ]
        assert first.apps[0].app_keys() == [("app", "mesos", "F1", "/a")]
        nothing = await block(lines)
        assert (nothing.apps, nothing.gone, nothing.whole) == ([], [], False)
        assert nothing.n > first.n
        assert nothing.uptime > first.uptime
        edge.count("/b:2", 1)
        (row,) = (await block_of(lines, "/b:2")).apps
        assert row.requests == 1
        edge.totals.ended(0)
        (row,) = (await block_of(lines, "/a:1")).apps
        assert (row.requests, row.active) == (3, 0), "the worker is gone, what it counted is not"


async def test_routes_that_come_and_go() -> None:
    edge = Edge("/a:1")
    async with edge.demand.follow() as follower:
        lines = follower.lines()
        await block(lines)
        edge.route("/b:2", mode="tcp")
        edge.demand.routed(TableDelta(clusters={"/b:2": edge.clusters["/b:2"]}))
        (row,) = (await block_of(lines, "/b:2")).apps
        assert (row.mode, row.port, row.app) == ("tcp", 2, "/b")
        del edge.clusters["/a:1"]
        edge.demand.routed(TableDelta(clusters={"/a:1": None}))
        assert (await block_of(lines, "/a:1")).gone == ["/a:1"]


async def test_apps_that_join_a_port_are_told() -> None:
    edge = Edge("/a:1")
    async with edge.demand.follow() as follower:
        lines = follower.lines()
        await block(lines)
        edge.keys["/a:1"] += (("app", "mesos", "F1", "/a-green"),)
        (row,) = (await block_of(lines, "/a:1")).apps
        assert [key[3] for key in row.app_keys()] == ["/a", "/a-green"]


async def test_a_request_that_is_held_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = Edge("/a:1", "/b:2")
    monkeypatch.setattr(demand, "EVERY", 3600.0)
    async with edge.demand.follow() as follower:
        lines = follower.lines()
        await block(lines)
        edge.demand.held("/a:1")
        edge.demand.held("/nobody:1")
        urgent = await block(lines)
        assert urgent.urgent
        assert [(row.cluster_name, row.held) for row in urgent.apps] == [("/a:1", 1)]
        edge.count("/b:2", 1, held=4, waiting=4)
        edge.demand.held("/b:2")
        assert [(row.cluster_name, row.held, row.requests) for row in (await block(lines)).apps] == [("/b:2", 4, 1)]


async def test_what_was_held_is_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = Edge("/a:1")
    monkeypatch.setattr(demand, "HELD_FOR", 0.0)
    async with edge.demand.follow() as follower:
        lines = follower.lines()
        await block(lines)
        edge.demand.held("/a:1")
        assert (await block_of(lines, "/a:1")).apps[0].held == 1
        assert (await block_of(lines, "/a:1")).apps[0].held == 0


async def test_who_follows_later_gets_everything_that_was_told() -> None:
    edge = Edge("/a:1")
    async with edge.demand.follow() as one:
        await block(one.lines())
        edge.count("/a:1", 2)
        async with edge.demand.follow() as two:
            lines = two.lines()
            first = await block(lines)
            assert first.whole
            requests = first.apps[0].requests or (await block_of(lines, "/a:1")).apps[0].requests
            assert requests == 2
            assert edge.demand.followers == 2


async def test_with_no_follower_nothing_is_made() -> None:
    edge = Edge("/a:1")
    edge.demand.held("/a:1")
    async with edge.demand.follow() as follower:
        assert edge.totals.touched is not None
        first = await block(follower.lines())
        assert first.apps[0].held == 0, "nobody was told, and the figures have it"
    assert edge.totals.touched is None
    assert not edge.demand._told
    assert edge.demand._telling is None
    async with edge.demand.follow() as follower:
        assert (await block(follower.lines())).whole


async def test_many_ports_are_several_lines() -> None:
    edge = Edge(*(f"/a{number}:1" for number in range(ROWS + 1)))
    async with edge.demand.follow() as follower:
        lines = follower.lines()
        first, second = await block(lines), await block(lines)
        assert (len(first.apps), first.more, len(second.apps), second.more) == (ROWS, True, 1, False)
        assert first.whole
        assert second.whole
        assert (first.n, first.uptime) == (second.n, second.uptime)


async def test_a_port_that_can_not_be_told_costs_no_other() -> None:
    edge = Edge("/a:1")
    for name in ("/" + "x" * 5000 + ":2", "/\ud800:3"):
        edge.clusters[name] = Cluster(name, name, 1)
        edge.keys[name] = (("app", "mesos", "F1", name),)
    edge.clusters["/c:4"] = Cluster("/c:4", "/c", 4)
    edge.keys["/c:4"] = (("app", "mesos", "F1", "y" * 5000),)
    async with edge.demand.follow() as follower:
        assert [row.cluster_name for row in (await block(follower.lines())).apps] == ["/a:1"]
    found = b"".join([piece async for piece in edge.demand.document()])
    assert [row.cluster_name for row in read_block(found).apps] == ["/a:1"]


async def test_a_follower_that_does_not_keep_up_is_dropped_and_no_other() -> None:
    edge = Edge("/a:1")
    async with edge.demand.follow() as slow, edge.demand.follow() as quick:
        lines = quick.lines()
        async with asyncio.timeout(PATIENCE):
            while not slow.dropped:
                await block(lines)
        assert not quick.dropped
        assert edge.demand.dropped == 1
        assert [line async for line in slow.lines()] == []


async def test_what_waits_for_a_follower_is_bounded() -> None:
    follower = DemandFollower()
    follower.put([b"early"])
    follower.begin([b"first"] * 1000)
    follower.put([b"x"] * MOST_WAITING)
    assert not follower.dropped
    follower.put([b"x"])
    assert follower.dropped


async def test_followers_are_limited() -> None:
    edge = Edge("/a:1")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST_FOLLOWERS):
            await stack.enter_async_context(edge.demand.follow())
        with pytest.raises(TooManyFollowers):
            await stack.enter_async_context(edge.demand.follow())
    async with edge.demand.follow():
        pass


async def test_when_it_is_closed_followers_are_sent_away() -> None:
    edge = Edge("/a:1")
    async with edge.demand.follow() as follower:
        lines = follower.lines()
        await block(lines)
        edge.demand.close()
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


async def test_all_at_once_as_one_document() -> None:
    edge = Edge("/a:1", "/b:2")
    edge.count("/b:2", 5)
    found = msgspec.json.decode(b"".join([piece async for piece in edge.demand.document()]), type=DemandBlock)
    assert [(row.cluster_name, row.requests) for row in found.apps] == [("/a:1", 0), ("/b:2", 5)]
    assert not edge.demand._told
