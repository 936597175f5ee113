"""What a DNS server has to say of a cluster, worked out anew with dnspython: nothing kept, nothing incremental.

`names` says which records an entity gives; zones, existence, health, CNAMEs and glue are decided here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.name import Name

from mesos_dns import names
from mesos_dns.config import DnsConfig
from mesos_dns.model import Entity, Framework, Health, Key, Leadership, Node, StaticRecords, Task
from mesos_dns.names import Rdata, Record, Rules, TaskPlace
from mesos_dns.served import NS_TTL

DOMAIN = dns.name.from_text("mesos")
COPY = dns.name.from_text("mesos.thisdcos.directory")
DIRECTORY = dns.name.from_text("dcos.thisdcos.directory")
A, NS, CNAME, SOA, AAAA, SRV = 1, 2, 5, 6, 28, 33
CHAIN = 8

Found = tuple[Name, int, frozenset[int], frozenset[str]]
"""A record set: owner, type, its TTL (one of), and its data as text."""


class Verdict(NamedTuple):
    """`certain`: the table of ready answers has to know it once it was asked for."""

    rcode: str
    answer: list[Found]
    authority: list[Found]
    additional: set[tuple[Name, int, frozenset[str]]]
    certain: bool


def name_of(owner: str, origin: Name) -> Name | None:
    """An owner below an origin; None where it can't stand on the wire."""
    labels = [part.encode() for part in owner.split(".")] if owner else []
    try:
        return Name([*labels, *origin.labels]) if all(labels) else None
    except dns.exception.DNSException:
        return None


class Contents:
    """The record sets of one zone by (owner, type); `there` are owners without data that can be served."""

    def __init__(self, origin: Name, ttl: int, plain: bool = False) -> None:
        self.origin, self.ttl, self.plain = origin, ttl, plain
        self.fit: dict[tuple[Name, int], dict[str, None]] = defaultdict(dict)
        self.unfit: dict[tuple[Name, int], dict[str, None]] = defaultdict(dict)
        self.ttls: dict[tuple[Name, int], set[int]] = defaultdict(set)
        self.there: set[Name] = set()
        self.marks: set[bytes] = set()
        self.stars: list[Name] = []
        self.starred = False

    def sealed(self) -> Contents:
        """With everything that is at or above an owner."""
        for owner in [*self.there, *(owner for owner, _ in {**self.fit, **self.unfit})]:
            while owner != self.origin:
                self.there.add(owner)
                owner = owner.parent()
        self.stars = [owner.parent() for owner in self.there if owner.labels[0] == b"*"]
        self.starred = any(b"*" in label for owner in self.there for label in owner.labels)
        return self

    def rrset(self, owner: Name, rtype: int) -> list[str]:
        """Those fit to serve, or all where none is."""
        return list(self.fit.get((owner, rtype)) or self.unfit.get((owner, rtype)) or ())

    def types(self, owner: Name) -> set[int]:
        return {rtype for each, rtype in {**self.fit, **self.unfit} if each == owner}

    def ttls_of(self, owner: Name, rtype: int) -> frozenset[int]:
        return frozenset(self.ttls.get((owner, rtype), set()) | {self.ttl})


