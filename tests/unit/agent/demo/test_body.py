"""Large documents: lengths, pieces, and the loop's turns while they are encoded."""

from __future__ import annotations

import asyncio

import pytest

from agent.demo.body import PIECE, Body, encoded


def test_length_is_that_of_the_whole() -> None:
    body = Body()
    body.text(b"[")
    body.items([b"1", b"22", b"333"])
    body.items([])
    body.text(b"]")
    assert body.whole() == b"[1,22,333]"
    assert body.length == len(body.whole())


def test_pieces_are_small_and_together_the_whole() -> None:
    body = Body()
    body.items([b"x" * 1000] * 1000)
    pieces = list(body.pieces())
    assert len(pieces) > 3
    assert max(map(len, pieces)) < PIECE + 2000
    assert b"".join(pieces) == b",".join([b"x" * 1000] * 1000)
    assert body.length == len(b"".join(pieces))


@pytest.mark.asyncio
async def test_encoding_lets_the_loop_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert await encoded([1, 2, 3, 4, 5, 6], lambda number: b"%d" % number, 2) == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert turns >= 3
    task.cancel()
