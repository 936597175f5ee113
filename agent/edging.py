"""`[l7]` in this process: the catalog's apps become routes, and the routes go to the processes that carry traffic.

    catalog ─deltas─▶ RouteView ─▶ servers that fail their checks marked ─▶ Workers ─▶ connections

Nothing is listened on before it is known what runs: who is told "no route" takes it for an answer. What was known
before a restart counts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agent.background import Background
from agent.sections import Config
from lb7.api import EdgeView
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.policies import sleeps_by
from lb7.config import L7Config
from lb7.demand import EdgeDemand
from lb7.metrics import L7Parts
from lb7.server_checks import ServerChecks
from lb7.status import status
from lb7.table import Cluster, TableDelta
from lb7.view import RouteView
from lb7.workers import Workers
from mesos_dns.catalog import Catalog
from mesos_dns.model import Key

log = logging.getLogger(__name__)
access = logging.getLogger("pharos.access")
"""The access log: one JSON object a record."""

WAIT = 0.2
"""Seconds between two looks whether it is known what runs."""


def own_name() -> str:
    """This machine's name, by which people know it, and something new for each process; fit for a coordinator's key."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname().partition(".")[0])[:63].strip("-")
    return f"{host or 'pharos'}-{secrets.token_hex(4)}"


class Edging:
    """See the module. `open`; for another configuration `change`; at the end `drain`, or `close`.

    `known` tells whether anybody has said yet what apps there are. `identity` is what this edge is called among others;
    "": a name of its own (`own_name`).
    """

    def __init__(self, catalog: Catalog, known: Callable[[], bool], identity: str = "") -> None:
        self.identity = identity or own_name()
        self.view: RouteView | None = None
        self.workers: Workers | None = None
        self.checks: ServerChecks | None = None
        self._catalog = catalog
        self._known = known
        self._config: L7Config | None = None
        self._demand: EdgeDemand | None = None
        self._clusters: dict[str, Cluster] = {}
        self._begun = False
        self._draining = False
        self._was_certified = False
        self._reserved: tuple[str, ...] = ()
        self._background = Background()

    @property
    def ready(self) -> bool:
        """Whether what the configuration asks for is carried; true where it asks for nothing."""
        if self._config is None:
            return True
        return self._begun and not self._draining and self.workers is not None and self.workers.ready

    async def open(
        self, config: L7Config | None, reserved: Sequence[str] = (), autoscale: AutoscaleConfig | None = None
    ) -> None:
        """Start what the configuration asks for; no label gets at `reserved`, where others listen here. `autoscale`:
        which apps may sleep. Raises OSError that names listener and address."""
        if config is None:
            return
        workers = Workers(config, log=_write, recertified=self._recertified, held=self._held)
        try:
            await workers.open()
        except BaseException:
            await workers.close()
            raise
        self._config, self.workers = config, workers
        self._demand = EdgeDemand(self.identity, workers.totals, lambda: self._clusters, self._apps_behind)
        self.checks = ServerChecks(self._checked)
        later = asyncio.get_running_loop().call_soon
        self._reserved = tuple(reserved)
        self.view = RouteView(
            config,
            certificates=self._certified(),
            later=later,
            reserved=self._reserved,
            sleeps=sleeps_by(autoscale),
        )
        await self._catalog.follow(self.view.apply)
        self._background.spawn("edge", self._begin())

    async def change(
        self, config: L7Config | None, reserved: Sequence[str] = (), autoscale: AutoscaleConfig | None = None
    ) -> None:
        """Go by another configuration. Raises OSError that names listener and address; then nothing has changed."""
        if config is None or self.workers is None or self.view is None:
            await self.close()
            await self.open(config, reserved, autoscale)
            return
        await self.workers.change(config)
        checked = self._config is not None and self._config.checks
        self._config = config
        if checked != config.checks:
            self._keep_checks(self._clusters.items())
            self._checked(frozenset(self._clusters))
        self._reserved = tuple(reserved)
        sleeps = sleeps_by(autoscale)
        self.view.reconfigure(config, certificates=self._certified(), reserved=self._reserved, sleeps=sleeps)

    async def drain(self, timeout: float) -> None:
        """Accept nothing more, and end when connections have, or after so many seconds."""
        self._draining = True
        if self.workers is not None:
            await self.workers.drain(timeout)
        await self.close()

    async def close(self) -> None:
        """End everything at once."""
        await self._background.end_all()
        if self._demand is not None:
            self._demand.close()
        if self.view is not None:
            self._catalog.unlisten(self.view.apply)
            self.view.unlisten(self._routed)
        if self.checks is not None:
            await self.checks.close()
        if self.workers is not None:
            await self.workers.close()
        self.view, self.workers, self.checks, self._config, self._demand = None, None, None, None, None
        self._clusters.clear()
        self._begun = self._draining = False

    def parts(self) -> L7Parts | None:
        """For the metrics; None while `[l7]` is off."""
        return L7Parts(self.view, self.workers, self.checks, self._demand) if self.view is not None else None

    def status(self) -> dict[str, Any] | None:
        """For people; None while `[l7]` is off."""
        parts = self.parts()
        return {"known": self._begun, **status(parts)} if parts is not None else None

    def routes(self) -> EdgeView | None:
        """For the look-up API; None while `[l7]` is off."""
        view, workers, config = self.view, self.workers, self._config
        if view is None or workers is None or config is None:
            return None
        return EdgeView(
            lambda: view.table,
            lambda: view.problems,
            lambda: bool(config.compat),
            self._marked,
            workers.servers,
            lambda: self.ready,
        )

    def demand(self) -> EdgeDemand | None:
        """What is counted, for those who follow it; None while `[l7]` is off, or not known what to route."""
        return self._demand if self._begun and not self._draining else None

    # --- changes ----------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Route, as soon as there is something to go by."""
        while True:
            if self._known():
                break
            await asyncio.sleep(WAIT)
        view = self.view
        if view is None:
            return
        await view.build()
        table = view.table
        self._routed(TableDelta(dict(table.listeners), dict(table.hosts), dict(table.clusters)))
        view.listen(self._routed)
        self._begun = True

    def _certified(self) -> bool:
        """Whether HTTPS can be listened for; said where it is asked for and can't."""
        certified = self._was_certified = self.workers is not None and self.workers.certified
        config = self._config
        if config is not None and config.https and config.cert_dir and not certified:
            log.warning("[l7] https is not listened on: there is no usable certificate in %s", config.cert_dir)
        return certified

    def _recertified(self) -> None:
        """There are other certificates: the first one, or none any more, changes what is listened on."""
        if self.view is not None and self.workers is not None and self.workers.certified != self._was_certified:
            config = self._config or L7Config()
            self.view.reconfigure(config, certificates=self._certified(), reserved=self._reserved)

    def _routed(self, delta: TableDelta) -> None:
        self._keep_checks(delta.clusters.items())
        clusters = {
            name: self._marked(cluster) if cluster is not None else None for name, cluster in delta.clusters.items()
        }
        for name, cluster in delta.clusters.items():
            if cluster is not None:
                self._clusters[name] = cluster
            else:
                self._clusters.pop(name, None)
        if self._demand is not None:
            self._demand.routed(delta)
        if self.workers is not None:
            self.workers.apply(TableDelta(delta.listeners, delta.hosts, clusters))

    def _checked(self, names: frozenset[str]) -> None:
        """Servers of these clusters fail now, or no longer."""
        found = {name: self._marked(self._clusters[name]) for name in names if name in self._clusters}
        if found and self.workers is not None:
            self.workers.apply(TableDelta(clusters=dict(found)))

    def _keep_checks(self, clusters: Iterable[tuple[str, Cluster | None]]) -> None:
        checked = self._config is not None and self._config.checks
        if self.checks is not None:
            for name, cluster in clusters:
                self.checks.keep(name, cluster if checked else None)

    def _held(self, cluster: str) -> None:
        """A request waits for this cluster's app to wake, and none did before."""
        if self._demand is not None:
            self._demand.held(cluster)

    def _apps_behind(self, cluster: str) -> tuple[Key, ...]:
        return self.view.apps_behind(cluster) if self.view is not None else ()

    def _marked(self, cluster: Cluster) -> Cluster:
        if self.checks is None or self._config is None or not self._config.checks:
            return cluster
        return self.checks.marked(cluster)


def listened_elsewhere(config: Config) -> tuple[str, ...]:
    """Where other parts of the process listen."""
    sections = (config.api, config.admin, config.dns, config.resolver)
    told = [address for section in sections if section is not None for address in section.listen]
    return (*told, *(config.dns.tls_listen if config.dns is not None else ()))


def _write(record: dict[str, Any]) -> None:
    access.info("%s", json.dumps(record, ensure_ascii=False))
