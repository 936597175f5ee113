"""Whole documents: read in pieces, refused when cut, broken, misshapen or late."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import cast

import pytest

from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.mesos_calls import State
from mesos_dns.sources.mesos_client import Answer, MasterError
from mesos_dns.sources.mesos_read import read_document
from mesos_dns.sources.mesos_snapshot import Snapshot, V1Document
from mesos_dns.sources.mesos_state import StateHead
from tests.fakes import mesos_master as master

pytestmark = pytest.mark.asyncio


class Pieces:
    """An answer that gives these pieces, then nothing or silence."""

    base = "http://x"

    def __init__(self, pieces: Iterator[bytes], *, hang: bool = False) -> None:
        self._pieces = pieces
        self._hang = hang

    async def chunk(self) -> bytes:
        piece = next(self._pieces, None)
        if piece is None and self._hang:
            await asyncio.sleep(60)
        return piece or b""


def document() -> V1Document:
    return V1Document(Snapshot(frozenset(), "c", {}, SourceCounters(), Complaints(logging.getLogger("test"))))


STATE = json.dumps(master.state_of([master.task(n) for n in range(50)], [master.agent(1)])).encode()


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
async def test_any_pieces(size: int) -> None:
    into = document()
    pieces = Pieces(iter([STATE[at : at + size] for at in range(0, len(STATE), size)]))
    head = await read_document(cast(Answer, pieces), into, State, 5)
    assert head.get_tasks is not None
    assert head.get_tasks.tasks == []
    assert len(into.snapshot.tasks) == 50


async def test_a_cut_at_every_100th_byte_is_refused() -> None:
    for length in range(0, len(STATE), 100):
        with pytest.raises(MasterError, match="refused"):
            await read_document(cast(Answer, Pieces(iter([STATE[:length]]))), document(), State, 5)


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"null",
        STATE + b"x",
        b'{"get_tasks": 5}',
        b'{"get_tasks": {"tasks": "x"}}',
        b'{"get_agents": {"agents": {}}}',
    ],
)
async def test_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(MasterError) as error:
        await read_document(cast(Answer, Pieces(iter([data]))), document(), State, 5)
    assert error.value.kind == "document"


async def test_a_state_needs_its_arrays() -> None:
    with pytest.raises(MasterError, match="frameworks"):
        await read_document(cast(Answer, Pieces(iter([b'{"slaves":[],"leader":"x"}']))), document(), StateHead, 5)


async def test_a_document_that_does_not_end() -> None:
    with pytest.raises(MasterError) as error:
        await read_document(cast(Answer, Pieces(iter([STATE[:100]]), hang=True)), document(), State, 0.05)
    assert error.value.kind == "stall"


async def test_the_loop_gets_its_turns() -> None:
    """While a large document is decoded other tasks run."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    many = json.dumps(master.state_of([master.task(n) for n in range(20_000)], [])).encode()
    counting = asyncio.create_task(count())
    await read_document(cast(Answer, Pieces(iter([many]))), document(), State, 60)
    counting.cancel()
    assert turns > 5
