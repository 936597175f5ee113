"""The old HTTP endpoints' JSON (/state, /slaves, /frameworks, /state-summary) of the simulated cluster.

Differences to v1: flat ids, labels as a plain list, resources as one object with ports as text,
statuses without reason, source and uuid.
"""

from __future__ import annotations

from typing import Any

from agent.demo import v1
from agent.demo.world import FIRST_PORT, LAST_PORT, STATES, Agent, Framework, Status, Task, Usage

Json = dict[str, Any]
BUILD: Json = {
    "version": v1.VERSION,
    "git_sha": v1.GIT_SHA,
    "git_branch": "refs/heads/master",
    "build_date": "2024",
    "build_time": 0.0,
    "build_user": "root",
}
MASTER_CAPABILITIES = ("AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2")
_NOTHING: Json = {"disk": 0.0, "mem": 0.0, "gpus": 0.0, "cpus": 0.0}


def seconds(time_ns: int) -> float:
    """Nanoseconds as the endpoints write times: seconds with microseconds."""
    return round(time_ns / 1e9, 6)


def resources(usage: Usage) -> Json:
    """Used resources; `ports` only where any are taken."""
    found = {**_NOTHING, "mem": round(usage.mem, 3), "cpus": round(usage.cpus, 3)}
    if usage.ports:
        found["ports"] = "[" + ", ".join(f"{begin}-{end}" for begin, end in usage.ranges()) + "]"
    return found


def _agent_total() -> Json:
    ports = f"[{FIRST_PORT}-{LAST_PORT}]"
    return {"disk": v1.AGENT_DISK, "mem": v1.AGENT_MEM, "gpus": 0.0, "cpus": v1.AGENT_CPUS, "ports": ports}


def recovered_agent(agent: Agent) -> Json:
    """An entry of recovered_slaves."""
    return {
        "id": agent.id,
        "hostname": agent.hostname,
        "port": agent.port,
        "attributes": dict(agent.attributes),
        "domain": v1.domain(agent.number),
    }


def agent(agent: Agent) -> Json:
    """An agent as in /state."""
    found = recovered_agent(agent) | {"pid": v1.agent_pid(agent), "registered_time": seconds(agent.registered_ns)}
    if agent.reregistered_ns:
        found["reregistered_time"] = seconds(agent.reregistered_ns)
    return found | {
        "resources": _agent_total(),
        "used_resources": resources(agent.usage),
        "offered_resources": dict(_NOTHING),
        "reserved_resources": {},
        "unreserved_resources": _agent_total(),
        "active": not agent.deactivated,
        "deactivated": agent.deactivated,
        "version": v1.VERSION,
        "capabilities": list(v1.AGENT_CAPABILITIES),
    }


def agent_full(found: Agent) -> Json:
    """An agent as in /slaves: with resources in full."""
    return agent(found) | {
        "reserved_resources_full": {},
        "unreserved_resources_full": v1.agent(found)["total_resources"],
        "used_resources_full": v1.allocated(found.usage) if found.usage.tasks else [],
        "offered_resources_full": [],
    }


def state_counts(tasks: dict[str, int]) -> Json:
    """The TASK_* counters of /state-summary."""
    return {state: tasks.get(state, 0) for state in STATES}


def framework_summary(framework: Framework) -> Json:
    """What /state-summary and /state say alike of a framework."""
    return {
        "id": framework.id,
        "name": framework.name,
        "used_resources": resources(framework.usage),
        "offered_resources": dict(_NOTHING),
        "capabilities": list(framework.capabilities),
        "hostname": framework.hostname,
        "webui_url": framework.webui_url,
        "active": framework.connected,
        "connected": framework.connected,
        "recovered": framework.recovered,
    }


def framework(framework: Framework) -> Json:
    """A framework as in /state, without its lists of tasks."""
    found = framework_summary(framework) | {
        "user": framework.user,
        "failover_timeout": framework.failover_timeout,
        "checkpoint": True,
        "registered_time": seconds(framework.registered_ns),
        "unregistered_time": seconds(framework.unregistered_ns),
    }
    if framework.principal:
        found["principal"] = framework.principal
    found["resources"] = resources(framework.usage)
    if framework.reregistered_ns != framework.registered_ns:
        found["reregistered_time"] = seconds(framework.reregistered_ns)
    if "MULTI_ROLE" in framework.capabilities:
        found["roles"] = ["*"]
    else:
        found["role"] = "*"
    return found | {"offers": [], "executors": [], "offer_constraints": {}}


def status(task: Task, status: Status) -> Json:
    """A status: state, time, container, health."""
    found: Json = {"state": status.state, "timestamp": status.timestamp}
    if status.by_executor:
        found["container_status"] = {
            "container_id": {"value": task.container_id},
            "network_infos": v1.network_infos(task),
        }
    if status.healthy is not None:
        found["healthy"] = status.healthy
    return found


def task(task: Task) -> Json:
    """A task as in /state."""
    usage = Usage()
    usage.add(task.spec, task.host_ports)
    found: Json = {
        "id": task.id,
        "name": task.spec.name,
        "framework_id": task.framework.id,
        "executor_id": "",
        "slave_id": task.agent.id,
        "state": task.state,
        "resources": resources(usage),
        "role": "*",
        "statuses": [status(task, kept) for kept in task.statuses],
    }
    if task.spec.labels:
        found["labels"] = [{"key": key, "value": value} for key, value in task.spec.labels.items()]
    if task.spec.discovery:
        found["discovery"] = v1.discovery(task)
    run_in = v1.container(task)
    if run_in is not None:
        found["container"] = run_in
    check = v1.health_check(task)
    if check is not None:
        found["health_check"] = check
    return found


def task_json(found: Task) -> bytes:
    """The task's JSON, made once and kept until it changes."""
    if found.state_json is None:
        found.state_json = v1.encode(task(found))
    return found.state_json
