"""Tasks by the names they give: groups, canonical names, fitness, empty non-terminals."""

from __future__ import annotations

from mesos_dns import names
from mesos_dns.model import Task
from mesos_dns.names import SRV, A, Rules, TaskPlace
from mesos_dns.taskindex import TaskIndex
from tests.fakes.questions import task

RULES = Rules()


def index(room: int = 255, refused: list[str] | None = None) -> TaskIndex:
    return TaskIndex(RULES, lambda shape: shape.domain, room, (refused if refused is not None else []).append)


def place(of: Task, framework: str = "marathon") -> TaskPlace:
    return TaskPlace(of, framework, ("10.1.0.1",))


def add(to: TaskIndex, of: Task, fit: bool = True) -> None:
    to.add(of.key, names.shape_key(place(of), RULES), place(of), fit)


def remove(out_of: TaskIndex, of: Task) -> None:
    out_of.remove(of.key, names.shape_key(place(of), RULES))


def canonical(of: Task, name: str = "web") -> str:
    return f"{name}{names.unique_suffix(of)}.marathon"


def test_tasks_of_one_app_share_owners() -> None:
    tasks = index()
    first, second = task(0, host_ports=(31000,)), task(1, host_ports=(31001,))
    add(tasks, first)
    add(tasks, second)
    assert len(tasks) == 2
    assert tasks.collect("web.marathon", A) == {b"\x09\0\0\1": True, b"\x09\0\0\2": True}
    assert tasks.collect(canonical(first), A) == {b"\x09\0\0\1": True}
    assert tasks.collect("_web._udp.marathon", SRV) == {
        (31000, f"web{names.unique_suffix(first)}.marathon.slave"): True,
        (31001, f"web{names.unique_suffix(second)}.marathon.slave"): True,
    }
    remove(tasks, first)
    assert tasks.collect("web.marathon", A) == {b"\x09\0\0\2": True}
    assert not tasks.exists(canonical(first))
    assert tasks.exists(canonical(second))
    remove(tasks, second)
    assert not tasks.exists("web.marathon")
    assert not tasks.exists("marathon")
    assert list(tasks.owners()) == []


def test_types_in_order() -> None:
    tasks = index()
    add(tasks, task(host_ports=(1,)))
    assert tasks.types("web.marathon") == [A]
    assert tasks.types("_web._tcp.marathon.slave") == [SRV]
    assert tasks.types(canonical(task())) == [A]
    assert tasks.types("marathon") == []


def test_empty_non_terminals() -> None:
    tasks = index()
    add(tasks, task(host_ports=(1,), discovery_name="c.b"))
    unique = names.unique_suffix(task())
    for owner in ("marathon", "slave", "marathon.slave", "_tcp.marathon.slave", "b.marathon", f"b{unique}.marathon"):
        assert tasks.exists(owner), owner
        assert tasks.types(owner) == []
    for owner in ("c.marathon", "x.b.marathon", f"x.b{unique}.marathon", "_tcp.marathon", f"a{unique}.marathon"):
        assert not tasks.exists(owner), owner


def test_fit_if_any_contributor_is() -> None:
    tasks = index()
    first, second = task(0), task(1, networks=task(0).networks)
    add(tasks, first, fit=False)
    assert tasks.collect("web.marathon", A) == {b"\x09\0\0\1": False}
    add(tasks, second, fit=True)
    assert tasks.collect("web.marathon", A) == {b"\x09\0\0\1": True}
    add(tasks, second, fit=False)
    assert tasks.collect("web.marathon", A) == {b"\x09\0\0\1": False}


def test_canonical_names_of_agents_with_dots_in_their_id() -> None:
    tasks = index()
    dotted = task(node="ip-10-0-0-1.ec2.internal")
    add(tasks, dotted)
    assert canonical(dotted).endswith("-1.ec2.internal.marathon")
    assert tasks.collect(canonical(dotted), A) == {b"\x09\0\0\1": True}
    assert tasks.exists("ec2.internal.marathon")
    assert tasks.exists("internal.marathon.slave")
    remove(tasks, dotted)
    assert not tasks.exists(canonical(dotted))
    assert not tasks.exists("internal.marathon")


def test_one_id_on_two_agents_of_two_frameworks() -> None:
    tasks = index()
    one = task()
    other = place(Task("f-2", one.id, "db", one.node_id, names.RUNNING), "chronos")
    add(tasks, one)
    tasks.add(other.task.key, names.shape_key(other, RULES), other, True)
    assert tasks.collect(canonical(one), A) == {b"\x09\0\0\1": True}
    assert tasks.collect(canonical(one).replace("web", "db").replace("marathon", "chronos"), A) == {b"\x0a\1\0\1": True}
    assert not tasks.exists(canonical(one).replace("marathon", "chronos"))
    tasks.remove(other.task.key, names.shape_key(other, RULES))
    assert tasks.exists(canonical(one))


