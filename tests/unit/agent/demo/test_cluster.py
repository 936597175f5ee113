"""Operations on the simulated cluster leave it as a master would see it, and make the events it would send."""

from __future__ import annotations

import pytest

from agent.demo.cluster import MAX_COMPLETED, Cluster, Event
from agent.demo.spec import Network, PortSpec, TaskSpec
from agent.demo.world import Agent, Framework
from tests.unit.agent.demo.shapes import stream, told

WEB = TaskSpec("web", ports=(PortSpec("http", 8080),))


@pytest.fixture
def marathon(cluster: Cluster) -> Framework:
    return next(iter(cluster.frameworks.values()))


@pytest.fixture
def legacy(cluster: Cluster) -> Framework:
    return list(cluster.frameworks.values())[1]


@pytest.fixture
def agent(cluster: Cluster) -> Agent:
    return next(iter(cluster.agents.values()))


def of_task(events: list[Event], prefix: str) -> list[Event]:
    """The events of the first task whose id begins so."""
    found = [event for event in events if event["type"] == "TASK_ADDED"]
    ids = [event["task_added"]["task"]["task_id"]["value"] for event in found]
    name = next(name for name in ids if name.startswith(prefix))
    return [
        event
        for event in events
        if (event.get("task_added", {}).get("task", {}) or event.get("task_updated", {}).get("status", {}))
        .get("task_id", {})
        .get("value")
        == name
    ]


def between(events: list[Event], first: int, last: int) -> list[str]:
    return told(events[first : last + 1])


def test_a_checked_task_as_recorded(cluster: Cluster, events: list[Event], marathon: Framework, agent: Agent) -> None:
    task = cluster.start(marathon, WEB, agent)
    cluster.health(task, True)
    recorded = of_task(stream("main"), "db_redis")
    assert told(events) == told(recorded)[:4]


@pytest.mark.parametrize(("prefix", "end"), [("job_finish", "finish"), ("job_fail", "fail"), ("job_killhard", "kill")])
def test_ends_as_recorded(
    cluster: Cluster, events: list[Event], marathon: Framework, agent: Agent, prefix: str, end: str
) -> None:
    task = cluster.start(marathon, WEB, agent)
    getattr(cluster, end)(task)
    assert told(events) == told(of_task(stream("main"), prefix))
    assert not agent.tasks
    assert not cluster.tasks
    assert marathon.completed == [task]
    assert not agent.usage.ports


def test_a_framework_without_the_killing_state_sees_no_killing(
    cluster: Cluster, events: list[Event], legacy: Framework, agent: Agent
) -> None:
    cluster.kill(cluster.start(legacy, WEB, agent))
    assert [line.split()[1] for line in told(events)[3:]] == ["TASK_KILLED"]


def test_an_agent_lost_and_back_as_recorded(
    cluster: Cluster, events: list[Event], marathon: Framework, legacy: Framework, agent: Agent
) -> None:
    cluster.start(legacy, WEB, agent)
    cluster.start(marathon, WEB, agent)
    cluster.start(marathon, WEB, agent)
    del events[:]
    cluster.agent_unreachable(agent)
    assert not cluster.tasks
    assert not marathon.tasks
    assert len(marathon.unreachable) == 2
    cluster.agent_returns(agent)
    assert told(events) == between(stream("main"), 93, 100)
    assert len(cluster.tasks) == 3
    assert not marathon.unreachable


def test_an_agent_that_unregisters_as_recorded(
    cluster: Cluster, events: list[Event], marathon: Framework, agent: Agent
) -> None:
    cluster.start(marathon, WEB, agent)
    del events[:]
    cluster.remove_agent(agent)
    assert told(events) == between(stream("extras"), 12, 13)
    assert agent.id not in cluster.agents


def test_a_drain_and_an_agent_marked_gone_as_recorded(
    cluster: Cluster, events: list[Event], marathon: Framework, legacy: Framework, agent: Agent
) -> None:
    for _ in range(2):
        cluster.start(marathon, WEB, agent)
    del events[:]
    cluster.drain_agent(agent)
    # Event 127 and 130 to 134 are of tasks with a general check and of a pod, which there are none of here.
    recorded = (
        between(stream("main"), 126, 128)[::2] + between(stream("main"), 129, 129) + between(stream("main"), 135, 135)
    )
    assert told(events) == recorded
    assert agent.deactivated
    cluster.reactivate_agent(agent)
    cluster.start(legacy, WEB, agent)
    cluster.start(marathon, WEB, agent)
    cluster.start(marathon, WEB, agent)
    del events[:]
    cluster.agent_gone(agent)
    assert told(events) == between(stream("main"), 136, 138)


