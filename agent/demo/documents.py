"""The answers of the leading master as documents: GET_STATE and its parts, /state and its parts.

Tasks and agents are encoded in slices first, without blocking the loop; the document itself is then
taken in one go, so that it is of one moment and the events that come later apply to it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from agent.demo import body, v0, v1
from agent.demo.body import Body
from agent.demo.cluster import Cluster
from agent.demo.world import Agent, Framework

Json = dict[str, Any]


class MasterFacts(msgspec.Struct, frozen=True):
    """What a master says of itself."""

    id: str
    ip: str
    port: int
    start_time: float
    cluster: str = "simulated"

    @property
    def pid(self) -> str:
        """libprocess' address."""
        return f"master@{self.ip}:{self.port}"


def _known(cluster: Cluster) -> list[Framework]:
    return [framework for framework in cluster.frameworks.values() if framework.known]


async def prepare_v1(cluster: Cluster) -> None:
    """Have the v1 JSON of every task and agent ready."""
    await body.encoded(cluster.tasks.values(), v1.task_json)
    await body.encoded(cluster.agents.values(), v1.agent_json)


def _tasks_v1(cluster: Cluster, out: Body) -> None:
    out.text(b'{"tasks":[')
    out.items([task.v1_json or v1.task_json(task) for task in cluster.tasks.values() if task.agent.registered])
    frameworks = _known(cluster)
    out.text(b'],"unreachable_tasks":[')
    out.items([v1.task_json(task) for framework in frameworks for task in framework.unreachable.values()])
    out.text(b'],"completed_tasks":[')
    owners = frameworks + cluster.completed_frameworks
    out.items([v1.task_json(task) for framework in owners for task in framework.completed])
    out.text(b"]}")


def _agents_v1(cluster: Cluster, out: Body) -> None:
    out.text(b'{"agents":[')
    out.items([v1.agent_json(agent) for agent in cluster.agents.values() if agent.heard])
    out.text(b'],"recovered_agents":[')
    out.items([v1.encode(v1.agent_info(agent)) for agent in cluster.agents.values() if not agent.registered])
    out.text(b"]}")


def _frameworks_v1(cluster: Cluster, out: Body) -> None:
    out.text(b'{"frameworks":[')
    out.items([v1.encode(v1.framework(framework)) for framework in _known(cluster)])
    out.text(b'],"completed_frameworks":[')
    out.items([v1.encode(v1.framework(framework)) for framework in cluster.completed_frameworks])
    out.text(b"]}")


def state_v1(cluster: Cluster | None, out: Body) -> None:
    """The value of get_state. Without a cluster: that of a master that knows nothing."""
    if cluster is None:
        out.text(
            b'{"get_tasks":{"tasks":[],"unreachable_tasks":[],"completed_tasks":[]},'
            b'"get_executors":{"executors":[]},"get_frameworks":{"frameworks":[],"completed_frameworks":[]},'
            b'"get_agents":{"agents":[],"recovered_agents":[]}}'
        )
        return
    out.text(b'{"get_tasks":')
    _tasks_v1(cluster, out)
    out.text(b',"get_executors":{"executors":[]},"get_frameworks":')
    _frameworks_v1(cluster, out)
    out.text(b',"get_agents":')
    _agents_v1(cluster, out)
    out.text(b"}")


def subscribed(cluster: Cluster | None, heartbeat: float) -> Body:
    """The SUBSCRIBED record without its length."""
    out = Body()
    out.text(b'{"type":"SUBSCRIBED","subscribed":{"get_state":')
    state_v1(cluster, out)
    out.text(b',"heartbeat_interval_seconds":' + v1.encode(float(heartbeat)) + b"}}")
    return out


def call(cluster: Cluster, facts: MasterFacts, kind: str) -> Body | None:
    """The answer to a v1 call without parameters; None when the simulation doesn't know it."""
    out = Body()
    out.text(b'{"type":"%s","%s":' % (kind.encode(), kind.lower().encode()))
    large = {"GET_STATE": state_v1, "GET_TASKS": _tasks_v1, "GET_AGENTS": _agents_v1, "GET_FRAMEWORKS": _frameworks_v1}
    if kind in large:
        large[kind](cluster, out)
    else:
        small = _small_call(cluster, facts, kind)
        if small is None:
            return None
        out.text(v1.encode(small))
    out.text(b"}")
    return out


def _small_call(cluster: Cluster, facts: MasterFacts, kind: str) -> Json | None:
    if kind == "GET_HEALTH":
        return {"healthy": True}
    if kind == "GET_VERSION":
        return {"version_info": dict(v0.BUILD)}
    if kind == "GET_EXECUTORS":
        return {"executors": []}
    if kind == "GET_OPERATIONS":
        return {}
    if kind == "GET_MASTER":
        return {
            "master_info": {
                "id": facts.id,
                "ip": int.from_bytes(bytes(int(octet) for octet in facts.ip.split(".")), "little"),
                "port": facts.port,
                "pid": facts.pid,
                "hostname": facts.ip,
                "version": v1.VERSION,
                "address": {"hostname": facts.ip, "ip": facts.ip, "port": facts.port},
                "domain": v1.domain(0),
                "capabilities": [{"type": name} for name in v0.MASTER_CAPABILITIES],
            },
            "start_time": facts.start_time,
            "elected_time": cluster.elected_time,
        }
    return None


