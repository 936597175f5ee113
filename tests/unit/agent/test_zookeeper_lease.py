"""The lease by which a leader acts: a question of the clock, whatever timers and events do."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.zookeeper_lease import Lease, boottime


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.asyncio
async def test_it_is_over_when_the_clock_says_so_before_anything_has_run() -> None:
    clock = Clock()
    lease = Lease("decider", clock)
    assert not lease.held
    await lease.lost()  # not held: nothing to wait for
    lease.extend(1002.0)
    await lease.won()
    assert lease.held
    assert "held=True" in repr(lease)
    clock.now = 1002.0  # the process stood still; no timer has fired, no event was seen
    assert not lease.held


@pytest.mark.asyncio
async def test_who_waits_is_told_when_it_runs_out() -> None:
    lease = Lease("decider")
    lease.extend(boottime() + 0.05)
    async with asyncio.timeout(60):
        await lease.won()
        await lease.lost()
    assert not lease.held


@pytest.mark.asyncio
async def test_a_timer_that_fires_before_the_clock_is_there_ends_nothing() -> None:
    clock = Clock()
    lease = Lease("decider", clock)
    lease.extend(1000.01)
    await asyncio.sleep(0.05)
    assert lease.held
    clock.now = 1001.0
    async with asyncio.timeout(60):
        await lease.lost()


@pytest.mark.asyncio
async def test_a_lease_that_ran_out_unnoticed_is_told_before_it_is_held_again() -> None:
    clock = Clock()
    lease = Lease("decider", clock)
    lease.extend(1010.0)
    waiting = asyncio.create_task(lease.lost())
    await asyncio.sleep(0)
    clock.now = 1070.0
    lease.extend(1075.0)
    assert lease.held
    async with asyncio.timeout(60):
        await waiting
        await lease.won()


@pytest.mark.asyncio
async def test_won_is_never_said_of_a_lease_that_is_over() -> None:
    clock = Clock()
    lease = Lease("decider", clock)
    lease.extend(1010.0)
    clock.now = 1020.0
    winning = asyncio.create_task(lease.won())
    await asyncio.sleep(0.01)
    assert not winning.done()
    await lease.lost()
    lease.extend(1020.0)  # proof that came too late
    await asyncio.sleep(0.01)
    assert not winning.done()
    lease.extend(1030.0)
    async with asyncio.timeout(60):
        await winning
    lease.end("enough")
    lease.end("enough")
    assert not lease.held
    await lease.lost()


def test_the_clock_counts_suspension() -> None:
    assert abs(boottime() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5.0
