"""Random clusters for property tests: entities of every kind that collide with each other on purpose."""

from __future__ import annotations

from hypothesis import strategies as st

from mesos_dns.model import (
    Endpoint,
    Entity,
    Framework,
    Health,
    Key,
    Leadership,
    Network,
    Node,
    NodeState,
    Port,
    PortMapping,
    StaticRecords,
    Task,
)
from mesos_dns.wire import name_to_wire
from tests.fakes.questions import soa

FRAMEWORKS = ("marathon", "Marathon", "chronos", "team.marathon", "leader", "slave", "///", "x" * 63 + "." + "y" * 63)
NAMES = ("web", "Web", "a.b", "b", "c.a.b", "*", "w" * 63, "w" * 54, ".bad", "été", "leader", "_tcp", "-", "a\\", "a b")
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2", "9.0.0.1", "9.0.0.2", "fd00::1", "fd00::2")
NODES = ("agent-S0", "agent-S1", "ip-10.ec2.internal")

some_addresses = st.lists(st.sampled_from(ADDRESSES), max_size=3, unique=True).map(tuple)
ports = st.lists(
    st.builds(
        Port,
        st.sampled_from((0, 80, 443, 70000, 70000 & 0xFFFF)),
        st.sampled_from(("", "http", "Http", "///")),
        st.sampled_from(("", "tcp", "udp", "tcp,udp", "TCP")),
    ),
    max_size=3,
).map(tuple)
tasks = st.builds(
    Task,
    framework_id=st.sampled_from(("f-0", "f-1", "f-2")),
    id=st.sampled_from(("t-0", "t-1", "t-2", "t-3")),
    name=st.sampled_from(NAMES),
    node_id=st.sampled_from(NODES),
    state=st.sampled_from(("TASK_RUNNING",) * 5 + ("TASK_KILLING",)),
    health=st.sampled_from(list(Health)),
    labels=st.sampled_from(((), (("a", "b"),))),
    discovery_name=st.sampled_from(("", "", *NAMES)),
    ports=ports,
    networks=st.lists(st.builds(Network, st.just("n"), some_addresses), max_size=2).map(tuple),
    label_addresses=st.sampled_from(((), (("mesos", "9.9.9.9"),))),
    port_mappings=st.sampled_from(((), (PortMapping(31000, 80),), (PortMapping(0, 80),))),
    host_ports=st.sampled_from(((), (31000,), (31000, 31001))),
)
nodes = st.builds(
    Node,
    id=st.sampled_from(NODES),
    hostname=st.just("h"),
    addresses=some_addresses,
    port=st.sampled_from((5051, 5052)),
    state=st.sampled_from(list(NodeState)),
)
frameworks = st.builds(
    Framework,
    id=st.sampled_from(("f-0", "f-1", "f-2")),
    name=st.sampled_from(FRAMEWORKS),
    active=st.booleans(),
    addresses=some_addresses,
    port=st.sampled_from((0, 8080)),
)
endpoints = st.builds(Endpoint, st.sampled_from(ADDRESSES), st.sampled_from((5050, 5051)))
leaderships = st.builds(Leadership, st.none() | endpoints, st.lists(endpoints, max_size=4).map(tuple))

_OWNERS = ("", "www.", "*.", "a.www.", "sub.", "x.sub.", "ns.sub.", "web.marathon.", "*.apps.")
_RDATA = {
    1: (b"\x0a\7\0\1", b"\x0a\7\0\2"),
    28: (b"\xfd" + bytes(14) + b"\1",),
    16: (b"\4text",),
    2: (name_to_wire("ns.sub.example.org"), name_to_wire("ns.elsewhere.net")),
    5: tuple(name_to_wire(name) for name in ("www.example.org", "web.marathon.mesos", "x.sub.example.org", "else.net")),
    6: (soa(),),
}


@st.composite
def statics(draw: st.DrawFn) -> StaticRecords:
    """A record set of a zone file, or one without a zone. A CNAME is alone at its owner (the source's duty)."""
    zone = draw(st.sampled_from(("", "example.org.", "sub.example.org.", "mesos.")))
    origin = zone or draw(st.sampled_from(("example.org.", "mesos.", "sub.mesos.")))
    owner = draw(st.sampled_from(_OWNERS)) + origin
    if owner.startswith("a.www."):
        rtype = 5
    else:
        rtype = draw(st.sampled_from((1, 28, 16, 6) if owner == origin else (1, 28, 16, 2)))
    count = 1 if rtype in (5, 6) else len(_RDATA[rtype])
    rdata = draw(st.lists(st.sampled_from(_RDATA[rtype]), min_size=1, max_size=count, unique=True))
    return StaticRecords(owner, rtype, draw(st.sampled_from((1, 300))), tuple(rdata), zone)


entities: st.SearchStrategy[Entity] = st.one_of(tasks, tasks, tasks, nodes, frameworks, leaderships, statics())

Step = tuple[dict[Key, Entity], set[int]]
"""Entities to put, and which of the keys that are there (by number) to drop, in one delta."""


def stories(of: st.SearchStrategy[Entity], size: int = 8) -> st.SearchStrategy[list[Step]]:
    """A few deltas of these entities, one after the other."""
    several = st.lists(of, max_size=size).map(lambda found: {entity.key: entity for entity in found})
    return st.lists(st.tuples(several, st.sets(st.integers(0, 20), max_size=4)), min_size=1, max_size=6)


steps = stories(entities)
file_steps = stories(statics(), 3)
"""Records from files only, one or few at a time: zones, wildcards and delegations come and go."""


def advance(state: dict[Key, Entity], step: Step) -> dict[Key, tuple[Entity | None, Entity | None]]:
    """Apply a step to a state; the changes as the catalog tells them."""
    put, gone = step
    keys = list(state)
    changes: dict[Key, tuple[Entity | None, Entity | None]] = {}
    for number in gone:
        if number < len(keys) and keys[number] not in put:
            changes[keys[number]] = (state.pop(keys[number]), None)
    for key, entity in put.items():
        before = state.get(key)
        if before != entity:
            changes[key] = (before, entity)
            state[key] = entity
    return changes
