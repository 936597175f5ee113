"""Whether an entity that a server told has values that names can be made of: addresses, ports, record sets."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mesos_dns.model import (
    App,
    Draining,
    Ensemble,
    Entity,
    Framework,
    HealthOverlay,
    Leadership,
    Node,
    StaticRecords,
    Suspect,
    Task,
    Vip,
    VipAddress,
    canonical_address,
)
from mesos_dns.wire import MAX_NAME, IllegalName, name_to_wire

_FORMS = {
    1: (4, 0, 0),
    2: (0, 1, 0),
    5: (0, 1, 0),
    6: (0, 2, 20),
    12: (0, 1, 0),
    15: (2, 1, 0),
    28: (16, 0, 0),
    33: (6, 1, 0),
    39: (0, 1, 0),
}
"""Record types (A, NS, CNAME, SOA, PTR, MX, AAAA, SRV, DNAME) whose data is looked into when answers are made:
octets, then names, then octets."""


def fault_of(entity: Entity) -> str:
    """Why an entity of the right shape has values that nobody reckons with; "" when all is well."""
    bad = next((text for text in _addresses(entity) if text != (canonical_address(text) or None)), None)
    if bad is not None:
        return f"{ascii(bad)[:80]} is no canonical address"
    if isinstance(entity, StaticRecords):
        return _records_fault(entity)
    if not all(0 <= port < 1 << 16 for port in _ports(entity)):
        return "a port out of range"
    if isinstance(entity, Vip):
        return _vip_fault(entity)
    if isinstance(entity, Task) and not math.isfinite(entity.start_time):
        return "no start time"
    return "a number that is none" if not all(map(math.isfinite, _numbers(entity))) else ""


def _records_fault(records: StaticRecords) -> str:
    if not (0 < records.rtype < 1 << 16 and 0 <= records.ttl < 1 << 31 and records.owner.endswith(".")):
        return "no record set"
    try:
        name_to_wire(records.owner)
        name_to_wire(records.zone)
    except IllegalName as error:
        return str(error)[:200]
    if not all(len(rdata) < 1 << 16 and is_form_of(records.rtype, rdata) for rdata in records.rdata):
        return f"data that is none of type {records.rtype}"
    return ""


def _vip_fault(vip: Vip) -> str:
    numbers = (vip.persistence, vip.upper_threshold, vip.lower_threshold, *(server.weight for server in vip.servers))
    if vip.protocol not in ("tcp", "udp") or not vip.port or not all(0 <= number < 1 << 31 for number in numbers):
        return "no virtual IP"
    if vip.check is not None and not all(
        math.isfinite(number) and number > 0 for number in (vip.check.interval, vip.check.timeout)
    ):
        return "a check without times"
    if canonical_address(vip.target):
        return "" if canonical_address(vip.target) == vip.target else "no canonical address"
    try:
        name_to_wire(vip.target)
    except IllegalName as error:
        return str(error)[:200]
    return "" if vip.target else "a virtual IP without a name"


def is_form_of(rtype: int, rdata: bytes) -> bool:
    """Whether record data has the form of its type, as far as answers depend on it (names are uncompressed)."""
    form = _FORMS.get(rtype)
    if form is None:
        return True
    at, names, rest = form
    for _ in range(names):
        began = at
        while True:
            if at >= len(rdata) or rdata[at] > 63:
                return False
            length = rdata[at]
            at += 1 + length
            if not length:
                break
        if at - began > MAX_NAME:
            return False
    return at + rest == len(rdata)


def _addresses(entity: Entity) -> Iterator[str]:
    if isinstance(entity, Node | Framework):
        yield from entity.addresses
    elif isinstance(entity, Task):
        for network in entity.networks:
            yield from network.addresses
        yield from (address for _, address in entity.label_addresses)
    elif isinstance(entity, Leadership):
        yield from (master.address for master in (entity.leader, *entity.masters) if master is not None)
    elif isinstance(entity, Ensemble):
        for addresses in entity.servers:
            yield from addresses
    elif isinstance(entity, Suspect):
        yield entity.address
    elif isinstance(entity, HealthOverlay):
        yield from (*entity.host_addresses, *entity.addresses)
    elif isinstance(entity, VipAddress):
        yield from (address for address in (entity.address, entity.address6) if address)
    elif isinstance(entity, Vip):
        yield from (server.address for server in entity.servers)


def _ports(entity: Entity) -> Iterator[int]:
    if isinstance(entity, Node | Framework):
        yield entity.port
    elif isinstance(entity, Leadership):
        yield from (master.port for master in (entity.leader, *entity.masters) if master is not None)
    elif isinstance(entity, Vip):
        yield entity.port
        yield from (server.port for server in entity.servers)
    elif isinstance(entity, App):
        for port in entity.ports:
            yield from (port.service_port, port.container_port, max(port.host_port, 0))
        yield from (check.port for check in entity.checks)
    elif isinstance(entity, HealthOverlay):
        yield from entity.ports


def _numbers(entity: Entity) -> Iterator[float]:
    if isinstance(entity, App):
        yield from (entity.config_changed, entity.scaled)
        for check in entity.checks:
            yield from (check.grace, check.interval, check.timeout)
    elif isinstance(entity, HealthOverlay):
        yield from (entity.staged, entity.started)
    elif isinstance(entity, Draining):
        yield entity.until
