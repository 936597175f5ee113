"""Equal parts of tasks are one object, and nothing else about a task changes."""

from __future__ import annotations

import msgspec

from mesos_dns.model import Network, Node, Port, PortMapping, Task
from mesos_dns.sharing import share, shared


def full(number: int) -> Task:
    return Task(
        f"framework-{1}",
        f"task.{number}",
        "web",
        "agent-S1",
        "TASK_RUNNING",
        labels=(("a", "b"),),
        discovery_name="web-name",
        visibility="CLUSTER",
        ports=(Port(80, "http", "tcp"),),
        networks=(Network("dcos", ("9.0.0.1",)),),
        label_addresses=(("docker", "9.0.0.1"),),
        port_mappings=(PortMapping(1, 2),),
        host_ports=(31000, 31001),
        runtime="mesos",
        start_time=1.5,
        cluster="other",
        duplicate=number,
    )


def decoded(number: int) -> Task:
    return msgspec.json.decode(msgspec.json.encode(full(number)), type=Task)


def test_every_field_is_as_it_was() -> None:
    assert shared(decoded(1)) == full(1)
    defaults = {field.name: field.default for field in msgspec.structs.fields(Task)}
    assert not [name for name, default in defaults.items() if getattr(full(1), name) == default and name != "health"]


def test_equal_parts_are_one_object() -> None:
    first, second = shared(decoded(1)), shared(decoded(2))
    assert isinstance(first, Task)
    assert isinstance(second, Task)
    for name in Task.__struct_fields__:
        if name not in ("id", "start_time", "duplicate"):
            assert getattr(first, name) is getattr(second, name), name


def test_others_are_left_alone() -> None:
    node = Node("a", "b")
    assert shared(node) is node
    assert share(()) == ()
