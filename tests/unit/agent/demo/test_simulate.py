"""`pharos simulate` says where it listens, churns, and ends cleanly."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal

import aiohttp
import pytest

from agent.demo import simulate


class Printed(io.StringIO):
    """Output that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()

    def flush(self) -> None:
        self.ready.set()


def test_arguments_are_those_of_run() -> None:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    found = vars(parser.parse_args(["--nodes", "3", "--tasks", "5", "--churn", "2.5", "--seconds", "1"]))
    assert found == {
        "nodes": 3,
        "tasks": 5,
        "churn": 2.5,
        "listen": "127.0.0.1",
        "master_port": 0,
        "marathon_port": 0,
        "seconds": 1.0,
        "json": False,
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves_and_churns_until_a_signal(number: signal.Signals) -> None:
    out = Printed()
    running = asyncio.create_task(simulate.run(4, 100, 500.0, as_json=True, out=out))
    async with asyncio.timeout(30):
        await out.ready.wait()
        facts = json.loads(out.getvalue())
        assert (facts["nodes"], facts["tasks"]) == (4, 100)
        async with aiohttp.ClientSession() as session:
            async with session.get(facts["marathon"] + "/v2/apps") as response:
                assert len((await response.json())["apps"]) == facts["apps"]
            async with session.get(facts["master"] + "/state") as response:
                assert len((await response.json())["slaves"]) == 4
            events = 0
            body = {"type": "SUBSCRIBE"}
            async with session.post(facts["master"] + "/api/v1", json=body) as response:
                while events < 5:
                    length = int(await response.content.readuntil(b"\n"))
                    events += b"TASK_UPDATED" in (await response.content.readexactly(length))[:30]
        os.kill(os.getpid(), number)
        assert await running == 0


class ReadAndEnded(Printed):
    """Who reads the line ends the process at once."""

    def flush(self) -> None:
        super().flush()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "this would end the tests"
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.asyncio
async def test_who_reads_that_it_runs_may_end_it_in_peace() -> None:
    async with asyncio.timeout(30):
        assert await simulate.run(2, 40, 0.0, out=ReadAndEnded()) == 0


@pytest.mark.asyncio
async def test_it_ends_after_the_seconds_and_says_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    out = Printed()
    assert await simulate.run(2, 40, 0.0, seconds=0.01, out=out) == 0
    words = out.getvalue().split()
    assert words[0::2] == ["master", "marathon", "nodes", "tasks"]
    assert words[5:] == ["2", "tasks", "40"]
    assert capsys.readouterr().err.startswith("changes=0")


@pytest.mark.asyncio
async def test_what_makes_no_cluster_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert await simulate.run(1, 5000, 0.0, out=Printed()) == 2
    assert "nodes=1" in capsys.readouterr().err
    assert await simulate.run(1, 5, 0.0, listen="192.0.2.1", out=Printed()) == 2
    assert "192.0.2.1" in capsys.readouterr().err
    assert await simulate.run(1, 5, -1.0, out=Printed()) == 2
    assert "churn=-1" in capsys.readouterr().err
    assert await simulate.run(1, 5, 0.0, master_port=65536, out=Printed()) == 2
    assert "master-port=65536" in capsys.readouterr().err
