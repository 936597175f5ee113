"""A worker process seen from its parent: its start, its failures, its silence and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lb7 import worker_process
from lb7.listening import Listening
from lb7.settings import Settings
from lb7.wire import Ask, Counters, Fault, Told
from lb7.worker_feed import Wanted
from lb7.worker_process import WorkerProcess
from tests.fakes.edge_workers import until


class Heard:
    """What workers say."""

    def __init__(self) -> None:
        self.blocks: list[Counters] = []
        self.answers: list[Told] = []
        self.faults: list[Fault] = []
        self.changes: list[tuple[bool, int]] = []

    def counted(self, serial: int, block: Counters) -> None:
        self.blocks.append(block)

    def logged(self, records: list[dict[str, Any]], lost: int) -> None:
        raise AssertionError("there is nothing to log")

    def holds(self, clusters: tuple[str, ...]) -> None:
        raise AssertionError("there is nothing to hold")

    def told(self, answer: Told) -> None:
        self.answers.append(answer)

    def failed(self, number: int, fault: Fault) -> None:
        self.faults.append(fault)

    def changed(self, worker: WorkerProcess) -> None:
        self.changes.append((worker.serves, worker.version))


@asynccontextmanager
async def started() -> AsyncIterator[tuple[WorkerProcess, Heard, Wanted]]:
    listening, heard = Listening(1), Heard()
    wanted = Wanted(Settings(), listening)
    worker = WorkerProcess(0, wanted, heard)
    worker.start()
    try:
        yield worker, heard, wanted
    finally:
        await worker.close()
        listening.close()


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """In place of Python."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.asyncio
async def test_it_starts_tells_answers_and_ends() -> None:
    async with started() as (worker, heard, wanted):
        assert not worker.serves
        await until(lambda: worker.serves)
        assert worker.version == wanted.version
        assert heard.changes == [(True, wanted.version)]
        pid = worker.pid
        wanted.version = 7
        assert worker.feed is not None
        worker.feed.wake()
        worker.feed.ask(Ask(3, ("unknown",)))
        await until(lambda: worker.version == 7 and heard.answers)
        assert heard.answers == [Told(3, {})]
        await until(lambda: len(heard.blocks) >= 2)
        await worker.drain(60)
        assert worker.pid == 0
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert worker.replaced == 0
        assert heard.changes[-1] == (False, -1)
        assert not heard.faults


@pytest.mark.asyncio
async def test_what_ends_at_once_is_tried_again_with_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_process, "PAUSES", (0.0, 0.01))
    program(tmp_path, monkeypatch, "echo its last words >&2; exit 3")
    async with started() as (worker, heard, _):
        await until(lambda: worker.replaced >= 4)
        assert not worker.serves
        (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert "its last words" in said
        assert "worker=0" in said
    assert heard.changes


@pytest.mark.asyncio
async def test_what_can_not_be_started(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(worker_process, "PAUSES", (0.01,))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with started() as (worker, _, _wanted):
        await until(lambda: worker.replaced >= 2)
    assert "/nowhere/python" in caplog.text


@pytest.mark.asyncio
async def test_what_never_says_a_word_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "TICK", 0.01)
    monkeypatch.setattr(worker_process, "STARTING", 5)
    monkeypatch.setattr(worker_process, "PAUSES", (0.01,))
    program(tmp_path, monkeypatch, "exec sleep 1000")
    async with started() as (worker, _, _wanted):
        await until(lambda: worker.replaced >= 2)


@pytest.mark.asyncio
async def test_one_that_is_silent_is_quiet_and_serves_again_when_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "QUIET", 5)
    monkeypatch.setattr(worker_process, "SILENT", 100_000)
    async with started() as (worker, heard, _):
        await until(lambda: worker.serves)
        os.kill(worker.pid, signal.SIGSTOP)
        await until(lambda: worker.quiet)
        assert not worker.serves
        os.kill(worker.pid, signal.SIGCONT)
        await until(lambda: worker.serves)
        assert worker.replaced == 0
        assert [serves for serves, _ in heard.changes] == [True, False, True]


@pytest.mark.asyncio
async def test_closing_does_not_wait_for_one_that_hangs() -> None:
    async with started() as (worker, _, _wanted):
        await until(lambda: worker.serves)
        pid = worker.pid
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(30):
            await worker.drain(0.1)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.asyncio
async def test_one_that_was_never_there_is_closed_at_once() -> None:
    listening = Listening(1)
    worker = WorkerProcess(0, Wanted(Settings(), listening), Heard())
    await worker.drain(60)
    await worker.close()
    assert worker.pid == 0
