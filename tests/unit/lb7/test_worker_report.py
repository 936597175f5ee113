"""What a worker tells: all of it, in pieces, and no more than its parent takes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest

from lb7 import worker_report
from lb7._balance import Cluster
from lb7.channel import Channel
from lb7.settings import Settings
from lb7.wire import DOWN, UP, Applied, Counters, Counts, Down, Fault, Held, Log, Up, encode
from lb7.worker_report import FaultLog, Reports
from tests.fakes.cluster_counts import read
from tests.fakes.edge_workers import cluster_at


class Counted:
    """An edge or a front."""

    def __init__(self, **counts: int) -> None:
        self.now: Counts = dict(counts)

    def counts(self) -> Counts:
        return dict(self.now)


@asynccontextmanager
async def channel() -> AsyncIterator[tuple[Channel[Down], Channel[Up]]]:
    """The worker's end and the parent's."""
    one, other = socket.socketpair()
    worker, parent = Channel(one, DOWN), Channel(other, UP)
    try:
        yield worker, parent
    finally:
        worker.close()
        parent.close()


async def heard(worker: Channel[Down], parent: Channel[Up]) -> list[Up]:
    """All that was told until now."""
    await worker.send(encode(Applied(0)))
    messages: list[Up] = []
    while True:
        message, _ = await parent.receive()
        if message == Applied(0):
            return messages
        messages.append(message)


@pytest.mark.asyncio
async def test_counters_and_what_is_now() -> None:
    async with channel() as (worker, parent):
        reports, edge, past = Reports(), Counted(requests=3, connections=2), Counted(requests=1, connections=1)
        fronts = [("http", Counted(requests=2, open=1)), ("http", Counted(requests=1)), ("app_id", Counted())]
        await reports.send_counters(worker, [edge, past], fronts, [])
        assert await heard(worker, parent) == [
            Counters({"requests": 4}, {"http": {"requests": 3}}, now={"connections": 3})
        ]
        edge.now["requests"] = 5
        await reports.send_counters(worker, [edge], fronts[:1], [])
        assert await heard(worker, parent) == [Counters({"requests": 2}, now={"connections": 2})]
        await reports.send_counters(worker, [edge], fronts[:1], [])
        assert await heard(worker, parent) == [Counters(now={"connections": 2})], "it is the heartbeat"


@pytest.mark.asyncio
async def test_clusters_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_report, "MOST_CLUSTERS", 2)
    async with channel() as (worker, parent):
        reports = Reports()
        clusters = [Cluster(cluster_at(1, name=name), Settings(), 0.0) for name in "abcdc"]
        for number in (0, 1, 3, 4):
            clusters[number].admit()
            clusters[number].answered(clusters[number].servers[0], 0.0, 0.1, 200)
        await reports.send_counters(worker, [Counted()], [], clusters)
        told = [message for message in await heard(worker, parent) if isinstance(message, Counters)]
        assert [[name for name, _ in message.clusters] for message in told] == [[], ["a", "b"], ["d"], ["c"], [], []]
        assert read(told[1].clusters[0][1])["status"] == [0, 0, 1, 0, 0, 0]
        one = {"active": 1, "waiting": 0, "held": 0}
        assert [message.clusters_now for message in told[4:]] == [{"a": one, "b": one}, {"d": one, "c": one}]
        clusters[0].leave()
        await reports.send_counters(worker, [Counted()], [], clusters)
        told = [message for message in await heard(worker, parent) if isinstance(message, Counters)]
        assert told[1].clusters_now == {"a": {"active": 0, "waiting": 0, "held": 0}}
        assert not told[1].clusters


@pytest.mark.asyncio
async def test_figures_of_a_cluster_that_is_gone_with_its_last_request() -> None:
    async with channel() as (worker, parent):
        reports = Reports()
        cluster = Cluster(cluster_at(1, name="a"), Settings(), 0.0)
        cluster.admit()
        await reports.send_counters(worker, [Counted()], [], [cluster])
        await reports.send_counters(worker, [Counted()], [], [])
        told = [message for message in await heard(worker, parent) if isinstance(message, Counters)]
        assert told[-1].clusters_now == {"a": {"active": 0, "waiting": 0, "held": 0}}


@pytest.mark.asyncio
async def test_two_clusters_of_one_name_are_one() -> None:
    """One of before may still have requests."""
    async with channel() as (worker, parent):
        reports = Reports()
        clusters = [Cluster(cluster_at(1, name="a"), Settings(), 0.0) for _ in range(2)]
        for cluster in clusters:
            cluster.admit()
        await reports.send_counters(worker, [Counted()], [], clusters)
        told = [message for message in await heard(worker, parent) if isinstance(message, Counters)]
        assert told[-1].clusters_now == {"a": {"active": 2, "waiting": 0, "held": 0}}


def figures(held: int) -> dict[str, int | float]:
    return {"active": held, "waiting": 0, "held": held}


class Request:
    """Waits."""

    def room(self) -> None:
        raise AssertionError("there is no room")


@pytest.mark.asyncio
async def test_that_requests_begin_to_be_held_is_told_at_once_with_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_report, "MOST_CLUSTERS", 2)
    async with channel() as (worker, parent):
        reports = Reports()
        spec = [cluster_at(name=name, hold=True) for name in "abc"]
        clusters = [Cluster(one, Settings(), 0.0, reports.held) for one in spec]

        def named(names: Collection[str]) -> list[Cluster]:
            return [cluster for cluster in clusters if cluster.name in names]

        telling = asyncio.create_task(reports.keep_telling_held(worker, named))
        requests = [Request() for _ in range(4)]
        for cluster, request in zip([*clusters, clusters[0]], requests, strict=True):
            cluster.admit()
            assert cluster.wait(request)
        two, one, none = (figures(number) for number in (2, 1, 0))
        told = [(await parent.receive())[0] for _ in range(4)]
        assert told == [
            Counters(clusters_now={"a": two, "b": one}),
            Counters(clusters_now={"c": one}),
            Held(("a", "b")),
            Held(("c",)),
        ]
        for cluster, request in zip([*clusters, clusters[0]], requests, strict=True):
            cluster.stop_waiting(request)
            cluster.leave()
        await reports.send_counters(worker, [Counted()], [], clusters)
        messages = [message for message in await heard(worker, parent) if isinstance(message, Counters)]
        now = {name: of_now for message in messages for name, of_now in message.clusters_now.items()}
        assert now == dict.fromkeys("abc", none), "what was told is taken back"
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


@pytest.mark.asyncio
async def test_who_waits_for_room_is_not_held() -> None:
    async with channel() as (worker, parent):
        reports = Reports()
        cluster = Cluster(cluster_at(1, hold=True, max_requests_per_server=1), Settings(), 0.0)
        cluster.begin(cluster.servers[0], 0.0)
        assert cluster.wait(Request())
        await reports.send_counters(worker, [Counted()], [], [cluster])
        told = [message for message in await heard(worker, parent) if isinstance(message, Counters)]
        assert told[-1].clusters_now == {"/a:1": {"active": 0, "waiting": 1, "held": 0}}


@pytest.mark.asyncio
async def test_some_records_at_once_and_no_more_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_report, "MOST_RECORDS", 2)
    monkeypatch.setattr(worker_report, "MOST_KEPT", 5)
    async with channel() as (worker, parent):
        reports = Reports()
        for number in range(7):
            reports.log({"number": number})
        await reports.send_rest(worker)
        assert await heard(worker, parent) == [Log([{"number": 0}, {"number": 1}], 2)]
        reports.log({"number": 7})
        await reports.send_rest(worker)
        assert await heard(worker, parent) == [Log([{"number": 2}, {"number": 3}])]
        for number in (8, 9, 10, 11):
            reports.log({"number": number})
        await reports.send_last(worker)
        told = [message for message in await heard(worker, parent) if isinstance(message, Log)]
        assert [record["number"] for message in told for record in message.records] == [4, 7, 8, 9, 10]
        assert sum(message.lost for message in told) == 1
        await reports.send_rest(worker)
        assert await heard(worker, parent) == []


@pytest.mark.asyncio
async def test_a_turn_ends_although_records_come_faster_than_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with channel() as (worker, _):
        reports = Reports()
        real, sent = worker.send, 0

        async def send(frame: bytes) -> None:
            nonlocal sent
            sent += 1
            for _ in range(1000):
                reports.log({})
            reports.fault(f"fault {sent}", "")
            await real(frame)

        monkeypatch.setattr(worker, "send", send)
        reports.log({})
        reports.fault("fault", "")
        await reports.send_rest(worker)
        assert sent == 2
        assert reports.lost


@pytest.mark.asyncio
async def test_faults_by_what_they_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_report, "MOST_FAULTS", 2)
    async with channel() as (worker, parent):
        reports = Reports()
        for key, text in (("a", "first"), ("b", "x" * 10_000), ("c", "too many"), ("a", "last")):
            reports.fault(key, text)
        await reports.send_rest(worker)
        assert await heard(worker, parent) == [Fault("a", "last"), Fault("b", "x" * 2000)]
        reports.fault("k" * 1000, "odd \ud800")
        await reports.send_rest(worker)
        assert await heard(worker, parent) == [Fault("k" * 300, "odd \\ud800")]


@pytest.mark.asyncio
async def test_what_is_logged_is_told() -> None:
    async with channel() as (worker, parent):
        reports = Reports()
        logger = logging.Logger("part")
        logger.addHandler(FaultLog(reports))
        logger.info("nothing")
        logger.warning("something %d", 7)
        await reports.send_rest(worker)
        (fault,) = await heard(worker, parent)
        assert isinstance(fault, Fault)
        assert (fault.text, fault.key.startswith("log part")) == ("something 7", True)
        await asyncio.sleep(0)
