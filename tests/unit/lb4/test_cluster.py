"""What tasks are joined with, and whom its changes bear on."""

from __future__ import annotations

from typing import Any

from lb4.cluster import PROTECTED, Cluster, unindex
from lb4.task_backends import Whereabouts
from mesos_dns.model import Draining, Ensemble, Framework, Health, HealthOverlay, Leadership, Network, Node, Suspect
from tests.fakes.questions import AGENT, MARATHON, task

ONE, TWO = task(1), task(2)
ALONE = task(3, node="", networks=(Network("", ("9.9.9.9", "fd00::9")),))


def cluster(*tasks: Any) -> Cluster:
    made = Cluster()
    made.set_node(AGENT.key, AGENT)
    made.set_framework(MARATHON.key, MARATHON)
    for each in tasks:
        made.move(each.key, None, each)
    return made


def test_joins() -> None:
    made = cluster()
    assert made.framework_of(ONE) == MARATHON
    assert made.where(ONE) == Whereabouts("10.1.0.1")
    assert made.where(task(node="agent-S9")) is None
    assert made.where(ALONE) == Whereabouts("9.9.9.9", alone=True)
    assert made.where(task(node="", networks=())) == Whereabouts("", alone=True)
    made.set_node(AGENT.key, Node(AGENT.id, "h"))
    assert made.where(ONE) == Whereabouts("")
    made.set_node(AGENT.key, None)
    made.set_framework(MARATHON.key, None)
    assert made.where(ONE) is None
    assert made.framework_of(ONE) is None


def test_health_is_the_worse_of_two() -> None:
    made = cluster()
    overlay = HealthOverlay("f-1", ONE.id, Health.UNHEALTHY)
    assert made.health_of(ONE.key, ONE) is Health.NONE
    assert made.set_overlay(overlay.key, overlay) == ONE.key
    assert made.health_of(ONE.key, ONE) is Health.UNHEALTHY
    assert made.health_of(TWO.key, TWO) is Health.NONE
    made.set_overlay(overlay.key, HealthOverlay("f-1", ONE.id))
    assert made.health_of(ONE.key, ONE) is Health.NONE
    made.set_overlay(overlay.key, None)
    assert made.health_of(ONE.key, task(1, health=Health.PENDING)) is Health.PENDING


def test_a_node_bears_on_its_tasks_when_its_addresses_change() -> None:
    made = cluster(ONE, TWO, ALONE, task(4, node="agent-S1"))
    same = Node(AGENT.id, "other", AGENT.addresses, 1)
    assert made.set_node(AGENT.key, same) == (frozenset(), frozenset())
    tasks, addresses = made.set_node(AGENT.key, Node(AGENT.id, "h", ("10.1.0.1", "fd00::1")))
    assert set(tasks) == {ONE.key, TWO.key}
    assert addresses == {"fd00::1"}
    assert made.holder_of("10.1.0.1") == made.holder_of("fd00::1") == ("node-address", "the address of a node")
    tasks, addresses = made.set_node(AGENT.key, None)
    assert set(tasks) == {ONE.key, TWO.key}
    assert addresses == {"10.1.0.1", "fd00::1"}
    assert made.holder_of("10.1.0.1") is None
    nobody = Node("agent-S5", "h")
    assert made.set_node(nobody.key, nobody)[1] == frozenset()


def test_an_address_is_gone_with_the_last_node_that_has_it() -> None:
    made = cluster()
    other = Node("agent-S1", "h", AGENT.addresses)
    assert made.set_node(other.key, other)[1] == frozenset()
    assert made.set_node(AGENT.key, None)[1] == frozenset()
    assert made.holder_of("10.1.0.1") is not None
    assert made.set_node(other.key, None)[1] == {"10.1.0.1"}


