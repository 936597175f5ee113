"""The operator API's JSON (v1) of simulated agents, frameworks and tasks, as a real master writes it.

Every function gives plain dicts in the field order of the recordings; nothing here keeps state.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agent.demo.spec import Check, Network
from agent.demo.world import FIRST_PORT, LAST_PORT, Agent, Framework, Status, Task, Usage

Json = dict[str, Any]

VERSION = "1.12.0"
GIT_SHA = "c1b42f79d157aa900be5cbb0c1023f1479962aa7"
AGENT_CPUS, AGENT_MEM, AGENT_DISK = 64.0, 65536.0, 65536.0
AGENT_CAPABILITIES = (
    "MULTI_ROLE",
    "HIERARCHICAL_ROLE",
    "RESERVATION_REFINEMENT",
    "RESOURCE_PROVIDER",
    "RESIZE_VOLUME",
    "AGENT_OPERATION_FEEDBACK",
    "AGENT_DRAINING",
    "TASK_RESOURCE_LIMITS",
)
NETWORK_NAMES = {
    Network.BRIDGE: "mesos-bridge",
    Network.DOCKER: "bridge",
    Network.CONTAINER: "dcos",
    Network.DUAL: "dcos6",
}
encode = msgspec.json.Encoder().encode


def _scalar(name: str, value: float, **more: Any) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def _ranges(ranges: list[tuple[int, int]], **more: Any) -> Json:
    return {
        "name": "ports",
        "type": "RANGES",
        "ranges": {"range": [{"begin": begin, "end": end} for begin, end in ranges]},
        **more,
    }


def _agent_resources(**more: Any) -> list[Json]:
    return [
        _scalar("cpus", AGENT_CPUS, **more),
        _scalar("mem", AGENT_MEM, **more),
        _scalar("disk", AGENT_DISK, **more),
        _ranges([(FIRST_PORT, LAST_PORT)], **more),
    ]


def allocated(usage: Usage) -> list[Json]:
    """Allocated resources; ports only where any are taken."""
    more: Json = {"role": "*", "allocation_info": {"role": "*"}}
    found = [_scalar("cpus", round(usage.cpus, 3), **more), _scalar("mem", round(usage.mem, 3), **more)]
    if usage.ports:
        found.append(_ranges(usage.ranges(), **more))
    return found


def nanoseconds(time_ns: int) -> Json:
    """A TimeInfo."""
    return {"nanoseconds": time_ns}


def domain(agent_number: int) -> Json:
    """A fault domain: three zones in turn."""
    return {"fault_domain": {"region": {"name": "region1"}, "zone": {"name": f"z{agent_number % 3 + 1}"}}}


def agent_info(agent: Agent, checkpoint: bool = True) -> Json:
    """An AgentInfo. Agents that came back after a fail-over are written without `checkpoint`."""
    info = {
        "hostname": agent.hostname,
        "port": agent.port,
        "resources": _agent_resources(),
        "attributes": [{"name": k, "type": "TEXT", "text": {"value": v}} for k, v in agent.attributes.items()],
        "id": {"value": agent.id},
        "domain": domain(agent.number),
    }
    if not agent.attributes:
        del info["attributes"]
    if checkpoint:
        info["checkpoint"] = True
    return info


def agent_pid(agent: Agent) -> str:
    """libprocess' address of an agent, always with its IP address."""
    return f"slave(1)@{agent.address}:{agent.port}"


def agent(agent: Agent) -> Json:
    """An agent as in GET_AGENTS and AGENT_ADDED."""
    found: Json = {
        "agent_info": agent_info(agent, checkpoint=not agent.reregistered_ns),
        "active": not agent.deactivated,
        "deactivated": agent.deactivated,
        "version": VERSION,
        "pid": agent_pid(agent),
        "registered_time": nanoseconds(agent.registered_ns),
    }
    if agent.reregistered_ns:
        found["reregistered_time"] = nanoseconds(agent.reregistered_ns)
    found["total_resources"] = _agent_resources(role="*")
    if agent.usage.tasks:
        found["allocated_resources"] = allocated(agent.usage)
    found["capabilities"] = [{"type": name} for name in AGENT_CAPABILITIES]
    return found


def framework_info(framework: Framework) -> Json:
    """A FrameworkInfo; what is empty is left out."""
    info: Json = {
        "user": framework.user,
        "name": framework.name,
        "id": {"value": framework.id},
        "failover_timeout": framework.failover_timeout,
        "checkpoint": True,
    }
    if "MULTI_ROLE" in framework.capabilities:
        info["roles"] = ["*"]
    info["hostname"] = framework.hostname
    if framework.principal:
        info["principal"] = framework.principal
    if framework.webui_url:
        info["webui_url"] = framework.webui_url
    if framework.capabilities:
        info["capabilities"] = [{"type": name} for name in framework.capabilities]
    return info


def framework_event(framework: Framework) -> Json:
    """A framework as in FRAMEWORK_ADDED and FRAMEWORK_UPDATED."""
    return {
        "framework_info": framework_info(framework),
        "active": framework.connected,
        "connected": framework.connected,
        "recovered": framework.recovered,
        "registered_time": nanoseconds(framework.registered_ns),
        "reregistered_time": nanoseconds(framework.reregistered_ns),
        "unregistered_time": nanoseconds(framework.unregistered_ns),
    }


def framework(framework: Framework) -> Json:
    """A framework as in GET_FRAMEWORKS: no unregistered_time while it lives, but what it uses."""
    found = framework_event(framework)
    if not framework.unregistered_ns:
        del found["unregistered_time"]
    if framework.usage.tasks:
        found["allocated_resources"] = allocated(framework.usage)
    found["offer_constraints"] = {}
    return found


