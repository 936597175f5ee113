"""What `[resolver]` is besides a DNS server: upstreams and cache, its addresses on this machine, its resolv.conf.

`make` touches nothing of the machine; `open` puts the addresses there, before the server binds them; `serve` is for
when the server answers; `leave` gives resolv.conf back while it still does; `close` ends the rest. A successor with
the same addresses, the same resolv.conf or the same routes takes these over, with what is cached.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.background import Background
from agent.commands_resolv_conf import SAVED, file_of
from agent.resolv_conf import plain_servers
from agent.resolv_conf_file import ResolvConf
from agent.resolv_conf_kept import KeptResolvConf
from mesos_dns.config import host_port
from mesos_dns.device import Addresses
from mesos_dns.resolver.address import UpstreamAddress, parse_upstream
from mesos_dns.resolver.config import ResolverConfig
from mesos_dns.resolver.counters import ResolverCounters
from mesos_dns.resolver.resolver import Resolver
from mesos_dns.resolver.upstreams import Upstreams, client_tls

log = logging.getLogger(__name__)

SYSTEM = "/etc/resolv.conf"
"""Names the upstreams where the configuration does not."""
LOOK_EVERY = 10.0
"""Seconds between two looks at that file when nobody keeps it."""
KEEP_AGAIN = 10.0
"""Seconds until a file that could not be kept is tried again."""


class Resolving:
    """See the module; made by `make`."""

    def __init__(
        self,
        config: ResolverConfig,
        file: ResolvConf,
        upstreams: Upstreams,
        resolver: Resolver,
        addresses: Addresses | None,
    ) -> None:
        self.config = config
        self.upstreams = upstreams
        self.resolver = resolver
        self.addresses = addresses
        self.kept: KeptResolvConf | None = None
        self._file = file
        self._refused, self._refusals = "", 0
        self._background = Background()

    @classmethod
    async def make(cls, config: ResolverConfig, state_dir: Path, before: Resolving | None = None) -> Resolving:
        """Everything anew but what `before` can hand over. Raises OSError for a file that can't be read."""
        hosts = listen_hosts(config)
        file = file_of(config, str(state_dir)) or ResolvConf(Path(SYSTEM), state_dir / SAVED, hosts)
        default = [parse_upstream(text) for text in config.upstreams] or await _system_servers(file)
        zones = {zone: [parse_upstream(text) for text in servers] for zone, servers in config.zones.items()}
        tls = None
        if any(each.transport == "tls" for group in (default, *zones.values()) for each in group):
            tls = await asyncio.to_thread(client_tls, config.upstream_ca_file)
        own = [host_port(text, 53) for text in config.listen]
        upstreams = Upstreams(default, zones, timeout=float(config.timeout), tls=tls, own=own)
        counters, cache, addresses = ResolverCounters(), None, None
        if before is not None:
            counters = before.resolver.counters
            if (before.config.upstreams, before.config.zones) == (config.upstreams, config.zones):
                cache = before.resolver.cache
            if (before.config.device, listen_hosts(before.config)) == (config.device, hosts):
                addresses = before.addresses
        if config.device and addresses is None:
            same = before is not None and before.config.device == config.device
            addresses = Addresses(config.device, hosts, before=before.addresses if before and same else None)
            if not addresses.addresses:  # none that needs a device: it is not ours to change
                addresses = None
        made = cls(config, file, upstreams, Resolver(config, upstreams, counters, cache), addresses)
        if before is not None and made._writes() == before._writes():
            made.kept = before.kept
        return made

    async def open(self) -> None:
        """Put the addresses there; what can't be put there can't be bound, says the server."""
        if self.addresses is not None:
            try:
                await self.addresses.start()
            except OSError as error:
                log.warning("[resolver] device: addresses not set, they must be there already: %s", error)

    async def serve(self) -> None:
        """The server answers: look after the addresses, and point resolv.conf here."""
        self.resolver.limit()
        if "upstreams" not in self._background:
            self._background.spawn("upstreams", self.upstreams.run())
            if self.addresses is not None:
                self._background.spawn("addresses", self.addresses.run())
        if self.config.resolv_conf:
            if self.kept is None and "resolv.conf" not in self._background:
                await self._keep()
            if self.kept is not None:
                self.kept.changed = self._changed
            if "resolv.conf" not in self._background:
                self._background.spawn("resolv.conf", self._go_on_keeping())
        elif not self.config.upstreams and "servers" not in self._background:
            self._background.spawn("servers", self._follow_servers())

    async def leave(self) -> None:
        """Programs ask others again."""
        await self._background.end("resolv.conf")
        kept, self.kept = self.kept, None
        if kept is not None:
            await kept.close()

    async def close(self, successor: Resolving | None = None) -> None:
        """End everything but what a successor has taken over."""
        if successor is None or successor.kept is not self.kept:
            await self.leave()
        await self._background.end_all()
        if successor is not None:
            successor._background.spawn(f"end of {id(self)}", self._end())
        else:
            await self._end(at_once=True)
        if self.addresses is not None and (successor is None or successor.addresses is not self.addresses):
            await self.addresses.close()

    async def _end(self, at_once: bool = False) -> None:
        """Let clients have the answers that upstreams are being asked for, each within its time, unless `at_once`."""
        try:
            if not at_once:
                await self.resolver.finish()
        finally:
            await self.resolver.close()
            await self.upstreams.close()

    def status(self) -> dict[str, Any]:
        """For people: the upstreams, the cache, and what was changed on this machine."""
        return {
            "upstreams": [
                {
                    "upstream": each.label,
                    "zone": each.zone,
                    "score_milliseconds": round(each.score, 3),
                    "rtt_milliseconds": round(each.rtt, 3),
                    "failures": each.failures,
                    "looping": each.looping,
                    "own": each.own,
                    "sent": dict(each.sent),
                    "results": dict(each.results),
                    "connections": each.connections,
                }
                for each in self.upstreams.status()
            ],
            "cache": self.resolver.status(),
            "addresses": self.addresses.status if self.addresses is not None else None,
            "resolv_conf": self._resolv_conf_status() if self.config.resolv_conf else None,
        }

    def _resolv_conf_status(self) -> dict[str, Any]:
        if self.kept is not None:
            return self.kept.status
        return {
            "path": self.config.resolv_conf,
            "state": "original",
            "original_nameservers": [],
            "replaced": 0,
            "given_back": 0,
            "errors": self._refusals,
        }

    def _writes(self) -> tuple[object, ...]:
        """What goes into which resolv.conf, while the resolver answers and when it does not."""
        file = self._file
        return self.config.resolv_conf, file.path, file.saved, file.addresses, plain_servers(self.config.upstreams)

    async def _keep(self) -> None:
        """A resolv.conf that can't be kept is no reason not to serve; each reason is logged when it is a new one."""
        kept = KeptResolvConf(self._file, plain_servers(self.config.upstreams), self._changed)
        try:
            self._changed(await kept.start())
            await kept.take()
            self.kept, self._refused = kept, ""
        except OSError as error:
            self._refusals += 1
            if str(error) != self._refused:
                self._refused = str(error)
                log.error("[resolver] resolv_conf: not pointed here, tried again every %.0fs: %s", KEEP_AGAIN, error)
        finally:
            if self.kept is not kept:
                with contextlib.suppress(OSError):
                    await kept.close()

    async def _go_on_keeping(self) -> None:
        while self.kept is None:
            await asyncio.sleep(KEEP_AGAIN)
            await self._keep()
        await self.kept.run()

    def _changed(self, servers: Sequence[str]) -> None:
        """The name servers of the machine are others."""
        if not self.config.upstreams and servers:
            self.upstreams.replace_default(_addresses(servers))

    async def _follow_servers(self) -> None:
        before: Sequence[str] = ()
        while True:
            with contextlib.suppress(OSError):
                servers = await asyncio.to_thread(self._file.original_nameservers)
                if servers and servers != before:
                    before = servers
                    self._changed(servers)
            await asyncio.sleep(LOOK_EVERY)


def listen_hosts(config: ResolverConfig) -> list[str]:
    """The addresses that `listen` names, each once; a wildcard is none."""
    hosts = (host_port(text, 53)[0] for text in config.listen)
    return list(dict.fromkeys(host for host in hosts if not ipaddress.ip_address(host).is_unspecified))


async def _system_servers(file: ResolvConf) -> list[UpstreamAddress]:
    """Those that the machine asks without us; none where there is no such file."""
    try:
        return _addresses(await asyncio.to_thread(file.original_nameservers))
    except OSError as error:
        log.error("[resolver] upstreams: none configured, and %s can't be read: %s", file.path, error)
        return []


def _addresses(servers: Sequence[str]) -> list[UpstreamAddress]:
    """Name servers of a resolv.conf; a link-local one with its zone can't be asked."""
    found: list[UpstreamAddress] = []
    for text in servers:
        with contextlib.suppress(ValueError):
            found.append(parse_upstream(text))
    return found
