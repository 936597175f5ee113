"""Items are read in time whatever others do: a model of servers that hang, fail, come back and are forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from lb7.autoscale import polling
from lb7.autoscale.fetch import ReadError
from lb7.autoscale.polling import Poller, latest
from lb7.autoscale.samples import Reading


class Peers:
    """Items by name: what each read tells, or raises; those that hang."""

    def __init__(self) -> None:
        self.values: Mapping[str, float | Exception] = {}
        self.hanging: set[str] = set()
        self.reads: list[str] = []
        self.at_once = self.most_at_once = 0
        self.now = 1000.0

    async def read(self, item: str) -> Reading:
        self.reads.append(item)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if item in self.hanging:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            value = self.values[item]
            if isinstance(value, Exception):
                raise value
            return Reading(value=value, at=self.now)
        finally:
            self.at_once -= 1

    def poller(self, at_once: int = 4, most: int = 100) -> Poller[str, Reading]:
        return Poller(
            "things",
            self.read,
            interval=0.01,
            at_once=at_once,
            most=most,
            place=lambda item: item[:4],
            at_once_each=at_once // 2,
            clock=lambda: self.now,
        )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of tests, not of servers."""
    monkeypatch.setattr(polling, "SHORTEST_INTERVAL", 0.01)
    monkeypatch.setattr(polling, "LONGEST_PAUSE", 0.04)
    monkeypatch.setattr(polling, "MOST_A_SECOND", 1e6)


