"""The operator API's JSON has only what a real master's has, path by path and type by type."""

from __future__ import annotations

import json
from typing import Any

from agent.demo import v1
from agent.demo.body import Body
from agent.demo.cluster import Cluster, Event
from agent.demo.documents import state_v1
from agent.demo.spec import Check, Network, PortSpec, TaskSpec
from tests.unit.agent.demo.samples import every_kind_of_task
from tests.unit.agent.demo.shapes import recording, shape, stream, unknown

STATES = ["", "_variants", "_unreachable", "_after_failover", "_torn_down"]


def recorded_states() -> list[Any]:
    found = [recording(f"v1_get_state{name}.json.gz")["get_state"] for name in STATES]
    return found + [event["subscribed"]["get_state"] for event in recorded_events("SUBSCRIBED")]


def recorded_events(kind: str = "") -> list[Event]:
    events = [event for name in ("main", "extras", "variants") for event in stream(name)]
    return [event for event in events if not kind or event["type"] == kind]


def state(cluster: Cluster) -> dict[str, Any]:
    out = Body()
    state_v1(cluster, out)
    found: dict[str, Any] = json.loads(out.whole())
    return found


def with_tasks_merged(states: list[Any]) -> list[Any]:
    """A recorded task shape holds for running, unreachable and completed tasks alike."""
    merged = []
    for found in states:
        tasks = [task for kind in found["get_tasks"].values() for task in kind]
        merged.append({**found, "get_tasks": dict.fromkeys(found["get_tasks"], tasks)})
    return merged


def test_get_state_has_only_recorded_shapes(busy: Cluster) -> None:
    recorded = shape(*with_tasks_merged(recorded_states()))
    assert not unknown(shape(*with_tasks_merged([state(busy)])), recorded)


def test_get_state_after_a_fail_over_has_only_recorded_shapes(busy: Cluster) -> None:
    busy.fail_over(agents=0, frameworks=1)
    recorded = shape(*with_tasks_merged(recorded_states()))
    found = state(busy)
    assert found["get_agents"]["recovered_agents"]
    assert not unknown(shape(found), recorded)
    busy.return_all()
    assert not unknown(shape(*with_tasks_merged([state(busy)])), recorded)


def test_every_list_that_a_recording_fills_is_filled(busy: Cluster) -> None:
    tasks = state(busy)["get_tasks"]
    assert tasks["tasks"]
    assert tasks["unreachable_tasks"]
    assert tasks["completed_tasks"]


def test_events_have_only_recorded_shapes(cluster: Cluster, events: list[Event]) -> None:
    marathon, legacy = cluster.frameworks.values()
    here, there = cluster.agents.values()
    for spec in every_kind_of_task():
        task = cluster.start(marathon, spec, there)
        if spec.check:
            cluster.health(task, False)
    cluster.start(legacy, TaskSpec("old"), there)
    cluster.agent_unreachable(there)
    cluster.agent_returns(there)
    cluster.drain_agent(there)
    cluster.start(marathon, TaskSpec("x"), here)
    cluster.update_framework(marathon)
    cluster.remove_agent(here)
    cluster.remove_framework(marathon)
    cluster.add_framework("third", principal="p", webui_url="http://127.0.0.1:1")
    kinds = {event["type"] for event in events}
    assert kinds == {event["type"] for event in recorded_events()} - {"SUBSCRIBED", "HEARTBEAT"}
    snapshots = with_tasks_merged(recorded_states())
    tasks = [task for found in snapshots for task in found["get_tasks"]["tasks"]]
    for kind in kinds:
        recorded: list[Any] = recorded_events(kind)
        if kind == "TASK_ADDED":  # an added task is a task: what snapshots show of one, it may show
            recorded += [{"type": kind, "task_added": {"task": task}} for task in tasks]
        simulated = shape(*[event for event in events if event["type"] == kind])
        assert not unknown(simulated, shape(*recorded)), kind


def test_no_recorded_field_of_a_plain_running_task_is_missing(cluster: Cluster) -> None:
    """The web task of the recording: host ports, VIP labels, HTTP check, healthy."""
    web = next(
        task
        for task in recording("v1_get_state.json.gz")["get_state"]["get_tasks"]["tasks"]
        if task["name"] == "web.group"
    )
    ports = (PortSpec("http", labels={"VIP_0": "/group/web:80"}), PortSpec("stats", protocol="udp"))
    spec = TaskSpec("web.group", ports=ports, labels={"team": "alpha"}, check=Check.HTTP)
    task = cluster.start(next(iter(cluster.frameworks.values())), spec, next(iter(cluster.agents.values())))
    cluster.health(task, True)
    assert shape(json.loads(v1.task_json(task))) == shape(web)


def test_network_modes_give_the_recorded_container_and_addresses(cluster: Cluster) -> None:
    recorded = {
        task["name"]: task for task in recording("v1_get_state_variants.json.gz")["get_state"]["get_tasks"]["tasks"]
    }
    names = {
        Network.BRIDGE: "bridge.mapped",
        Network.DOCKER: "docker.like",
        Network.DUAL: "dual.stack",
    }
    for network, name in names.items():
        port = PortSpec("http", 80, labels={"VIP_0": "/x:80"})
        spec = TaskSpec(name, ports=(port,), network=network)
        task = cluster.start(next(iter(cluster.frameworks.values())), spec, next(iter(cluster.agents.values())))
        found, real = json.loads(v1.task_json(task)), recorded[name]
        assert shape(found["container"]) == shape(real["container"]), name
        infos = [thing["statuses"][-1]["container_status"]["network_infos"] for thing in (found, real)]
        assert shape(infos[0]) == shape(infos[1]), name
        assert [info["name"] for info in infos[0]] == [info["name"] for info in infos[1]], name


def test_json_is_made_once_until_the_task_changes(cluster: Cluster) -> None:
    marathon, agent = next(iter(cluster.frameworks.values())), next(iter(cluster.agents.values()))
    task = cluster.start(marathon, TaskSpec("web"), agent)
    first = v1.task_json(task)
    assert v1.task_json(task) is first
    cluster.health(task, False)
    assert json.loads(v1.task_json(task))["statuses"][-1]["healthy"] is False
