"""The name rules: which records a task, an agent, a framework and the masters give. Pure functions.

The records of the cluster's domain are mesos-dns' (v0.7, equal to its /v1/axfr record for record);
those of DC/OS' directory zone are dcos-net's. F is the framework's name, T the task's, D the
domain, id5 a hash of the task id, Sn the end of the agent id:

    F.D                          A, AAAA  scheduler            _framework._tcp.F.D        SRV
    slave.D                      A, AAAA  every agent          _slave._tcp.D              SRV
    leader.D master.D masterN.D  A, AAAA  masters              _leader._tcp|_udp.D        SRV
    T.F.D  T-id5-Sn.F.D          A, AAAA  task (IP sources)    _T._tcp|_udp.F[.slave].D   SRV
    T.F.slave.D  T-id5-Sn.F.slave.D       its agent            _[port.]_T._proto.F.D      SRV

A task with a discovery name is published under that name as written and once more as a label.
Owners are relative to the zone and keep the case they were written in; whether a name fits on the
wire is decided by the zone, so that one bad name costs only itself.

A record is (owner, type, rdata). rdata is 4 or 16 packed bytes for A and AAAA, (port, target) for
SRV with `target` relative to the same zone.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeAlias

import msgspec

from mesos_dns.model import Ensemble, Framework, Leadership, Node, NodeState, Task

A, NS, CNAME, SOA, PTR, AAAA, SRV, ANY = 1, 2, 5, 6, 12, 28, 33, 255

Rdata: TypeAlias = bytes | tuple[int, str]
Record: TypeAlias = tuple[str, int, Rdata]

RUNNING = "TASK_RUNNING"
ENSEMBLE_NAMES = 5
_ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_KEPT = {ord(c): c.lower() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"} | {
    ord(c): "-" for c in "._-"
}
_RESERVED = re.compile(r"leader|slave|master\d*")


class Rules(msgspec.Struct, frozen=True):
    """What of the configuration bears on names; `name_server` is its owner relative to the domain."""

    ip_sources: tuple[str, ...] = ("netinfo", "mesos", "host")
    enforce_rfc952: bool = False
    name_server: str = "ns1"

    def label(self, text: str) -> str:
        """`text` as one label under these rules."""
        return label(text, 24, "-0123456789") if self.enforce_rfc952 else label(text)


class TaskPlace(msgspec.Struct, frozen=True, gc=False):
    """A running task joined with what names need of its framework and agent."""

    task: Task
    framework: str
    node_addresses: tuple[str, ...]


@lru_cache(maxsize=1 << 16)
def label(text: str, limit: int = 63, strip: str = "-") -> str:
    """`text` as one DNS label, as mesos-dns and dcos-net make it; "" when nothing is left.

    Letters are lowered, digits kept, ". _ -" become "-", everything else is dropped; `strip` is
    cut from the left; at most `limit` characters stay, and when the cut leaves hyphens at the end
    they are replaced from what follows.
    """
    kept = "".join([_KEPT.get(ord(char), "") for char in text]).lstrip(strip)
    length = min(len(kept), limit)
    head = kept[:length].rstrip("-")
    if len(head) == length:
        return head
    return head + kept[length:].lstrip("-")[: length - len(head)]


@lru_cache(maxsize=1 << 12)
def domain_fragment(text: str, rules: Rules = Rules()) -> str:  # noqa: B008 - immutable
    """A dotted name with every piece made a label and empty pieces left out (framework names)."""
    return ".".join([piece for part in text.split(".") if (piece := rules.label(part))])


@lru_cache(maxsize=1 << 12)  # one answer asks several times for each of its tasks
def id5(task_id: str) -> str:
    """The first five zbase32 characters of sha1(task id): what makes a canonical name unique."""
    bits = int.from_bytes(hashlib.sha1(task_id.encode(), usedforsecurity=False).digest()[:4], "big") >> 7
    return "".join([_ZBASE32[(bits >> shift) & 31] for shift in (20, 15, 10, 5, 0)])


@lru_cache(maxsize=1 << 16)
def packed(address: str) -> bytes:
    """4 or 16 bytes of a canonical address text."""
    return ipaddress.ip_address(address).packed


def _addresses(owner: str, addresses: Iterable[str]) -> Iterator[Record]:
    for address in addresses:
        data = packed(address)
        yield owner, A if len(data) == 4 else AAAA, data


def task_addresses(place: TaskPlace, rules: Rules) -> tuple[str, ...]:
    """The addresses of the first configured IP source that has any (mesos-dns: IPSources)."""
    task = place.task
    for source in rules.ip_sources:
        if source == "host":
            found = place.node_addresses
        elif source == "netinfo":
            found = container_addresses(task)
        else:
            found = tuple(address for kind, address in task.label_addresses if kind == source)
        if found:
            return found
    return ()


def container_addresses(task: Task) -> tuple[str, ...]:
    """Every address of the task's networks, in order."""
    if len(task.networks) == 1:
        return task.networks[0].addresses
    return tuple(address for network in task.networks for address in network.addresses)


