"""Marks of apps in the coordinator: seen by all, set once, kept while the coordinator is away."""

from __future__ import annotations

import asyncio

import pytest

from lb7.autoscale.marks import PAUSED, Marks
from lb7.autoscale.state import digest
from mesos_dns.coordinate import CoordinatorLost
from tests.fakes.memory_coordinator import Memory
from tests.fakes.scaling import until
from tests.fakes.virtual_time import run

KEY = ("app", "mesos", "marathon-1", "/web")


def test_a_mark_is_seen_by_all() -> None:
    async def main() -> None:
        memory = Memory()
        one, two = Marks(memory.client(), PAUSED), Marks(memory.client(), PAUSED)
        tasks = [asyncio.create_task(marks.run()) for marks in (one, two)]
        assert not two.known.is_set()
        await until(two.known.is_set)
        assert digest(KEY) not in two
        for marked in (True, True, False, False, True):
            await one.set(KEY, marked)
            assert (digest(KEY) in one) == marked
            await asyncio.sleep(0.1)
            assert (digest(KEY) in two) == marked
        assert memory.values[f"autoscale/paused/{digest(KEY)}"].value == b'{"app":["app","mesos","marathon-1","/web"]}'
        memory.lost = True
        with pytest.raises(CoordinatorLost):
            await one.set(KEY, False)
        assert digest(KEY) in one
        assert digest(KEY) in two
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
