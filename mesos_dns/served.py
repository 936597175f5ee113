"""One served zone: where it hangs, what it says of itself, and the records below it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from mesos_dns.config import DnsConfig
from mesos_dns.names import NS, SOA, Rdata
from mesos_dns.records import RecordStore, fold
from mesos_dns.taskindex import TaskIndex
from mesos_dns.wire import name_to_wire, soa_rdata

NS_TTL = 3600
"""Seconds, of the NS records that DC/OS' zones have of themselves."""
_LABELS = {**{label: label for label in ("dcos", "mesos", "l4lb", "thisnode", "component")}, "dclb": "l4lb"}
"""First label of a zone of DC/OS' directory → the zone that is meant."""


class Zone:
    """A zone; its records are counted ones (`store`) and those that tasks give (`tasks`).

    `tag` names the records in `touch` reports; several zones may share them (the copy and aliases do).
    A `plain` zone comes from files alone (or is this node's) and has the SOA and NS records that they
    say. `ns_ttl`: seconds, of the apex' NS records; as `ttl` by default.
    """

    def __init__(
        self,
        origin: str,
        tag: str,
        store: RecordStore,
        tasks: TaskIndex | None,
        config: DnsConfig,
        *,
        ttl: int,
        srv: tuple[int, int],
        plain: bool = False,
        ns_ttl: int | None = None,
    ) -> None:
        self.origin = origin
        self.wire = name_to_wire(fold(origin))
        self.tag = tag
        self.store = store
        self.tasks = tasks
        self.ttl = ttl
        self.alias = False
        """True for another name of a zone that is served too."""
        self._ns_ttl = ttl if ns_ttl is None else ns_ttl
        self.srv_prefix = srv
        self.mname = mname_of(config)
        self.rname = config.soa_rname or f"root.{self.mname}"
        minimum = ttl if config.soa_minttl is None else config.soa_minttl
        self._soa_numbers = (config.soa_refresh, config.soa_retry, config.soa_expire, minimum)
        self.ttls: dict[tuple[str, int], int] = {}
        self.plain = plain

    def __repr__(self) -> str:
        return f"<Zone {self.origin} owners={len(self.store)} tasks={0 if self.tasks is None else len(self.tasks)}>"

    def renamed(self, origin: str) -> Zone:
        """The same zone under another name: everything is shared, owners are as they are asked for."""
        other = copy.copy(self)
        other.origin, other.wire, other.alias = origin, name_to_wire(fold(origin)), True
        return other

    def soa(self, serial: int) -> bytes:
        """The SOA rdata: a plain zone's own, else made with the view's serial."""
        if self.plain and (own := self.store.rrset("", SOA)):
            return bytes(own[0])  # type: ignore[arg-type]  # SOA rdata is bytes
        return soa_rdata(self.mname, self.rname, (serial, *self._soa_numbers))

    @property
    def notified(self) -> bool:
        """Whether secondaries are told of changes: not under other names, nor of a zone in which nothing is yet."""
        return not self.alias and (self.plain or self.tasks is not None or len(self.store) > 0)

    @property
    def negative_ttl(self) -> int:
        """Seconds that a negative answer may be kept: the lower of the SOA's TTL and minimum (RFC 2308 §5)."""
        minimum = int.from_bytes(self.soa(0)[-4:], "big")
        return min(self.ttl_of("", SOA), minimum)

    def rrset(self, owner: str, rtype: int) -> list[Rdata]:
        """rdata of a folded relative owner; the apex has NS besides what the store holds."""
        found = self.store.rrset(owner, rtype)
        if self.tasks is not None:
            found = self._with_tasks(found, self.tasks.collect(owner, rtype))
        if not owner and rtype == NS and not found and not self.plain:
            return [name_to_wire(self.mname)]
        return found

    @staticmethod
    def _with_tasks(counted: list[Rdata], of_tasks: dict[Rdata, bool]) -> list[Rdata]:
        """Both together: those fit to serve (counted records are), or all when none is fit."""
        together = dict.fromkeys(counted, True)
        for rdata, fit in of_tasks.items():
            together[rdata] = together.get(rdata, False) or fit
        return [rdata for rdata, fit in together.items() if fit] or list(together)

    def types(self, owner: str) -> list[int]:
        """The types at a folded relative owner."""
        found = self.store.types(owner)
        if self.tasks is not None:
            found = list(dict.fromkeys([*found, *self.tasks.types(owner)]))
        return found if owner or self.plain else list(dict.fromkeys([NS, SOA, *found]))

    def exists(self, owner: str) -> bool:
        """True when the folded relative owner or a name below it has records (RFC 8020)."""
        return not owner or self.store.exists(owner) or (self.tasks is not None and self.tasks.exists(owner))

    def ttl_of(self, owner: str, rtype: int) -> int:
        """Seconds."""
        usual = self.ttl if owner or rtype != NS else self._ns_ttl
        return self.ttls.get((owner, rtype), usual) if self.ttls else usual


def other_parents(directory: str, cluster_key: str) -> tuple[str, ...]:
    """What may stand in the place of DC/OS' directory at the end of a name: NAME.global for NAME.directory, and
    the cluster's own place among all clusters, where its key is known."""
    stem, dot, last = directory.rpartition(".")
    by_name = (f"{stem}.global",) if dot and last.lower() == "directory" else ()
    return (*by_name, f"{cluster_key}.dcos.directory") if cluster_key else by_name


def aliases(zones: Mapping[bytes, Zone], directory: str, parents: Sequence[str]) -> list[Zone]:
    """DC/OS' zones under all their other names, where nothing else is served: below each of `parents`, and `dclb`,
    which is the old name of `l4lb`."""
    found: dict[bytes, Zone] = {}
    for parent in (directory, *parents):
        for label, meant in _LABELS.items():
            zone = zones.get(name_to_wire(fold(f"{meant}.{directory}")))
            if zone is not None and name_to_wire(fold(f"{label}.{parent}")) not in zones:
                alias = zone.renamed(f"{label}.{parent}")
                found[alias.wire] = alias
    return list(found.values())


def mname_of(config: DnsConfig) -> str:
    """The primary name server's name, without trailing dot."""
    return (config.soa_mname or f"ns1.{config.domain}").removesuffix(".")


def name_server_of(config: DnsConfig) -> str:
    """The folded owner of the primary name server in the domain; "" when it is elsewhere."""
    mname, domain = fold(mname_of(config)), fold(config.domain.removesuffix("."))
    return mname[: -len(domain) - 1] if mname.endswith("." + domain) else ""