def unique_suffix(task: Task) -> str:
    """-id5-Sn: what a canonical name adds to the task's name; without an agent, the end of the task's id is Sn."""
    end = task.node_id.rpartition("-")[2].lower() if task.node_id else task.id.rpartition("_")[2]
    return f"-{id5(task.id)}-{end}"


def task_names(task: Task, rules: Rules) -> tuple[str, ...]:
    """The names that a task is published under: the discovery name raw and as a label, or its own."""
    if not task.discovery_name:
        return (rules.label(task.name),)
    labelled = rules.label(task.discovery_name)
    return (task.discovery_name,) if labelled == task.discovery_name else (task.discovery_name, labelled)


class Slot(msgspec.Struct, frozen=True, gc=False):
    """One owner and type that a task contributes to; `kind` says where the rdata comes from.

    A group slot's owner is `name + tail`, shared by every task of that name and framework; a
    canonical slot's is `name + unique_suffix + tail`, the task's own. SRV slots point to the
    canonical name `target_name + unique_suffix + target_tail`; `port` limits them to discovery
    ports with this (protocol label, name label), None as port name meaning any.
    """

    kind: str
    rtype: int
    name: str
    tail: str
    canonical: bool = False
    target_name: str = ""
    target_tail: str = ""
    port: tuple[str, str | None] | None = None

    def owner(self, unique: str) -> str:
        """The owner for a task with this unique suffix."""
        return f"{self.name}{unique}{self.tail}" if self.canonical else self.name + self.tail


class Shape(msgspec.Struct, frozen=True):
    """The slots of all tasks that look alike: in the domain, and in DC/OS' directory zone."""

    domain: tuple[Slot, ...] = ()
    directory: tuple[Slot, ...] = ()


def _families(addresses: Iterable[str]) -> tuple[int, ...]:
    has_v6 = has_v4 = False
    for address in addresses:
        if ":" in address:
            has_v6 = True
        else:
            has_v4 = True
    if has_v4:
        return (A, AAAA) if has_v6 else (A,)
    return (AAAA,) if has_v6 else ()


def shape_key(place: TaskPlace, rules: Rules) -> tuple[object, ...]:
    """What the shape of a task depends on; equal keys have equal shapes."""
    task = place.task
    return (
        place.framework,
        task.discovery_name,
        "" if task.discovery_name else task.name,
        _families(task_addresses(place, rules)),
        _families(place.node_addresses),
        _families(container_addresses(task)),
        any(mapping.host_port for mapping in task.port_mappings) if task.port_mappings else False,
        bool(task.host_ports),
        tuple([(port.protocol, port.name, port.secondary) for port in task.ports]),
    )


def same_records(old: TaskPlace, new: TaskPlace, rules: Rules) -> bool:
    """True when two states of one task give the same records (what else changed bears on no name)."""
    before, after = old.task, new.task
    return (
        old.node_addresses == new.node_addresses
        and before.node_id == after.node_id
        and before.host_ports == after.host_ports
        and [port.number for port in before.ports] == [port.number for port in after.ports]
        and container_addresses(before) == container_addresses(after)
        and task_addresses(old, rules) == task_addresses(new, rules)
        and shape_key(old, rules) == shape_key(new, rules)
    )


def shape(place: TaskPlace, rules: Rules) -> Shape:
    """The slots of one running task."""
    task, framework = place.task, domain_fragment(place.framework, rules)
    if not framework:
        return Shape()
    slots: list[Slot] = []
    tail, slave = f".{framework}", f".{framework}.slave"
    for name in task_names(task, rules):
        for kind, families, suffix in (
            ("own", _families(task_addresses(place, rules)), tail),
            ("host", _families(place.node_addresses), slave),
        ):
            for rtype in families:
                slots.append(Slot(kind, rtype, name, suffix))
                slots.append(Slot(kind, rtype, name, suffix, canonical=True))
        if task.host_ports:
            for suffix in (slave,) if task.discovery_name else (slave, tail):
                for protocol in ("tcp", "udp"):
                    owner = f"_{name}._{protocol}"
                    slots.append(Slot("host-port", SRV, owner, suffix, target_name=name, target_tail=slave))
        if task.discovery_name:
            slots.extend(_discovery_slots(task, name, tail, rules))
    return Shape(tuple(slots), _directory_slots(place))


def _discovery_slots(task: Task, name: str, tail: str, rules: Rules) -> Iterator[Slot]:
    """SRV of DiscoveryInfo's ports: by protocol, and by port name and protocol."""
    slots: dict[Slot, None] = {}
    for port in task.ports:
        protocol = rules.label(port.protocol)
        port_name = rules.label(port.name)
        for each in (protocol,) if protocol else ("tcp", "udp"):
            owner = f"_{name}._{each}"
            if not port.secondary:
                slots[Slot("port", SRV, owner, tail, target_name=name, target_tail=tail, port=(each, None))] = None
            if port_name:
                named = f"_{port_name}.{owner}"
                slots[Slot("port", SRV, named, tail, target_name=name, target_tail=tail, port=(each, port_name))] = None
    return iter(slots)


