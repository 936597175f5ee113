"""The cluster of the DNS measurements has the tasks that it is said to have, and changes one at a time."""

from __future__ import annotations

from collections import Counter

from agent.demo.cluster import Cluster
from tests.bench.dns_cluster import Apps, is_dual


def test_sizes_of_the_apps() -> None:
    cluster = Cluster()
    apps = Apps(cluster, agents=50, tasks=200)
    tasks = cluster.tasks.values()
    assert len(tasks) == 200
    sizes = Counter(task.spec.name for task in tasks)
    assert sizes["svc-00000"] == 1
    assert sizes["svc-00009"] == 10
    agents: dict[str, set[str]] = {}
    for task in tasks:
        agents.setdefault(task.spec.name, set()).add(task.agent.id)
        assert any(kind == "IPv6" for kind, _ in task.addresses) is is_dual(int(task.spec.name[4:]))
    assert max(map(len, agents.values())) == 3
    assert apps.changes == 0


def test_changes_kill_and_start_in_turn() -> None:
    cluster = Cluster()
    apps = Apps(cluster, agents=10, tasks=30)
    before = Counter(task.spec.name for task in cluster.tasks.values())
    ids = set(cluster.tasks)
    apps.step()
    assert len(cluster.tasks) == 29
    apps.step()
    assert Counter(task.spec.name for task in cluster.tasks.values()) == before
    assert len(ids - set(cluster.tasks)) == 1
    assert apps.changes == 2
