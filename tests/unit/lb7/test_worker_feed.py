"""What a worker is told: everything first, then changes; one that is slow hears one of many; sockets follow slots."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from lb7.channel import Channel, ChannelError
from lb7.listening import Listening
from lb7.settings import Settings
from lb7.table import HostRules, Listener, TableDelta
from lb7.wire import (
    DOWN,
    MOST_ENTRY,
    PART,
    UP,
    Apply,
    Ask,
    Certificate,
    Certificates,
    Configure,
    Down,
    Drain,
    Hello,
    Listen,
    Mark,
    Unlisten,
)
from lb7.worker_feed import Encoded, Feed, Wanted
from tests.fakes.edge_workers import cluster_at


class Told:
    """A worker that only listens to what it is told."""

    def __init__(self, channel: Channel[Down]) -> None:
        self.channel = channel
        self.files = 0

    async def until(self, version: int) -> list[Down]:
        """All messages up to a mark; further marks are left out."""
        messages: list[Down] = []
        while True:
            async with asyncio.timeout(30):
                message, files = await self.channel.receive()
            self.files += len(files)
            for fd in files:
                os.close(fd)
            if isinstance(message, Mark):
                if message.version >= version:
                    return messages
            else:
                messages.append(message)


@asynccontextmanager
async def fed(
    prepare: Callable[[Wanted], None] = lambda wanted: None, number: int = 0
) -> AsyncIterator[tuple[Wanted, Feed, Told]]:
    """A feed that runs, and the other end of its channel."""
    listening = Listening(2)
    wanted = Wanted(Settings(), listening)
    prepare(wanted)
    one, other = socket.socketpair()
    channel, told = Channel(one, UP), Channel(other, DOWN, takes_files=True)
    feed = Feed(channel, number, wanted, confine=False)
    running = asyncio.create_task(feed.run())
    try:
        yield wanted, feed, Told(told)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        channel.close()
        told.close()
        listening.close()


def change(wanted: Wanted, feed: Feed, delta: TableDelta) -> None:
    wanted.apply(delta)
    feed.changed(Encoded(delta))


def clusters(first: int, count: int) -> TableDelta:
    names = [str(number) for number in range(first, first + count)]
    return TableDelta({}, {}, {name: cluster_at(1, name=name) for name in names})


@pytest.mark.asyncio
async def test_everything_first_and_then_changes() -> None:
    async with fed(lambda wanted: wanted.apply(clusters(0, 2))) as (wanted, feed, told):
        assert await told.until(1) == [Hello(0, Settings(), False), Apply(clusters(0, 2))]
        change(wanted, feed, clusters(2, 1))
        assert await told.until(2) == [Apply(clusters(2, 1))]
        change(wanted, feed, TableDelta({}, {}, {"0": None}))
        assert await told.until(3) == [Apply(TableDelta({}, {}, {"0": None}))]
        assert set(wanted.clusters) == {"1", "2"}


@pytest.mark.asyncio
async def test_one_that_is_slow_hears_one_change_of_many() -> None:
    large = TableDelta({}, {}, {"big": cluster_at(1, name="b" * 3_000_000)})
    async with fed(lambda wanted: wanted.apply(large)) as (wanted, feed, told):
        await asyncio.sleep(0.05)  # it is being told the first table, and does not listen
        told.channel._stop_reading()
        deltas = [clusters(number % 10, 1) for number in range(1000)]
        for delta in deltas:
            change(wanted, feed, delta)
        change(wanted, feed, TableDelta({}, {}, {"3": None}))
        messages = [message for message in await told.until(wanted.version) if isinstance(message, Apply)]
        assert len(messages) <= 3
        last = messages[-1].delta.clusters
        assert set(last) == {str(number) for number in range(10)}
        assert last["3"] is None
        assert deltas[3] == clusters(3, 1), "what others are told as well is left alone"


@pytest.mark.asyncio
async def test_a_change_is_encoded_once_for_all() -> None:
    delta = Encoded(clusters(0, PART + 1))
    refuse = Wanted(Settings(), Listening(1)).refuse
    first, second = await asyncio.gather(delta.frames(refuse), delta.frames(refuse))
    assert len(first) == 2
    assert all(a is b for a, b in zip(first, second, strict=True))


@pytest.mark.asyncio
async def test_one_that_ends_while_a_change_is_encoded_leaves_it_whole_for_others() -> None:
    delta = Encoded(clusters(0, 3 * PART))
    refuse = Wanted(Settings(), Listening(1)).refuse
    first = asyncio.create_task(delta.frames(refuse))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert len(await delta.frames(refuse)) == 3


@pytest.mark.asyncio
async def test_what_can_not_be_told_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """One app's labels are never everybody's fault."""
    odd = {"odd": cluster_at(1, name="odd", hsts="\ud800"), "large": cluster_at(1, name="l" * (MOST_ENTRY + 1))}
    async with fed(lambda wanted: wanted.apply(TableDelta({}, {}, {**odd, **clusters(0, 1).clusters}))) as (
        wanted,
        feed,
        told,
    ):
        gone = TableDelta({}, {}, {"odd": None, "large": None, **clusters(0, 1).clusters})
        assert (await told.until(1))[1:] == [Apply(gone)]
        assert set(wanted.refused) == {"cluster odd", "cluster large"}
        feed.ask(Ask(1, ("\ud800",)))
        feed.ask(Ask(2, ("0",)))
        assert await told.until(1) == [Ask(2, ("0",))]
        change(wanted, feed, TableDelta({}, {("http", "\ud800"): HostRules()}, {"odd": odd["odd"]}))
        assert await told.until(2) == [Apply(TableDelta({}, {}, {"odd": None}))]
        assert set(wanted.refused) == {"cluster odd", "cluster large", "host \\ud800 of http"}
        change(wanted, feed, TableDelta({}, {("http", "\ud800"): None}, clusters(1, 1).clusters | {"odd": None}))
        assert await told.until(3) == [Apply(TableDelta({}, {}, {"odd": None, **clusters(1, 1).clusters}))]
        assert set(wanted.refused) == {"cluster large"}
        assert len([record for record in caplog.records if "cluster odd" in record.getMessage()]) == 1


@pytest.mark.asyncio
async def test_what_is_no_more_is_not_refused() -> None:
    wanted = Wanted(Settings(), Listening(1))
    before, now = cluster_at(1, name="a"), cluster_at(2, name="a")
    wanted.apply(TableDelta({}, {}, {"a": now}))
    wanted.refuse("clusters", "a", before, "too large")
    assert not wanted.refused
    wanted.refuse("clusters", "a", now, "too large")
    assert wanted.refused == {"cluster a": "too large"}


@pytest.mark.asyncio
async def test_settings_and_certificates_that_changed() -> None:
    async with fed() as (wanted, feed, told):
        await told.until(0)
        a, b = Certificate("a.pem", ("a",), b"a"), Certificate("b.pem", ("b",), b"b")
        wanted.settings, wanted.certificates, wanted.version = Settings(compat=True), (a, b), 1
        feed.wake()
        assert await told.until(1) == [Configure(Settings(compat=True)), Certificates((a, b), ("a.pem", "b.pem"))]
        c = Certificate("b.pem", ("b",), b"c")
        wanted.certificates, wanted.version = (c,), 2
        feed.wake()
        assert await told.until(2) == [Certificates((c,), ("b.pem",))]
        feed.wake()
        assert await told.until(2) == []


@pytest.mark.asyncio
async def test_sockets_follow_who_serves_their_slot() -> None:
    def prepare(wanted: Wanted) -> None:
        wanted.listening.put("a", ("127.0.0.1:0", "127.0.0.2:0"))
        wanted.assigned = {0: 0, 1: 1}

    async with fed(prepare) as (wanted, feed, told):
        assert (await told.until(0))[1:] == [Listen("a", 0, 2)]
        assert (told.files, feed.listens) == (2, 2)
        wanted.assigned[1], wanted.version = 0, 1
        feed.touch([("a", 0), ("a", 1)])
        assert await told.until(1) == [Listen("a", 1, 2)]
        wanted.listening.put("a", ("127.0.0.1:0",))
        wanted.version = 2
        feed.touch([("a", 0), ("a", 1)])
        assert await told.until(2) == [Listen("a", 0, 1), Listen("a", 1, 1)]
        wanted.assigned[1], wanted.version = 1, 3
        feed.touch([("a", 0), ("a", 1)])
        assert await told.until(3) == [Unlisten("a", 1)]
        wanted.listening.drop("a")
        wanted.version = 4
        feed.touch([("a", 0), ("a", 1), ("b", 0)])
        assert await told.until(4) == [Unlisten("a", 0)]
        assert feed.listens == 0


@pytest.mark.asyncio
async def test_questions_and_the_end() -> None:
    async with fed() as (wanted, feed, told):
        await told.until(0)
        feed.ask(Ask(1, ("a",)))
        feed.ask(Ask(2, ()))
        assert await told.until(0) == [Ask(1, ("a",)), Ask(2, ())]
        wanted.listening.put("a", ("127.0.0.1:0",))
        wanted.assigned = {0: 0}
        feed.drain(1.5)
        feed.touch([("a", 0)])  # one that drains gets nothing new
        await told.until(0)
        assert await told.channel.receive() == (Drain(1.5), [])
        feed.wake()
        assert await told.until(0) == []


@pytest.mark.asyncio
async def test_it_ends_with_its_channel() -> None:
    async with fed() as (wanted, feed, told):
        await told.until(0)
        told.channel.close()
        one, other = socket.socketpair()
        other.close()
        channel = Channel(one, UP)
        with pytest.raises(ChannelError):
            await Feed(channel, 0, wanted).run()
        channel.close()
        assert Listener("a", "a", ()).name not in wanted.listeners
        assert "worker=0" in repr(feed)
