"""What followers of /v1/watch are told: order, digests, one encoding per change, when they are woken, the standing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from mesos_dns import watch as module
from mesos_dns.catalog import Catalog, SourceStatus
from mesos_dns.model import Drop, Node, Put, Sync
from mesos_dns.watch import Standing, Watch, parts, standing_of
from mesos_dns.watch_journal import Journal
from mesos_dns.watch_wire import MOST_ENTITIES, SLICE_OCTETS, bucket_of, read_position
from tests.fakes.relaying import SOURCE, cluster, node, task


class Woken:
    """A session that counts."""

    def __init__(self) -> None:
        self.wakes = self.dismissals = 0

    def wake(self) -> None:
        self.wakes += 1

    def dismiss(self) -> None:
        self.dismissals += 1


def told(watch: Watch, since: int = 0) -> list[dict[str, Any]]:
    """The journal behind a number."""
    return [json.loads(watch.journal.get(n) or b"") for n in range(since + 1, watch.journal.head + 1)]


@pytest.mark.asyncio
async def test_a_delta_is_encoded_once_in_the_order_that_keeps_names() -> None:
    catalog = Catalog()
    catalog.register(SOURCE)
    watch, session = Watch(catalog), Woken()
    await watch.start()
    watch.enter(session)
    catalog.publish(SOURCE, Sync((task(1), node(1), *cluster(0))))
    catalog.flush()
    assert [(m["kind"], len(m["put"])) for m in told(watch)] == [("node", 10), ("framework", 1), ("task", 1)]
    assert [read_position(m["v"]) for m in told(watch)] == [(watch.epoch, n) for n in (1, 2, 3)]
    assert session.wakes == 1
    catalog.publish(SOURCE, Drop(node(1).key))
    catalog.publish(SOURCE, Drop(task(1).key))
    catalog.publish(SOURCE, Put(node(1)))  # back within the turn: nothing happened
    catalog.publish(SOURCE, Drop(node(2).key))
    catalog.flush()
    assert [(m["kind"], m["drop"]) for m in told(watch, 3)] == [
        ("task", [list(task(1).key)]),
        ("node", [list(node(2).key)]),
    ]
    watch.leave(session, "gone")
    watch.stop()
    catalog.publish(SOURCE, Put(task(5)))
    catalog.flush()
    assert watch.journal.head == 5
    assert (session.wakes, session.dismissals) == (2, 0)


@pytest.mark.asyncio
async def test_a_large_delta_becomes_messages_of_bounded_size() -> None:
    catalog = Catalog()
    catalog.register(SOURCE)
    watch = Watch(catalog)
    await watch.start()
    catalog.publish(SOURCE, Sync(tuple(task(n) for n in range(1201))))
    catalog.flush()
    assert [len(m["put"]) for m in told(watch)] == [500, 500, 201]
    catalog.publish(SOURCE, Sync(()))
    catalog.flush()
    assert [len(m["drop"]) for m in told(watch, 3)] == [500, 500, 201]


def test_portions_are_full_by_number_or_by_size() -> None:
    assert [len(p) for p in parts([b"x"] * (MOST_ENTITIES + 1))] == [MOST_ENTITIES, 1]
    assert [len(p) for p in parts([b"x" * (SLICE_OCTETS // 2)] * 5)] == [2, 2, 1]
    assert list(parts([])) == []


@pytest.mark.asyncio
async def test_digests_follow_every_change_and_are_those_of_a_fresh_start() -> None:
    catalog = Catalog()
    catalog.register(SOURCE)
    catalog.publish(SOURCE, Sync(cluster(1500)))
    watch = Watch(catalog)
    starting = asyncio.create_task(watch.start())
    await asyncio.sleep(0)
    catalog.publish(SOURCE, Put(task(1400, "TASK_FAILED")))  # in the middle of the start
    catalog.publish(SOURCE, Drop(task(1401).key))
    catalog.publish(SOURCE, Put(task(9000)))
    await starting
    await watch.start()
    for number in range(100):
        catalog.publish(SOURCE, Put(task(number, f"S{number % 3}")))
        if number % 2:
            catalog.publish(SOURCE, Drop(task(number * 7).key))
        if number % 10 == 0:
            catalog.flush()
    catalog.flush()
    fresh = Watch(catalog)
    fresh.epoch, fresh.digests = watch.epoch, type(watch.digests)(watch.epoch)
    await fresh.start()
    assert watch.digests.differing(fresh.digests.octets()) == frozenset()
    listed = {key for bucket in range(1024) for key in watch.whole.keys(bucket)}
    assert listed == {entity.key for entity in catalog.entities()}
    assert all(bucket_of(key) == 700 for key in watch.whole.keys(700))


@pytest.mark.asyncio
async def test_what_can_not_be_told_is_no_more_for_followers(caplog: pytest.LogCaptureFixture) -> None:
    catalog = Catalog()
    catalog.register(SOURCE)
    watch = Watch(catalog)
    await watch.start()
    catalog.publish(SOURCE, Put(Node("\ud800", "bad")))
    catalog.publish(SOURCE, Put(node(1)))
    catalog.flush()
    assert [len(m["put"]) for m in told(watch)] == [1]
    catalog.publish(SOURCE, Put(Node(node(1).id, "\ud800")))
    catalog.publish(SOURCE, Drop(("node", "mesos", "\ud800")))
    catalog.flush()
    assert told(watch, 1) == [{"v": watch.position, "kind": "node", "put": [], "drop": [list(node(1).key)]}]
    assert watch.counters.untold == 2
    assert "can't be told" in caplog.text


def test_only_own_positions_that_the_journal_reaches_are_resumed() -> None:
    watch = Watch(Catalog(), journal=Journal(messages=2))
    for _ in range(4):
        watch.journal.append(b"x")
    resumed = [watch.resumes(f"{watch.epoch}.{n}") for n in range(6)]
    assert resumed == [None, None, 2, 3, 4, None]
    assert [watch.resumes(text) for text in ("", "x", "0123456789abcdef.4")] == [None] * 3
    assert Watch(Catalog()).epoch != watch.epoch


def test_the_standing_is_that_of_the_worst_source() -> None:
    fine = SourceStatus("mesos", connected=True, synced=True, since=10.0)
    lost = SourceStatus("serversets", connected=False, synced=True, since=70.0)
    relayed = SourceStatus("relay", connected=False, synced=True, since=99.0)

    class Up:
        as_of = 40.0
        via = ("bbbb",)
        sources: Mapping[str, float | None] = {"mesos": None, "file": 30.0}

    assert standing_of([fine], 100.0) == Standing(0.0, 100.0, (), {"mesos": None})
    assert standing_of([], 100.0) == Standing(0.0, 100.0)
    assert standing_of([fine, lost], 100.0) == Standing(30.0, 70.0, (), {"mesos": None, "serversets": 70.0})
    told = standing_of([lost, relayed], 100.0, Up())
    assert told == Standing(60.0, 40.0, ("bbbb",), {"mesos": None, "file": 30.0, "serversets": 70.0})
    told = standing_of([fine], 100.0, Up(), beside=[SourceStatus("file", connected=True, synced=True, since=1.0)])
    assert told == Standing(0.0, 100.0, ("bbbb",), {"mesos": None, "file": None})  # its own comes first
    lost.since = 100.0
    assert standing_of([lost], 100.0).stale > 0


def test_other_sources_are_told_of_by_name_only() -> None:
    fine = SourceStatus("mesos", connected=True, synced=True, since=10.0)
    files = SourceStatus("file", connected=False, synced=True, since=60.0)
    nobody = SourceStatus("zookeeper", connected=False, synced=False, since=90.0)
    before = SourceStatus("zookeeper", connected=False, synced=False, restored=True, since=50.0)
    told = standing_of([fine], 100.0, beside=[files, nobody])
    assert told == Standing(0.0, 100.0, (), {"mesos": None, "file": 60.0, "zookeeper": 0.0})
    told = standing_of([fine], 100.0, beside=[files, before], unheard={"file"})
    assert told.sources == {"mesos": None, "file": 0.0, "zookeeper": 50.0}


def test_words_about_itself() -> None:
    sources = {"mesos": None, "file": 0.0, "serversets": time.time() - 90}
    watch = Watch(Catalog(), standing=lambda: Standing(2.0, 7.0, ("cccc",), sources), version="1.2")
    hello = json.loads(watch.hello(3, resume=True, standing=watch.standing()))
    ages = hello.pop("sources")
    assert ages["mesos"] == 0
    assert ages["file"] == pytest.approx(time.time(), abs=9)
    assert ages["serversets"] == pytest.approx(90, abs=9)
    told = {"v": f"{watch.epoch}.3", "stale": 2.0, "as_of": 7.0, "via": [watch.epoch, "cccc"]}
    assert hello == {"hello": 1, "resume": True, "version": "1.2", **told}
    status = json.loads(watch.status(3, watch.standing()))
    assert status.pop("sources").keys() == ages.keys()
    assert status == told


@pytest.mark.asyncio
async def test_many_followers_are_woken_once_for_what_comes_within_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD", ((3, 0.02), (2, 0.01)))
    catalog = Catalog()
    catalog.register(SOURCE)
    watch, sessions = Watch(catalog), [Woken() for _ in range(4)]
    await watch.start()
    watch.enter(sessions[0])
    watch.enter(sessions[1])
    catalog.publish(SOURCE, Put(task(1)))
    catalog.flush()
    assert [session.wakes for session in sessions] == [1, 1, 0, 0]  # few are told at once
    watch.enter(sessions[2])
    watch.enter(sessions[3])
    for number in range(5):
        catalog.publish(SOURCE, Put(task(number, "TASK_LOST")))
        catalog.flush()
    assert [session.wakes for session in sessions] == [1, 1, 0, 0]
    async with asyncio.timeout(20):
        while not sessions[3].wakes:
            await asyncio.sleep(0.001)
    assert [session.wakes for session in sessions] == [2, 2, 1, 1]
    catalog.publish(SOURCE, Put(task(7)))
    catalog.flush()
    watch.stop()
    await asyncio.sleep(0.04)
    assert [session.wakes for session in sessions] == [2, 2, 1, 1]


@pytest.mark.asyncio
async def test_what_was_encoded_is_kept_until_nobody_has_needed_it_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 0.01)
    catalog = Catalog()
    catalog.register(SOURCE)
    catalog.publish(SOURCE, Sync(cluster(100)))
    watch, first, second = Watch(catalog), Woken(), Woken()
    await watch.start()
    watch.turns.granted(first)
    watch.turns.granted(second)
    for place in watch.whole.places(range(1024)):
        watch.whole.part(place)
    watch.told(first)
    await asyncio.sleep(0.03)
    assert watch.whole.octets > 1000
    watch.told(second)
    async with asyncio.timeout(20):
        while watch.whole.octets:
            await asyncio.sleep(0.001)
