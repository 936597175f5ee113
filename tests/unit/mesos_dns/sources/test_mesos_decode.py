"""v1 JSON → the model: every field, updates, what is inherited, and how malformed entities are told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.model import Health, Network, Port, PortMapping, Task
from mesos_dns.sources import mesos_decode as v1
from mesos_dns.sources.mesos_tolerant import Malformed
from tests.fakes import mesos_master as master


def decode(value: object, lost: list[tuple[str, list[str]]] | None = None) -> Task:
    found = [] if lost is None else lost
    wired = v1.decode(v1.task_decoder, json.dumps(value).encode(), v1.WireTask, lambda *loss: found.append(loss))
    return v1.task(wired, "c", lambda *loss: found.append(loss))


FULL = master.task(
    1,
    labels={"labels": [{"key": "a", "value": "b"}, {"key": "c"}]},
    discovery={"name": "d", "visibility": "FRAMEWORK", "ports": {"ports": [{"number": 80, "name": "http"}]}},
    resources=[
        {"name": "cpus", "scalar": {"value": 1}},
        {"name": "ports", "ranges": {"range": [{"begin": 31001, "end": 31002}, {"begin": 31000, "end": 31000}]}},
        {"name": "ports", "ranges": {"range": [{"begin": 5, "end": 5}]}, "role": "x"},
    ],
    container={"type": "DOCKER"},
    health_check={"type": "HTTP"},
)


def test_every_field() -> None:
    assert decode(FULL) == Task(
        framework_id="F1",
        id="t1",
        name="app1",
        node_id="A1",
        state="TASK_RUNNING",
        health=Health.PENDING,
        labels=(("a", "b"), ("c", "")),
        discovery_name="d",
        visibility="FRAMEWORK",
        ports=(Port(80, "http"),),
        networks=(Network("", ("9.0.0.1",)),),
        host_ports=(31001, 31002, 31000, 5),
        runtime="docker",
        start_time=101.0,
        cluster="c",
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"labels": {"labels": "x"}}, "labels"),
        ({"labels": 7}, "labels"),
        ({"resources": {}}, "host_ports"),
        ({"discovery": {"name": 5}}, "discovery_name"),
        ({"discovery": {"name": "d", "ports": {"ports": [{"number": -1}]}}}, "ports"),
        ({"statuses": [{"timestamp": 5}]}, "networks"),
        ({"name": []}, "name"),
        ({"health_check": "yes"}, "health"),
    ],
)
def test_a_wrong_part_is_left_out_and_named(change: dict[str, Any], field: str) -> None:
    lost: list[tuple[str, list[str]]] = []
    task = decode(FULL | change, lost)
    assert task.id == "t1"
    assert not getattr(task, field) or field == "health"
    assert lost
    assert lost[0][0] == "task_id='t1'"


def test_too_many_ports_are_told() -> None:
    lost: list[tuple[str, list[str]]] = []
    ports = {"name": "ports", "ranges": {"range": [{"begin": 1, "end": 60000}]}}
    assert len(decode(FULL | {"resources": [ports]}, lost).host_ports) == 4096
    assert "ports more than allowed" in lost[0][1][0]


def test_nulls_are_silent() -> None:
    lost: list[tuple[str, list[str]]] = []
    empty = dict.fromkeys(("labels", "discovery", "statuses", "resources", "container", "health_check", "name"))
    assert decode(master.task(1) | empty, lost).health is Health.NONE
    assert lost == []


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"7", b"\xff", b'{"task_id":{"value":"x"}}', b"[" * 10000])
def test_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        v1.decode(v1.task_decoder, data, v1.WireTask, lambda *_: None)


def test_a_malformed_task_is_named() -> None:
    with pytest.raises(Malformed, match="task_id='t1'"):
        decode({key: value for key, value in FULL.items() if key != "agent_id"})
    event = json.dumps({"type": "TASK_ADDED", "task_added": {"task": {"task_id": {"value": "t7"}}}}).encode()
    found: list[str] = []
    v1.decode(v1.event_decoder, event, v1.Event, lambda who, _: found.append(who))
    assert found == ["task_id='t7'"]


def test_event_type() -> None:
    assert v1.event_type(b'{"type":"HEARTBEAT"}') == "HEARTBEAT"
    assert v1.event_type(b'{"type":5}') == v1.event_type(b"x") == v1.event_type(b"\xff") == v1.event_type(b"") == ""


def update(state: str, status_state: str = "", **status: Any) -> v1.TaskUpdate:
    event = master.update(1, state, **status)
    event["task_updated"]["status"]["state"] = status_state or state
    decoded = msgspec.json.decode(json.dumps(event), type=v1.Event).task_updated
    assert decoded is not None
    return decoded


def test_an_updates_state_is_the_truth() -> None:
    before = decode(FULL)
    late = update("TASK_RUNNING", "TASK_STARTING", timestamp=1.0)
    after = v1.updated(before, late)
    assert after == before, "an older status retried changes nothing"
    assert v1.updated(before, update("TASK_KILLING")) == msgspec.structs.replace(before, state="TASK_KILLING")


def test_an_update_without_networks_empties_them() -> None:
    assert v1.updated(decode(FULL), update("TASK_RUNNING")).networks == ()


def test_port_mappings_may_come_with_the_running_status() -> None:
    # The containers of a pod: only their status says which ports of the host reach them.
    network = {"port_mappings": [{"host_port": 2254, "container_port": 8080, "protocol": "tcp"}]}
    running = update("TASK_RUNNING", container_status={"network_infos": [network]})
    task = v1.updated(decode(FULL), running)
    assert task.port_mappings == (PortMapping(2254, 8080, "tcp"),)
    assert v1.updated(task, running) == task


def test_health_is_remembered() -> None:
    task = v1.updated(decode(FULL), update("TASK_RUNNING", healthy=True))
    assert task.health is Health.HEALTHY
    assert v1.updated(task, update("TASK_RUNNING")).health is Health.HEALTHY
    assert v1.updated(task, update("TASK_RUNNING", healthy=False)).health is Health.UNHEALTHY
    again = v1.inherit(decode(FULL), task)
    assert again.health is Health.HEALTHY, "a snapshot whose status has no result"
    staged = decode(master.task(1, state="TASK_STAGING"))
    assert v1.inherit(staged, task) == staged, "a new start begins afresh"
    elsewhere = decode(master.task(1, on=2))
    assert v1.inherit(elsewhere, task) == elsewhere
    assert v1.inherit(elsewhere, None) == elsewhere


def test_start_time_is_the_first_that_was_told() -> None:
    task = v1.updated(decode(master.task(1, state="TASK_STAGING")), update("TASK_STARTING", timestamp=5.0))
    task = v1.updated(task, update("TASK_RUNNING", timestamp=6.0))
    assert task.start_time == 5.0
    assert v1.inherit(decode(master.task(1)), task).start_time == 5.0


def test_agents_and_frameworks() -> None:
    raw = json.dumps(master.agent(3, deactivated=True)).encode()
    agent = v1.agent(v1.decode(v1.agent_decoder, raw, v1.WireAgent, lambda *_: None))
    assert (agent.id, agent.host, agent.port, agent.draining) == ("A3", "10.0.0.3", 5051, True)
    recovered = master.framework(1, active=False, connected=False, recovered=True)
    raw = json.dumps(recovered).encode()
    framework = v1.framework(v1.decode(v1.framework_decoder, raw, v1.WireFramework, lambda *_: None))
    assert framework.active, "recovered from agents is not inactive"
    assert framework.pid is None
    raw = json.dumps(master.framework(1, active=False)).encode()
    assert not v1.framework(v1.decode(v1.framework_decoder, raw, v1.WireFramework, lambda *_: None)).active


def test_numbered() -> None:
    task = decode(FULL)
    assert v1.numbered(task, 0) is task
    assert v1.numbered(task, 2).key != task.key


@given(data=st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    v1.event_type(data)
    try:
        v1.decode(v1.event_decoder, data, v1.Event, lambda *_: None)
    except Malformed:
        pass
