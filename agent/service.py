"""One Pharos process: builds the parts that the configuration turns on, connects them, and ends them.

    sources ─publish─▶ catalog ─deltas─▶ zone view ─▶ responder ─▶ DNS sockets
                          └──────────────────────────────────────▶ HTTP look-ups

Order at start: the saved catalog (served stale), the zone view, the sockets, then the sources. At
the end: readyz says no, sources stop, open requests get `drain_timeout`, the catalog is saved.

`reload` reads the configuration again: a bad file changes nothing and says why; a good one replaces
exactly the parts whose sections changed, while everything else goes on; a part whose new addresses
can't be bound stays as it was.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.core import Metric

from agent import notify
from agent.autoscaling import SECTIONS as SCALED_BY
from agent.autoscaling import Autoscaling, coordinates
from agent.background import Background
from agent.balancing import SOURCES as L4_SOURCES
from agent.balancing import Balancing, is_on, serves
from agent.config import Config, ConfigError, load
from agent.coordination import Coordination
from agent.drain_upkeep import DrainUpkeep
from agent.edging import Edging, listened_elsewhere
from agent.heard import Heard
from agent.http import HttpServer
from agent.log import setup as setup_log
from agent.marathon_finder import MarathonFinder
from agent.naming import SERVERS, Naming
from agent.sections import ROLES
from agent.zookeeper_sessions import Sessions, ensemble_target, mesos_target, serversets_target
from lb4.api import DOCUMENTED as VIPS_DOCUMENTED
from lb4.api import VipView
from lb4.api import routes as vip_routes
from lb4.metrics import L4Metrics
from lb7.api import DOCUMENTED as ROUTES_DOCUMENTED
from lb7.api import admin_routes
from lb7.api import routes as edge_routes
from lb7.autoscale.api import admin_routes as scaling_routes
from lb7.demand_api import DOCUMENTED as DEMAND_DOCUMENTED
from lb7.demand_api import routes as demand_routes
from lb7.metrics import L7Metrics
from mesos_dns.api import ApiContext
from mesos_dns.api_context import VERSION
from mesos_dns.boot_names import BootNames, own_zones
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.hosts import Hosts
from mesos_dns.publish import CatalogPublisher
from mesos_dns.resolver.host_lookup import HostLookup
from mesos_dns.saved import SavedCatalog
from mesos_dns.server import DnsServer
from mesos_dns.watch import Watch
from mesos_dns.zone import ZoneView
from mesos_dns.zookeeper_target import Target

log = logging.getLogger(__name__)

SETTLE = 600
"""Seconds in which the first snapshots are expected."""

_SOURCES = ("mesos", "marathon", "serversets", "vip_file", "relay", "file", "zookeeper", "vips", "reachability")
"""Sources in the order of trust, by the section that turns them on (`zookeeper`: also [mesos] zk)."""


class Service:
    """The parts of one process. `start`, then `reload` any number of times, then `stop`."""

    def __init__(self, config: Config, config_path: Path | None = None) -> None:
        self.config = config
        self.config_path = config_path
        self.started = time.time()
        self.catalog = Catalog()
        self.sources: dict[str, Any] = {}
        self._heard = Heard(self.catalog, self.sources, lambda: self.config, lambda: self.balancing.addresses_known)
        standing = self._heard.standing
        self.watch = Watch(self.catalog, known=self._heard.has_heard, standing=standing, version=VERSION)
        self.balancing = Balancing(self.catalog, self._heard.known, self.watch.hearing, self.sources)
        self.draining = DrainUpkeep(self.catalog, self.sources)
        self.edging = Edging(self.catalog, self._heard.knows_apps)
        self.autoscaling = Autoscaling(
            self.catalog, self.edging.identity, self._heard.knows_apps, self._hosts, self._api_addresses
        )
        self.naming = Naming(self.catalog, self._heard.known, self.balancing.names)
        self.boot = BootNames(Path(config.state_dir) / "hosts.json")
        self.sessions = Sessions(self.boot.resolve)
        self.coordination = Coordination(self.sessions)
        self.saved: SavedCatalog | None = None
        self.http: HttpServer | None = None
        self.context: ApiContext
        self._parts = Background()
        self._reloading = asyncio.Lock()
        self._ended = False

    @property
    def view(self) -> ZoneView:
        """The names that are served."""
        return self.naming.view

    @property
    def server(self) -> DnsServer | None:
        """The authoritative DNS server; None while `[dns]` is off."""
        return self.naming.servers.get("dns")

    async def start(self) -> None:
        """Bind and start everything. Raises OSError when an address can't be bound."""
        async with self._reloading:  # a SIGHUP that comes now waits
            await self._start()

    async def _start(self) -> None:
        config = self.config
        await self.naming.prepare(config)
        self.draining.follow(config)
        self.view.serial = max(self.view.serial, await self._restore(config))
        await self.boot.remembered.restore()
        self._resolve_hosts(config)
        await self.balancing.follow()
        await self._open_coordination(config)
        await self.balancing.open(config, self.coordination)
        await self.draining.open(config, self.coordination)
        await self.naming.start()
        self.context = self._new_context()
        await self._start_http(config)  # before the edge, whose ports are for labels to choose
        await self.edging.open(config.l7, listened_elsewhere(config), config.autoscale)
        await self.autoscaling.open(config, self.coordination.coordinator)
        await self._start_sources(config, set(_SOURCES))
        self._parts.spawn("settle", self._settle())
        if self.saved is not None:
            self._parts.spawn("saved", self.saved.run())
        self._parts.spawn("staleness", self._watch_staleness())
        self._parts.spawn("hosts", self.boot.remembered.run())
        self._parts.spawn("watchdog", notify.watchdog())

    async def stop(self) -> None:
        """End everything, politely. A step that fails is logged, and the others follow."""
        self._ended = True
        async with self._reloading:  # one that is under way ends first
            grace = float(self.config.drain_timeout)
            if self.http is not None:
                self.http.drain()
            await _step("sources", self._parts.end_all(but={"saved"}))
            self.watch.stop()
            edge = asyncio.create_task(_step("edge", self.edging.drain(grace)))
            await _step("scaling", self.autoscaling.close())
            await _step("virtual IPs", self.balancing.close())
            await _step("drained tasks", self.draining.close())
            await _step("coordination", self.coordination.close())
            await _step("ZooKeeper", self.sessions.keep(set()))
            await edge  # what is let in still asks for names
            await _step("DNS", self.naming.close())
            await _step("hosts.json", self.boot.remembered.save())
            if self.http is not None:
                await _step("HTTP", self.http.close(grace))
            await _step("catalog", self._parts.end("saved"))
            if self.saved is not None:
                await _step("catalog", self.saved.save())

    async def reload(self) -> bool:
        """Read the configuration again and replace what changed; False when it, or a part, can't be used."""
        async with self._reloading:
            return not self._ended and await self._reload()

    async def _reload(self) -> bool:
        if self.config_path is None:
            return False
        try:
            new = await asyncio.to_thread(load, self.config_path)
        except ConfigError as error:
            log.error("configuration not reloaded, the running one stays: %s", error)
            return False
        old = self.config
        new = self._until_restart(old, new)
        changed = {name for name in ROLES if getattr(old, name) != getattr(new, name)}
        if await self.naming.has_other_secrets(new):
            changed.add("dns")
        if new.l7 is not None and self.edging.workers is None:  # it could not be had the last time
            changed.add("l7")
        if self.http is None:  # off, or neither the last configuration nor the one before could be served
            changed |= {name for name in ("api", "admin") if getattr(new, name) is not None}
        kept = await self._swap_sockets(old, new, changed)
        self.config = new = msgspec.structs.replace(new, **{name: getattr(old, name) for name in kept})
        if self.http is not None:
            self.http.config = new
        changed -= kept
        await self._swap_balancing(new, changed)
        await self.draining.open(new, self.coordination)
        await self._restart_sources(new, changed)
        await self._leave_balancing(new)
        if old.log != new.log:
            setup_log(new.log.level, new.log.format)
            changed.add("log")
        log.info("configuration reloaded changed=%s", ",".join(sorted(changed)) or "nothing")
        return not kept

    async def _open_coordination(self, config: Config) -> None:
        """The coordinator, where addresses of virtual IPs are allocated or apps are scaled by it."""
        if serves(config) or coordinates(config):
            try:
                await self.coordination.open(config)
            except (OSError, ValueError) as error:
                log.error("there is no coordination: %s", error)

    async def _swap_balancing(self, config: Config, changed: set[str]) -> None:
        """Go on as the sections say that it goes by, also where something could not be had the last time."""
        for name in L4_SOURCES:
            await self._parts.end(f"retire {name}")
        if not changed & {"l4", *SCALED_BY} and not self.balancing.lacks and not self._lacks_coordinator(config):
            return
        try:
            stays = (serves(config) or coordinates(config)) and await self.coordination.is_for(config)
        except (OSError, ValueError):
            stays = False
        await self.autoscaling.close()
        await self.balancing.end_sources(config, other_coordinator=not stays)
        if not stays:
            await self.draining.end()
            await self.coordination.close()
        await self._open_coordination(config)
        await self.balancing.change(config, self.coordination)
        await self.autoscaling.open(config, self.coordination.coordinator)

    def _lacks_coordinator(self, config: Config) -> bool:
        """Whether there is none although there should be."""
        return coordinates(config) and self.coordination.coordinator is None

    async def _leave_balancing(self, config: Config) -> None:
        """What the sources of `[l4]` said that are off now: no longer wanted, or kept until others have told it."""
        for name in L4_SOURCES:
            if is_on(name, config) or name not in self.catalog.sources:
                continue
            if config.l4 is None:
                await self.catalog.forget(name)
            else:
                self.catalog.mark(name, connected=False, detail="no longer configured; another source takes over")
                self._parts.spawn(f"retire {name}", self._retire(name))

    def _until_restart(self, old: Config, new: Config) -> Config:
        """`new` with the old values of what only a restart can change, which the log says."""
        waiting = [name for name in ("state_dir", "state") if getattr(old, name) != getattr(new, name)]
        if waiting:
            log.warning("configuration: a restart is needed for changed=%s", ",".join(waiting))
        return msgspec.structs.replace(new, state_dir=old.state_dir, state=old.state)

    async def _swap_sockets(self, old: Config, new: Config, changed: set[str]) -> set[str]:
        """Put new DNS and HTTP in place; the sections that stay as they were, as they can't be used."""
        kept: set[str] = set()
        if changed & set(SERVERS):
            kept |= await self.naming.swap(new)
            self._resolve_hosts(new)
            self.context.view = self.view
            self.context.dns = (old if "dns" in kept else new).dns or DnsConfig()
        else:
            await self.naming.renew()
        if http := changed & {"api", "admin"}:
            try:
                await self._swap_http(old, new)
            except OSError as error:
                names = " and ".join(f"[{name}]" for name in sorted(http))
                log.error("configuration reloaded only in part, %s stays as it was: %s", names, error)
                kept |= http
        elif self.http is not None:
            try:
                await self.http.renew()
            except OSError as error:
                log.error("certificates not read again, the old ones stay: %s", error)
        moved = listened_elsewhere(old) != listened_elsewhere(new)
        others = moved or "autoscale" in changed
        if ("l7" in changed or (new.l7 is not None and others)) and not await self._swap_edge(new):
            kept.add("l7")
        return kept

    async def _swap_edge(self, new: Config) -> bool:
        """Have the edge go by another configuration; False when it can't, and goes on as before."""
        try:
            await self.edging.change(new.l7, listened_elsewhere(new), new.autoscale)
        except OSError as error:
            log.error("configuration reloaded only in part, [l7] stays as it was: %s", error)
            return False
        return True

    def _resolve_hosts(self, config: Config) -> None:
        """Hosts of masters, ZooKeeper and servers: with a resolver here, never through the system's, which asks it."""
        resolving, resolver = self.naming.resolving, config.resolver
        if resolving is None or resolver is None:
            self.boot.use_system()
            return
        own = own_zones(config.dns or DnsConfig(), resolver.cluster_key)
        self.boot.use_upstreams(HostLookup(resolving.upstreams.ask), own, tuple(resolver.zones))

    async def _restore(self, config: Config) -> int:
        """Publish the saved catalog; the SOA serial that it was saved with."""
        for name in _SOURCES:
            if _is_on(name, config):
                self.catalog.register(name)
        self.saved = SavedCatalog(
            self.catalog,
            Path(config.state_dir) / "catalog",
            max_age=float(config.state.max_age),
            interval=float(config.state.interval),
            extra=lambda: {"serial": self.view.serial},
        )
        extra = await self.saved.restore()
        return int(extra.get("serial", 0))

    async def _watch_staleness(self) -> None:
        """Keep the DNS servers told whether a source that tells of the cluster has been lost for long."""
        while True:
            limit, now = float((self.config.dns or DnsConfig()).stale_after), time.time()
            ages = [source.age(now) for source in self._heard.told_by(self._heard.cluster)]
            self.naming.tell_stale(max(ages, default=0.0) > limit)
            await asyncio.sleep(1)

    async def _start_http(self, config: Config) -> None:
        if config.api is None and config.admin is None:
            return
        vips = VipView(self.balancing.table, self.catalog, self._vip_zone, lambda: self.balancing.balancer)
        more = [
            *vip_routes(self.context, vips),
            *edge_routes(self.context, self.edging.routes),
            *demand_routes(self.context, self.edging.demand),
        ]
        own = [*admin_routes(self.edging.routes), *scaling_routes(self.autoscaling.autoscale)]
        http = HttpServer(self.context, config, more, own)
        await http.start()
        self.http = http

    async def _swap_http(self, old: Config, new: Config) -> None:
        """Both applications anew. Raises OSError when one can't be served; the old ones are then back."""
        if self.http is not None:
            await self.http.close(1.0)
            self.http = None
        try:
            await self._start_http(new)
        except OSError:
            await self._start_http(old)
            raise

    def _api_addresses(self) -> Sequence[tuple[str, int]]:
        return self.http.part_addresses().get("api", ()) if self.http is not None else ()

    def _vip_zone(self) -> str:
        dns = self.config.dns or DnsConfig()
        return f"l4lb.{dns.directory or DnsConfig().directory}"

    def _new_context(self) -> ApiContext:
        return ApiContext(
            view=self.view,
            catalog=self.catalog,
            dns=self.config.dns or DnsConfig(),
            dns_counters=self.naming.counters["dns"],
            resolver_dns_counters=self.naming.counters["resolver"],
            resolving=lambda: self.naming.resolving,
            sources=self.sources,
            saved=self.saved,
            watch=self.watch,
            boot=self.boot,
            dns_addresses=lambda: self.naming.addresses("dns"),
            resolver_addresses=lambda: self.naming.addresses("resolver"),
            dns_tls_addresses=lambda: self.server.tls_addresses if self.server is not None else [],
            started=self.started,
            config_path=str(self.config_path or ""),
            balancing=self.balancing.status,
            edging=self.edging.status,
            scaling=self.autoscaling.status,
            carries=lambda: self.edging.ready,
            documented=(*VIPS_DOCUMENTED, *ROUTES_DOCUMENTED, *DEMAND_DOCUMENTED),
            more_metrics=self._more_metrics,
        )

    async def _more_metrics(self) -> list[Metric]:
        """Those of the packages that balance."""
        return [
            *await L4Metrics(self.balancing.parts).collect(),
            *await L7Metrics(self.edging.parts).collect(),
            *await self.autoscaling.metrics(),
        ]

    async def _settle(self) -> None:
        """Once the first snapshots are in, take them out of garbage collection for good: looking through
        100,000 tasks for cycles that can't be there stalls the loop for half a second."""
        for _ in range(SETTLE):
            if all(status.synced for status in self.catalog.sources.values()):
                break
            await asyncio.sleep(1)
        gc.freeze()

    async def _restart_sources(self, config: Config, changed: set[str]) -> None:
        """End and start the sources whose sections changed; those that use ZooKeeper also with its section."""
        affected = set(changed) & set(_SOURCES)
        if "mesos" in changed:
            affected.add("marathon")  # which tells of tasks where no master does
        if "zookeeper" in changed:
            affected |= {"mesos", "serversets"}
        elif "mesos" in changed:
            affected.add("zookeeper")  # which tells of [mesos] zk where it has no section of its own
        off = [name for name in affected if not _is_on(name, config) and name in self.catalog.sources]
        for name in affected:
            await self._parts.end(name)
            await self._parts.end(f"retire {name}")
        await self._start_sources(config, affected)
        for name in off:
            self.sources.pop(name, None)
            if name in self._heard.cluster and any(_is_on(other, config) for other in self._heard.cluster):
                self.catalog.mark(name, connected=False, detail="no longer configured; another source takes over")
                self._parts.spawn(f"retire {name}", self._retire(name))
            else:
                await self.catalog.forget(name)  # told to be off: what it said is no longer wanted

    async def _retire(self, name: str) -> None:
        """Keep what a source said that has been replaced, until those in its place have told all they know."""
        while True:
            others = [self.catalog.sources.get(other) for other in self._heard.cluster if _is_on(other, self.config)]
            if all(status is None or status.synced for status in others) and self.balancing.addresses_known:
                break
            await asyncio.sleep(0.2)
        await self.catalog.forget(name)

    async def _start_sources(self, config: Config, names: set[str]) -> None:
        """Start those of `names` that are on; sessions that nobody needs any more are closed."""
        failed = False
        try:
            masters, registry, ensemble = await asyncio.to_thread(_targets, config)
        except (OSError, ValueError) as error:  # a file that was there when the configuration was checked
            log.error("ZooKeeper is not used: %s", error)
            masters, registry, ensemble, failed = None, None, None, True
        if "file" in names and config.file is not None:
            from mesos_dns.sources.file import FileSource

            self._run("file", FileSource(config.file, CatalogPublisher(self.catalog, "file")))
        if "mesos" in names and config.mesos is not None:
            from mesos_dns.sources.mesos import MesosSource

            zookeeper = (self.sessions.get(masters[0]), masters[1]) if masters is not None else None
            publisher = CatalogPublisher(self.catalog, "mesos")
            self._run("mesos", MesosSource(config.mesos, publisher, zookeeper=zookeeper, hosts=self._hosts()))
        if "marathon" in names:
            await self._start_marathon(config)
        if "serversets" in names and config.serversets is not None and registry is not None:
            from mesos_dns.sources.serversets import ServersetsSource

            publisher = CatalogPublisher(self.catalog, "serversets")
            self._run(
                "serversets",
                ServersetsSource(config.serversets, publisher, self.sessions.get(registry), hosts=self._hosts()),
            )
        if "relay" in names and config.relay is not None:
            from mesos_dns.sources.relay import RelaySource

            publisher, status = CatalogPublisher(self.catalog, "relay"), self.catalog.sources["relay"]
            before = self.sources.get("relay")
            restored = status.since if status.restored else 0.0
            self._run(
                "relay",
                RelaySource(
                    config.relay,
                    publisher,
                    hosts=self._hosts(),
                    own_epoch=self.watch.epoch,
                    as_of=before.as_of if before is not None else restored,
                    right=before.right if before is not None else None,
                ),
            )
        if "zookeeper" in names and ensemble is not None:
            from mesos_dns.sources.ensemble import EnsembleSource

            publisher = CatalogPublisher(self.catalog, "zookeeper")
            self._run("zookeeper", EnsembleSource(publisher, self.sessions.get(ensemble), hosts=self._hosts()))
        used = (masters[0] if masters else None, registry, ensemble, self.coordination.target)
        wanted = {target for target in used if target is not None}
        if not failed:
            await self.sessions.keep(wanted)

    async def _start_marathon(self, config: Config) -> None:
        """Follow the Marathon that is named, or those that the cluster's frameworks are."""
        await self._parts.end("marathons")
        if config.marathon is None:
            return
        from mesos_dns.sources.marathon import MarathonSource

        publisher, alone = CatalogPublisher(self.catalog, "marathon"), config.mesos is None
        source = MarathonSource(config.marathon, publisher, hosts=self._hosts(), publish_tasks=alone)
        self._run("marathon", source)
        if not config.marathon.urls:
            cluster, names = config.marathon.cluster, config.marathon.frameworks
            finder = MarathonFinder(self.catalog, cluster, names, source.set_marathons, self._heard.knows_frameworks)
            self._parts.spawn("marathons", finder.run())

    def _hosts(self) -> Hosts:
        """Host names for one source, which closes it."""
        return Hosts(resolve=self.boot.resolve)

    def _run(self, name: str, source: Any) -> None:
        self.sources[name] = source
        self._parts.spawn(name, source.run())


def _targets(config: Config) -> tuple[tuple[Target, str] | None, Target | None, Target | None]:
    """The ensembles of the masters, of services, and of the cluster's names. Raises OSError, ValueError."""
    return mesos_target(config), serversets_target(config), ensemble_target(config)


def _is_on(name: str, config: Config) -> bool:
    """True when the configuration asks for a source."""
    if name in L4_SOURCES:
        return is_on(name, config)
    if name == "zookeeper":
        return config.zookeeper is not None or (config.mesos is not None and bool(config.mesos.zk))
    return getattr(config, name) is not None


async def _step(name: str, work: Awaitable[object]) -> None:
    """One step of the end; what it can't do must not keep the others from being done."""
    try:
        await work
    except Exception:
        log.exception("could not end a part of the process part=%s", name)
