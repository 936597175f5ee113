"""Ports, usage and statuses of the simulated things."""

from __future__ import annotations

import pytest

from agent.demo.cluster import Cluster
from agent.demo.spec import Network, PortSpec, TaskSpec
from agent.demo.world import FIRST_PORT, LAST_PORT, Agent, Usage


def test_free_ports_go_round_and_skip_what_is_taken() -> None:
    agent = Agent("S0", 0, "10.0.0.1", "10.0.0.1", 0)
    agent.usage.add(TaskSpec("x"), (FIRST_PORT + 1,))
    assert [agent.free_port(), agent.free_port()] == [FIRST_PORT, FIRST_PORT + 2]
    agent.next_port = LAST_PORT
    assert [agent.free_port(), agent.free_port()] == [LAST_PORT, FIRST_PORT]


def test_an_agent_without_free_ports_says_so() -> None:
    agent = Agent("S0", 0, "10.0.0.1", "10.0.0.1", 0)
    agent.usage.add(TaskSpec("x"), tuple(range(FIRST_PORT, LAST_PORT + 1)))
    with pytest.raises(RuntimeError, match="S0 has no free port"):
        agent.free_port()


def test_usage_of_two_tasks_on_one_port_number_ends_with_the_last() -> None:
    usage = Usage()
    usage.add(TaskSpec("a"), (31000,))
    usage.add(TaskSpec("b"), (31000,))
    usage.take(TaskSpec("a"), (31000,))
    assert usage.ranges() == [(31000, 31000)]
    usage.take(TaskSpec("b"), (31000,))
    assert usage.ranges() == []
    assert usage.tasks == 0


def test_endpoints_are_where_other_nodes_reach_the_task(cluster: Cluster) -> None:
    marathon, agent = next(iter(cluster.frameworks.values())), next(iter(cluster.agents.values()))
    ports = (PortSpec("http", 8080),)
    for network in Network:
        task = cluster.start(marathon, TaskSpec("web", ports=ports, network=network), agent)
        ((address, port),) = task.endpoints
        on_agent = network in (Network.HOST, Network.BRIDGE, Network.DOCKER)
        assert (address == agent.address) == on_agent
        assert (port == 8080) != on_agent


def test_one_status_per_state_is_kept(cluster: Cluster) -> None:
    marathon, agent = next(iter(cluster.frameworks.values())), next(iter(cluster.agents.values()))
    task = cluster.start(marathon, TaskSpec("web"), agent)
    for healthy in (True, False):
        cluster.health(task, healthy)
    assert [status.state for status in task.statuses] == ["TASK_STARTING", "TASK_RUNNING"]
    assert task.healthy is False