def test_names_that_cannot_stand_on_the_wire_are_told_once() -> None:
    refused: list[str] = []
    tasks = index(refused=refused)
    add(tasks, task(0, name="w" * 63, host_ports=(1,)))
    add(tasks, task(1, name="w" * 63, host_ports=(1,)))
    assert f"_{'w' * 63}._tcp.marathon" in refused
    assert len(refused) == len(set(refused))
    assert tasks.exists("w" * 63 + ".marathon")
    assert tasks.collect(f"_{'w' * 63}._tcp.marathon", SRV) == {}
    # The SRV's owner would fit, its target (with the unique suffix) does not.
    add(tasks, task(2, name="v" * 60, host_ports=(1,)))
    assert tasks.collect(f"_{'v' * 60}._tcp.marathon", SRV) == {}


def everything(tasks: TaskIndex) -> set[object]:
    found: set[object] = set()
    for owner in tasks.owners():
        found |= {(owner, rtype, *tasks.offers(owner, rtype)) for rtype in tasks.types(owner)}
    for owner, sets in tasks.canonical():
        assert sets is not None
        found |= {(owner, rtype, *rdata) for rtype, rdata in sets.items()}
    return found


def test_a_frozen_index_stays_as_it_was() -> None:
    tasks = index()
    for number in range(4):
        add(tasks, task(number, host_ports=(31000,)))
    add(tasks, task(9, "db"))
    before, frozen, count = everything(tasks), tasks.frozen(), len(tasks)
    steps = frozen.complete()
    next(steps)
    add(tasks, task(0, host_ports=(32000,)))
    add(tasks, task(5))
    add(tasks, task(6, discovery_name="Web"))
    remove(tasks, task(1, host_ports=(31000,)))
    remove(tasks, task(9, "db"))
    again = tasks.frozen()
    assert len([*steps, *again.complete()]) == 4
    remove(tasks, task(2, host_ports=(31000,)))
    assert everything(frozen) == before
    assert len(frozen) == count
    assert len(again) == len(tasks) + 1
    assert again.exists(canonical(task(2)))
    assert not tasks.exists(canonical(task(2)))
    for number, ports in ((0, (32000,)), (3, (31000,))):
        remove(tasks, task(number, host_ports=ports))
    remove(tasks, task(5))
    remove(tasks, task(6, discovery_name="Web"))
    assert everything(tasks) == set()
    assert everything(frozen) == before


def test_offers_are_what_is_collected() -> None:
    tasks = index()
    add(tasks, task(0, host_ports=(31000,)))
    add(tasks, task(1, host_ports=(31000,)), fit=False)
    for owner in ("web.marathon", "web.marathon.slave", "_web._tcp.marathon", canonical(task(1))):
        for rtype in (A, SRV):
            collected: dict[object, bool] = {}
            for rdata, fit in tasks.offers(owner, rtype):
                collected[rdata] = collected.get(rdata, False) or fit
            assert collected == tasks.collect(owner, rtype)
    assert len(list(tasks.offers("web.marathon.slave", A))) == 2


def test_canonical_owners_that_several_tasks_or_groups_have() -> None:
    tasks = index()
    first = task(0)
    add(tasks, first)
    assert dict(tasks.canonical()) == {
        canonical(first): {A: [b"\x09\0\0\1"]},
        f"{canonical(first)}.slave": {A: [b"\x0a\1\0\1"]},
    }
    add(tasks, task(1, canonical(first).partition(".")[0]))
    found = dict(tasks.canonical())
    assert canonical(first) not in found, "it is the other task's own name"
    tasks.add(("task", "other"), names.shape_key(place(first), RULES), place(first), True)
    assert [owner for owner, sets in tasks.canonical() if sets is None] == []
    remove(tasks, task(1, canonical(first).partition(".")[0]))
    assert dict(tasks.canonical()) == {canonical(first): None, f"{canonical(first)}.slave": None}


def test_what_only_canonical_names_stand_below_exists() -> None:
    """A task whose name is no label has no other names; those above them exist all the same (RFC 8020)."""
    tasks = index()
    for number in (0, 1):
        add(tasks, task(number, "-"))
    assert list(tasks.owners()) == []
    for owner in ("marathon", "marathon.slave"):
        assert tasks.exists(owner), owner
    remove(tasks, task(0, "-"))
    assert tasks.exists("marathon.slave")
    remove(tasks, task(1, "-"))
    assert not tasks.exists("marathon.slave")
    assert not tasks.exists("marathon")
