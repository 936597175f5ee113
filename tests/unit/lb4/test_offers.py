"""What tasks offer: read when something bears on them, held otherwise."""

from __future__ import annotations

import logging

import pytest

from lb4 import offers as offers_module
from lb4.cluster import Cluster
from lb4.offers import TaskOffers
from lb4.refusals import Refusals
from lb4.selector import SelectorIndex
from lb4.vip import VipKey
from mesos_dns.model import Health, Key, Port, Task, Vip, VipSelector
from tests.fakes.questions import AGENT, MARATHON, task

X, DB = VipKey("tcp", "x.marathon", 80), VipKey("tcp", "db.prod", 80)
LABELLED = (Port(8080, "http", "tcp", (("VIP_0", "/x:80"), ("VIP_1", "x:80"), ("VIP_2", "/y"))),)


class World:
    """A cluster with MARATHON and AGENT, and the offers of its tasks."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.selectors = SelectorIndex()
        self.refusals = Refusals(logging.getLogger("world"), "left out")
        self.offers = TaskOffers(self.cluster, self.selectors, self.refusals)
        self.cluster.set_node(AGENT.key, AGENT)
        self.cluster.set_framework(MARATHON.key, MARATHON)

    def put(self, one: Task) -> list[VipKey]:
        """Put a task, and read it if that is asked for."""
        return list(self.offers.read(one.key)[1]) if self.offers.set_task(one.key, one) else []

    def found(self) -> list[Key]:
        """The tasks that fit the selectors."""
        self.offers.seek(self.selectors)
        found = self.offers.found()
        assert not self.offers.seeking
        return found


def test_a_task_with_labels() -> None:
    world, one = World(), task(ports=LABELLED)
    assert world.offers.set_task(one.key, one)
    before, after = world.offers.read(one.key)
    assert before == ()
    assert {key: [(b.address, b.port) for b in backends] for key, backends in after.items()} == {
        X: [("9.0.0.1", 8080)]
    }, "two labels of one name are one VIP"
    assert world.offers.vips_of(one.key) == (X,)
    assert world.offers.read(one.key) == ((X,), after), "it can be read again, as what it is joined with changes"
    assert world.offers.set_task(one.key, None)
    assert world.offers.read(one.key) == ((X,), {})
    assert world.offers.vips_of(one.key) == ()
    assert not world.offers.set_task(one.key, None)


def test_a_task_without_labels_is_only_held() -> None:
    world, one = World(), task()
    assert not world.offers.set_task(one.key, one)
    assert not world.offers.is_part(one.key)
    assert world.offers.read(one.key) == ((), {})


def test_a_task_that_loses_its_labels() -> None:
    world, one = World(), task(ports=LABELLED)
    world.put(one)
    assert world.offers.set_task(one.key, task())
    assert world.offers.read(one.key) == ((X,), {})
    assert not world.offers.is_part(one.key)
    world.cluster.set_node(AGENT.key, AGENT)
    assert not world.cluster.set_node(AGENT.key, None)[0], "its agent bears on it no longer"


def test_duplicates_are_ignored() -> None:
    world, one = World(), task(ports=LABELLED, duplicate=1)
    assert not world.offers.set_task(one.key, one)


def test_bad_labels_are_counted_when_they_come() -> None:
    world, one = World(), task(ports=LABELLED)
    for health in (Health.NONE, Health.UNHEALTHY, Health.NONE):
        world.put(task(ports=LABELLED, health=health))
    assert world.refusals.counts == {"no-port": 1}
    world.put(task(1, ports=LABELLED))
    assert world.refusals.counts == {"no-port": 2}
    world.offers.set_task(one.key, None)


def test_withheld_until_agent_and_framework_are_known() -> None:
    world, one = World(), task(ports=LABELLED)
    world.cluster.set_node(AGENT.key, None)
    assert world.put(one) == []
    assert world.offers.is_part(one.key)
    world.cluster.set_framework(MARATHON.key, None)
    assert set(world.cluster.set_node(AGENT.key, AGENT)[0]) == {one.key}
    assert world.offers.read(one.key) == ((), {})
    world.cluster.set_framework(MARATHON.key, MARATHON)
    assert list(world.offers.read(one.key)[1]) == [X]


def test_selectors() -> None:
    world, one, other = World(), task(name="db.prod", host_ports=(31000,)), task(9, name="other")
    assert world.put(one) == world.put(other) == []
    selector = Vip("db.prod", 80, selector=VipSelector(app="/prod/db"))
    world.selectors.add(DB, selector)
    assert world.found() == [one.key]
    assert list(world.offers.read(one.key)[1]) == [DB]
    assert world.found() == [one.key], "also where it is known to fit"
    assert world.put(task(2, name="db.prod", host_ports=(31001,), ports=LABELLED)) == [X, DB]
    assert world.put(task(3, name="db.prod")) == [], "it has no port"
    world.selectors.remove(selector)
    assert world.offers.read(one.key) == ((DB,), {})
    assert not world.offers.is_part(one.key)


def test_tasks_are_found_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers_module, "LOOK_AT", 4)
    monkeypatch.setattr(offers_module, "FIND", 3)
    world, tasks = World(), [task(number, name="db" if number < 4 else "other") for number in range(10)]
    for one in tasks:
        world.put(one)
    found = world.offers.found
    assert (found(), world.offers.seeking) == ([], False)
    world.offers.seek(SelectorIndex())
    assert not world.offers.seeking, "nothing is sought"
    for name in ("db", "other"):
        selectors = SelectorIndex()
        selectors.add(DB, Vip("db.prod", 80, selector=VipSelector(app=name)))
        world.offers.seek(selectors)
        keys = [one.key for one in tasks if one.name == name]
        if name == "db":
            assert found() == keys[:3]
    # The first pass goes on; the second begins after it, and sees what is there then.
    world.put(task(10, name="other"))
    world.offers.set_task(tasks[9].key, None)
    rest: list[Key] = []
    while world.offers.seeking:
        some = found()
        assert len(some) <= 3
        rest += some
    assert rest == [tasks[3].key, *keys[:5], task(10, name="other").key]


def test_health_once_is_remembered_while_the_task_is_there() -> None:
    world, one = World(), task(ports=LABELLED, health=Health.PENDING)
    for state, health, once in (
        ("TASK_STAGING", Health.NONE, False),
        ("TASK_RUNNING", Health.PENDING, False),
        ("TASK_RUNNING", Health.UNHEALTHY, False),
        ("TASK_RUNNING", Health.HEALTHY, True),
        ("TASK_RUNNING", Health.UNHEALTHY, True),
        ("TASK_UNREACHABLE", Health.UNHEALTHY, True),
        ("TASK_RUNNING", Health.UNHEALTHY, True),
    ):
        world.put(task(ports=LABELLED, state=state, health=health))
        assert world.offers.healthy_once(one.key) is once
    world.offers.set_task(one.key, None)
    world.offers.read(one.key)
    assert not world.offers.healthy_once(one.key)
    world.put(task(ports=LABELLED, health=Health.UNHEALTHY))
    assert not world.offers.healthy_once(one.key)


def test_a_fault_costs_only_its_task(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    world, one = World(), task(ports=LABELLED)
    world.put(one)

    def fails(*args: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(offers_module, "backends_of", fails)
    assert world.put(task(ports=LABELLED, health=Health.HEALTHY)) == []
    assert world.offers.faults == 1
    assert "could not be read" in caplog.text
    monkeypatch.undo()
    assert world.put(one) == [X], "the next change is read again"