def _directory_slots(place: TaskPlace) -> tuple[Slot, ...]:
    """A task's owners in DC/OS' directory zone (dcos-net): agentip, containerip, autoip."""
    name = label(place.task.discovery_name or place.task.name)
    tail = "." + domain_fragment(place.framework)
    if not name or tail == ".":
        return ()
    return tuple(
        Slot(kind, rtype, name, f"{tail}.{suffix}")
        for kind, suffix in (("host", "agentip"), ("container", "containerip"), ("auto", "autoip"))
        for rtype in _families(_slot_addresses(kind, place, Rules()))
    )


def _slot_addresses(kind: str, place: TaskPlace, rules: Rules) -> tuple[str, ...]:
    """The addresses of a slot's kind. autoip is the agent's address when a port of the host is
    mapped into the container, else the container's; a container without an address of its own has
    the agent's."""
    if kind == "own":
        return task_addresses(place, rules)
    agent = place.node_addresses
    if kind == "host" or (kind == "auto" and any(mapping.host_port for mapping in place.task.port_mappings)):
        return agent
    return container_addresses(place.task) or agent


def slot_rdata(slot: Slot, place: TaskPlace, rules: Rules, unique: str) -> list[Rdata]:
    """What one task contributes to one of its slots; `unique` is its unique_suffix."""
    if slot.rtype != SRV:
        size = 4 if slot.rtype == A else 16
        addresses = map(packed, _slot_addresses(slot.kind, place, rules))
        return [data for data in addresses if len(data) == size]
    target = f"{slot.target_name}{unique}{slot.target_tail}"
    if slot.port is None:
        return [(port, target) for port in place.task.host_ports]
    protocol, port_name = slot.port
    # A port without a protocol is published for TCP and UDP, and for no other that a neighbour has.
    wanted = (protocol, "") if protocol in ("tcp", "udp") else (protocol,)
    return [
        (port.number, target)
        for port in place.task.ports
        if rules.label(port.protocol) in wanted
        and (not port.secondary if port_name is None else rules.label(port.name) == port_name)
    ]


def task_records(place: TaskPlace, rules: Rules) -> list[Record]:
    """All records of one running task in the cluster's domain, in mesos-dns' order."""
    unique = unique_suffix(place.task)
    return [
        (slot.owner(unique), slot.rtype, rdata)
        for slot in shape(place, rules).domain
        for rdata in slot_rdata(slot, place, rules, unique)
    ]


def framework_records(framework: Framework, rules: Rules) -> list[Record]:
    """F.D and _framework._tcp.F.D; a reserved name (leader, slave, …) gets no address this way."""
    name = domain_fragment(framework.name, rules)
    if not name:
        return []
    reserved = name == rules.name_server or _RESERVED.fullmatch(name)
    records = [] if reserved else list(_addresses(name, framework.addresses))
    if framework.addresses and framework.port:
        records.append((f"_framework._tcp.{name}", SRV, (framework.port, name)))
    return records


def node_records(node: Node) -> list[Record]:
    """slave.D and _slave._tcp.D, for agents that the master knows, deactivated ones too."""
    if node.state in (NodeState.UNREACHABLE, NodeState.GONE) or not node.addresses:
        return []
    return [*_addresses("slave", node.addresses), ("_slave._tcp", SRV, (node.port, "slave"))]


def leadership_records(leadership: Leadership) -> list[Record]:
    """leader.D, master.D, masterN.D. masterN follows the configured order without duplicates; a
    leader that is not in the list takes the number after the last."""
    records: list[Record] = []
    leader = leadership.leader
    if leader is not None:
        records += [*_addresses("leader", (leader.address,)), *_addresses("master", (leader.address,))]
        records += [(f"_leader._{protocol}", SRV, (leader.port, "leader")) for protocol in ("tcp", "udp")]
    seen = {leader.address} if leader is not None else set()
    number, leader_numbered = 0, False
    for master in leadership.masters:
        if master == leader:
            if leader_numbered:
                continue
            leader_numbered = True
        elif master.address in seen:
            continue
        seen.add(master.address)
        records += [*_addresses("master", (master.address,)), *_addresses(f"master{number}", (master.address,))]
        number += 1
    if leader is not None and not leader_numbered:
        records += _addresses(f"master{number}", (leader.address,))
    return records


def ensemble_records(ensemble: Ensemble) -> list[Record]:
    """zk-1 to zk-5 in the zone `zk`: always five names, the servers repeated in turn (dcos-net)."""
    servers = ensemble.servers
    return [
        record
        for number in range(ENSEMBLE_NAMES if servers else 0)
        for record in _addresses(f"zk-{number + 1}", servers[number % len(servers)])
    ]


def directory_leadership_records(leadership: Leadership) -> list[Record]:
    """leader and master in DC/OS' directory zone."""
    records = [] if leadership.leader is None else list(_addresses("leader", (leadership.leader.address,)))
    members = {master.address for master in leadership.masters}
    if leadership.leader is not None:
        members.add(leadership.leader.address)
    return records + [record for address in sorted(members) for record in _addresses("master", (address,))]
