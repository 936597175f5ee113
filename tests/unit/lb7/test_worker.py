"""The program of a worker, run by itself: it obeys its channel, and ends with it and with its parent alone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lb7.channel import Channel, ChannelError
from lb7.settings import Settings
from lb7.sockets import bind, place_of
from lb7.table import TableDelta
from lb7.wire import (
    DOWN,
    UP,
    Applied,
    Apply,
    Ask,
    Certificate,
    Certificates,
    Counters,
    Drain,
    Fault,
    Hello,
    Listen,
    Mark,
    Ready,
    Told,
    Up,
    encode,
)
from lb7.worker import LATE, Worker
from tests.fakes.cluster_counts import grown, read
from tests.fakes.edge_workers import backend, cluster_at, connect, table

REPOSITORY = Path(__file__).resolve().parents[3]


class Program:
    """A worker and its channel."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel[Up]) -> None:
        self.process, self.channel = process, channel

    async def answer(self, kind: type[Up]) -> Up:
        """The next message of a kind."""
        while True:
            async with asyncio.timeout(60):
                message, _ = await self.channel.receive()
            if isinstance(message, kind):
                return message

    async def next_block(self) -> Counters | None:
        """None when it has ended."""
        try:
            block = await self.answer(Counters)
        except ChannelError:
            return None
        assert isinstance(block, Counters)
        return block

    async def code(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()


@asynccontextmanager
async def program(*, greeted: bool = True, **settings: Any) -> AsyncIterator[Program]:
    here, there = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lb7.worker", "--fd", str(there.fileno())),
        pass_fds=(there.fileno(),),
        cwd=REPOSITORY,
        stderr=asyncio.subprocess.DEVNULL,
    )
    there.close()
    channel = Channel(here, UP)
    running = Program(process, channel)
    try:
        if greeted:
            await channel.send(encode(Hello(0, Settings(**settings))))
            assert await running.answer(Ready) == Ready(process.pid)
        yield running
    finally:
        channel.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.asyncio
async def test_it_serves_what_it_is_told_and_drains() -> None:
    async with backend() as port, program() as worker:
        with bind(place_of("127.0.0.1:0")) as sock:
            # The sockets may be there before what they are for.
            await worker.channel.send(encode(Listen("http", 3, 1)), [sock])
            at = sock.getsockname()[1]
        whole = table(port)
        await worker.channel.send(encode(Apply(TableDelta({}, {}, whole.clusters), True)))
        await worker.channel.send(encode(Apply(TableDelta(whole.listeners, whole.hosts, {}))))
        await worker.channel.send(encode(Mark(5)))
        assert await worker.answer(Applied) == Applied(5)
        client = await connect(at)
        assert await client.get() == (200, "hello")
        await worker.channel.send(encode(Drain()))
        assert await client.at_end()
        client.close()
        requests = 0
        while (block := await worker.next_block()) is not None:
            requests += int(block.worker.get("requests", 0))  # type: ignore[arg-type]
        assert requests == 1, "its last block comes when it ends"
        assert await worker.code() == 0


@pytest.mark.asyncio
async def test_it_ends_with_its_channel() -> None:
    async with program() as worker:
        worker.channel.close()
        assert await worker.code() == 0


@pytest.mark.asyncio
async def test_one_that_is_not_greeted_ends() -> None:
    async with program(greeted=False) as worker:
        await worker.channel.send(encode(Drain()))
        with pytest.raises(ChannelError):
            await worker.answer(Ready)
        assert await worker.code() == 0


@pytest.mark.asyncio
async def test_signals_are_its_parents_business() -> None:
    async with program() as worker:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            worker.process.send_signal(number)
        await worker.channel.send(encode(Mark(1)))
        assert await worker.answer(Applied) == Applied(1)


@pytest.mark.asyncio
async def test_it_gives_up_privileges_and_may_open_many_files() -> None:
    async with program() as worker:
        status = await asyncio.to_thread(Path(f"/proc/{worker.process.pid}/status").read_text)
        values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(values["CapEff"], 16) == 0
        assert values["NoNewPrivs"] == "1"
        assert values["Name"] == "pharos-l7"
        limits = await asyncio.to_thread(Path(f"/proc/{worker.process.pid}/limits").read_text)
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        soft, hard = line.split()[3:5]
        assert soft == hard


@pytest.mark.asyncio
async def test_what_it_can_not_use_is_told() -> None:
    async with program() as worker:
        await worker.channel.send(encode(Certificates((Certificate("bad.pem", (), b"x"),), ("bad.pem",))))
        fault = await worker.answer(Fault)
        assert isinstance(fault, Fault)
        assert fault.key == "certificate bad.pem"


