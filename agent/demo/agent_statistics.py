"""What simulated agents say at /monitor/statistics of the CPU and memory that their tasks use.

In the shape that Mesos 1.12 was recorded with, by its posix isolators: a container has the executor's share of CPU and
memory beside what its task asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from agent.demo import v1
from agent.demo.cluster import Cluster
from agent.demo.world import Agent, Task

EXECUTOR_CPUS, EXECUTOR_MEM = 0.1, 32
"""Of each container; memory in MiB."""
MIB = 1024 * 1024


class AgentStatistics:
    """The agents of a cluster that answer. `add_agent` brings one; at the end `close`.

    `silent` are ids of agents that accept requests and never answer; what tasks use is told by `use`.
    """

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.time) -> None:
        self.cluster = cluster
        self.silent: set[str] = set()
        self.requests = 0
        self._clock = clock
        self._uses: dict[str, tuple[float, float]] = {}
        self._seconds: dict[str, tuple[float, float]] = {}
        self._runners: list[web.AppRunner] = []

    async def add_agent(self, address: str) -> Agent:
        """An agent at an address of this machine, on a free port of it. Raises OSError."""
        app = web.Application()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        made: list[Agent] = []

        async def statistics(request: web.Request) -> web.Response:
            self.requests += 1
            if made[0].id in self.silent:
                await asyncio.Event().wait()  # until the client leaves
            return web.Response(body=v1.encode(self.statistics(made[0])), content_type="application/json")

        app.router.add_get("/monitor/statistics", statistics)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, address, 0).start()
        made.append(self.cluster.add_agent(address, port=runner.addresses[0][1]))
        return made[0]

    def use(self, name: str, *, cpu: float = 0.0, memory: float = 0.0) -> None:
        """From now on a task (its id), or all of an app (their prefix, as "shop_web"), use these parts of what they
        have."""
        for task in self.cluster.tasks.values():
            self._spent(task)  # until now by what was said before
        self._uses[name] = (cpu, memory)

    def statistics(self, agent: Agent) -> list[dict[str, Any]]:
        """What an agent answers now."""
        return [self._container(task) for task in agent.tasks.values() if task.state == "TASK_RUNNING"]

    async def close(self) -> None:
        """Stop listening."""
        for runner in self._runners:
            await runner.cleanup()

    def _use(self, task: Task) -> tuple[float, float]:
        return self._uses.get(task.id) or self._uses.get(task.spec.prefix) or (0.0, 0.0)

    def _spent(self, task: Task) -> float:
        """Seconds of CPU until now."""
        now = self._clock()
        seconds, at = self._seconds.get(task.id, (0.0, now))
        seconds += self._use(task)[0] * (task.spec.cpus + EXECUTOR_CPUS) * max(0.0, now - at)
        self._seconds[task.id] = (seconds, now)
        return seconds

    def _container(self, task: Task) -> dict[str, Any]:
        spent, limit = self._spent(task), int((task.spec.mem + EXECUTOR_MEM) * MIB)
        return {
            "executor_id": task.id,
            "executor_name": f"Command Executor (Task: {task.id}) (Command: sh -c 'serve')",
            "framework_id": task.framework.id,
            "source": task.id,
            "statistics": {
                "cpus_soft_limit": task.spec.cpus + EXECUTOR_CPUS,
                "cpus_system_time_secs": spent / 4,
                "cpus_user_time_secs": spent * 3 / 4,
                "mem_limit_bytes": limit,
                "mem_rss_bytes": int(limit * self._use(task)[1]),
                "mem_soft_limit_bytes": limit,
                "timestamp": self._clock(),
            },
        }
