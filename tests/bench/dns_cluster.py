"""`python -m tests.bench.dns_cluster --agents N --tasks M`: a simulated Mesos cluster for the DNS measurements.

Apps svc-00000, svc-00001, … of 1 to 10 tasks each, on 1 to 3 agents, so that a name has 1 to 3
addresses and 1 to 10 SRV targets; four apps of seven are on agents with an IPv6 address too. It
prints one JSON object with its URL when it serves, and ends with SIGTERM. Below the master's URL:

    POST /simulate/churn {"rate": R}   R changes a second from now on: a task is killed, or one that was starts anew
    POST /simulate/cut                 the event streams break; subscribers come back and read everything again
    GET  /simulate/stats               changes and events so far, subscribers
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import signal
import time

from aiohttp import web

from agent.demo.cluster import Cluster
from agent.demo.simulation import SimulatedCluster
from agent.demo.spec import PortSpec, TaskSpec
from agent.demo.world import Agent, Framework, Task

TICK = 0.01
FRAMEWORK = "marathon"


def app_size(number: int) -> int:
    """How many tasks app number so-and-so has."""
    return 1 + number % 10


def app_places(number: int, agents: int) -> list[int]:
    """The numbers of the agents that an app's tasks are on, in turn."""
    return [(number * 17 + place * 1009) % agents for place in range(1 + number // 10 % 3)]


def is_dual(number: int) -> bool:
    """Whether an app's tasks have IPv6 addresses too."""
    return number % 7 < 4


class Apps:
    """The tasks of a cluster, by app; `step` changes one of them."""

    def __init__(self, cluster: Cluster, agents: int, tasks: int) -> None:
        self.changes = 0
        self._cluster = cluster
        self._random = random.Random(1)
        self._agents = [cluster.add_agent() for _ in range(agents)]
        self._framework: Framework = cluster.add_framework(FRAMEWORK, principal=FRAMEWORK)
        self._specs: list[TaskSpec] = []
        self._running: list[tuple[int, Task]] = []
        self._killed: list[tuple[int, Agent]] = []
        while len(self._running) < tasks:
            number = len(self._specs)
            name = f"svc-{number:05d}"
            self._specs.append(TaskSpec(name, task_prefix=name, ports=(PortSpec("http"),)))
            places = app_places(number, agents)
            for task in range(min(app_size(number), tasks - len(self._running))):
                self._start(number, self._agents[places[task % len(places)]])

    def step(self) -> None:
        """Kill some task, or start one of an app that lost one, in turn."""
        self.changes += 1
        if self.changes % 2:
            place = self._random.randrange(len(self._running))
            self._running[place], self._running[-1] = self._running[-1], self._running[place]
            number, task = self._running.pop()
            self._cluster.kill(task)
            self._killed.append((number, task.agent))
        else:
            self._start(*self._killed.pop())

    def _start(self, number: int, agent: Agent) -> None:
        task = self._cluster.launch(self._framework, self._specs[number], agent)
        if is_dual(number):
            # The simulator's own dual tasks have a network of their own; these are on a host with both families.
            task.addresses = (*task.addresses, ("IPv6", f"fd00::{agent.number + 1:x}"))
        self._cluster.update(task, "TASK_STARTING")
        self._cluster.update(task, "TASK_RUNNING")
        self._running.append((number, task))


class Control:
    """What the measurements ask of the cluster, over the master's HTTP server."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.sim: SimulatedCluster | None = None
        self.apps: Apps | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serves what is below /simulate/."""
        if self.sim is None or self.apps is None:
            return web.json_response({"error": "not populated yet"}, status=503)
        if request.path == "/simulate/churn" and request.method == "POST":
            self.rate = float((await request.json())["rate"])
        elif request.path == "/simulate/cut" and request.method == "POST":
            for master in self.sim.masters:
                master.stream.abort()
        elif request.path != "/simulate/stats":
            return web.json_response({"error": "no such thing"}, status=404)
        streams = [master.stream for master in self.sim.masters]
        stats = {
            "changes": self.apps.changes,
            "events": sum(stream.events_sent for stream in streams),
            "subscribers": sum(stream.count for stream in streams),
        }
        return web.json_response(stats)

    async def churn(self) -> None:
        """Changes at the rate that was asked for last, evenly; for ever."""
        owed, last = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            owed, last = (owed + (now - last) * self.rate if self.rate else 0.0), now
            for _ in range(int(owed)):
                if self.apps is not None:
                    self.apps.step()
            owed -= int(owed)


async def run(agents: int, tasks: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    control = Control()
    sim = SimulatedCluster(extra=control.handle)
    control.apps = Apps(sim.cluster, agents, tasks)
    gc.collect()
    gc.freeze()  # a hundred thousand tasks looked through by each collection would stall the loop
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with sim:
        control.sim = sim
        work = asyncio.create_task(control.churn())
        print(json.dumps({"master": sim.masters[0].url, "agents": agents, "tasks": tasks}), flush=True)
        await stop.wait()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description="a simulated Mesos cluster for the DNS measurements")
    parser.add_argument("--agents", type=int, required=True, metavar="N")
    parser.add_argument("--tasks", type=int, required=True, metavar="M")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.agents, arguments.tasks))


if __name__ == "__main__":
    main()
