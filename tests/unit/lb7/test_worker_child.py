"""A worker's process: its end is known, its last words are kept, and it inherits one file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lb7.worker_child import Child


@asynccontextmanager
async def running(code: str) -> AsyncIterator[tuple[Child, socket.socket]]:
    """Python with a program, and this end of its channel."""
    here, there = socket.socketpair()
    with here, there:
        child = await Child.start((sys.executable, "-I", "-S", "-c", code), there, {"NAME": "value"})
        there.close()
        try:
            yield child, here
        finally:
            child.kill()
            async with asyncio.timeout(60):
                await child.wait()
            child.close()


async def end(child: Child) -> int:
    async with asyncio.timeout(60):
        return await child.wait()


@pytest.mark.asyncio
async def test_its_end_and_its_last_words() -> None:
    async with running("import sys; sys.stderr.write('x' * 100000 + 'the end'); sys.exit(3)") as (child, _):
        assert await end(child) == 3
        assert child.code == 3
        assert child.last_words.endswith("xthe end")
        assert len(child.last_words) <= 4096


@pytest.mark.asyncio
async def test_its_standard_input_is_the_channel() -> None:
    code = "import os, socket; s = socket.socket(fileno=0); s.sendall(s.recv(9) + os.environ['NAME'].encode())"
    async with running(code) as (child, here):
        here.sendall(b"hello ")
        assert await end(child) == 0
        assert here.recv(100) == b"hello value"


@pytest.mark.asyncio
async def test_it_has_no_socket_of_its_parent() -> None:
    code = "import os; os.write(0, ' '.join(os.listdir('/proc/self/fd')).encode())"
    with contextlib.ExitStack() as held:
        ours = {held.enter_context(socket.socket()).fileno() for _ in range(50)}
        async with running(code) as (child, here):
            assert await end(child) == 0
            theirs = set(map(int, here.recv(1000).split()))
    assert theirs >= {0, 1, 2}
    assert len(ours & theirs) <= 1, "one is the folder that is read"


@pytest.mark.asyncio
async def test_it_is_killed() -> None:
    async with running("import time; time.sleep(1000)") as (child, _):
        assert child.code is None
        child.kill()
        assert await end(child) == -signal.SIGKILL
        child.kill()  # there is nobody any more


@pytest.mark.asyncio
async def test_one_that_says_no_more_is_waited_for() -> None:
    async with running("import os, time; os.close(2); time.sleep(0.3)") as (child, _):
        assert await end(child) == 0


@pytest.mark.asyncio
async def test_one_whose_start_is_given_up_is_gone() -> None:
    here, there = socket.socketpair()
    with here:
        with there:
            program = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)")
            starting = asyncio.create_task(Child.start(program, there, {}))
            await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait((starting,))
        assert starting.cancelled()
        here.setblocking(False)
        assert here.recv(1) == b"", "nobody has the other end"
    gc.collect()  # which tells of processes that were never waited for


@pytest.mark.asyncio
async def test_what_can_not_be_started() -> None:
    here, there = socket.socketpair()
    with here, there, pytest.raises(OSError, match="/nowhere/python"):
        await Child.start(("/nowhere/python",), there, {})
