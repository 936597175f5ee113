"""One Pharos process: builds the parts that the configuration turns on, connects them, and ends them.

    sources ─publish─▶ catalog ─deltas─▶ zone view ─▶ responder ─▶ DNS sockets
                          └──────────────────────────────────────▶ HTTP look-ups

Order at start: the saved catalog (served stale), the zone view, the sockets, then the sources. At
the end: readyz says no, sources stop, open requests get `drain_timeout`, the catalog is saved.

SIGHUP reads the configuration again: a bad file changes nothing and says why; a good one replaces
exactly the parts whose sections changed, while everything else goes on; a part whose new addresses
can't be bound stays as it was. SIGTERM and SIGINT end the
process; a second one ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from agent import notify
from agent.addresses import name_server_addresses
from agent.config import Config, ConfigError, load
from agent.http import HttpServer
from agent.http_admin import texts
from agent.log import setup as setup_log
from agent.sections import ROLES
from agent.zookeeper_sessions import Sessions, ensemble_target, mesos_target, serversets_target
from mesos_dns.api import ApiContext
from mesos_dns.catalog import SYNC_SLICE, Catalog, Delta
from mesos_dns.config import DnsConfig
from mesos_dns.cookies import secrets_of
from mesos_dns.fastpath import FastPath, fast_path
from mesos_dns.presence import Presence
from mesos_dns.publish import CatalogPublisher
from mesos_dns.respond import DnsCounters, Responder
from mesos_dns.saved import SavedCatalog
from mesos_dns.secondaries import Secondaries
from mesos_dns.server import DnsServer
from mesos_dns.zone import ZoneView
from mesos_dns.zookeeper_target import Target

log = logging.getLogger(__name__)

SETTLE = 600
"""Seconds in which the first snapshots are expected."""

_SOURCES = ("mesos", "serversets", "file", "zookeeper")
"""Sources in the order of trust, by the section that turns them on (`zookeeper`: also [mesos] zk)."""

_CLUSTER = ("mesos", "serversets")
"""Sources that tell what runs in the cluster."""

GC_THRESHOLDS = (50_000, 20, 100)
"""A catalog of 100,000 tasks is long-lived and free of cycles: looking through it for garbage every
700 allocations would cost more than all other work together."""


class Service:
    """The parts of one process. `start`, then `reload` any number of times, then `stop`."""

    def __init__(self, config: Config, config_path: Path | None = None) -> None:
        self.config = config
        self.config_path = config_path
        self.started = time.time()
        self.catalog = Catalog()
        self.dns_counters = DnsCounters()
        self._secrets: tuple[bytes, ...] = ()
        self.sources: dict[str, Any] = {}
        self.sessions = Sessions()
        self.server: DnsServer | None = None
        self.saved: SavedCatalog | None = None
        self.http: HttpServer | None = None
        self.view: ZoneView
        self.context: ApiContext
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reloading = asyncio.Lock()

    async def start(self) -> None:
        """Bind and start everything. Raises OSError when an address can't be bound."""
        async with self._reloading:  # a SIGHUP that comes now waits
            await self._start()

    async def _start(self) -> None:
        config = self.config
        self.view, fast, self._secrets = await self._new_view(config.dns, 0)
        self.view.serial = max(self.view.serial, await self._restore(config))
        await self._fill(self.view)
        if config.dns is not None:
            responder = Responder(self.view, config.dns, self.dns_counters, self._secrets, fast)
            self.server = DnsServer(config.dns, responder)
            await self.server.start()
        await self._notify(config.dns)
        self.context = self._new_context()
        await self._start_http(config)
        await self._start_sources(config, set(_SOURCES))
        self._spawn("settle", self._settle())
        if self.saved is not None:
            self._spawn("saved", self.saved.run())
        self._spawn("staleness", self._watch_staleness())
        self._spawn("watchdog", notify.watchdog())

    async def stop(self) -> None:
        """End everything, politely."""
        grace = float(self.config.drain_timeout)
        if self.http is not None:
            self.http.drain()
        for name in [name for name in self._tasks if name != "saved"]:
            await self._end(name)
        await self.sessions.keep(set())
        if self.server is not None:
            await self.server.close()
        if self.http is not None:
            await self.http.close(grace)
        await self._end("saved")
        if self.saved is not None:
            await self.saved.save()

    async def reload(self) -> bool:
        """Read the configuration again and replace what changed; False when it, or a part, can't be used."""
        async with self._reloading:
            return await self._reload()

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
        if await self._has_other_secrets(new.dns):
            changed.add("dns")
        kept = await self._swap_sockets(old, new, changed)
        self.config = new = msgspec.structs.replace(new, **{name: getattr(old, name) for name in kept})
        if self.http is not None:
            self.http.config = new
        changed -= kept
        await self._restart_sources(new, changed)
        if old.log != new.log:
            setup_log(new.log.level, new.log.format)
            changed.add("log")
        log.info("configuration reloaded changed=%s", ",".join(sorted(changed)) or "nothing")
        return not kept

    def _until_restart(self, old: Config, new: Config) -> Config:
        """`new` with the old values of what only a restart can change, which the log says."""
        waiting = [name for name in ("state_dir", "state") if getattr(old, name) != getattr(new, name)]
        if waiting:
            log.warning("configuration: a restart is needed for changed=%s", ",".join(waiting))
        return msgspec.structs.replace(new, state_dir=old.state_dir, state=old.state)

    async def _swap_sockets(self, old: Config, new: Config, changed: set[str]) -> set[str]:
        """Put new DNS and HTTP in place; the sections that stay as they were, as they can't be used."""
        kept: set[str] = set()
        if "dns" in changed:
            try:
                await self._swap_dns(old.dns, new.dns)
            except OSError as error:
                log.error("configuration reloaded only in part, [dns] stays as it was: %s", error)
                kept.add("dns")
        elif self.server is not None:
            await self._renew(self.server)
        if http := changed & {"api", "admin"}:
            try:
                await self._swap_http(old, new)
            except OSError as error:
                names = " and ".join(f"[{name}]" for name in sorted(http))
                log.error("configuration reloaded only in part, %s stays as it was: %s", names, error)
                kept |= http
        elif self.http is not None:
            await self._renew(self.http)
        return kept

    async def _has_other_secrets(self, dns: DnsConfig | None) -> bool:
        """Whether the file of cookie secrets, which `load` has just found good, holds others than those in use."""
        with contextlib.suppress(OSError, ValueError):
            return dns is not None and await asyncio.to_thread(secrets_of, dns) != self._secrets
        return False

    async def _renew(self, part: DnsServer | HttpServer) -> None:
        try:
            await part.renew()
        except OSError as error:
            log.error("certificates not read again, the old ones stay: %s", error)

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

    async def _fill(self, view: ZoneView) -> None:
        """Bring a new view up to the catalog in slices, while it already hears of every change.

        Telling it an entity twice does no harm: a view goes by what it knows, not by the delta.
        """
        self.catalog.listen(view.apply, replay=False)
        keys = [entity.key for entity in self.catalog.entities()]
        keys.sort(key=lambda key: key[0] == "task")  # what tasks are joined with comes first
        for start in range(0, len(keys), SYNC_SLICE):
            changes = {key: (None, self.catalog.get(key)) for key in keys[start : start + SYNC_SLICE]}
            view.apply(Delta(self.catalog.version, changes))
            await asyncio.sleep(0)

    async def _swap_dns(self, old: DnsConfig | None, new: DnsConfig | None) -> None:
        """A new view and responder; the sockets stay open where their addresses do.

        Raises OSError when an address can't be bound; everything is then as it was.
        """
        view, fast, secrets = await self._new_view(new, self.view.serial + 1)
        await self._fill(view)
        responder = Responder(view, new, self.dns_counters, secrets, fast) if new is not None else None
        try:
            await self._swap_server(old, new, responder)
        except OSError:
            self.catalog.unlisten(view.apply)
            if fast is not None:
                fast.close()
            raise
        self.catalog.unlisten(self.view.apply)
        self.view = self.context.view = view
        self._secrets = secrets
        self.context.dns = new or DnsConfig()
        await self._notify(new)

    async def _swap_server(self, old: DnsConfig | None, new: DnsConfig | None, responder: Responder | None) -> None:
        before = self.server
        same_sockets = old is not None and new is not None and _sockets(old) == _sockets(new)
        if before is not None and responder is not None and new is not None and same_sockets:
            await before.renew(new)
            before.swap(new, responder)
            return
        if before is not None:
            await before.close()
            self.server = None
        if responder is not None and new is not None:
            after = DnsServer(new, responder)
            try:
                await after.start()
            except OSError:
                if before is not None:
                    await before.start()
                    self.server = before
                raise
            self.server = after
        else:
            self.dns_counters.serve(None)
        if before is not None:
            before.forget()

    async def _watch_staleness(self) -> None:
        """Keep the DNS server told whether a source that tells of the cluster has been lost for long."""
        while True:
            if self.server is not None and self.config.dns is not None:
                limit, now = float(self.config.dns.stale_after), time.time()
                ages = [self.catalog.sources[name].age(now) for name in _CLUSTER if name in self.catalog.sources]
                self.server.tell_stale(max(ages, default=0.0) > limit)
            await asyncio.sleep(1)

    async def _new_view(
        self, dns: DnsConfig | None, serial: int
    ) -> tuple[ZoneView, FastPath | None, tuple[bytes, ...]]:
        """A view with the name server's addresses, the table that serves it, and the secrets of cookies.

        Without [dns] the names are still there for look-ups. Raises OSError for a file of secrets.
        """
        if dns is None:
            return ZoneView(DnsConfig(), serial=serial, known=self._known), None, ()
        addresses = await asyncio.to_thread(name_server_addresses, dns.listen)
        try:
            secrets = await asyncio.to_thread(secrets_of, dns)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from error
        fast = fast_path(dns, secrets)
        presence: Callable[[str], Presence | None] = fast.presence if fast is not None else lambda tag: None
        view = ZoneView(dns, ns_addresses=addresses, serial=serial, known=self._known, presence=presence)
        return view, fast, secrets

    async def _notify(self, dns: DnsConfig | None) -> None:
        """Tell secondaries of changes, from now on as this configuration says."""
        await self._end("notify")
        if dns is not None and dns.notify:
            self._spawn("notify", Secondaries(dns, lambda: self.view, self.dns_counters.notifies).run())

    def _known(self) -> bool:
        """True unless there is a cluster to follow of which nothing was heard, now or before a restart."""
        heard = [self.catalog.sources[name] for name in _CLUSTER if name in self.catalog.sources]
        return all(status.synced or status.restored for status in heard)

    async def _start_http(self, config: Config) -> None:
        if config.api is None and config.admin is None:
            return
        http = HttpServer(self.context, config)
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

    def _new_context(self) -> ApiContext:
        return ApiContext(
            view=self.view,
            catalog=self.catalog,
            dns=self.config.dns or DnsConfig(),
            dns_counters=self.dns_counters,
            sources=self.sources,
            saved=self.saved,
            dns_addresses=lambda: self.server.addresses if self.server is not None else [],
            dns_tls_addresses=lambda: self.server.tls_addresses if self.server is not None else [],
            started=self.started,
            config_path=str(self.config_path or ""),
        )

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
        if "zookeeper" in changed:
            affected |= {"mesos", "serversets"}
        elif "mesos" in changed:
            affected.add("zookeeper")  # which tells of [mesos] zk where it has no section of its own
        for name in affected:
            await self._end(name)
            if not _is_on(name, config) and name in self.catalog.sources:
                self.sources.pop(name, None)  # told to be off: what it said is no longer wanted
                await self.catalog.forget(name)
        await self._start_sources(config, affected)

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
            self._run("mesos", MesosSource(config.mesos, publisher, zookeeper=zookeeper))
        if "serversets" in names and config.serversets is not None and registry is not None:
            from mesos_dns.sources.serversets import ServersetsSource

            publisher = CatalogPublisher(self.catalog, "serversets")
            self._run("serversets", ServersetsSource(config.serversets, publisher, self.sessions.get(registry)))
        if "zookeeper" in names and ensemble is not None:
            from mesos_dns.sources.ensemble import EnsembleSource

            publisher = CatalogPublisher(self.catalog, "zookeeper")
            self._run("zookeeper", EnsembleSource(publisher, self.sessions.get(ensemble)))
        wanted = {target for target in (masters[0] if masters else None, registry, ensemble) if target is not None}
        if not failed:
            await self.sessions.keep(wanted)

    def _run(self, name: str, source: Any) -> None:
        self.sources[name] = source
        self._spawn(name, source.run())

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"pharos-{name}")
        task.add_done_callback(lambda done: _report(name, done))
        self._tasks[name] = task

    async def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def _sockets(dns: DnsConfig) -> tuple[object, ...]:
    """What a change of has to open sockets anew."""
    return dns.listen, dns.tls_listen, dns.workers


