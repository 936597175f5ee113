"""`[l4]` of one process: the table of virtual IPs, who allocates their addresses, what carries them, and their names.

    catalog ─▶ VipTable ─▶ Carrying ─▶ data plane           (nodes)
                  │            └─ answers ─▶ VipNames ─▶ zone
                  └─▶ Allocator ─▶ VipAddress ─▶ catalog     (servers alone)

The table is always there: without `[l4]` a VIP's name answers as soon as it has an address. With a data plane it
answers once that has it. What is in the kernel stays there when the process ends, and goes on; it is taken away when
`[l4]` is taken out of the configuration of a running process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from agent.background import Background
from agent.carrying import Carrying
from agent.coordination import Coordination
from agent.protected_addresses import protected
from agent.reachability import ReachabilitySource
from agent.sections import Config
from agent.vip_name_follower import NameFollower
from lb4.addresses import network_range
from lb4.allocator import Allocator
from lb4.balancer import Balancer
from lb4.config import L4Config
from lb4.metrics import L4Parts
from lb4.names import VipNames
from lb4.table import VipTable
from lb4.vip import VipKey
from lb4.vip_file_source import VipFileSource
from mesos_dns.catalog import Catalog, Delta
from mesos_dns.hearing import Hearing
from mesos_dns.model import Key, Node, Suspect, canonical_address
from mesos_dns.publish import CatalogPublisher

log = logging.getLogger(__name__)

SOURCES = ("vip_file", "vips", "reachability")
"""Sources that `[l4]` brings into the catalog, in the order of trust."""


class Balancing:
    """See the module. `follow`, `open`; for another configuration `change`; `close`.

    `known` tells whether anybody has said yet what runs; `hearing` which followers are heard; `sources` is the
    process' register of sources.
    """

    def __init__(self, catalog: Catalog, known: Callable[[], bool], hearing: Hearing, sources: dict[str, Any]) -> None:
        self.table = VipTable(later=_soon)
        self.names = VipNames()
        self.carrying = Carrying(
            self.table,
            self._is_known,
            self._follow,
            self._follow_all,
            self._protect,
            may_drop=lambda: not self._unread,
            heard=self._is_heard,
        )
        self.allocator: Allocator | None = None
        self._catalog = catalog
        self._known = known
        self._hearing = hearing
        self._sources = sources
        self._follower = NameFollower(self.table, self.names, self.carrying.answers)
        self._nodes: dict[Key, str] = {}
        self._suspects: dict[Key, str] = {}
        self._all_due = False
        self._background = Background()
        self._config = Config()
        self.table.listen(self._follow)
        self.table.listen(self._fixed_changed)
        self.table.listen_names(self._wanted_changed)

    @property
    def balancer(self) -> Balancer | None:
        """Who programs the data plane; None where there is none."""
        return self.carrying.balancer

    @property
    def addresses_known(self) -> bool:
        """Whether the addresses of VIPs have been told, now or before a restart."""
        return self.allocator is None or self.allocator.known

    @property
    def _unread(self) -> bool:
        """Whether the VIP file was never read, and nothing is known of it from before."""
        source = self._sources.get("vip_file")
        return isinstance(source, VipFileSource) and source.unread

    @property
    def lacks(self) -> bool:
        """Whether something that the configuration asks for could not be had."""
        return self.carrying.lacks or (serves(self._config) and self.allocator is None)

    async def follow(self) -> None:
        """Build the table from the catalog, and hear of every change from now on."""
        await self._catalog.follow(self._apply)

    async def open(self, config: Config, coordination: Coordination) -> None:
        """Start what the configuration asks for. What can't be used is logged, and keeps nothing else from running."""
        self._config = config
        self._protect()
        self._open_sources(config, coordination)
        if config.l4 is not None:
            await self.carrying.open(config.l4)
        await self._follower.follow_all()

    async def end_sources(self, new: Config, *, other_coordinator: bool) -> None:
        """End the sources that another configuration, or another coordinator, has no use for. What they said stays."""
        old = self._config
        if not serves(new) or other_coordinator or _ranges(old) != _ranges(new):
            for name in ("vips", "reachability"):
                await self._background.end(name)
                self._sources.pop(name, None)
            self.allocator = None
        if _file(old) != _file(new):
            await self._background.end("vip_file")
            self._sources.pop("vip_file", None)

    async def change(self, new: Config, coordination: Coordination) -> None:
        """Go on as another configuration says, after `end_sources`."""
        self._config = new
        self._protect()
        self._open_sources(new, coordination)
        await self.carrying.change(new.l4)
        await self._follower.follow_all()

    async def close(self) -> None:
        """End everything; what is in the kernel goes on."""
        await self._background.end_all()
        await self.carrying.close(take_away=False)
        self._catalog.unlisten(self._apply)

    # --- what it tells ----------------------------------------------------------------------------

    def parts(self) -> L4Parts:
        """For the metrics."""
        carrying = self.carrying
        return L4Parts(
            self.table,
            carrying.balancer,
            carrying.opened.plane,
            self.allocator,
            carrying.checks,
            carrying.connections,
            len(carrying.containers) if carrying.containers is not None else 0,
            len(self._suspects),
            carrying.upkeep.failures if carrying.upkeep is not None else {},
            dataplane=carrying.opened.name,
        )

    def status(self) -> dict[str, Any] | None:
        """For people; None while `[l4]` is off."""
        if self._config.l4 is None:
            return None
        carrying = self.carrying
        return {
            "dataplane": carrying.opened.name,
            "reason": carrying.opened.reason,
            "vips": len(self.table),
            "withheld": len(self.table.withheld),
            "bad_labels": dict(self.table.bad_labels),
            "suspects": sorted(self._suspects.values()),
            "balancer": msgspec.to_builtins(carrying.balancer.status()) if carrying.balancer is not None else None,
            "allocator": self.allocator.status if self.allocator is not None else None,
            "containers": len(carrying.containers) if carrying.containers is not None else 0,
            "kernel": dict(carrying.upkeep.failures) if carrying.upkeep is not None else {},
        }

    # --- sources ----------------------------------------------------------------------------------

    def _open_sources(self, config: Config, coordination: Coordination) -> None:
        """Those that are asked for and do not run yet."""
        l4 = config.l4
        if l4 is None:
            return
        if l4.vip_file and "vip_file" not in self._background:
            self._run("vip_file", VipFileSource(CatalogPublisher(self._catalog, "vip_file"), Path(l4.vip_file)))
        if config.relay is None and "vips" not in self._background:
            self._serve(l4, coordination)

    def _serve(self, l4: L4Config, coordination: Coordination) -> None:
        """Allocate addresses, and tell which nodes are suspect."""
        publisher = CatalogPublisher(self._catalog, "vips")
        coordinator = coordination.coordinator
        if coordinator is None:
            log.error("no addresses are allocated to virtual IPs: there is no coordinator")
            return
        # Names of tasks don't wait for virtual IPs: who asks whether this process is ready need not know of these.
        publisher.mark(connected=False, synced=True, detail="the coordinator was not read yet")
        self.allocator = Allocator(
            coordinator,
            [network_range(l4.range, 4), network_range(l4.range6, 6)],
            publisher,
            lambda: self.table.names,
            lambda: self.table.fixed_addresses,
            complete=self._known,
        )
        self._run("vips", self.allocator)
        shared = coordinator if coordination.target is not None else None
        reachability = CatalogPublisher(self._catalog, "reachability")
        nodes = self._nodes.values
        self._run("reachability", ReachabilitySource(reachability, self._hearing, lambda: set(nodes()), shared))

    def _run(self, name: str, source: Any) -> None:
        self._sources[name] = source
        self._background.spawn(name, source.run())

    # --- changes ----------------------------------------------------------------------------------

    def _apply(self, delta: Delta) -> None:
        self.table.apply(delta)
        for key, (_, after) in delta.changes.items():
            if isinstance(after, Node) and after.addresses:
                self._nodes[key] = after.addresses[0]
            elif isinstance(after, Suspect):
                self._suspects[key] = after.address
            elif key[0] == "node":
                self._nodes.pop(key, None)
            elif key[0] == "reachability":
                self._suspects.pop(key, None)

    def _protect(self) -> None:
        """Tell the table which addresses no VIP may have here."""
        self.table.protect(protected(self._config, self.carrying.own))

    def _wanted_changed(self, names: frozenset[str]) -> None:
        if self.allocator is not None:
            self.allocator.changed()

    def _fixed_changed(self, keys: frozenset[VipKey]) -> None:
        """An address that no name may have from now on, or that one may have again."""
        if self.allocator is not None and any(canonical_address(key.name) for key in keys):
            self.allocator.changed()

    def _follow(self, keys: Collection[VipKey]) -> None:
        self._follower.follow(keys)

    def _follow_all(self) -> None:
        self._all_due = True
        if "names" not in self._background:
            self._background.spawn("names", self._follow_all_names())

    async def _follow_all_names(self) -> None:
        while self._all_due:
            self._all_due = False
            await self._follower.follow_all()

    def _is_heard(self) -> bool:
        """Whether all that is known was heard since the start of the process."""
        told = (self._catalog.sources.get(name) for name in ("mesos", "serversets", "relay", "vip_file"))
        return all(status is None or status.synced for status in told)

    def _is_known(self) -> bool:
        """Whether the table may be believed: else what the kernel has would be taken away for nothing."""
        status = self._catalog.sources.get("vip_file")
        file_read = status is None or status.synced or status.restored
        return self._known() and self.addresses_known and file_read and not self.table.pending


def _soon(work: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(work)


def _ranges(config: Config) -> tuple[str, str]:
    l4 = config.l4 or L4Config()
    return l4.range, l4.range6


def _file(config: Config) -> str:
    return config.l4.vip_file if config.l4 is not None else ""


def serves(config: Config) -> bool:
    """Whether a process allocates addresses."""
    return config.l4 is not None and config.relay is None


def is_on(name: str, config: Config) -> bool:
    """Whether a source of SOURCES is asked for."""
    return bool(_file(config)) if name == "vip_file" else serves(config)
