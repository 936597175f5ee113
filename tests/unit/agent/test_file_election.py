"""Elections by file locks: one leader, hand-over, and a leader that notices when its lock is no longer the lock."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.file_election import FileElection, finished, is_locked, try_lock


@contextlib.asynccontextmanager
async def standing(path: Path) -> AsyncIterator[FileElection]:
    election = FileElection(path, 0.01)
    task = asyncio.create_task(election.stand())
    try:
        yield election
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@pytest.mark.asyncio
async def test_one_leads_and_hands_over(tmp_path: Path) -> None:
    path = tmp_path / "roles" / "decider"
    async with asyncio.timeout(30), standing(path) as second_or_first:
        await second_or_first.won()
        async with contextlib.AsyncExitStack() as stack:
            other = await stack.enter_async_context(standing(path))
            await other.lost()  # does not lead: nothing to wait for
            await asyncio.sleep(0.05)
            assert (second_or_first.leading, other.leading) == (True, False)
    async with asyncio.timeout(30), standing(path) as later:
        await later.won()
    assert not later.leading
    assert not is_locked(path)


@pytest.mark.asyncio
async def test_a_leader_whose_file_was_replaced_or_removed_stops(tmp_path: Path) -> None:
    path = tmp_path / "decider"
    async with asyncio.timeout(30), standing(path) as election:
        await election.won()
        # Another process puts a file of its own there and holds that one.
        spare = tmp_path / "spare"
        spare.write_bytes(b"")
        fd = os.open(spare, os.O_RDWR)
        try:
            assert try_lock(fd, fcntl.LOCK_EX)
            spare.rename(path)
            await election.lost()
            assert not election.leading
        finally:
            os.close(fd)
        await election.won()
        path.unlink()
        await election.lost()
        await election.won()
        assert path.exists()


@pytest.mark.asyncio
async def test_a_folder_that_can_not_be_used_never_leads_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "roles").write_text("a file")
    async with asyncio.timeout(30), standing(tmp_path / "roles" / "decider") as election:
        await asyncio.sleep(0.1)
        assert not election.leading
        assert caplog.text.count("election impaired") == 1
        (tmp_path / "roles").unlink()
        await election.won()
        assert repr(election) == "<Election decider leading=True>"


@pytest.mark.asyncio
async def test_finished_waits_for_the_thread_even_when_cancelled() -> None:
    go_on = threading.Event()
    ended = []

    def work() -> None:
        go_on.wait(30)
        ended.append(True)
        raise ValueError("seen by nobody")

    task = asyncio.create_task(finished(work))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


def test_locks_of_this_process_count_too(tmp_path: Path) -> None:
    path = tmp_path / "held"
    assert not is_locked(path)
    path.write_bytes(b"")
    assert not is_locked(path)
    fd = os.open(path, os.O_RDWR)
    assert try_lock(fd, fcntl.LOCK_EX)
    assert is_locked(path)
    assert is_locked(path)
    os.close(fd)
    assert not is_locked(path)
