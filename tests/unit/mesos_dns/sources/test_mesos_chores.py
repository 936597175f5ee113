"""Chores: wishes are debounced and merged, failures tried again, nothing compared before the snapshot."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import pytest

from mesos_dns.model import Endpoint
from mesos_dns.sources import mesos_chores
from mesos_dns.sources.mesos_calls import Calls
from mesos_dns.sources.mesos_chores import Chores
from mesos_dns.sources.mesos_client import MasterError
from mesos_dns.sources.mesos_ledger import Want
from mesos_dns.sources.mesos_wire import FrameworkSeen
from tests.fakes.followed import Followed
from tests.fakes.replay import Replay

pytestmark = pytest.mark.asyncio


class Asked:
    """Calls that only note what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing = 0

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.failing:
            self.failing -= 1
            raise MasterError("status", "503", 503)

    async def leader(self) -> tuple[str, int]:
        return ("10.0.0.1", 5050)

    async def schedulers(self) -> dict[str, FrameworkSeen]:
        self._note("schedulers")
        return {}

    async def agents(self) -> Want:
        self._note("agents")
        return Want.EVERYTHING

    async def everything(self) -> Want:
        self._note("everything")
        return Want.NOTHING

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.asked) < count:
                await asyncio.sleep(0.001)


def make(asked: Asked, monkeypatch: pytest.MonkeyPatch, resync: float = 0.0) -> tuple[Chores, Followed]:
    monkeypatch.setattr(mesos_chores, "DELAY", dict.fromkeys(mesos_chores.DELAY, 0.02))
    monkeypatch.setattr(mesos_chores, "RETRY", 0.01)
    followed = Followed()
    replay = Replay(followed)
    return Chores(cast(Calls, asked), replay.ledger, replay.book, replay.counters, resync, random.Random(1)), followed


async def test_wishes_are_merged_and_wait_for_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    chores, followed = make(asked, monkeypatch)
    running = asyncio.create_task(chores.run(lambda leader: chores._book.lead(leader, (leader,))))
    for _ in range(10):
        chores.want(Want.AGENTS)
        chores.want(Want.NOTHING)
    await asyncio.sleep(0.05)
    assert asked.asked == []
    leadership = followed.leadership()
    assert leadership is not None
    assert leadership.leader == Endpoint("10.0.0.1", 5050)
    chores.synced()
    await asked.until(3)
    assert sorted(asked.asked) == ["agents", "everything", "schedulers"]
    chores.want(Want.AGENTS | Want.SCHEDULERS)
    await asked.until(6)
    running.cancel()


async def test_failures_are_tried_again_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked()
    asked.failing = 2
    chores, _ = make(asked, monkeypatch)
    running = asyncio.create_task(chores.run(lambda leader: None))
    chores.synced()
    await asked.until(3)
    assert asked.asked == ["schedulers"] * 3
    assert [record.levelname for record in caplog.records if "failed" in record.message] == ["WARNING"]
    running.cancel()


async def test_full_comparisons_come_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    chores, _ = make(asked, monkeypatch, resync=0.01)
    running = asyncio.create_task(chores.run(lambda leader: None))
    chores.synced()
    await asked.until(5)
    assert asked.asked.count("everything") >= 3
    running.cancel()