def _master_v0(cluster: Cluster, facts: MasterFacts) -> Json:
    agents = cluster.agents.values()
    return v0.BUILD | {
        "start_time": facts.start_time,
        "elected_time": cluster.elected_time,
        "id": facts.id,
        "pid": facts.pid,
        "hostname": facts.ip,
        "capabilities": list(v0.MASTER_CAPABILITIES),
        "activated_slaves": float(sum(agent.heard and not agent.deactivated for agent in agents)),
        "deactivated_slaves": float(sum(agent.heard and agent.deactivated for agent in agents)),
        "unreachable_slaves": float(sum(agent.unreachable for agent in agents)),
        "domain": v1.domain(0),
        "leader": facts.pid,
        "leader_info": {
            "id": facts.id,
            "pid": facts.pid,
            "port": facts.port,
            "hostname": facts.ip,
            "domain": v1.domain(0),
        },
        "cluster": facts.cluster,
        "flags": {"cluster": facts.cluster, "ip": facts.ip, "port": str(facts.port)},
    }


def _framework_v0(framework: Framework, out: Body) -> None:
    out.text(v1.encode(v0.framework(framework))[:-1] + b',"tasks":[')
    out.items([task.state_json or v0.task_json(task) for task in framework.tasks.values() if task.agent.registered])
    out.text(b'],"unreachable_tasks":[')
    out.items([v0.task_json(task) for task in framework.unreachable.values()])
    out.text(b'],"completed_tasks":[')
    out.items([v0.task_json(task) for task in framework.completed])
    out.text(b"]}")


def _list_of_frameworks(name: bytes, frameworks: list[Framework], out: Body) -> None:
    out.text(b'"%s":[' % name)
    for number, framework in enumerate(frameworks):
        out.text(b"," if number else b"")
        _framework_v0(framework, out)
    out.text(b"]")


async def state(cluster: Cluster | None, facts: MasterFacts) -> Body:
    """/state. Without a cluster: that of a master that knows nothing."""
    cluster = cluster or Cluster(now=lambda: facts.start_time)
    await body.encoded(cluster.tasks.values(), v0.task_json)
    agents = await body.encoded([agent for agent in cluster.agents.values() if agent.heard], _agent_v0)
    out = Body()
    out.text(v1.encode(_master_v0(cluster, facts))[:-1] + b',"slaves":[')
    out.items(agents)
    out.text(b'],"recovered_slaves":')
    out.text(v1.encode([v0.recovered_agent(agent) for agent in cluster.agents.values() if not agent.registered]) + b",")
    _list_of_frameworks(b"frameworks", _known(cluster), out)
    out.text(b",")
    _list_of_frameworks(b"completed_frameworks", cluster.completed_frameworks, out)
    out.text(b',"orphan_tasks":[],"unregistered_frameworks":[]}')
    return out


async def frameworks(cluster: Cluster) -> Body:
    """/frameworks."""
    await body.encoded(cluster.tasks.values(), v0.task_json)
    out = Body()
    out.text(b"{")
    _list_of_frameworks(b"frameworks", _known(cluster), out)
    out.text(b",")
    _list_of_frameworks(b"completed_frameworks", cluster.completed_frameworks, out)
    out.text(b',"unregistered_frameworks":[]}')
    return out


async def agents(cluster: Cluster) -> Body:
    """/slaves."""
    shown = await body.encoded([agent for agent in cluster.agents.values() if agent.heard], _agent_full_v0)
    out = Body()
    out.text(b'{"slaves":[')
    out.items(shown)
    out.text(b'],"recovered_slaves":')
    out.text(v1.encode([v0.recovered_agent(agent) for agent in cluster.agents.values() if not agent.registered]))
    out.text(b"}")
    return out


async def tasks(cluster: Cluster) -> Body:
    """/tasks."""
    await body.encoded(cluster.tasks.values(), v0.task_json)
    out = Body()
    out.text(b'{"tasks":[')
    out.items([v0.task_json(task) for task in cluster.tasks.values() if task.agent.registered])
    out.text(b"]}")
    return out


async def summary(cluster: Cluster, facts: MasterFacts) -> Body:
    """/state-summary."""
    shown = await body.encoded([agent for agent in cluster.agents.values() if agent.heard], _agent_summary)
    owners = await body.encoded(_known(cluster), _framework_summary)
    out = Body()
    out.text(v1.encode({"hostname": facts.ip, "cluster": facts.cluster})[:-1] + b',"slaves":[')
    out.items(shown)
    out.text(b'],"frameworks":[')
    out.items(owners)
    out.text(b"]}")
    return out


def _agent_v0(agent: Agent) -> bytes:
    return v1.encode(v0.agent(agent))


def _agent_full_v0(agent: Agent) -> bytes:
    return v1.encode(v0.agent_full(agent))


def _agent_summary(agent: Agent) -> bytes:
    counts = v0.state_counts(Counter(task.state for task in agent.tasks.values()))
    owners = sorted({task.framework.id for task in agent.tasks.values()})
    return v1.encode(v0.agent(agent) | counts | {"framework_ids": owners})


def _framework_summary(framework: Framework) -> bytes:
    tasks = [task for task in framework.tasks.values() if task.agent.registered]
    counts = v0.state_counts(Counter(task.state for task in tasks))
    homes = sorted({task.agent.id for task in tasks})
    return v1.encode(v0.framework_summary(framework) | counts | {"slave_ids": homes})
