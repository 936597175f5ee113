"""What the lookup API and the metrics look at: the running parts of the process, and their own counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol

from prometheus_client.core import Metric

from mesos_dns.api_document import Documented
from mesos_dns.api_shapes import Readiness, SourceRow
from mesos_dns.boot_names import BootNames
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.resolver.resolver import Resolver
from mesos_dns.resolver.upstreams import Upstreams
from mesos_dns.respond import DnsCounters
from mesos_dns.saved import SavedCatalog
from mesos_dns.watch import Watch
from mesos_dns.zone import ZoneView

VERSION = version("pharos")

LATENCY_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper bounds in seconds; a bucket above the last holds the rest."""

ENUMERATIONS = 2
"""Whole-table answers that are made at once; each may hold some hundred megabytes of a large cluster.
Of look-ups that go through the whole table as many, apart: they wait for no reader."""


class ApiCounters:
    """Plain counts of HTTP requests. `endpoint` is a route's template, never a path that a client chose."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, float] = {}
        self.buckets: dict[str, list[int]] = {}
        self.in_flight = 0
        self.connections_refused = 0

    def count(self, endpoint: str, status: int, seconds: float) -> None:
        """One request that ended."""
        self.requests[endpoint, status] += 1
        self.seconds[endpoint] = self.seconds.get(endpoint, 0.0) + seconds
        buckets = self.buckets.setdefault(endpoint, [0] * (len(LATENCY_BUCKETS) + 1))
        buckets[sum(seconds > bound for bound in LATENCY_BUCKETS)] += 1


class MetricsPage:
    """The last text of the metrics, for those who ask while it is made and a little later (`good_until`: time of
    time.monotonic)."""

    def __init__(self) -> None:
        self.text = b""
        self.good_until = 0.0
        self.making = asyncio.Lock()


class ResolverParts(Protocol):
    """What the node's resolver consists of."""

    @property
    def resolver(self) -> Resolver:
        """The cache, and who fills it."""

    @property
    def upstreams(self) -> Upstreams:
        """Whom it asks."""

    def status(self) -> dict[str, Any]:
        """All of it for people: upstreams, cache, addresses, resolv_conf."""


async def nothing() -> None:
    """Where a part is off."""


@dataclass
class ApiContext:
    """The parts by name. `view` and `dns` may be replaced while requests are served.

    `documented` and `more_metrics` are those of other packages. `carries`: whether traffic is taken in that this
    process is there for. `sources` maps a source's name to it; one with
    `counters` (SourceCounters) shows in the metrics.
    """

    view: ZoneView
    catalog: Catalog
    dns: DnsConfig = field(default_factory=DnsConfig)
    dns_counters: DnsCounters = field(default_factory=DnsCounters)
    resolver_dns_counters: DnsCounters = field(default_factory=DnsCounters)
    resolving: Callable[[], ResolverParts | None] = lambda: None
    sources: Mapping[str, object] = field(default_factory=dict)
    saved: SavedCatalog | None = None
    watch: Watch | None = None
    boot: BootNames | None = None
    dns_addresses: Callable[[], Sequence[tuple[str, int]]] = tuple
    resolver_addresses: Callable[[], Sequence[tuple[str, int]]] = tuple
    dns_tls_addresses: Callable[[], Sequence[tuple[str, int]]] = tuple
    started: float = field(default_factory=time.time)
    config_path: str = ""
    version: str = VERSION
    enumeration: bool = True
    balancing: Callable[[], dict[str, Any] | None] = lambda: None
    edging: Callable[[], dict[str, Any] | None] = lambda: None
    scaling: Callable[[], Awaitable[dict[str, Any] | None]] = nothing
    carries: Callable[[], bool] = lambda: True
    documented: tuple[Documented, ...] = ()
    more_metrics: Callable[[], Awaitable[Iterable[Metric]]] | None = None
    draining: bool = False
    counters: ApiCounters = field(default_factory=ApiCounters)
    metrics_page: MetricsPage = field(init=False, default_factory=MetricsPage)
    enumerations: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ENUMERATIONS))
    long_lookups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ENUMERATIONS))

    def readiness(self) -> Readiness:
        """Ready once every source has told all it knows, in this process or in the one before, and traffic is taken."""
        rows = [
            SourceRow(s.name, s.connected, s.synced, s.restored, s.stale, round(s.age(), 3), s.detail)
            for s in self.catalog.sources.values()
        ]
        known = all(row.synced or row.restored for row in rows)
        return Readiness(known and self.carries() and not self.draining, self.draining, rows)
