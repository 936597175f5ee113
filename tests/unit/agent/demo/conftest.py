"""A simulated cluster that has been through everything, for tests of what is written of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from agent.demo.cluster import Cluster, Event
from agent.demo.spec import PortSpec, TaskSpec
from tests.unit.agent.demo.samples import every_kind_of_task


def clock() -> Callable[[], float]:
    """A clock that goes on by 10 ms at each look."""
    ticks: Iterator[int] = count()
    return lambda: 1_800_000_000.0 + next(ticks) / 100


@pytest.fixture
def cluster() -> Cluster:
    """Two agents, a Marathon and a framework without capabilities; nothing runs."""
    found = Cluster(seed=1, now=clock())
    found.add_agent("127.0.0.21")
    found.add_agent("127.0.0.22")
    found.add_framework("marathon", principal="marathon", webui_url="http://127.0.0.1:8080")
    found.add_framework("legacy", capabilities=(), failover_timeout=0.0)
    return found


@pytest.fixture
def events(cluster: Cluster) -> list[Event]:
    """The events of `cluster` from here on."""
    found: list[dict[str, Any]] = []
    cluster.listeners.append(found.append)
    return found


@pytest.fixture
def busy(cluster: Cluster) -> Cluster:
    """`cluster` with every kind of task, ended ones of each kind, a torn down framework, an unreachable agent."""
    marathon, legacy = cluster.frameworks.values()
    here, there = cluster.agents.values()
    tasks = [cluster.start(marathon, spec, here) for spec in every_kind_of_task()]
    for task in tasks:
        if task.spec.check:
            cluster.health(task, True)
    cluster.launch(marathon, TaskSpec("staging"), here)
    for end in (cluster.kill, cluster.finish, cluster.fail):
        end(cluster.start(marathon, TaskSpec("job"), here))
    cluster.start(marathon, TaskSpec("web.far", ports=(PortSpec(),)), there)
    cluster.start(legacy, TaskSpec("old.far"), there)
    cluster.agent_unreachable(there)
    cluster.agent_returns(there)
    cluster.start(legacy, TaskSpec("old.near", ports=(PortSpec(),)), here)
    cluster.remove_framework(cluster.add_framework("gone", principal="x"))
    cluster.agent_unreachable(there)
    return cluster
