"""A process that coordinates with others through ZooKeeper and writes down what it did: a part of the storm.

    python -m tests.system.zookeeper_worker work HOSTS NAME FOLDER SESSION_SECONDS
    python -m tests.system.zookeeper_worker dump HOSTS

`work` stands for a role and acts while it leads, allocates keys, counts, and registers itself, until
SIGTERM. It appends lines to files in FOLDER:

    NAME.acts     TENURE START END      one act that was done; nanoseconds of CLOCK_MONOTONIC
    NAME.tried    KEY VALUE             a change that is about to be asked for
    NAME.kept     KEY VALUE             one that was acknowledged

`dump` prints all keys with their values as JSON, as they are after all acknowledged changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TextIO

from agent.zookeeper_coordinator import ZooKeeperCoordinator
from mesos_dns.coordinate import ABSENT, CoordinatorLost, Election, VersionConflict
from mesos_dns.zookeeper import Session
from mesos_dns.zookeeper_target import Target, parse_hosts

ROLE = "decider"
COUNTER = "count"
ACT = 0.003
"""Seconds between two acts."""
SLOT = 20_000_000
"""Nanoseconds of one number to allocate: in each slot all workers want the same one."""


class Worker:
    """One process's part. `name` is its own; what it writes goes to `folder`."""

    def __init__(self, coordinator: ZooKeeperCoordinator, name: str, folder: Path) -> None:
        self._coordinator = coordinator
        self._name = name
        self._acts = _lines(folder / f"{name}.acts")
        self._kept = _lines(folder / f"{name}.kept")
        self._tried = _lines(folder / f"{name}.tried")

    async def run(self) -> None:
        """Do everything until cancelled."""
        async with asyncio.TaskGroup() as group:
            for work in (self._lead(), self._allocate(), self._count(), self._be_there(), self._look()):
                group.create_task(work)

    async def _lead(self) -> None:
        tenure = 0
        async with self._coordinator.elect(ROLE) as election:
            while True:
                await election.won()
                tenure += 1
                await self._act(election, f"{os.getpid()}-{tenure}")

    async def _act(self, election: Election, tenure: str) -> None:
        while True:
            start = time.monotonic_ns()
            if not election.leading:
                return
            end = time.monotonic_ns()
            self._acts.write(f"{tenure} {start} {end}\n")
            await asyncio.sleep(ACT)

    async def _allocate(self) -> None:
        last = 0
        while True:
            number = time.monotonic_ns() // SLOT
            if number == last:
                await asyncio.sleep(SLOT / 1e9 / 4)
                continue
            last = number
            await self._change(f"alloc/{number}", f"{self._name}-{os.getpid()}", ABSENT)

    async def _count(self) -> None:
        while True:
            with contextlib.suppress(CoordinatorLost):
                now = await self._coordinator.get(COUNTER)
                value = int(now.value) + 1 if now is not None else 1
                await self._change(COUNTER, str(value), now.version if now is not None else ABSENT)
            await asyncio.sleep(0.05)

    async def _change(self, key: str, value: str, version: int) -> None:
        self._tried.write(f"{key} {value}\n")
        with contextlib.suppress(VersionConflict, CoordinatorLost):
            await self._coordinator.put_if(key, value.encode(), version)
            self._kept.write(f"{key} {value}\n")

    async def _be_there(self) -> None:
        while True:
            # A worker that was killed finds its own registration, until that session has ended.
            with contextlib.suppress(VersionConflict, CoordinatorLost):
                async with self._coordinator.register(f"edges/{self._name}", str(os.getpid()).encode()):
                    await asyncio.Event().wait()
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        async for edges in self._coordinator.watch("edges"):
            logging.info("registered %s", " ".join(sorted(edges)))


async def work(hosts: str, name: str, folder: str, seconds: str) -> None:
    """Take part until SIGTERM."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with _coordinator(hosts, float(seconds)) as coordinator:
        with contextlib.suppress(asyncio.CancelledError):
            await Worker(coordinator, name, Path(folder)).run()


async def dump(hosts: str) -> None:
    """Print all keys."""
    async with _coordinator(hosts, 4.0) as coordinator:
        session = coordinator._session
        while not session.connected:
            await asyncio.sleep(0.01)
        await session.sync("/")
        async for found in coordinator.watch(""):
            print(json.dumps({key: value.decode() for key, value in found.items()}))
            return


@contextlib.asynccontextmanager
async def _coordinator(hosts: str, seconds: float) -> AsyncIterator[ZooKeeperCoordinator]:
    session = Session(Target(parse_hosts(hosts.split(",")), session_timeout=seconds))
    session.start()
    coordinator = ZooKeeperCoordinator(session)
    try:
        yield coordinator
    finally:
        await coordinator.close()
        await session.close()


def _lines(path: Path) -> TextIO:
    return path.open("a", buffering=1)


def main() -> None:
    """Do what the command line says."""
    form = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, datefmt="%H:%M:%S")
    logging.getLogger("mesos_dns.zookeeper.kazoo").setLevel(logging.ERROR)
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "dump":
        asyncio.run(dump(*arguments))
    else:
        asyncio.run(work(*arguments))


if __name__ == "__main__":
    main()
