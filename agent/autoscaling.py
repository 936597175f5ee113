"""`[autoscale]` of one process: which apps are scaled, who reads their metrics, who decides, and who acts on Marathon.

    catalog ─▶ ScaledApps ─▶ Scaler ─▶ MarathonActor, Shrink ─▶ Marathon
                               ▲            └─ Drains ─▶ coordinator ─▶ Draining ─▶ catalogs of all edges and nodes
    edges, Prometheus, hooks, agents ─▶ providers

Only where `[marathon]` is, too: without it the section says which apps may sleep, and nobody decides here. Who decides
is elected through the coordinator; the others go on reading, so that one that takes over knows what is.

An edge of such a cluster tells in the coordinator where it is, for whoever decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from prometheus_client.core import Metric

from agent.background import Background
from agent.draining import Drains
from agent.edge_registration import EdgeRegistration, advertised
from agent.sections import Config
from lb7.autoscale.agents import AgentsProvider
from lb7.autoscale.api import Autoscale
from lb7.autoscale.apps import ScaledApps
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.edges import EdgesDemand
from lb7.autoscale.hooks import HookProvider
from lb7.autoscale.marathon import MarathonActor
from lb7.autoscale.metrics import AutoscaleMetrics
from lb7.autoscale.prometheus import PrometheusProvider
from lb7.autoscale.provider import Provider
from lb7.autoscale.scaler import Scaler
from lb7.autoscale.shrink import Shrink
from lb7.config import L7Config
from mesos_dns.catalog import Catalog
from mesos_dns.config import MarathonConfig
from mesos_dns.coordinate import Coordinator
from mesos_dns.hosts import Hosts
from mesos_dns.model import App, Framework, Node
from mesos_dns.sources.marathon import marathons_among

log = logging.getLogger(__name__)

SECTIONS = frozenset({"autoscale", "marathon", "mesos", "zookeeper", "relay", "l7", "api"})
"""Sections of which another one is another autoscaling."""

AGAIN = 1.0
"""Seconds until a part that failed is started again."""

SAID_AGAIN = 300.0
"""Seconds until the same failure is told again."""

KNOWN = 0.2
"""Seconds between two looks whether it is known which apps there are."""


def decides(config: Config) -> bool:
    """Whether a process stands for election as the one that decides."""
    return config.autoscale is not None and config.marathon is not None


def coordinates(config: Config) -> bool:
    """Whether a process needs a coordinator for scaling: to decide, or to say where its edge is."""
    return decides(config) or (config.l7 is not None and config.zookeeper is not None)


class Autoscaling:
    """See the module. `open`; for another configuration or coordinator `close` and `open` again.

    `identity` is what this process is called among others, `known` tells whether anybody has said yet which apps there
    are, `hosts` makes what looks up host names, `bound` is where the `[api]` listens.
    """

    def __init__(
        self,
        catalog: Catalog,
        identity: str,
        known: Callable[[], bool],
        hosts: Callable[[], Hosts],
        bound: Callable[[], Sequence[tuple[str, int]]] = tuple,
    ) -> None:
        self.scaler: Scaler | None = None
        self._catalog = catalog
        self._identity = identity
        self._known = known
        self._new_hosts = hosts
        self._bound = bound
        self._hosts: Hosts | None = None
        self._apps: ScaledApps | None = None
        self._background = Background()

    def autoscale(self) -> Autoscale | None:
        """For `[admin]`; None where nobody decides here."""
        return self.scaler

    async def status(self) -> dict[str, Any] | None:
        """For people; None where nobody decides here."""
        return await self.scaler.status() if self.scaler is not None else None

    async def metrics(self) -> list[Metric]:
        """Those of scaling; none where nobody decides here."""
        return await AutoscaleMetrics(lambda: self.scaler).collect()

    async def open(self, config: Config, coordinator: Coordinator | None) -> None:
        """Start what the configuration asks for. What can't be used is logged, and keeps nothing else from running."""
        if coordinator is None:
            if decides(config):
                log.error("nothing is scaled: there is no coordinator; see [zookeeper]")
            return
        if config.l7 is not None and config.api is not None:
            url = partial(self._url, config)
            self._spawn("edge", EdgeRegistration(coordinator, self._identity, url).run)
        if config.autoscale is not None and config.marathon is not None:
            await self._open_scaler(config, config.autoscale, config.marathon, coordinator)

    async def close(self) -> None:
        """End it: nothing is decided here any more, and what was begun is given up in order."""
        await self._background.end_all()
        if self._apps is not None:
            self._catalog.unlisten(self._apps.apply)
        if self._hosts is not None:
            await self._hosts.close()
        self.scaler, self._apps, self._hosts = None, None, None

    async def _open_scaler(
        self, config: Config, section: AutoscaleConfig, marathon: MarathonConfig, coordinator: Coordinator
    ) -> None:
        edge = config.l7 or L7Config()
        hosts = self._hosts = self._new_hosts()
        apps = self._apps = ScaledApps(section, edge.health, compat=bool(edge.compat))
        await self._catalog.follow(apps.apply)
        demand = EdgesDemand(section, coordinator, hosts, self._woken)
        providers: list[Provider] = [
            demand,
            PrometheusProvider(section, hosts),
            HookProvider(section, hosts),
            AgentsProvider(config.mesos, self._node, hosts, float(section.interval)),
        ]

        def urls(framework_id: str) -> Sequence[str]:
            if marathon.urls:
                return marathon.urls
            found = self._catalog.get(("framework", marathon.cluster, framework_id))
            among = [found] if isinstance(found, Framework) else []
            return marathons_among(among, marathon.frameworks).get(framework_id, ())

        actor = MarathonActor(marathon, urls, hosts)
        shrink = Shrink(actor, demand, Drains(coordinator), float(section.drain_timeout))
        self.scaler = Scaler(
            section,
            coordinator,
            self._identity,
            lambda: apps.apps,
            providers,
            demand,
            actor,
            shrink,
            look_up=self._apps_of,
            problems=lambda: apps.problems,
        )
        for provider in providers:
            self._spawn(type(provider).__name__, provider.run)
        self._spawn("autoscale", self._decide)

    async def _decide(self) -> None:
        """Stand for election as soon as it is known which apps there are."""
        while True:
            if self._known():
                break
            await asyncio.sleep(KNOWN)
        if self.scaler is not None:
            await self.scaler.run()

    def _spawn(self, name: str, work: Callable[[], Any]) -> None:
        self._background.spawn(name, _keep_alive(name, work))

    def _url(self, config: Config) -> str:
        return advertised(config, self._bound()) or ""

    def _woken(self, key: Any) -> None:
        if self.scaler is not None:
            self.scaler.woken(key)

    def _node(self, cluster: str, node_id: str) -> Node | None:
        found = self._catalog.get(("node", cluster, node_id))
        return found if isinstance(found, Node) else None

    def _apps_of(self, app_id: str) -> Iterable[App]:
        return [each for each in self._catalog.entities("app") if isinstance(each, App) and each.id == app_id]


async def _keep_alive(name: str, work: Callable[[], Any]) -> None:
    """Have it go on after a fault of ours, which is told once in a while."""
    loop, said, told_at = asyncio.get_running_loop(), "", 0.0
    while True:
        try:
            await work()
        except Exception as error:
            if repr(error) != said or loop.time() - told_at >= SAID_AGAIN:
                said, told_at = repr(error), loop.time()
                log.critical("a part of scaling failed part=%s", name, exc_info=True)
        await asyncio.sleep(AGAIN)
