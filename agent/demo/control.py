"""POST /simulate/change on a simulated master: one change of the cluster, asked for by a test or benchmark.

The body is JSON, `op` one of:

    launch     an instance more of `app` (made when there is none of that id; some app when not given)
    kill       the task `task`, or an instance of `app`, or some task
    health     `healthy` for the task
    agent_unreachable, agent_returns, agent_removed, agent_gone   the agent `agent`
    fail_over  master number `to` leads; agents come back with return_all
    return_all frameworks and agents register with the new leader

The answer says when the change happened (`t`, epoch seconds, taken just before its first event),
and of a task its id, name, framework, agent, addresses and ports. GET /simulate/stats counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from agent.demo import v1
from agent.demo.marathon import Marathon
from agent.demo.marathon_apps import App
from agent.demo.population import app_definition, kill_one, start_one
from agent.demo.simulation import SimulatedCluster
from agent.demo.world import Agent, Task

Json = dict[str, Any]


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """A change that is asked for."""

    op: str
    app: str = ""
    task: str = ""
    agent: str = ""
    healthy: bool = True
    to: int = 0


class Refused(ValueError):
    """A change that can't be made; the text says why."""


class Control:
    """Carries out changes. `attach` gives it the cluster, which is made after it."""

    def __init__(self) -> None:
        self._sim: SimulatedCluster | None = None
        self._marathon: Marathon | None = None
        self._turn = 0
        self._agent_ops: dict[str, Callable[[Agent], None]] = {}

    def attach(self, sim: SimulatedCluster, marathon: Marathon) -> None:
        """What it changes."""
        self._sim, self._marathon = sim, marathon
        cluster = sim.cluster
        self._agent_ops = {
            "agent_unreachable": cluster.agent_unreachable,
            "agent_returns": cluster.agent_returns,
            "agent_removed": cluster.remove_agent,
            "agent_gone": cluster.agent_gone,
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serves what is below /simulate/."""
        if self._sim is None or self._marathon is None:
            return _json(503, {"error": "not populated yet"})
        if request.path == "/simulate/stats":
            return _json(200, self._stats(self._sim))
        if request.path != "/simulate/change" or request.method != "POST":
            return _json(404, {"error": "POST /simulate/change or GET /simulate/stats"})
        try:
            change = msgspec.json.decode(await request.read(), type=Change)
            return _json(200, await self._carry_out(self._sim, self._marathon, change))
        except (msgspec.DecodeError, Refused) as error:
            return _json(400, {"error": str(error)})

    def _stats(self, sim: SimulatedCluster) -> Json:
        return {
            "tasks": len(sim.cluster.tasks),
            "agents": len(sim.cluster.agents),
            "events": sum(master.stream.events_sent for master in sim.masters),
            "subscribers": sum(master.stream.count for master in sim.masters),
        }

    async def _carry_out(self, sim: SimulatedCluster, marathon: Marathon, change: Change) -> Json:
        now = time.time()
        if change.op == "launch":
            return _told(now, start_one(marathon, self._app(marathon, change.app, create=True)))
        if change.op in ("kill", "health"):
            app, task_id = self._task(marathon, change)
            if change.op == "kill":
                return _told(now, kill_one(marathon, app, task_id))
            marathon.set_health(app.instances[task_id], change.healthy)
            return _told(now, app.instances[task_id].task)
        if change.op in self._agent_ops:
            agent = sim.cluster.agents.get(change.agent)
            if agent is None:
                raise Refused(f"agent: no agent {change.agent!r}")
            self._agent_ops[change.op](agent)
        elif change.op == "fail_over":
            if not 0 <= change.to < len(sim.masters):
                raise Refused(f"to: no master number {change.to}, there are {len(sim.masters)}")
            await sim.fail_over(change.to)
        elif change.op == "return_all":
            sim.cluster.return_all()
        else:
            raise Refused(f"op: {change.op!r} is none of those that there are")
        return {"t": now}

    def _app(self, marathon: Marathon, name: str, *, create: bool = False) -> App:
        if name:
            app = marathon.apps.get(name)
            if app is None and create:
                return marathon.create_now({**app_definition(0, 0), "id": name})
            if app is None:
                raise Refused(f"app: no app {name!r}")
            return app
        if not marathon.apps:
            raise Refused("app: there is none")
        names = list(marathon.apps)
        self._turn += 7919  # a prime: spreads over the apps
        return marathon.apps[names[self._turn % len(names)]]

    def _task(self, marathon: Marathon, change: Change) -> tuple[App, str]:
        if change.task:
            found = marathon.by_task.get(change.task)
            if found is None:
                raise Refused(f"task: Marathon has no task {change.task!r}")
            return found, change.task
        app = self._app(marathon, change.app)
        if not app.instances:
            raise Refused(f"app: {app.definition.id!r} has no instance")
        return app, next(iter(app.instances))


def _told(now: float, task: Task) -> Json:
    return {
        "t": now,
        "task": task.id,
        "name": task.spec.name,
        "framework": task.framework.name,
        "agent": task.agent.id,
        "agent_address": task.agent.address,
        "address": task.addresses[0][1],
        "addresses": [address for _, address in task.addresses],
        "endpoints": [{"address": address, "port": port} for address, port in task.endpoints],
    }


def _json(status: int, data: Json) -> web.Response:
    return web.Response(status=status, body=v1.encode(data), content_type="application/json")
