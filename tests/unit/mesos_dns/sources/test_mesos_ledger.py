"""The ledger's rules: holds, removals, events against documents; random histories against a plain model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.sources import pace
from mesos_dns.sources.mesos_ledger import EVERYTHING, Want
from mesos_dns.sources.mesos_snapshot import Snapshot, V1Document
from tests.fakes import mesos_master as master
from tests.fakes.followed import Followed
from tests.fakes.replay import Replay

pytestmark = pytest.mark.asyncio


class Cluster:
    """A ledger on a catalog, with short ways to tell it things."""

    def __init__(self, reregister_timeout: float = 600.0) -> None:
        self.followed = Followed()
        self.replay = Replay(self.followed, reregister_timeout=reregister_timeout)
        self.ledger = self.replay.ledger

    def fill(self, snapshot: Snapshot, state: dict[str, Any]) -> Snapshot:
        document = V1Document(snapshot)
        for group, arrays in state.items():
            for name, elements in arrays.items():
                for element in elements:
                    document.add(f"{group}.{name}", json.dumps(element).encode())
        return snapshot

    async def sync(self, *arguments: Any, leader: str = "one", **more: Any) -> Want:
        return await self.ledger.apply(self.fill(self.ledger.begin(), master.state_of(*arguments, **more)), leader)

    def event(self, event: dict[str, Any]) -> Want:
        return self.ledger.event(json.dumps(event).encode())

    def added(self, task: dict[str, Any]) -> Want:
        return self.event({"type": "TASK_ADDED", "task_added": {"task": task}})

    def agent_added(self, number: int) -> Want:
        return self.event({"type": "AGENT_ADDED", "agent_added": {"agent": master.agent(number)}})

    def agent_removed(self, number: int) -> Want:
        return self.event({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": f"A{number}"}}})

    def framework_removed(self, number: int) -> Want:
        info = master.framework(number)["framework_info"]
        return self.event({"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info": info}})

    @property
    def ids(self) -> set[str]:
        return {task_id for _, task_id in self.followed.tasks()}

    @property
    def nodes(self) -> set[str]:
        return set(self.followed.nodes())

    @property
    def frameworks(self) -> dict[str, bool]:
        return {id: framework.active for id, framework in self.followed.frameworks().items()}


async def two_agents(reregister_timeout: float = 600.0) -> Cluster:
    cluster = Cluster(reregister_timeout)
    tasks = [master.task(1), master.task(2, on=2), master.task(3, on=2)]
    await cluster.sync(tasks, [master.agent(1), master.agent(2)])
    cluster.followed.changes()
    return cluster


async def test_a_recovered_agents_tasks_stay_until_it_returns() -> None:
    cluster = await two_agents()
    await cluster.sync([master.task(1)], [master.agent(1)], recovered=[2], leader="two")
    assert cluster.followed.changes() == {}
    cluster.added(master.task(3, on=2))
    assert cluster.followed.changes() == {}
    cluster.agent_added(2)
    assert cluster.ids == {"t1", "t3"}
    assert cluster.nodes == {"A1", "A2"}
    assert cluster.replay.counters.held_agents == 0


async def test_an_agent_that_is_there_without_tasks_is_believed() -> None:
    cluster = await two_agents()
    await cluster.sync([master.task(1)], [master.agent(1), master.agent(2)])
    assert cluster.ids == {"t1"}


async def test_an_agent_that_is_in_no_list_is_gone() -> None:
    cluster = await two_agents()
    await cluster.sync([master.task(1)], [master.agent(1)])
    assert (cluster.ids, cluster.nodes) == ({"t1"}, {"A1"})


async def test_a_held_agent_that_is_removed() -> None:
    cluster = await two_agents()
    await cluster.sync([], [], recovered=[1, 2])
    assert cluster.agent_removed(2) == Want.NOTHING
    assert (cluster.ids, cluster.nodes) == ({"t1"}, {"A1"})


async def test_a_held_agent_that_leaves_the_list() -> None:
    cluster = await two_agents()
    await cluster.sync([], [], [], recovered=[1, 2])
    await cluster.sync([master.task(1)], [master.agent(1)])
    assert (cluster.ids, cluster.nodes) == ({"t1"}, {"A1"})


async def test_an_empty_state_holds_everything_frameworks_too() -> None:
    cluster = await two_agents()
    cluster.event({"type": "FRAMEWORK_ADDED", "framework_added": {"framework": master.framework(2)}})
    cluster.followed.changes()
    for leader in ("two", "two", "three"):
        await cluster.sync([], [], [], leader=leader)
        assert cluster.followed.changes() == {}
    assert cluster.replay.counters.held_agents == 2
    cluster.agent_added(1)
    assert cluster.ids == {"t2", "t3"}


async def test_a_first_snapshot_without_agents_holds_nothing() -> None:
    cluster = Cluster()
    await cluster.sync([], [], [])
    assert len(cluster.ledger.holds) == 0


async def test_holds_end_with_their_time() -> None:
    cluster = await two_agents(reregister_timeout=60)
    await cluster.sync([master.task(1)], [master.agent(1)], [], recovered=[2], leader="two")
    cluster.replay.now = 59
    assert await cluster.ledger.expire() == Want.NOTHING
    assert cluster.ids == {"t1", "t2", "t3"}
    cluster.replay.now = 60
    await cluster.ledger.expire()
    assert (cluster.ids, cluster.nodes) == ({"t1"}, {"A1"})
    assert cluster.frameworks == {"F1": True}, "it still has a task"


async def test_a_whole_cluster_whose_time_is_over_goes_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = await two_agents(reregister_timeout=60)
    await cluster.sync([], [], leader="two")
    cluster.replay.now = 60
    monkeypatch.setattr(pace, "TURN", -1.0)
    expiry = asyncio.create_task(cluster.ledger.expire())
    turns = 0
    while not expiry.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 2, "a turn of the loop for each agent"
    assert (cluster.ids, cluster.nodes) == (set(), set())


async def test_a_framework_without_tasks_is_waited_for_after_a_fail_over() -> None:
    cluster = await two_agents(reregister_timeout=60)
    cluster.event({"type": "FRAMEWORK_ADDED", "framework_added": {"framework": master.framework(2)}})
    await cluster.sync([], [], [], recovered=[1, 2], leader="two")
    for number in (1, 2):
        cluster.agent_added(number)
    assert "F2" in cluster.frameworks
    cluster.replay.now = 61
    await cluster.ledger.expire()
    assert cluster.frameworks == {}


async def test_removed_agents_and_frameworks_stay_while_they_have_tasks() -> None:
    cluster = await two_agents()
    assert cluster.agent_removed(2) == Want.EVERYTHING
    assert cluster.framework_removed(1) == Want.EVERYTHING
    assert cluster.nodes == {"A1", "A2"}
    assert cluster.frameworks == {"F1": False}
    for number in (2, 3):
        cluster.event(master.update(number, "TASK_LOST", on=2))
    assert cluster.nodes == {"A1"}
    cluster.event(master.update(1, "TASK_KILLED"))
    assert cluster.frameworks == {}
    assert cluster.agent_removed(1) == Want.NOTHING
    assert cluster.nodes == set()
    assert cluster.agent_removed(9) == cluster.framework_removed(9) == Want.NOTHING


async def test_a_framework_goes_with_its_last_task_however_often_that_changed() -> None:
    cluster = await two_agents()
    for healthy in (True, False, True):
        cluster.event(master.update(1, "TASK_RUNNING", healthy=healthy))
    cluster.added(master.task(1, on=2))
    cluster.framework_removed(1)
    for number in (1, 2, 3):
        assert cluster.frameworks == {"F1": False}
        cluster.event(master.update(number, "TASK_KILLED"))
    assert cluster.frameworks == {}


async def test_a_removed_agent_that_returns_stays() -> None:
    cluster = await two_agents()
    cluster.agent_removed(2)
    cluster.agent_added(2)
    for number in (2, 3):
        cluster.event(master.update(number, "TASK_KILLED", on=2))
    assert cluster.nodes == {"A1", "A2"}


async def test_lost_tasks_ask_for_the_agents() -> None:
    cluster = await two_agents()
    assert cluster.event(master.update(2, "TASK_UNREACHABLE", on=2)) == Want.AGENTS
    assert cluster.event(master.update(3, "TASK_GONE_BY_OPERATOR", on=2)) == Want.AGENTS
    assert cluster.event(master.update(1, "TASK_FAILED")) == Want.NOTHING
    snapshot = cluster.fill(cluster.ledger.begin(frozenset({"node"})), {"get_agents": {"agents": [master.agent(1)]}})
    assert await cluster.ledger.apply(snapshot) == Want.NOTHING
    assert (cluster.nodes, cluster.ids) == ({"A1"}, {"t2"})


async def test_agents_alone_do_not_take_a_node_from_its_running_tasks() -> None:
    cluster = await two_agents()
    snapshot = cluster.fill(cluster.ledger.begin(frozenset({"node"})), {"get_agents": {"agents": [master.agent(1)]}})
    assert await cluster.ledger.apply(snapshot) == Want.EVERYTHING
    assert cluster.nodes == {"A1", "A2"}


async def test_a_task_moves_to_another_agent() -> None:
    cluster = await two_agents()
    cluster.added(master.task(1, on=2))
    assert cluster.replay.book.node_tasks.keys() == {"A2"}
    assert cluster.agent_removed(1) == Want.NOTHING


async def test_events_win_over_a_document() -> None:
    cluster = await two_agents()
    snapshot = cluster.ledger.begin()
    cluster.event(master.update(1, "TASK_KILLED"))
    cluster.added(master.task(4))
    cluster.agent_added(3)
    cluster.agent_removed(3)
    cluster.agent_added(4)
    cluster.event({"type": "FRAMEWORK_ADDED", "framework_added": {"framework": master.framework(2)}})
    old = [master.task(1), master.task(2, on=2), master.task(3, on=2)]
    cluster.fill(snapshot, master.state_of(old, [master.agent(1), master.agent(2), master.agent(3)]))
    await cluster.ledger.apply(snapshot)
    assert cluster.ids == {"t2", "t3", "t4"}
    assert cluster.nodes == {"A1", "A2", "A4"}
    assert set(cluster.frameworks) == {"F1", "F2"}
    assert cluster.replay.book.reads == []


async def test_malformed_events_cost_only_themselves() -> None:
    cluster = await two_agents()
    bad: list[Any] = [None, 5, {}, {"task": {}}, {"agent": 1}, {"agent_id": {}}, {"framework": []}, {"status": {}}]
    kinds = ["TASK_ADDED", "TASK_UPDATED", "AGENT_ADDED", "AGENT_REMOVED", "FRAMEWORK_ADDED", "FRAMEWORK_REMOVED"]
    for kind in kinds:
        for value in bad:
            assert cluster.event({"type": kind, kind.lower(): value}) == Want.NOTHING
    assert cluster.replay.counters.malformed == len(kinds) * len(bad)
    assert cluster.followed.changes() == {}


# --- random histories: after everything is told, what is said is what the master has


numbers = st.integers(1, 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), numbers, numbers),
        st.tuples(st.just("update"), numbers, st.sampled_from(["TASK_RUNNING", "TASK_KILLED", "TASK_UNREACHABLE"])),
        st.tuples(st.just("agent"), numbers, st.none()),
        st.tuples(st.just("agent gone"), numbers, st.none()),
        st.tuples(st.just("framework gone"), st.just(1), st.none()),
        st.tuples(st.just("fail over"), st.sets(numbers), st.sets(numbers)),
        st.tuples(st.just("compare"), st.none(), st.none()),
    ),
    max_size=30,
)


class Master:
    """What a master knows, in plain words."""

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.agents: set[int] = set()

    def state(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return list(self.tasks.values()), [master.agent(number) for number in sorted(self.agents)]


@given(history=steps)
async def test_random_histories(history: list[tuple[str, Any, Any]]) -> None:
    cluster, real = Cluster(reregister_timeout=100), Master()
    await cluster.sync(*real.state())
    for what, first, second in history:
        if what == "add":
            real.tasks[first] = master.task(first, on=second)
            real.agents.add(second)
            cluster.added(real.tasks[first])
            cluster.agent_added(second)
        elif what == "update":
            cluster.event(master.update(first, second))
            if first in real.tasks and second == "TASK_KILLED":
                del real.tasks[first]
            elif first in real.tasks:
                real.tasks[first] = {**real.tasks[first], "state": second}
        elif what == "agent":
            real.agents.add(first)
            cluster.agent_added(first)
        elif what == "agent gone":
            real.agents.discard(first)
            real.tasks = {n: task for n, task in real.tasks.items() if task["agent_id"]["value"] != f"A{first}"}
            cluster.agent_removed(first)
        elif what == "framework gone":
            cluster.framework_removed(first)
        elif what == "fail over":
            there = real.agents & first
            tasks = [task for task in real.tasks.values() if int(task["agent_id"]["value"][1:]) in there]
            before = cluster.ids
            listed = sorted(real.agents - there)
            await cluster.sync(tasks, [master.agent(n) for n in sorted(there)], recovered=listed, leader=str(second))
            waited = {f"t{n}" for n, task in real.tasks.items() if int(task["agent_id"]["value"][1:]) not in there}
            assert waited & before <= cluster.ids
        else:
            await cluster.sync(*real.state())
        count = len(cluster.followed.tasks())
        assert cluster.replay.book.framework_tasks == ({"F1": count} if count else {})
    await cluster.sync(*real.state())
    cluster.replay.now += 101
    await cluster.ledger.expire()
    await cluster.sync(*real.state())
    if real.agents:
        assert cluster.ids == {f"t{number}" for number in real.tasks}
        assert cluster.nodes == {f"A{number}" for number in real.agents}
        for (_, task_id), task in cluster.followed.tasks().items():
            assert task.state == real.tasks[int(task_id[1:])]["state"]
    index = cluster.replay.book.node_tasks
    assert {key for keys in index.values() for key in keys} == {task.key for task in cluster.followed.tasks().values()}
    assert {"task", "node", "framework"} == EVERYTHING