def test_a_framework_torn_down_as_recorded(
    cluster: Cluster, events: list[Event], marathon: Framework, agent: Agent
) -> None:
    for _ in range(4):
        cluster.start(marathon, WEB, agent)
    del events[:]
    cluster.remove_framework(marathon)
    assert told(events) == between(stream("main"), 140, 144)
    assert marathon.id not in cluster.frameworks


def test_a_scheduler_away_and_back_as_recorded(cluster: Cluster, events: list[Event], marathon: Framework) -> None:
    cluster.disconnect_framework(marathon)
    assert not events
    cluster.update_framework(marathon)
    assert told(events) == between(stream("main"), 102, 102)


def test_a_fail_over_as_recorded(
    cluster: Cluster, events: list[Event], marathon: Framework, legacy: Framework, agent: Agent
) -> None:
    """One framework is back first, the other is heard of through an agent; then agent by agent."""
    agents = [agent, list(cluster.agents.values())[1], cluster.add_agent("127.0.0.23")]
    # The recorded leader heard of the agents' tasks in this number and order of frameworks.
    for home, count in zip(agents, (5, 3, 3), strict=True):
        for _ in range(count):
            cluster.start(marathon, WEB, home)
    cluster.start(legacy, WEB, agents[2])
    cluster.kill(next(iter(agents[2].tasks.values())))
    del events[:]
    cluster.frameworks = {legacy.id: legacy, marathon.id: marathon}
    cluster.fail_over(frameworks=1)
    assert not events
    assert not marathon.known
    assert all(not home.registered for home in agents)
    assert not marathon.completed
    cluster.hear_of(marathon)  # in the recording the agent says so before the scheduler does
    cluster.return_all()
    assert told(events) == between(stream("main"), 105, 120)


def test_what_happens_on_an_agent_unheard_of_makes_no_event(
    cluster: Cluster, events: list[Event], marathon: Framework, agent: Agent
) -> None:
    stays, ends = cluster.start(marathon, WEB, agent), cluster.start(marathon, WEB, agent)
    cluster.fail_over()
    del events[:]
    cluster.kill(ends)
    assert not events
    cluster.agent_returns(agent)
    added = [event["task_added"]["task"]["task_id"]["value"] for event in events if event["type"] == "TASK_ADDED"]
    assert added == [stays.id]


def test_an_agent_unreachable_at_a_fail_over_can_come_back(
    cluster: Cluster, events: list[Event], marathon: Framework, agent: Agent
) -> None:
    task = cluster.start(marathon, WEB, agent)
    cluster.agent_unreachable(agent)
    cluster.fail_over()
    assert agent.id not in cluster.agents
    cluster.agent_returns(agent)
    assert agent.id in cluster.agents
    assert task.state == "TASK_RUNNING"
    assert (marathon.id, task.id) in cluster.tasks


def test_an_address_that_changes_without_an_event(
    cluster: Cluster, events: list[Event], marathon: Framework, agent: Agent
) -> None:
    task = cluster.start(marathon, TaskSpec("x", network=Network.CONTAINER), agent)
    del events[:]
    cluster.move_silently(task, (("IPv4", "9.9.9.9"),))
    assert not events
    assert task.addresses == (("IPv4", "9.9.9.9"),)


def test_history_is_bounded(cluster: Cluster, marathon: Framework, agent: Agent) -> None:
    for _ in range(MAX_COMPLETED + 3):
        cluster.finish(cluster.start(marathon, WEB, agent))
    assert len(marathon.completed) == MAX_COMPLETED


def test_the_same_seed_gives_the_same_cluster() -> None:
    def made(seed: int) -> list[tuple[str, str]]:
        cluster = Cluster(seed=seed, now=lambda: 1.0)
        framework, agent = cluster.add_framework("marathon"), cluster.add_agent()
        return [(task.id, task.container_id) for task in (cluster.start(framework, WEB, agent) for _ in range(3))]

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_addresses_of_many_agents_differ() -> None:
    cluster = Cluster()
    framework = cluster.add_framework("marathon")
    agents = [cluster.add_agent() for _ in range(1000)]
    assert len({agent.address for agent in agents}) == 1000
    spec = TaskSpec("x", network=Network.DUAL)
    tasks = [cluster.start(framework, spec, agent) for agent in agents for _ in range(2)]
    assert len({address for task in tasks for _, address in task.addresses}) == 4000
