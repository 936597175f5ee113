"""/state JSON → the model, and its port texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.model import Health
from mesos_dns.sources import mesos_decode as v1
from mesos_dns.sources import mesos_state as state
from mesos_dns.sources.mesos_tolerant import Malformed


def task(lost: list[Any] | None = None, **more: Any) -> Any:
    found = [] if lost is None else lost
    raw = {"id": "t", "slave_id": "A", "state": "TASK_RUNNING", **more}
    wired = v1.decode(state.task_decoder, json.dumps(raw).encode(), state.StateTask, lambda *loss: found.append(loss))
    return state.task(wired, "c", lambda *loss: found.append(loss))


@given(st.lists(st.tuples(st.integers(0, 99999), st.integers(0, 99999)), max_size=5), st.sampled_from(["", " "]))
def test_ports_that_are_written_are_read(ranges: list[tuple[int, int]], space: str) -> None:
    text = "[" + f",{space}".join(f"{begin}-{end}" for begin, end in ranges) + "]"
    assert state.parse_ports(text) == tuple(ranges)


@pytest.mark.parametrize(
    "text", ["31000", "[31000]", "", "[", "[1-2", "[1-2,]", "[a-b]", "[1--2]", "[-1-2]", "[1-2]x", "[1-2 3-4]", "[१-२]"]
)
def test_other_ports_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        state.parse_ports(text)


@pytest.mark.parametrize("text", ["[" + " " * 1_000_000, "[" + " ," * 500_000, "[1-2" * 250_000, "[1-2," * 200_000])
def test_long_nonsense_is_refused_in_no_time(text: str) -> None:
    with pytest.raises(Malformed):
        state.parse_ports(text)


def test_blanks() -> None:
    assert state.parse_ports(" [ 1-2 ,3-4 ] ") == ((1, 2), (3, 4))
    assert state.parse_ports("[ ]") == state.parse_ports("[]") == ()


@given(st.text(max_size=30))
def test_any_ports_text(text: str) -> None:
    try:
        state.parse_ports(text)
    except Malformed:
        pass


def test_a_task() -> None:
    found = task(
        resources={"ports": "[31000-31001]"},
        labels=[{"key": "a", "value": "b"}],
        name="n",
        health_check={},
        statuses=[
            {
                "state": "TASK_RUNNING",
                "timestamp": 3.5,
                "healthy": True,
                "labels": [{"key": "Docker.NetworkSettings.IPAddress", "value": "172.17.0.3"}],
            }
        ],
    )
    assert (found.framework_id, found.node_id, found.host_ports) == ("", "A", (31000, 31001))
    assert found.labels == (("a", "b"),)
    assert found.label_addresses == (("docker", "172.17.0.3"),)
    assert (found.health, found.start_time) == (Health.HEALTHY, 3.5)
    assert task(framework_id="G").framework_id == "G"
    assert task(labels={"labels": [{"key": "a", "value": "b"}]}).labels == (("a", "b"),)


def test_a_bad_ports_text_costs_only_the_ports() -> None:
    lost: list[Any] = []
    assert task(lost, name="n", resources={"ports": "[31000]"}).name == "n"
    assert lost[0][0] == "id='t'"
    assert "[31000]" in lost[0][1][0]


@pytest.mark.parametrize("missing", ["id", "slave_id", "state"])
def test_without_its_identity_nothing(missing: str) -> None:
    raw = {key: value for key, value in {"id": "t", "slave_id": "A", "state": "X"}.items() if key != missing}
    with pytest.raises(Malformed, match=missing):
        v1.decode(state.task_decoder, json.dumps(raw).encode(), state.StateTask, lambda *_: None)


def test_a_frameworks_pid() -> None:
    assert state.framework(state.StateFramework("F", pid="s@1.2.3.4:5")).pid == "s@1.2.3.4:5"
    assert state.framework(state.StateFramework("F")).pid == "", "it has none"
    assert state.framework(state.StateFramework("F", recovered=True, active=False)).pid is None, "it is not known"
    assert state.framework(state.StateFramework("F", recovered=True, active=False)).active


def test_an_agent() -> None:
    found = state.agent(state.StateAgent("A", hostname="h", pid="slave(1)@1.2.3.4:5", deactivated=True))
    assert (found.id, found.hostname, found.host, found.port, found.draining) == ("A", "h", "1.2.3.4", 5, True)
