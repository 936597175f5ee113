"""The names and who serves them: one view of the catalog, and the DNS servers of `[dns]` and `[resolver]` over it.

A change of either section makes a new view and new responders; sockets stay open where their addresses do. What
can't be put in place (an address that is taken) leaves its section as it was, and the other one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.addresses import name_server_addresses, node_addresses
from agent.background import Background
from agent.resolving import Resolving
from agent.sections import Config
from mesos_dns.catalog import SYNC_SLICE, Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.cookies import secrets_of
from mesos_dns.counters import DnsCounters
from mesos_dns.fastpath import FastPath, fast_path
from mesos_dns.model import StaticRecords
from mesos_dns.presence import Presence, together
from mesos_dns.resolver.config import ResolverConfig, serving
from mesos_dns.resolver.local import local_records
from mesos_dns.respond import Responder
from mesos_dns.secondaries import Secondaries
from mesos_dns.server import DnsServer
from mesos_dns.zone import ZoneView
from mesos_dns.zone_extra import ZoneExtra

log = logging.getLogger(__name__)

SERVERS = ("dns", "resolver")
"""Sections that are DNS servers, in the order in which they are opened."""


class NotServed(OSError):
    """A section's server can't be put in place."""

    def __init__(self, section: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error))
        self.section = section


@dataclass
class _Parts:
    """What is made anew for a configuration before a socket is touched."""

    config: Config
    view: ZoneView
    configs: dict[str, DnsConfig]
    responders: dict[str, Responder]
    resolving: Resolving | None
    secrets: tuple[bytes, ...]


class Naming:
    """See the module. `start`, then `swap` any number of times, then `close`.

    `known` tells whether anybody has said yet what runs in the cluster; `extra` has virtual addresses' names.
    """

    def __init__(self, catalog: Catalog, known: Callable[[], bool], extra: ZoneExtra | None = None) -> None:
        self.counters = {name: DnsCounters() for name in SERVERS}
        self.servers: dict[str, DnsServer] = {}
        self.view = ZoneView(DnsConfig())
        self._catalog = catalog
        self._known = known
        self._extra = extra
        self._views: list[ZoneView] = []
        self._parts = _Parts(Config(), ZoneView(DnsConfig()), {}, {}, None, ())
        self.background = Background()

    @property
    def resolving(self) -> Resolving | None:
        """What `[resolver]` has besides its server; None while it is off."""
        return self._parts.resolving

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """The bound addresses of "dns" or "resolver"; none while it is off."""
        server = self.servers.get(name)
        return server.addresses if server is not None else []

    async def prepare(self, config: Config) -> None:
        """Make the view, empty and before anything is heard. Raises OSError."""
        self._parts = await self._new_parts(config, 0, None)
        self.view = self._parts.view

    async def start(self) -> None:
        """Fill the view with what the catalog has, and serve. Raises OSError when an address can't be bound."""
        await self._fill(self.view)
        await self._serve(self._parts, None)
        await self._settle(self._parts, None)

    async def swap(self, config: Config) -> set[str]:
        """Serve as another configuration says; the sections that stay as they were because they can't be served."""
        kept: set[str] = set()
        for _ in range(len(SERVERS) + 1):
            try:
                await self._swap(config)
                break
            except NotServed as error:
                log.error("configuration reloaded only in part, [%s] stays as it was: %s", error.section, error)
                kept.add(error.section)
                config = msgspec.structs.replace(config, **{error.section: getattr(self._parts.config, error.section)})
        return kept

    async def has_other_secrets(self, config: Config) -> bool:
        """Whether the file of cookie secrets, which has just been found good, holds others than those in use."""
        with contextlib.suppress(OSError, ValueError):
            return config.dns is not None and await asyncio.to_thread(secrets_of, config.dns) != self._parts.secrets
        return False

    async def renew(self) -> None:
        """Read certificates again, for connections to come; the log says why where that can't be."""
        for server in self.servers.values():
            try:
                await server.renew()
            except OSError as error:
                log.error("certificates not read again, the old ones stay: %s", error)

    def tell_stale(self, stale: bool) -> None:
        """Whether what is served of the cluster may be out of date; also brings workers' settings up to date."""
        for server in self.servers.values():
            server.tell_stale(stale)

    async def close(self) -> None:
        """Stop serving, and give back what was taken from the machine, whatever fails."""
        await self.background.end_all()
        resolving = self._parts.resolving
        async with contextlib.AsyncExitStack() as stack:
            if resolving is not None:
                stack.push_async_callback(resolving.close)
            for server in self.servers.values():
                stack.push_async_callback(server.close)
            if resolving is not None:
                stack.push_async_callback(resolving.leave)

    # --- making ------------------------------------------------------------------------------------

    async def _new_parts(self, config: Config, serial: int, before: Resolving | None) -> _Parts:
        """A view with the name server's addresses, and the responders over it. Raises NotServed."""
        dns = config.dns or DnsConfig()
        try:
            secrets = await asyncio.to_thread(secrets_of, dns)
        except (OSError, ValueError) as error:
            raise NotServed("dns", OSError(errno.EINVAL, str(error))) from error
        resolving = before
        if config.resolver is None:
            resolving = None
        elif before is None or before.config != config.resolver:
            resolving = await self._new_resolving(config, config.resolver, before)
        configs = {}
        if config.dns is not None:
            configs["dns"] = config.dns
        if config.resolver is not None:
            configs["resolver"] = serving(config.resolver, config.dns)
        tables = {name: self._new_table(name, each, secrets, resolving) for name, each in configs.items()}
        view = await self._new_view(config, serial, [table for table in tables.values() if table is not None])
        responders = {
            name: Responder(
                view,
                each,
                self.counters[name],
                secrets,
                tables[name],
                resolving.resolver if name == "resolver" and resolving is not None else None,
            )
            for name, each in configs.items()
        }
        return _Parts(config, view, configs, responders, resolving, secrets)

    async def _new_resolving(self, config: Config, resolver: ResolverConfig, before: Resolving | None) -> Resolving:
        try:
            return await Resolving.make(resolver, Path(config.state_dir), before)
        except OSError as error:
            raise NotServed("resolver", error) from error

    @staticmethod
    def _new_table(
        name: str, config: DnsConfig, secrets: Sequence[bytes], resolving: Resolving | None
    ) -> FastPath | None:
        if name != "resolver" or resolving is None:
            return fast_path(config, secrets)
        return fast_path(
            config, secrets, resolving.resolver.networks, resolving.config.prefetch, resolving.config.client_rate
        )

    async def _new_view(self, config: Config, serial: int, tables: Sequence[FastPath]) -> ZoneView:
        """Without [dns] the names are still there, for look-ups and the resolver."""
        dns, resolver = config.dns or DnsConfig(), config.resolver
        addresses = await asyncio.to_thread(name_server_addresses, dns.listen) if config.dns is not None else []
        local: tuple[StaticRecords, ...] = ()
        if resolver is not None:
            node = list(resolver.node_addresses) or await asyncio.to_thread(node_addresses, resolver.listen)
            local = local_records(resolver, dns, node)

        def presence(tag: str) -> Presence | None:
            return together([table.presence(tag) for table in tables])

        return ZoneView(
            dns,
            ns_addresses=addresses,
            serial=serial,
            known=self._known,
            presence=presence,
            local=local,
            cluster_key=resolver.cluster_key if resolver is not None else "",
            extra=self._extra,
        )

    async def _fill(self, view: ZoneView) -> None:
        """Bring a new view up to the catalog and to virtual addresses in slices, while it already hears of every
        change."""
        self._views.append(view)
        await self._catalog.follow(view.apply)
        more = True
        while more:
            more = view.fill_extra(SYNC_SLICE)
            await asyncio.sleep(0)

    # --- serving -----------------------------------------------------------------------------------

    async def _swap(self, config: Config) -> None:
        """Raises NotServed; the section that it names is then as it was, and another swap has to follow."""
        before = self._parts
        parts = await self._new_parts(config, self.view.serial + 1, before.resolving)
        try:
            await self._fill(parts.view)
            await self._serve(parts, before)
        except BaseException as error:
            if parts.resolving is not None and parts.resolving is not before.resolving:
                await parts.resolving.close(before.resolving)
            responder = parts.responders.get(error.section) if isinstance(error, NotServed) else None
            if responder is not None and responder.fast is not None:
                responder.fast.close()
            raise
        self.view, self._parts = parts.view, parts
        await self._settle(parts, before.resolving)

    async def _serve(self, parts: _Parts, before: _Parts | None) -> None:
        """Put every server in place. Raises NotServed."""
        for name in SERVERS:
            try:
                old = before.configs.get(name) if before is not None else None
                if name == "resolver":
                    await self._make_way(parts, before)
                await self._serve_one(name, old, parts.configs.get(name), parts.responders.get(name))
            except OSError as error:
                raise NotServed(name, error) from error

    async def _make_way(self, parts: _Parts, before: _Parts | None) -> None:
        """Put the resolver's addresses there; nobody is sent to those that will be closed."""
        now, then = parts.resolving, before.resolving if before is not None else None
        if now is not None:
            await now.open()
        if then is not None and then is not now and (now is None or now.kept is not then.kept):
            await then.leave()

    async def _serve_one(
        self, name: str, old: DnsConfig | None, new: DnsConfig | None, responder: Responder | None
    ) -> None:
        before = self.servers.get(name)
        same_sockets = old is not None and new is not None and _sockets(old) == _sockets(new)
        if before is not None and responder is not None and new is not None and same_sockets:
            await before.renew(new)
            before.swap(new, responder)
            return
        if before is not None:
            await before.close()
            del self.servers[name]
        if responder is not None and new is not None:
            after = DnsServer(new, responder, name)
            try:
                await after.start()
            except OSError:
                if before is not None:
                    await before.start()
                    self.servers[name] = before
                raise
            self.servers[name] = after
        else:
            self.counters[name].serve(None)
        if before is not None:
            before.forget()

    async def _settle(self, parts: _Parts, resolving: Resolving | None) -> None:
        """Everything is in place: views that nobody asks any more hear of nothing, secondaries of the new one."""
        for view in self._views:
            if view is not parts.view:
                self._catalog.unlisten(view.apply)
                view.leave_extra()
        self._views = [parts.view]
        await self.background.end("notify")
        dns = parts.config.dns
        if dns is not None and dns.notify:
            self.background.spawn("notify", Secondaries(dns, lambda: self.view, self.counters["dns"].notifies).run())
        if resolving is not None and resolving is not parts.resolving:
            await resolving.close(parts.resolving)
        if parts.resolving is not None:
            await parts.resolving.serve()


def _sockets(dns: DnsConfig) -> tuple[object, ...]:
    """What a change of has to open sockets anew."""
    return dns.listen, dns.tls_listen, dns.workers