@contextlib.asynccontextmanager
async def running(poller: Poller[str, Reading]) -> AsyncIterator[None]:
    task = asyncio.create_task(poller.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def unreachable(place: str = "server") -> ReadError:
    return ReadError("connect", f"{place}: refused", place)


@pytest.mark.asyncio
async def test_what_is_wanted_is_read_again_and_again_and_nothing_else() -> None:
    peers = Peers()
    peers.values = {"a": 1.0, "b": 2.0}
    poller = peers.poller()
    poller.want(["a", "b", "a"])
    assert poller.missing("a") == "not read yet"
    async with running(poller):
        await until(lambda: peers.reads.count("a") > 3 and peers.reads.count("b") > 3)
        assert latest(poller, "a", 1000.0, 60.0) == Reading(value=1.0, at=1000.0)
        poller.want(["b"])
        assert poller.known("a") is None
        await until(lambda: "a" not in peers.reads[-20:] and len(peers.reads) > 40)
    assert poller.reads == len(peers.reads)
    assert not poller.failures


@pytest.mark.asyncio
async def test_hanging_ones_have_places_of_their_own() -> None:
    peers = Peers()
    peers.values = {"good": 1.0}
    poller = peers.poller(at_once=2)
    poller.want(["good"])
    async with running(poller):
        await until(lambda: peers.reads.count("good") > 1)
        peers.hanging = {f"{n:04}slow" for n in range(50)}
        poller.want(["good", *sorted(peers.hanging)])
        await until(lambda: peers.at_once >= 2)
        count = peers.reads.count("good")
        await until(lambda: peers.reads.count("good") > count + 5)
        assert peers.most_at_once <= 4
        poller.want(["good"])
        await until(lambda: peers.at_once <= 1)


@pytest.mark.asyncio
async def test_a_server_that_begins_to_hang_takes_half_of_the_places() -> None:
    peers = Peers()
    slow = {f"slow{n}" for n in range(30)}
    peers.values = dict.fromkeys(slow | {"good"}, 1.0)
    poller = peers.poller(at_once=4)
    poller.want(peers.values)
    async with running(poller):
        await until(lambda: all(peers.reads.count(item) > 1 for item in peers.values))
        peers.hanging = slow
        await until(lambda: peers.at_once >= 2)
        count = peers.reads.count("good")
        await until(lambda: peers.reads.count("good") > count + 5)
        assert peers.at_once <= 3
        peers.hanging = set()  # those that hang still do, and their places are left to nobody
        poller.want(["good"])
        poller.want(peers.values)
        count = len(peers.reads)
        await until(lambda: slow <= set(peers.reads[count:]))


@pytest.mark.asyncio
async def test_what_is_new_comes_before_what_failed() -> None:
    peers = Peers()
    peers.values = {f"{n:04}bad": unreachable() for n in range(200)} | {"new": 5.0}
    poller = peers.poller(at_once=2, most=1000)
    poller.want(peers.values.keys() - {"new"})
    async with running(poller):
        await until(lambda: poller.failures["connect"] > 300)
        poller.want(peers.values)
        before = len(peers.reads)
        await until(lambda: "new" in peers.reads)
        assert "new" in peers.reads[before : before + 3]


@pytest.mark.asyncio
async def test_a_value_outlives_a_server_that_cannot_be_asked_for_so_long() -> None:
    peers = Peers()
    peers.values = {"a": 7.0}
    poller = peers.poller()
    poller.want(["a"])
    async with running(poller):
        await until(lambda: latest(poller, "a", 1000.0, 60.0).value == 7.0)
        peers.values = {"a": unreachable()}
        await until(lambda: poller.failures["connect"] > 2)
        assert latest(poller, "a", 1060.0, 60.0) == Reading(value=7.0, at=1000.0)
        assert latest(poller, "a", 1061.0, 60.0) == Reading(error="server: refused")
        peers.values, peers.now = {"a": 8.0}, 1100.0
        await until(lambda: latest(poller, "a", 1100.0, 60.0).value == 8.0)


@pytest.mark.asyncio
async def test_an_answer_without_a_value_takes_the_old_one_away() -> None:
    peers = Peers()
    peers.values = {"a": 7.0}
    poller = peers.poller()
    poller.want(["a"])
    async with running(poller):
        await until(lambda: latest(poller, "a", 1000.0, 60.0).value == 7.0)
        peers.values = {"a": ReadError("value", "no data", "a", conclusive=True)}
        await until(lambda: latest(poller, "a", 1000.0, 60.0) == Reading(error="no data"))


@pytest.mark.asyncio
async def test_a_fault_of_ours_costs_that_item_only(caplog: pytest.LogCaptureFixture) -> None:
    peers = Peers()
    peers.values = {"a": 1.0, "b": RuntimeError("oops")}
    poller = peers.poller()
    poller.want(peers.values)
    async with running(poller):
        await until(lambda: peers.reads.count("a") > 5 and poller.failures["internal"] > 1)
        assert latest(poller, "b", 1000.0, 60.0).error == "RuntimeError: oops"
        assert latest(poller, "a", 1000.0, 60.0).value == 1.0


@pytest.mark.asyncio
async def test_beyond_the_most_none_is_read_and_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    peers = Peers()
    peers.values = dict.fromkeys("abcd", 1.0)
    poller = peers.poller(most=2)
    poller.want("ab")
    poller.want("cdab")
    poller.want("cdab")
    assert poller.missing("c") == "not read: more than 2 things are asked for"
    assert sum("too many" in record.message for record in caplog.records) == 1
    async with running(poller):
        await until(lambda: latest(poller, "a", 1000.0, 60.0).value == 1.0)
        poller.want("cda")
        await until(lambda: latest(poller, "c", 1000.0, 60.0).value == 1.0)
        assert "d" not in peers.reads


@pytest.mark.asyncio
async def test_a_server_that_fails_is_logged_once_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    peers = Peers()
    peers.values = {name: unreachable() for name in "abc"}
    poller = peers.poller()
    poller.want(peers.values)
    async with running(poller):
        await until(lambda: poller.failures["connect"] > 20)
        assert [record.message for record in caplog.records] == ["can't be read what=things error=server: refused"]
        peers.values = {"a": 1.0, "b": 1.0, "c": ReadError("value", "c: no data", "c", conclusive=True)}
        await until(lambda: latest(poller, "c", 1000.0, 60.0).error == "c: no data")
        await until(lambda: poller.failures["value"] > 3 and latest(poller, "a", 1000.0, 60.0).value == 1.0)
    assert sum(record.levelname == "WARNING" for record in caplog.records) == 2


@pytest.mark.asyncio
async def test_one_that_is_forgotten_and_wanted_again_is_read_anew() -> None:
    peers = Peers()
    peers.hanging, peers.values = {"a"}, {"a": 3.0}
    poller = peers.poller()
    poller.want(["a"])
    async with running(poller):
        await until(lambda: peers.at_once == 1)
        peers.hanging.clear()
        poller.want([])
        poller.want(["a"])
        await until(lambda: latest(poller, "a", 1000.0, 60.0).value == 3.0)


@pytest.mark.asyncio
async def test_ending_it_ends_what_it_reads() -> None:
    peers = Peers()
    peers.hanging = {"a"}
    poller = peers.poller()
    poller.want(["a"])
    async with running(poller):
        await until(lambda: peers.at_once == 1)
    assert peers.at_once == 0


@pytest.mark.asyncio
async def test_it_can_be_run_again() -> None:
    peers = Peers()
    peers.values = {"a": 1.0, "b": unreachable()}
    poller = peers.poller()
    poller.want(peers.values)
    for _ in range(3):
        peers.reads.clear()
        async with running(poller):
            await until(lambda: {"a", "b"} <= set(peers.reads))


@pytest.mark.asyncio
async def test_where_there_is_much_to_read_each_is_read_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "MOST_A_SECOND", 1e-6)
    peers = Peers()
    peers.values = {"a": 1.0}
    poller = peers.poller()
    poller.want("a")
    async with running(poller):
        await until(lambda: latest(poller, "a", 1000.0, 60.0).value == 1.0)
        known = poller.known("a")
        assert known is not None
        assert known.due > asyncio.get_running_loop().time() + 999_000
