"""What the lookup API and the metrics look at: the running parts of the process, and their own counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from mesos_dns.api_shapes import Readiness, SourceRow
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.respond import DnsCounters
from mesos_dns.saved import SavedCatalog
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


@dataclass
class ApiContext:
    """The parts by name. `view` and `dns` may be replaced while requests are served.

    `sources` maps a source's name to it; one with `counters` (SourceCounters) shows in the metrics.
    """

    view: ZoneView
    catalog: Catalog
    dns: DnsConfig = field(default_factory=DnsConfig)
    dns_counters: DnsCounters = field(default_factory=DnsCounters)
    sources: Mapping[str, object] = field(default_factory=dict)
    saved: SavedCatalog | None = None
    dns_addresses: Callable[[], Sequence[tuple[str, int]]] = tuple
    dns_tls_addresses: Callable[[], Sequence[tuple[str, int]]] = tuple
    started: float = field(default_factory=time.time)
    config_path: str = ""
    version: str = VERSION
    enumeration: bool = True
    draining: bool = False
    counters: ApiCounters = field(default_factory=ApiCounters)
    enumerations: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ENUMERATIONS))
    long_lookups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ENUMERATIONS))

    def readiness(self) -> Readiness:
        """Ready once every source has told all it knows, in this process or in the one before."""
        rows = [
            SourceRow(s.name, s.connected, s.synced, s.restored, s.stale, round(s.age(), 3), s.detail)
            for s in self.catalog.sources.values()
        ]
        known = all(row.synced or row.restored for row in rows)
        return Readiness(known and not self.draining, self.draining, rows)
