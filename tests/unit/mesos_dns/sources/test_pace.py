"""Long work gives turns, short work does not."""

from __future__ import annotations

import asyncio

import pytest

from mesos_dns.sources import pace as pace_module
from mesos_dns.sources.pace import Pace

pytestmark = pytest.mark.asyncio


async def turns(work: Pace, count: int) -> int:
    """How many turns another task gets during `count` steps."""
    found = 0

    async def other() -> None:
        nonlocal found
        while True:
            found += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(count):
        await work.turn()
    task.cancel()
    return found


async def test_long_work_gives_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "TURN", -1.0)
    assert await turns(Pace(), 100) == 100


async def test_short_work_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "TURN", 1000.0)
    pace = Pace()
    assert await turns(pace, 100) == 0
    pace.rested()
