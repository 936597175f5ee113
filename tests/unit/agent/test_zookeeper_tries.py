"""Trying again: pauses, complaints that are said once, and what is removed when ZooKeeper is back."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import pytest

from agent.zookeeper_tries import Leftovers, Waiting, jittered
from mesos_dns.zookeeper import NoAuthError, Session, ZooKeeperLost


class Away:
    """What of a session counts here."""

    def __init__(self) -> None:
        self.connected = False
        self.watchers: list[Any] = []
        self.attach = self.watchers.append
        self.detach = self.watchers.remove

    def reconnect(self) -> None:
        self.connected = True
        for watcher in list(self.watchers):
            watcher.state_changed()


def test_pauses_differ() -> None:
    pauses = {jittered(1.0) for _ in range(100)}
    assert len(pauses) > 50
    assert all(0.5 <= pause <= 1.5 for pause in pauses)


@pytest.mark.asyncio
async def test_steps_go_on_whatever_fails(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.zookeeper_tries.RETRY", 0.001)
    monkeypatch.setattr("agent.zookeeper_tries.FORBIDDEN_RETRY", 0.001)
    outcomes: list[Exception | float] = [
        ZooKeeperLost("away"), NoAuthError(), NoAuthError(), KeyError("a fault of ours"), 0.0, math.inf, math.inf
    ]  # fmt: skip
    waiting, failures, ended = Waiting("a test"), list[str](), asyncio.Event()

    async def step() -> float:
        outcome = outcomes.pop(0)
        if not outcomes:
            ended.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    task = asyncio.create_task(waiting.go_on(step, failures.append))
    async with asyncio.timeout(60):
        while len(outcomes) > 1:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    assert len(outcomes) == 1, "only a wake-up goes on from here"
    waiting.wake()
    async with asyncio.timeout(60):
        await ended.wait()
    task.cancel()
    await asyncio.wait([task])
    assert failures == ["away", "refused", "refused", "KeyError('a fault of ours')"]
    assert caplog.text.count("the ACL does not allow it") == 1
    assert "a fault of ours" in caplog.text


def test_a_complaint_is_said_again_after_all_was_well(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Waiting("a test")
    for reason in ("bad", "bad", "", "bad", "worse"):
        waiting.complain(reason)
    assert [record.getMessage() for record in caplog.records] == [
        f"a test is impaired reason={reason}" for reason in ("bad", "bad", "worse")
    ]


@pytest.mark.asyncio
async def test_what_could_not_be_removed_is_when_the_connection_is_back(caplog: pytest.LogCaptureFixture) -> None:
    session, done, losses = Away(), list[str](), [2]
    leftovers = Leftovers(cast(Session, session))

    async def lossy() -> None:
        if not session.connected or (losses[0] and not losses.__setitem__(0, losses[0] - 1)):
            raise ZooKeeperLost("away")
        done.append("lossy")

    async def refused() -> None:
        if not session.connected:
            raise ZooKeeperLost("away")
        done.append("refused")
        raise NoAuthError

    async with asyncio.timeout(60):
        await leftovers.remove(lossy)
        await leftovers.remove(refused)
        assert (len(leftovers), done) == (2, [])
        await asyncio.sleep(0)
        session.reconnect()
        while len(leftovers):
            await asyncio.sleep(0.005)
        assert done == ["lossy", "refused"]
        await leftovers.remove(lossy)
        assert done == ["lossy", "refused", "lossy"]
        while session.watchers:
            await asyncio.sleep(0)
        await leftovers.close()
    assert caplog.text.count("does not let us remove") == 1


@pytest.mark.asyncio
async def test_a_removal_that_is_cancelled_is_done_later_and_closing_forgets_it() -> None:
    session, begun = Away(), asyncio.Event()
    leftovers = Leftovers(cast(Session, session))

    async def endless() -> None:
        begun.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(leftovers.remove(endless))
    async with asyncio.timeout(60):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(leftovers) == 1
        await leftovers.close()
    assert len(leftovers) == 0
    assert not session.watchers


@pytest.mark.asyncio
async def test_a_fault_of_ours_is_logged_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    leftovers = Leftovers(cast(Session, Away()))

    async def broken() -> None:
        raise KeyError("a fault of ours")

    await leftovers.remove(broken)
    assert len(leftovers) == 0
    assert "a fault of ours" in caplog.text
    await leftovers.close()