def test_machines_hold_addresses_until_the_last_that_tells_them() -> None:
    made, first, second = cluster(), Leadership().key, Leadership(cluster="b").key
    assert made.set_machines(first, ["10.0.0.1", "::ffff:10.0.0.2", "a.host", ""]) == {"10.0.0.1", "10.0.0.2"}
    made.set_machines(second, ["10.0.0.1"])
    assert made.holder_of("10.0.0.1") == ("master-address", "the address of a master")
    assert made.set_machines(first, ["10.0.0.2", "10.0.0.3"]) == {"10.0.0.1", "10.0.0.3"}
    assert made.holder_of("10.0.0.1") is not None
    made.set_machines(second, [])
    assert made.holder_of("10.0.0.1") is None
    assert made.set_machines(first, []) == {"10.0.0.2", "10.0.0.3"}
    assert made.holder_of("10.0.0.2") is None


def test_of_several_holders_the_same_is_named_whoever_came_last() -> None:
    made, keys = cluster(), [PROTECTED, Ensemble().key, Leadership().key]
    for key in keys:
        made.set_machines(key, ["10.0.0.1", "10.1.0.1"])
    for key, reason in ((keys[2], "master-address"), (keys[1], "zookeeper-address"), (keys[0], "own-address")):
        holders = [made.holder_of(address) for address in ("10.0.0.1", "10.1.0.1")]
        assert [holder.reason for holder in holders if holder is not None] == [reason, "node-address"]
        made.set_machines(key, ())
    assert made.holder_of("10.0.0.1") is None


def test_a_framework_bears_on_its_tasks_when_its_name_changes() -> None:
    made = cluster(ONE, ALONE)
    assert not made.set_framework(MARATHON.key, Framework("f-1", "marathon", active=False))
    assert set(made.set_framework(MARATHON.key, Framework("f-1", "other"))) == {ONE.key, ALONE.key}
    assert set(made.set_framework(MARATHON.key, None)) == {ONE.key, ALONE.key}
    assert not made.set_framework(MARATHON.key, None)
    assert set(made.set_framework(MARATHON.key, MARATHON)) == {ONE.key, ALONE.key}


def test_a_suspect_bears_on_what_runs_there() -> None:
    made = cluster(ONE, ALONE)
    suspect, elsewhere = Suspect("10.1.0.1"), Suspect("10.1.0.1", cluster="other")
    assert set(made.set_suspect(suspect.key, suspect)) == {ONE.key}
    assert not made.set_suspect(suspect.key, suspect)
    assert not made.set_suspect(elsewhere.key, elsewhere)
    assert set(made.suspects) == {"10.1.0.1"}
    assert not made.set_suspect(suspect.key, None)
    assert set(made.set_suspect(elsewhere.key, None)) == {ONE.key}
    assert not made.suspects
    alone = Suspect("fd00::9")
    assert set(made.set_suspect(alone.key, alone)) == {ALONE.key}


def test_drained_tasks() -> None:
    made = cluster(ONE)
    draining = Draining("f-1", ONE.id, 1_800_000_000.0)
    assert not made.draining
    assert made.set_draining(draining.key, draining) == ONE.key
    assert made.draining == {ONE.key}
    assert made.set_draining(draining.key, None) == ONE.key
    made.set_draining(draining.key, None)
    assert not made.draining


def test_tasks_move() -> None:
    made = cluster(ONE)
    moved = task(1, node="agent-S1")
    made.move(ONE.key, ONE, moved)
    assert not made.set_node(AGENT.key, None)[0]
    other = Node("agent-S1", "h", ("10.1.0.2",))
    assert set(made.set_node(other.key, other)[0]) == {ONE.key}
    made.move(ONE.key, moved, None)
    assert not made.set_node(other.key, None)[0]
    assert not made.set_framework(MARATHON.key, None)


def test_an_index_keeps_no_empty_sets() -> None:
    index = {"a": {1, 2}}
    for item in (1, 3, 2, 2):
        unindex(index, "a", item)
    unindex(index, "b", 1)
    assert index == {}
