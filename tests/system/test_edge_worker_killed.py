"""A worker of the edge that is killed takes along the connections that it had accepted, and nothing else.

Whoever waited in its sockets, and whoever comes while there is no worker for them, is served: the parent keeps them.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import msgspec
import pytest

from tests.system.edge_changes import Fleet
from tests.system.edge_clients import Connection, Wrong
from tests.system.edge_stage import App, Stage, stage, until

SOAK = bool(os.environ.get("PHAROS_SOAK"))
ROUNDS = 40 if SOAK else 3
WAITING = 40
"""Connections that are opened while a worker stands still: about half of them wait for it."""
STEADY, FRESH = 6, 4
ASKED = 100
"""Requests at least."""


class Failure(msgspec.Struct):
    """A request that failed; seconds of the monotonic clock."""

    opened: float
    ended: float
    why: str


class Clients:
    """Ask all the time: some on connections that they keep, some on new ones."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.failures: list[Failure] = []
        self.right = 0
        self.ending = asyncio.Event()

    async def ask(self, *, keep: bool) -> None:
        """One client, until the end."""
        connection: Connection | None = None
        while not self.ending.is_set():
            await asyncio.sleep(0.02)
            try:
                if connection is None:
                    connection = await Connection.open(self.port)
                await asked(connection)
                self.right += 1
            except (OSError, EOFError, Wrong) as error:
                opened = connection.opened if connection is not None else time.monotonic()
                self.failures.append(Failure(opened, time.monotonic(), repr(error)))
            else:
                if keep:
                    continue
            if connection is not None:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


async def asked(connection: Connection) -> None:
    """A GET, answered by the app; raises Wrong, OSError and EOFError."""
    async with asyncio.timeout(60):
        answer = await connection.ask("GET", "web.example", "/x")
    if answer.field(b"x-app") != "/shop/web":
        raise Wrong(answer.head)


async def _stands_still(pid: int) -> bool:
    stat = await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text)
    return stat.rpartition(")")[2].split()[0] == "T"


async def _kill_one(running: Stage, number: int) -> float:
    """Kill a worker in whose sockets clients wait, all of whom are served; when it stood still."""
    pids = {worker["number"]: worker["pid"] for worker in (await running.pharos.status())["workers"]}
    os.kill(pids[number], signal.SIGSTOP)
    await until(lambda: _stands_still(pids[number]), "the worker stands still")
    stood = time.monotonic()
    waiting = [await Connection.open(running.pharos.ports["http"]) for _ in range(WAITING)]
    asking = [asyncio.create_task(asked(connection)) for connection in waiting]
    await asyncio.wait(asking, timeout=0.2)
    assert not all(task.done() for task in asking), "nobody waits"
    os.kill(pids[number], signal.SIGKILL)
    await asyncio.gather(*asking)

    async def replaced() -> bool:
        workers = (await running.pharos.status())["workers"]
        return all(worker["version"] >= 0 for worker in workers) and pids[number] not in {
            worker["pid"] for worker in workers
        }

    await until(replaced, "the worker is replaced", running.pharos)
    for connection in waiting:
        connection.close()
    return stood


async def _run(folder: Path) -> None:
    async with stage(folder) as running:
        fleet = Fleet(
            running, App("/shop/web", {"0_VHOST": "web.example"}, running.tasks.port()), random.Random(7), deadly=False
        )
        await fleet.fill()
        await running.until_ready()
        await running.until_served(fleet.app)
        clients = Clients(running.pharos.ports["http"])
        asking = [asyncio.create_task(clients.ask(keep=number < STEADY)) for number in range(STEADY + FRESH)]
        stood = []
        for number in range(ROUNDS):
            await asyncio.sleep(1)
            stood.append(await _kill_one(running, number % 2))
        clients.ending.set()
        await asyncio.gather(*asking)
        for failure in clients.failures:
            assert any(failure.opened <= when <= failure.ended for when in stood), (failure, stood)
        assert len(clients.failures) <= ROUNDS * (STEADY + FRESH)
        assert clients.right > ASKED
        metrics = await running.pharos.metrics()
        assert metrics["pharos_l7_worker_restarts_total"] == ROUNDS
        assert metrics["pharos_l7_errors_total"] == 0
        print(f"{clients.right} right answers, {ROUNDS} workers killed, which cost {len(clients.failures)} requests")


@pytest.mark.soak
@pytest.mark.timeout(0 if SOAK else 600)
def test_only_what_it_had_accepted_ends_with_a_worker(tmp_path: Path) -> None:
    asyncio.run(_run(tmp_path))