@pytest.mark.asyncio
async def test_time_outs_go_on_while_the_parent_takes_nothing() -> None:
    async with program(request_timeout=0.5) as worker:
        with bind(place_of("127.0.0.1:0")) as sock:
            await worker.channel.send(encode(Listen("http", 0, 1)), [sock])
            at = sock.getsockname()[1]
        whole = table(1)
        whole.clusters["/a:1"] = cluster_at(*range(1, 30_000))
        await worker.channel.send(encode(Apply(whole)))
        await worker.channel.send(encode(Mark(1)))
        assert await worker.answer(Applied) == Applied(1)
        worker.channel._stop_reading()
        await worker.channel.send(encode(Ask(1, ("/a:1",))))  # the answer is more than the channel has room for
        for _ in range(2):
            client = await connect(at)
            client.writer.write(b"GET / HT")
            async with asyncio.timeout(60):
                assert (await client.reader.read()).startswith(b"HTTP/1.1 408 ")
            client.close()
        told = await worker.answer(Told)
        assert isinstance(told, Told)
        assert len(told.servers["/a:1"]) == 29_999


@pytest.mark.asyncio
async def test_an_answer_that_is_too_large_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb7.worker.MOST_FRAME", 1000)
    async with inside() as (worker, parent):
        await worker._tables.apply(TableDelta({}, {}, {"a": cluster_at(*range(1, 100), name="a")}), _pause)
        await worker._tell(Ask(1, ("a",)))
        assert await parent.receive() == (Told(1, {}), [])
        await worker._report()
        await worker._reports.send_rest(worker._channel)
        while not isinstance(fault := (await parent.receive())[0], Fault):
            pass
        assert fault.key == "question"


@asynccontextmanager
async def inside() -> AsyncIterator[tuple[Worker, Channel[Up]]]:
    """A worker in this process, which does nothing by itself, and its parent's end."""
    here, there = socket.socketpair()
    parent, channel = Channel(here, UP), Channel(there, DOWN)
    handlers = list(logging.getLogger().handlers)
    try:
        yield Worker(channel, Hello(0, Settings())), parent
    finally:
        logging.getLogger().handlers[:] = handlers
        asyncio.get_running_loop().set_exception_handler(None)
        channel.close()
        parent.close()


async def _pause() -> None:
    await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_what_ends_while_counters_are_told_is_told_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that is gone is forgotten only when all that it counted was told."""
    async with inside() as (worker, parent):
        await worker._tables.apply(TableDelta({}, {}, {"a": cluster_at(1, name="a")}), _pause)
        cluster = worker._tables.clusters["a"]
        server = cluster.servers[0]
        assert cluster.admit()
        one = Counters(clusters=[("a", grown({"requests": 1}))])
        real = worker._channel.send

        async def send(frame: bytes) -> None:
            await real(frame)
            if UP.decode(frame) == one:  # now it goes, and so does its request
                await worker._tables.apply(TableDelta({}, {}, {"a": None}), _pause)
                cluster.answered(server, 0.0, 0.1, 200)
                cluster.leave()

        monkeypatch.setattr(worker._channel, "send", send)
        for _ in range(3):
            await worker._report()
        assert not worker._tables.retiring
        await real(encode(Applied(0)))
        statuses = []
        while (message := (await parent.receive())[0]) != Applied(0):
            assert isinstance(message, Counters)
            statuses += [counts["status"] for _, told in message.clusters if "status" in (counts := read(told))]
        assert statuses == [[0, 0, 1, 0, 0, 0]]


@pytest.mark.asyncio
async def test_an_edge_of_before_is_kept_for_connections_that_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of which the TLS handshake had begun."""
    async with inside() as (worker, _):
        before = worker._edge
        await worker._configure(Settings(request_timeout=7.0))
        assert worker._edge is not before
        for _ in range(3):
            await worker._report()
        assert list(worker._past) == [before]
        worker._past[before] -= LATE
        await worker._report()
        assert not worker._past


@pytest.mark.asyncio
async def test_it_does_not_outlive_its_parent() -> None:
    """Not even when it is stopped, or hangs."""
    code = (
        "import os, socket, subprocess, sys, time\n"
        "from lb7.settings import Settings\n"
        "from lb7.wire import Hello, encode\n"
        "here, there = socket.socketpair()\n"
        "worker = subprocess.Popen([sys.executable, '-m', 'lb7.worker', '--fd', str(there.fileno())],\n"
        "                          pass_fds=(there.fileno(),))\n"
        "hello = encode(Hello(0, Settings()))\n"
        "here.sendall(len(hello).to_bytes(4, 'big') + hello)\n"
        "here.recv(4)\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=REPOSITORY, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."}
    )
    assert parent.stdout is not None
    async with asyncio.timeout(60):
        pid = int(await parent.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    await parent.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):  # the second: it went between open and read
            return True

    async with asyncio.timeout(60):
        while not await asyncio.to_thread(gone):
            await asyncio.sleep(0.02)
    parent._transport.close()  # type: ignore[attr-defined]


def test_it_wants_a_channel() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lb7.worker"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--fd" in done.stderr
