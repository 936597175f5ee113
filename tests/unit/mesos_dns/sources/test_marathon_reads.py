"""Reads of single things: coalesced, bounded, tried again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from mesos_dns.sources import marathon_reads
from mesos_dns.sources.marathon_client import MarathonError
from mesos_dns.sources.marathon_reads import Reads

pytestmark = pytest.mark.asyncio


class Things:
    """What is read: each read waits for `gate`, and raises what `failing` has for its name."""

    def __init__(self, parallel: int = 8) -> None:
        self.gate = asyncio.Event()
        self.begun: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.most = 0
        self.failing: dict[str, MarathonError | ValueError] = {}
        self.missing: set[str] = set()
        self.reads = Reads(self.read, parallel)

    async def read(self, name: str) -> bool:
        self.begun[name] += 1
        self.most = max(self.most, self.reads.running)
        await self.gate.wait()
        if name in self.failing:
            raise self.failing[name]
        self.done[name] += 1
        return name not in self.missing


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_nothing_is_read_before_the_start() -> None:
    things = Things()
    things.gate.set()
    things.reads.want("a")
    await asyncio.sleep(0.01)
    assert (len(things.reads), dict(things.begun)) == (1, {})
    things.reads.start()
    await until(lambda: things.done["a"] == 1)
    await things.reads.close()


async def test_what_is_wanted_while_it_is_read_is_read_once_more() -> None:
    things = Things()
    things.reads.start()
    things.reads.want("a")
    await until(lambda: things.begun["a"] == 1)
    for _ in range(100):
        things.reads.want("a")
    assert things.begun["a"] == 1
    things.gate.set()
    await until(lambda: things.done["a"] == 2 and not things.reads.running)
    assert things.begun["a"] == 2
    await things.reads.close()


async def test_no_more_than_so_many_at_a_time() -> None:
    things = Things(parallel=3)
    things.reads.start()
    for number in range(20):
        things.reads.want(str(number))
    await until(lambda: things.reads.running == 3)
    assert len(things.reads) == 17
    things.gate.set()
    await until(lambda: things.done.total() == 20)
    assert things.most == 3
    await things.reads.close()


async def test_what_waits_can_be_forgotten() -> None:
    things = Things(parallel=1)
    things.reads.start()
    for name in "abc":
        things.reads.want(name)
    await until(lambda: things.begun["a"] == 1)
    things.reads.want("a")
    things.reads.forget()
    things.gate.set()
    await until(lambda: things.done["a"] == 2)  # it changed while it was being read: that is not forgotten
    await asyncio.sleep(0.01)
    assert dict(things.begun) == {"a": 2}
    await things.reads.close()


async def test_a_failed_read_is_tried_again() -> None:
    things = Things()
    things.gate.set()
    things.failing["a"] = MarathonError("connect", "refused")
    things.reads.start()
    things.reads.want("a")
    await until(lambda: things.begun["a"] >= 2)
    things.failing.clear()
    await until(lambda: things.done["a"] == 1)
    assert not things.reads.broken.done()
    await things.reads.close()


async def test_what_is_not_there_rests_and_is_read_once_more_if_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marathon_reads, "RETRY_FIRST", 3600.0)
    monkeypatch.setattr(marathon_reads, "RETRY_MOST", 3600.0)
    things = Things()
    things.gate.set()
    things.missing.add("a")
    things.reads.start()
    things.reads.want("a")
    await until(lambda: things.done["a"] == 1 and not things.reads.running)
    for _ in range(100):  # a storm of events
        things.reads.want("a")
        things.reads.want("b")
        await asyncio.sleep(0)
    await until(lambda: things.done["b"] >= 2 and not things.reads.running)
    assert things.begun["a"] == 1
    things.reads.forget()  # everything is read
    things.missing.clear()
    things.reads.want("a")
    await until(lambda: things.done["a"] == 2 and not things.reads.running)
    assert things.begun["a"] == 2
    await things.reads.close()


async def test_what_is_wanted_while_it_rests_is_read_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marathon_reads, "RETRY_FIRST", 0.05)
    things = Things()
    things.gate.set()
    things.missing.add("a")
    things.reads.start()
    things.reads.want("a")
    await until(lambda: things.done["a"] == 1 and not things.reads.running)
    things.missing.clear()
    things.reads.want("a")
    await until(lambda: things.done["a"] == 2)
    things.reads.want("a")  # it is there now: no more rest
    await until(lambda: things.done["a"] == 3 and not things.reads.running)
    assert not things.reads.broken.done()
    await things.reads.close()


async def test_many_failures_in_a_row_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marathon_reads, "RETRY_MOST", 0.001)
    things = Things()
    things.gate.set()
    things.failing["a"] = MarathonError("connect", "refused")
    things.reads.start()
    things.reads.want("a")
    with pytest.raises(MarathonError, match="refused"):
        await asyncio.wait_for(things.reads.broken, 20)
    assert things.begun["a"] == marathon_reads.MOST_FAILURES
    await things.reads.close()


@pytest.mark.parametrize("kind", ["moved", "auth", "redirect"])
async def test_some_failures_give_up_at_once(kind: str) -> None:
    things = Things()
    things.gate.set()
    things.failing["a"] = MarathonError(kind, "no")
    things.reads.start()
    things.reads.want("a")
    with pytest.raises(MarathonError, match="no"):
        await asyncio.wait_for(things.reads.broken, 20)
    await things.reads.close()


async def test_a_bug_gives_up_too(caplog: pytest.LogCaptureFixture) -> None:
    things = Things()
    things.gate.set()
    things.failing["a"] = ValueError("a bug")
    things.reads.start()
    things.reads.want("a")
    with pytest.raises(MarathonError, match="internal error"):
        await asyncio.wait_for(things.reads.broken, 20)
    assert "reading again failed" in caplog.text
    await things.reads.close()


async def test_closing_gives_up_what_runs_and_waits() -> None:
    things = Things(parallel=1)
    things.reads.start()
    things.reads.want("a")
    things.reads.want("b")
    await until(lambda: things.begun["a"] == 1)
    await things.reads.close()
    things.gate.set()
    await asyncio.sleep(0.01)
    assert dict(things.begun) == {"a": 1}
    assert things.reads.broken.cancelled()
