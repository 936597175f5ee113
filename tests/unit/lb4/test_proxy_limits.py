"""Limits of the proxy, and things in the order of their last use."""

from __future__ import annotations

import asyncio

import pytest

from lb4 import proxy_limits
from lb4.proxy_limits import Ages, Limits

LIMIT = 0.08


def test_limits_are_bounded_by_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_limits, "files_for_connections", lambda: 768)
    assert Limits().connections_at_most == 288
    assert Limits().flows_at_most == 153
    assert Limits(connections=5, flows=7).connections_at_most == 5
    assert Limits(connections=5, flows=7).flows_at_most == 7
    monkeypatch.setattr(proxy_limits, "files_for_connections", lambda: 1)
    assert (Limits().connections_at_most, Limits().flows_at_most) == (1, 1)


@pytest.mark.asyncio
async def test_only_what_is_not_used_ends() -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Queue[str] = asyncio.Queue()
    ages: Ages[str] = Ages(LIMIT, ended.put_nowait)
    started = loop.time()
    for name in ("a", "b", "c"):
        assert ages.used(name, started) == started + LIMIT / 8
    assert ages.oldest() == "a"
    ages.used("a", started + 1000)
    ages.discard("c")
    ages.discard("never there")
    async with asyncio.timeout(30):
        assert await ended.get() == "b"
    assert loop.time() - started >= LIMIT
    assert len(ages) == 1
    assert ages.oldest() == "a"
    ages.close()
    assert ages.oldest() is None
    assert ended.empty()


@pytest.mark.asyncio
async def test_many_end_in_slices_and_may_come_back() -> None:
    back: list[int] = []
    done = asyncio.Event()

    def ended(number: int) -> None:
        if number == 0 and not back:
            ages.used(0, asyncio.get_running_loop().time())
        back.append(number)
        if len(back) == 1001:
            done.set()

    ages: Ages[int] = Ages(LIMIT, ended)
    for number in range(1000):
        ages.used(number, 0.0)
    async with asyncio.timeout(30):
        await done.wait()
    assert back == [*range(1000), 0]
    assert len(ages) == 0