def labels(pairs: dict[str, str]) -> Json:
    """A Labels message."""
    return {"labels": [{"key": key, "value": value} for key, value in pairs.items()]}


def network_infos(task: Task) -> list[Json]:
    """The container's addresses as its statuses carry them."""
    info: Json = {"ip_addresses": [{"protocol": kind, "ip_address": address} for kind, address in task.addresses]}
    name = NETWORK_NAMES.get(task.spec.network)
    if name:
        info["name"] = name
    return [info]


def discovery(task: Task) -> Json:
    """A DiscoveryInfo: host ports where the agent's are taken, the container's own otherwise."""
    spec = task.spec
    on_host = spec.network.maps_host_ports
    scope = "host" if on_host else "container"
    ports = [
        {
            "number": task.host_ports[i] if on_host else port.number,
            "name": port.name,
            "protocol": port.protocol,
            "labels": labels({**port.labels, "network-scope": scope}),
        }
        for i, port in enumerate(spec.ports)
    ]
    return {"visibility": spec.visibility, "name": spec.name, "ports": {"ports": ports} if ports else {}}


def container(task: Task) -> Json | None:
    """A ContainerInfo; None on the host's network."""
    spec = task.spec
    if spec.network is Network.HOST:
        return None
    mappings = [
        {"host_port": host, "container_port": port.number, "protocol": "udp" if port.protocol == "udp" else "tcp"}
        for host, port in zip(task.host_ports, spec.ports, strict=False)
    ]
    if spec.network is Network.DOCKER:
        docker: Json = {"image": spec.image, "network": "BRIDGE"}
        if mappings:
            docker["port_mappings"] = mappings
        return {"type": "DOCKER", "docker": docker | {"privileged": False, "force_pull_image": False}}
    info: Json = {"name": NETWORK_NAMES[spec.network]}
    if spec.network is Network.BRIDGE and mappings:
        info["port_mappings"] = mappings
    return {"type": "MESOS", "mesos": {}, "network_infos": [info]}


def health_check(task: Task) -> Json | None:
    """A HealthCheck against the first port; None where none is defined."""
    spec = task.spec
    if spec.check is Check.NONE:
        return None
    found: Json = {
        "delay_seconds": 0.5,
        "interval_seconds": 1.0,
        "timeout_seconds": 2.0,
        "consecutive_failures": 40,
        "grace_period_seconds": 5.0,
        "type": spec.check.value,
    }
    port = task.endpoints[0][1] if task.endpoints else 0
    if spec.check is Check.HTTP:
        found["http"] = {"protocol": "IPv4", "scheme": "http", "port": port, "path": "/health", "statuses": [200]}
    elif spec.check is Check.TCP:
        found["tcp"] = {"protocol": "IPv4", "port": port}
    else:
        found["command"] = {"shell": True, "value": "true"}
    return found


def status(task: Task, status: Status) -> Json:
    """A TaskStatus of an executor or, without container and executor, of the master."""
    found: Json = {"task_id": {"value": task.id}, "state": status.state}
    if status.message:
        found["message"] = status.message
    found["source"] = "SOURCE_EXECUTOR" if status.by_executor else "SOURCE_MASTER"
    if status.reason:
        found["reason"] = status.reason
    found["agent_id"] = {"value": task.agent.id}
    if status.by_executor:
        found["executor_id"] = {"value": task.id}
    found["timestamp"] = status.timestamp
    if status.uuid:
        found["uuid"] = status.uuid
    if status.healthy is not None:
        found["healthy"] = status.healthy
    if status.by_executor:
        found["container_status"] = {
            "container_id": {"value": task.container_id},
            "network_infos": network_infos(task),
            "executor_pid": task.pid,
        }
    if status.unreachable_ns:
        found["unreachable_time"] = nanoseconds(status.unreachable_ns)
    return found


def task_resources(task: Task) -> list[Json]:
    """What a task takes."""
    more: Json = {"allocation_info": {"role": "*"}}
    found = [_scalar("cpus", task.spec.cpus, **more), _scalar("mem", task.spec.mem, **more)]
    if task.host_ports:
        found.append(_ranges([(port, port) for port in task.host_ports], **more))
    return found


def task(task: Task) -> Json:
    """A task as in GET_TASKS and TASK_ADDED."""
    found: Json = {
        "name": task.spec.name,
        "task_id": {"value": task.id},
        "framework_id": {"value": task.framework.id},
        "agent_id": {"value": task.agent.id},
        "state": task.state,
        "resources": task_resources(task),
    }
    if task.statuses:
        found["statuses"] = [status(task, kept) for kept in task.statuses]
    if task.last_update:
        found["status_update_state"], found["status_update_uuid"] = task.last_update
    if task.spec.labels:
        found["labels"] = labels(task.spec.labels)
    if task.spec.discovery:
        found["discovery"] = discovery(task)
    run_in = container(task)
    if run_in is not None:
        found["container"] = run_in
    check = health_check(task)
    if check is not None:
        found["health_check"] = check
    return found


def task_json(task_: Task) -> bytes:
    """The task's JSON, made once and kept until it changes."""
    if task_.v1_json is None:
        task_.v1_json = encode(task(task_))
    return task_.v1_json


def agent_json(agent_: Agent) -> bytes:
    """The agent's JSON, made once and kept until it changes."""
    if agent_.v1_json is None:
        agent_.v1_json = encode(agent(agent_))
    return agent_.v1_json
