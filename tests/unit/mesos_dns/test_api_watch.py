"""Who may follow; sessions are in test_watch_session, the conversation in tests/conversation/test_relay."""

from __future__ import annotations

import asyncio

import pytest

from mesos_dns import watch_session
from tests.fakes.api import Asking, context_of
from tests.fakes.relaying import Relaying, Serving, cluster

pytestmark = pytest.mark.asyncio


async def test_a_process_without_followers_says_so() -> None:
    async with Asking(context_of()) as asking:
        status, _, body = await asking.ask("/v1/watch")
        assert (status, body) == (503, "503: this process has no followers")


async def test_the_host_of_a_follower_is_judged_once_it_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 1000.0)  # it is asked at once, not with the next heartbeat
    judged = asyncio.Event()
    async with Serving(*cluster(3)) as server:
        monkeypatch.setattr(server.watch.hearing, "in_sync", lambda address: judged.set())
        async with Relaying(server.url) as follower:
            await follower.equals(server)
            async with asyncio.timeout(60):
                await judged.wait()