class Judge:
    """See the module. `serial` is that of the zones."""

    def __init__(self, state: dict[Key, Entity], config: DnsConfig, serial: int) -> None:
        self.config, self.serial, self.rules = config, serial, Rules(config.ip_sources, config.enforce_rfc952)
        places = list(self._places(state))
        self.zones = {
            DOMAIN: self._cluster(DOMAIN, config.ttl, (0, config.srv_weight), state, places),
            COPY: self._cluster(COPY, config.directory_ttl, (1, 1), state, places),
            DIRECTORY: self._directory(state, places),
        }
        self._add_files([entity for entity in state.values() if isinstance(entity, StaticRecords)])
        for zone in self.zones.values():
            zone.sealed()

    @staticmethod
    def _places(state: dict[Key, Entity]) -> Iterator[TaskPlace]:
        for task in state.values():
            if isinstance(task, Task) and task.state == names.RUNNING:
                framework = state.get(("framework", task.cluster, task.framework_id))
                node = state.get(("node", task.cluster, task.node_id))
                if isinstance(framework, Framework) and isinstance(node, Node):
                    yield TaskPlace(task, framework.name, node.addresses)

    def _cluster(
        self, origin: Name, ttl: int, prefix: tuple[int, int], state: dict[Key, Entity], places: list[TaskPlace]
    ) -> Contents:
        zone = Contents(origin, ttl)
        zone.fit[origin, NS]["ns1.mesos."] = None
        if origin == COPY:
            zone.ttls[origin, NS].add(NS_TTL)
        self._put(zone, prefix, [("ns1", A, b"\x7f\0\0\1")])
        for entity in state.values():
            if isinstance(entity, Framework):
                self._put(zone, prefix, names.framework_records(entity, self.rules))
            elif isinstance(entity, Node):
                self._put(zone, prefix, names.node_records(entity))
            elif isinstance(entity, Leadership):
                self._put(zone, prefix, names.leadership_records(entity))
        for place in places:
            zone.marks.add(names.unique_suffix(place.task).partition(".")[0].lower().encode())
            self._put(zone, prefix, names.task_records(place, self.rules), self._fit(place))
        return zone

    def _directory(self, state: dict[Key, Entity], places: list[TaskPlace]) -> Contents:
        zone = Contents(DIRECTORY, self.config.directory_ttl)
        zone.fit[DIRECTORY, NS]["ns1.mesos."] = None
        zone.ttls[DIRECTORY, NS].add(NS_TTL)
        for entity in state.values():
            if isinstance(entity, Leadership):
                self._put(zone, (0, 1), names.directory_leadership_records(entity))
        for place in places:
            for slot in names.shape(place, self.rules).directory:
                data = names.slot_rdata(slot, place, self.rules, "")
                self._put(zone, (0, 1), [(slot.owner(""), slot.rtype, each) for each in data], self._fit(place))
        return zone

    def _fit(self, place: TaskPlace) -> bool:
        return self.config.health == "ignore" or place.task.health in (Health.NONE, Health.HEALTHY)

    @staticmethod
    def _put(zone: Contents, prefix: tuple[int, int], records: Iterable[Record], fit: bool = True) -> None:
        # What is too long for the domain is in none of its copies.
        base = DOMAIN if zone.origin == COPY else zone.origin
        for owner, rtype, data in records:
            name = name_of(owner, zone.origin)
            if name is None or name_of(owner, base) is None:
                continue
            zone.there.add(name)
            text = _text(rtype, data, prefix, zone.origin, base)
            if text is not None:
                (zone.fit if fit else zone.unfit)[name, rtype][text] = None

    def _add_files(self, sets: list[StaticRecords]) -> None:
        for each in sets:
            origin = dns.name.from_text(each.zone) if each.zone else None
            if origin is not None and origin not in self.zones:
                self.zones[origin] = Contents(origin, self.config.ttl, plain=True)
        for each in sets:
            owner = dns.name.from_text(each.owner)
            zone = self.zones.get(dns.name.from_text(each.zone)) if each.zone else self.find(owner)
            if zone is None or not owner.is_subdomain(zone.origin):
                continue
            homes = [(zone, owner)]
            if zone.origin == DOMAIN:
                homes.append((self.zones[COPY], owner.relativize(DOMAIN).derelativize(COPY)))
            for home, name in homes:
                if home.origin != COPY:
                    home.ttls[name, each.rtype].add(each.ttl)
                if name == home.origin and each.rtype == NS and not home.plain:
                    home.fit[name, NS].pop("ns1.mesos.", None)
                home.there.add(name)
                for data in each.rdata:
                    home.fit[name, each.rtype][_from_wire(each.rtype, data)] = None

    def find(self, name: Name) -> Contents | None:
        """The zone that a name is in."""
        held = [zone for origin, zone in self.zones.items() if name.is_subdomain(origin)]
        return max(held, key=lambda zone: len(zone.origin), default=None)

    def decide(self, name: Name, rtype: int) -> Verdict | None:
        """The answer to a question; None where it comes from a wildcard, a delegation, or from elsewhere."""
        zone = self.find(name)
        if zone is None:
            return None if name.labels[-2:] == (b"arpa", b"") else Verdict("REFUSED", [], [], set(), True)
        answer: list[Found] = []
        at: Name = name
        while True:
            if self._passes(zone, at):
                return None
            if at != zone.origin and at not in zone.there:
                return None if answer else Verdict("NXDOMAIN", [], [self._soa(zone)], set(), self.is_denied(zone, name))
            kind = rtype if zone.rrset(at, rtype) else CNAME
            if rtype == SOA or not (data := zone.rrset(at, kind)):
                return None if answer or rtype == SOA else self._nodata(zone, at, rtype)
            answer.append((at, kind, zone.ttls_of(at, kind), frozenset(data)))
            following = self.find(dns.name.from_text(data[0])) if kind == CNAME != rtype else None
            if following is None or len(answer) > CHAIN:
                return Verdict("NOERROR", answer, [], self._glue(zone, kind, data, [each[0] for each in answer]), True)
            zone, at = following, dns.name.from_text(data[0])

    def _passes(self, zone: Contents, name: Name) -> bool:
        """True below a delegation, and where a wildcard may answer."""
        above = name
        while zone.plain and above != zone.origin:
            if zone.rrset(above, NS):
                return True
            above = above.parent()
        exists = name == zone.origin or name in zone.there
        return not exists and any(name.is_subdomain(parent) for parent in zone.stars)

    def is_denied(self, zone: Contents, name: Name) -> bool:
        """Whether the table says by itself that a name is absent."""
        alike = any(label.lower().endswith(mark) for label in name.labels for mark in zone.marks)
        return not (zone.plain or zone.starred or alike)

    def _nodata(self, zone: Contents, name: Name, rtype: int) -> Verdict:
        owns = bool(zone.types(name) - {rtype}) or name == zone.origin
        return Verdict("NOERROR", [], [self._soa(zone)], set(), owns and not zone.plain and rtype in (1, 16, 28, 33))

    def _soa(self, zone: Contents) -> Found:
        ttls = zone.ttls_of(zone.origin, SOA)
        own = zone.rrset(zone.origin, SOA) if zone.plain else []
        if own:
            return (zone.origin, SOA, frozenset(min(ttl, int(own[0].split()[-1])) for ttl in ttls), frozenset(own))
        c = self.config
        minimum = zone.ttl if c.soa_minttl is None else c.soa_minttl
        numbers = f"{self.serial} {c.soa_refresh} {c.soa_retry} {c.soa_expire} {minimum}"
        data = frozenset((f"ns1.mesos. root.ns1.mesos. {numbers}",))
        return (zone.origin, SOA, frozenset(min(ttl, minimum) for ttl in ttls), data)

    def _glue(
        self, zone: Contents, kind: int, data: list[str], said: list[Name]
    ) -> set[tuple[Name, int, frozenset[str]]]:
        """Addresses of what an SRV or NS answer points to."""
        found = set()
        for target in (dns.name.from_text(text.split()[-1]) for text in data if kind in (NS, SRV)):
            home = zone if kind == SRV and target.is_subdomain(zone.origin) else self.find(target)
            if home is None or target in said:
                continue
            found |= {(target, rtype, frozenset(d)) for rtype in (A, AAAA) if (d := home.rrset(target, rtype))}
        return found


def _text(rtype: int, data: Rdata, prefix: tuple[int, int], origin: Name, base: Name) -> str | None:
    if isinstance(data, bytes):
        return _from_wire(rtype, data)
    target = name_of(data[1], origin)
    if target is None or name_of(data[1], base) is None:
        return None
    return f"{prefix[0]} {prefix[1]} {data[0] & 0xFFFF} {target.to_text().lower()}"


def _from_wire(rtype: int, data: bytes) -> str:
    return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rtype), data, 0, len(data)).to_text()
