"""Parts that run in the background: ended when told, and a fault is logged."""

from __future__ import annotations

import asyncio

import pytest

from agent.background import Background

pytestmark = pytest.mark.asyncio


async def test_parts_end_when_they_are_told(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def part(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    parts = Background()
    for name in ("a", "b", "c"):
        parts.spawn(name, part(name))
    await asyncio.sleep(0)
    await parts.end("b")
    assert (ended, "a" in parts, "b" in parts) == (["b"], True, False)
    await parts.end_all(but={"c"})
    assert ended == ["b", "a"]
    await parts.end_all()
    await parts.end("c")
    assert (ended, caplog.records) == (["b", "a", "c"], [])


async def test_a_part_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def part() -> None:
        raise ValueError("no")

    parts = Background()
    parts.spawn("odd", part())
    await asyncio.sleep(0.01)
    assert "a part of the process failed part=odd" in caplog.text
    await parts.end("odd")