def _targets(config: Config) -> tuple[tuple[Target, str] | None, Target | None, Target | None]:
    """The ensembles of the masters, of services, and of the cluster's names. Raises OSError, ValueError."""
    return mesos_target(config), serversets_target(config), ensemble_target(config)


def _is_on(name: str, config: Config) -> bool:
    """True when the configuration asks for a source."""
    if name == "zookeeper":
        return config.zookeeper is not None or (config.mesos is not None and bool(config.mesos.zk))
    return getattr(config, name) is not None


def _report(name: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a part of the process failed part=%s", name, exc_info=error)


async def serve(
    config: Config,
    *,
    config_path: Path | None = None,
    ready: Callable[[], None] | None = None,
    started: Callable[[Service], Awaitable[None]] | None = None,
) -> int:
    """Run until SIGTERM or SIGINT; 0, or 1 when an address can't be bound.

    `ready` is called when everything is bound; `started` is awaited then with the running service
    (the demo), and the service ends when it returns.
    """
    loop = asyncio.get_running_loop()
    gc.set_threshold(*GC_THRESHOLDS)
    _open_as_many_files_as_allowed()
    service = Service(config, config_path)
    ending = asyncio.Event()

    def end() -> None:
        if ending.is_set():
            os._exit(1)  # the second signal: at once
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        notify.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        task = loop.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)
        task.add_done_callback(lambda _: notify.notify("READY=1"))

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await service.start()
    except OSError as error:
        log.critical("can't start: %s", error)
        await service.stop()
        return 1
    notify.notify("READY=1")
    if ready is not None:
        ready()
    tls = ",".join(texts(service.server.tls_addresses)) if service.server is not None else ""
    log.info("serving dns=%s tls=%s http=%s", _addresses(service.server), tls or "off", _addresses(service.http))
    waits: list[asyncio.Task[Any]] = [loop.create_task(ending.wait())]
    if started is not None:
        waits.append(loop.create_task(_coroutine(started(service))))
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    notify.notify("STOPPING=1")
    log.info("ending")
    await service.stop()
    for task in done:
        task.result()
    return 0


def _open_as_many_files_as_allowed() -> None:
    """Every connection is an open file, and the soft limit is mostly 1024, for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _coroutine(work: Awaitable[None]) -> None:
    await work


def _addresses(part: DnsServer | HttpServer | None) -> str:
    return ",".join(texts(part.addresses)) if part is not None else "off"
