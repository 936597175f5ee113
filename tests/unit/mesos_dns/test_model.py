"""The model: identity by key, equality by every field, canonical addresses."""

from __future__ import annotations

import gc
import typing

import msgspec
import pytest

from mesos_dns.model import (
    App,
    Draining,
    Endpoint,
    Ensemble,
    Entity,
    Framework,
    Health,
    HealthOverlay,
    Leadership,
    Network,
    Node,
    Port,
    PortMapping,
    StaticRecords,
    Suspect,
    Task,
    Vip,
    VipAddress,
    VipServer,
    canonical_address,
)

EXAMPLES: tuple[tuple[Entity, tuple[str, ...]], ...] = (
    (Node(id="S1", hostname="h", addresses=("10.0.0.1",)), ("node", "mesos", "S1")),
    (Framework(id="F1", name="marathon"), ("framework", "mesos", "F1")),
    (Task(framework_id="F1", id="t", name="t", node_id="S1", state="TASK_RUNNING"), ("task", "mesos", "F1", "t")),
    (Leadership(leader=Endpoint("10.0.0.2", 5050)), ("leadership", "mesos")),
    (App(id="/a", framework_id="F1"), ("app", "mesos", "F1", "/a")),
    (HealthOverlay(framework_id="F1", task_id="t", health=Health.HEALTHY), ("health", "mesos", "F1", "t")),
    (VipAddress(name="web.marathon", address="11.0.0.1"), ("vip_address", "mesos", "web.marathon")),
    (
        Vip("db.marathon", 5432, servers=(VipServer("10.0.0.4", 5432, 2),)),
        ("vip", "mesos", "tcp", "db.marathon", "5432"),
    ),
    (Suspect("10.0.0.7"), ("reachability", "mesos", "10.0.0.7")),
    (Draining("F1", "t", 1_800_000_000.0), ("draining", "mesos", "F1", "t")),
    (Ensemble((("10.0.0.3",),)), ("ensemble", "mesos")),
    (StaticRecords("a.mesos.", 1, 5, (b"\x0a\x00\x00\x01",)), ("records", "a.mesos.", "1")),
)


def test_every_kind_of_entity_has_an_example_here() -> None:
    assert {type(entity) for entity, _ in EXAMPLES} == set(typing.get_args(Entity))


@pytest.mark.parametrize(("entity", "key"), EXAMPLES)
def test_the_key_is_the_identity(entity: Entity, key: tuple[str, ...]) -> None:
    assert entity.key == key
    assert len({key[0] for _, key in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("entity", [entity for entity, _ in EXAMPLES])
def test_entities_are_frozen_hashable_and_of_no_interest_to_the_collector(entity: Entity) -> None:
    field = type(entity).__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(entity, field, "other")
    assert hash(entity) == hash(msgspec.structs.replace(entity))
    assert not gc.is_tracked(entity)


@pytest.mark.parametrize("entity", [entity for entity, _ in EXAMPLES])
def test_entities_survive_encoding(entity: Entity) -> None:
    for module in (msgspec.json, msgspec.msgpack):
        assert module.decode(module.encode(entity), type=type(entity)) == entity


def test_names_and_clusters_tell_entities_apart_as_they_should() -> None:
    one = Task(framework_id="F1", id="t", name="a", node_id="S1", state="TASK_RUNNING")
    assert msgspec.structs.replace(one, name="b").key == one.key
    assert msgspec.structs.replace(one, name="b") != one
    assert msgspec.structs.replace(one, cluster="other").key != one.key
    assert msgspec.structs.replace(one, framework_id="F2").key != one.key


def test_a_duplicate_has_a_key_of_its_own() -> None:
    one = Task(framework_id="F1", id="t", name="a", node_id="S1", state="TASK_RUNNING")
    two = msgspec.structs.replace(one, duplicate=1)
    assert two.key == (*one.key, "1")


def test_every_field_counts_in_a_comparison() -> None:
    full = Task(
        framework_id="F1",
        id="t",
        name="a",
        node_id="S1",
        state="TASK_RUNNING",
        labels=(("k", "v"),),
        ports=(Port(80, "http", "tcp", (("VIP_0", "web:80"),)),),
        networks=(Network("dcos", ("9.0.0.1",)),),
        port_mappings=(PortMapping(31000, 80),),
    )
    assert full == msgspec.structs.replace(full)
    assert full != msgspec.structs.replace(full, ports=(Port(80, "http", "udp", (("VIP_0", "web:80"),)),))
    assert full != msgspec.structs.replace(full, networks=(Network("dcos", ("9.0.0.2",)),))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("FD00:0:0::1", "fd00::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:0a00:1", "10.0.0.1"),
        ("::", "::"),
        ("", ""),
        ("10.0.0", ""),
        ("10.0.0.01", ""),
        ("10.0.0.1 ", ""),
        ("10.0.0.1/8", ""),
        ("fe80::1%eth0", ""),
        ("host", ""),
        ("1234", ""),
    ],
)
def test_canonical_addresses(text: str, canonical: str) -> None:
    assert canonical_address(text) == canonical
