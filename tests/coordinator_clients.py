"""What the tests of every coordinator do alike: wait with a limit, read a watch, talk to a child process."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

from mesos_dns.coordinate import Coordinator

T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parents[1]


async def soon(work: Awaitable[T]) -> T:
    """What `work` gives, within a limit."""
    return await asyncio.wait_for(work, 30)


@contextlib.contextmanager
def process(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that runs a Python program; it is killed at the end."""
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=REPOSITORY)
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


async def line(started: subprocess.Popen[bytes]) -> str:
    """The next line that the process says."""
    assert started.stdout is not None
    return (await soon(asyncio.to_thread(started.stdout.readline))).decode().strip()


@contextlib.asynccontextmanager
async def watching(coordinator: Coordinator, prefix: str) -> AsyncIterator[AsyncIterator[dict[str, bytes]]]:
    """A watch that is closed at the end."""
    stream = coordinator.watch(prefix)
    try:
        yield stream
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


async def shows(stream: AsyncIterator[dict[str, bytes]], wanted: dict[str, bytes]) -> None:
    """Read a watch until it tells exactly this."""
    async with asyncio.timeout(30):
        async for found in stream:
            if found == wanted:
                return
