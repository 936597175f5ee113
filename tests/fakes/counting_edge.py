"""What an edge counts of ports of its apps, made by a test, and its demand.

edge = Edge("/a:1")
edge.count("/a:1", 5, active=2)     # a worker has had five requests, and has two now
async with edge.demand.follow() as follower: …
"""

from __future__ import annotations

from typing import Any

from lb7._balance import Cluster as NativeCluster
from lb7._balance import grown_of
from lb7.counters import Totals
from lb7.demand import EdgeDemand
from lb7.settings import Settings
from lb7.table import Cluster
from lb7.wire import Counters
from mesos_dns.model import Key


class Edge:
    """See the module."""

    def __init__(self, *names: str) -> None:
        self.totals = Totals()
        self.clusters: dict[str, Cluster] = {}
        self.keys: dict[str, tuple[Key, ...]] = {}
        self.natives: dict[str, NativeCluster] = {}
        for name in names:
            self.route(name)
        self.demand = EdgeDemand(
            "e1", lambda: self.totals, lambda: self.clusters, lambda name: self.keys.get(name, ()), lambda: 1000.0
        )

    def route(self, name: str, **values: Any) -> None:
        app = name.partition(":")[0]
        self.clusters[name] = Cluster(name, app, int(name.partition(":")[2]), **values)
        self.keys[name] = (("app", "mesos", "F1", app),)
        self.natives[name] = NativeCluster(self.clusters[name], Settings(), 0.0)

    def count(self, name: str, requests: int, **figures: int | float) -> None:
        """The worker has had requests, and says so."""
        for _ in range(requests):
            self.natives[name].admit()
        grown, _ = grown_of([self.natives[name]], 0, 1)
        self.totals.count(0, Counters(clusters=grown, clusters_now={name: figures} if figures else {}))
