"""`pharos simulate`: a large simulated cluster behind a master and a Marathon, with steady churn."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import TextIO

import msgspec

from agent.demo.control import Control
from agent.demo.marathon_api import MarathonApi
from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.population import Churn, Size, populate
from agent.demo.simulation import SimulatedCluster

TICK = 0.01
REPORT = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pharos simulate`; their names are those of `run`."""
    parser.add_argument("--nodes", type=int, default=100, metavar="N", help="agents (default 100)")
    parser.add_argument("--tasks", type=int, default=1000, metavar="M", help="tasks (default 1000)")
    parser.add_argument("--churn", type=float, default=0.0, metavar="R", help="task changes a second (default 0)")
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address to serve on")
    parser.add_argument("--master-port", type=int, default=0, metavar="PORT", help="default: any free one")
    parser.add_argument("--marathon-port", type=int, default=0, metavar="PORT", help="default: any free one")
    parser.add_argument("--json", action="store_true", help="print where it listens as JSON")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so long (default: at Ctrl-C)")


async def run(
    nodes: int,
    tasks: int,
    churn: float,
    *,
    listen: str = "127.0.0.1",
    master_port: int = 0,
    marathon_port: int = 0,
    seconds: float | None = None,
    as_json: bool = False,
    out: TextIO,
) -> int:
    """Serves the simulation until SIGINT, SIGTERM or `seconds` are over.

    The first thing on `out` is where it listens: one line, or one JSON object. Progress goes to
    stderr. Returns 0, or 2 when the numbers make no cluster or an address can't be had.
    """
    try:
        size = Size(nodes, tasks)
        if not 0 <= churn < math.inf:
            raise ValueError(f"churn={churn:g} must be a number of changes a second, 0 or more")
        if not (0 <= master_port <= 65535 and 0 <= marathon_port <= 65535):
            raise ValueError(f"master-port={master_port} and marathon-port={marathon_port} must be 0 to 65535")
        async with AsyncExitStack() as stack:
            sim, marathon, api = await _start(stack, size, listen, master_port, marathon_port)
            with _stopped_by_signals() as stop:  # before anybody reads that it runs, and may end it
                _announce(out, sim, marathon, api, size, as_json)
                await _until_told(stop, marathon, churn, seconds)
    except (ValueError, OSError) as error:
        print(f"pharos simulate: {error}", file=sys.stderr)
        return 2
    return 0


async def _start(
    stack: AsyncExitStack, size: Size, listen: str, master_port: int, marathon_port: int
) -> tuple[SimulatedCluster, DeployingMarathon, MarathonApi]:
    control = Control()
    sim = SimulatedCluster(hosts=(listen,), port=master_port, extra=control.handle)
    framework = sim.cluster.add_framework("marathon", principal="marathon", hostname=listen)
    marathon = DeployingMarathon(sim.cluster, framework)
    await populate(sim.cluster, marathon, size)
    gc.collect()
    gc.freeze()  # a hundred thousand tasks looked through by each collection would stall the loop
    api = MarathonApi(marathon, host=listen, port=marathon_port)
    await api.start()
    stack.push_async_callback(api.stop)
    framework.webui_url = api.url
    await stack.enter_async_context(sim)
    control.attach(sim, marathon)
    return sim, marathon, api


def _announce(
    out: TextIO, sim: SimulatedCluster, marathon: DeployingMarathon, api: MarathonApi, size: Size, as_json: bool
) -> None:
    master = sim.masters[0].url
    if as_json:
        facts = {
            "master": master,
            "marathon": api.url,
            "nodes": size.nodes,
            "tasks": len(sim.cluster.tasks),
            "apps": len(marathon.apps),
        }
        out.write(msgspec.json.encode(facts).decode() + "\n")
    else:
        out.write(f"master {master} marathon {api.url} nodes {size.nodes} tasks {len(sim.cluster.tasks)}\n")
    out.flush()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[asyncio.Event]:
    """Set by a signal to end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _until_told(stop: asyncio.Event, marathon: DeployingMarathon, churn: float, seconds: float | None) -> None:
    """Churn until a signal or the time is over."""
    changes = Churn(marathon)
    work = asyncio.create_task(_churn(changes, churn)) if churn > 0 else None
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
    finally:
        if work is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    print(f"changes={changes.changes} " + " ".join(f"{k}={v}" for k, v in changes.counts.items()), file=sys.stderr)


async def _churn(changes: Churn, rate: float) -> None:
    """`rate` changes a second, evenly; late ones are made up for."""
    started = reported = time.monotonic()
    while True:
        now = time.monotonic()
        while changes.changes < int((now - started) * rate):
            before = changes.changes
            changes.step()
            if changes.changes == before:
                break  # nothing to change
        if now - reported >= REPORT:
            reported = now
            print(f"changes={changes.changes} a_second={changes.changes / (now - started):.1f}", file=sys.stderr)
        await asyncio.sleep(TICK)
