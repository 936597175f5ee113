"""Both kinds of event loop for the tests of the DNS server's sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from tests.fakes.dns_serving import Run


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end on one kind of loop; what is left running then fails the test."""

    def factory() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = (
            uvloop.new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
        )
        return loop

    def go(story: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(60):
                await story
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(whole())

    return go
