"""A large cluster is laid out as asked for, the same each time, and churns in balance."""

from __future__ import annotations

import pytest

from agent.demo.cluster import Cluster
from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.population import Churn, Size, app_definition, kill_one, populate, start_one
from agent.demo.spec import Network


async def built(nodes: int, tasks: int) -> tuple[Cluster, DeployingMarathon]:
    cluster = Cluster(now=lambda: 1_800_000_000.0)
    marathon = DeployingMarathon(cluster, cluster.add_framework("marathon"))
    await populate(cluster, marathon, Size(nodes, tasks))
    return cluster, marathon


@pytest.mark.asyncio
@pytest.mark.parametrize(("nodes", "tasks"), [(1, 0), (3, 7), (20, 1000)])
async def test_as_many_as_asked_for(nodes: int, tasks: int) -> None:
    cluster, _ = await built(nodes, tasks)
    assert len(cluster.agents) == nodes
    assert len(cluster.tasks) == tasks
    assert all(task.state == "TASK_RUNNING" for task in cluster.tasks.values())
    assert {framework.name for framework in cluster.frameworks.values()} == {"marathon", "marathon-user", "chronos"}


@pytest.mark.asyncio
async def test_every_network_mode_occurs() -> None:
    cluster, _ = await built(20, 1000)
    networks = {task.spec.network for task in cluster.tasks.values()}
    assert networks == set(Network) - {Network.DUAL}
    assert {task.healthy for task in cluster.tasks.values()} == {True, None}


@pytest.mark.asyncio
async def test_the_same_each_time() -> None:
    facts = []
    for _ in range(2):
        cluster, marathon = await built(5, 200)
        churn = Churn(marathon, seed=3)
        for _ in range(100):
            churn.step()
        await marathon.close()
        facts.append([(task.id, task.endpoints, task.healthy) for task in cluster.tasks.values()])
    assert facts[0] == facts[1]


@pytest.mark.asyncio
async def test_churn_keeps_the_balance() -> None:
    cluster, marathon = await built(5, 400)
    churn = Churn(marathon, seed=1)
    for number in range(1000):
        churn.step()
        assert churn.changes == number + 1
    await marathon.close()
    assert churn.counts["health"] > 10
    assert churn.counts["started"] > 300
    assert len(cluster.tasks) == 400 - churn.counts["killed"] + churn.counts["started"]
    assert churn.counts["killed"] - churn.counts["started"] < 100
    assert all(app.definition.instances == len(app.instances) for app in marathon.apps.values())


def test_churn_of_nothing_changes_nothing() -> None:
    cluster = Cluster()
    churn = Churn(DeployingMarathon(cluster, cluster.add_framework("marathon")))
    churn.step()
    assert churn.changes == 0


def test_one_more_and_one_less(cluster: Cluster) -> None:
    marathon = DeployingMarathon(cluster, next(iter(cluster.frameworks.values())))
    app = marathon.create_now(app_definition(0, 1))
    task = start_one(marathon, app)
    assert app.definition.instances == len(app.instances) == 2
    assert kill_one(marathon, app, task.id) is task
    assert app.definition.instances == len(app.instances) == 1


@pytest.mark.parametrize(("nodes", "tasks"), [(0, 1), (1, -1), (1, 1000)])
def test_sizes_that_are_no_cluster(nodes: int, tasks: int) -> None:
    with pytest.raises(ValueError, match=f"nodes={nodes}"):
        Size(nodes, tasks)
