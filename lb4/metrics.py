"""All metrics of lb4: virtual IPs, what became of them in the data plane, and what goes through them.

Counts of VIPs come from the kernel (or the proxy) and are read when somebody asks, at most every few seconds. A VIP is
named by its name or address and port; there are as many as the cluster's operators have made.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from lb4.allocator import Allocator
from lb4.balancer import Balancer
from lb4.balancer_state import Drift
from lb4.balancer_status import APPLY_BUCKETS
from lb4.check_vips import VipChecks
from lb4.connections import ConnectionCounts
from lb4.metrics_traffic import traffic
from lb4.services import DataPlane, ServiceKey, ServiceStats
from lb4.table import VipTable
from lb4.vip import State
from mesos_dns.metric_families import counter_by, cumulative
from mesos_dns.sources.pace import Pace

log = logging.getLogger(__name__)

KEPT = 2.0
"""Seconds for which the counts of VIPs are good: two who ask cost one dump."""

DATA_PLANES = ("ipvs", "proxy", "off")


@dataclass
class L4Parts:
    """What is looked at; a part that is off is None. `dataplane` is one of DATA_PLANES."""

    table: VipTable
    balancer: Balancer | None = None
    plane: DataPlane | None = None
    allocator: Allocator | None = None
    checks: VipChecks | None = None
    connections: ConnectionCounts | None = None
    containers: int = 0
    suspects: int = 0
    kernel_failures: Mapping[str, str] = field(default_factory=dict)
    dataplane: str = "off"


class L4Metrics:
    """Gives the metrics of what `parts` returns."""

    def __init__(self, parts: Callable[[], L4Parts]) -> None:
        self._parts = parts
        self._read_at = 0.0
        self._stats: Mapping[ServiceKey, ServiceStats] = {}
        self._reading = asyncio.Lock()

    async def collect(self) -> list[Metric]:
        """All of them now. Ten thousand VIPs are looked through in slices."""
        parts = self._parts()
        if parts.plane is not None:
            await self._read(parts.plane)
        else:
            self._stats = {}
        found = list(_metrics(parts, await _backend_states(parts.table)))
        await asyncio.sleep(0)
        if parts.balancer is not None:
            found += await traffic(parts.table, self._stats, parts.connections)
        return found

    async def _read(self, plane: DataPlane) -> None:
        async with self._reading:
            if time.monotonic() - self._read_at < KEPT:
                return
            try:
                self._stats = await plane.stats()
            except OSError as error:
                log.debug("the data plane's counts can't be read reason=%s", error)
            self._read_at = time.monotonic()


async def _backend_states(table: VipTable) -> Counter[State]:
    pace = Pace()
    states: Counter[State] = Counter()
    for key in list(table.keys()):
        await pace.turn()
        if (vip := table.get(key)) is not None:
            states.update([backend.state for backend in vip.backends])
    return states


def _metrics(parts: L4Parts, states: Mapping[State, int]) -> Iterator[Metric]:
    yield from _table(parts, states)
    planes = GaugeMetricFamily("pharos_l4_data_plane", "1 for what carries connections", labels=["name"])
    for name in DATA_PLANES:
        planes.add_metric([name], name == parts.dataplane)
    yield planes
    if parts.allocator is not None:
        yield from _allocator(parts.allocator)
    if parts.balancer is not None:
        yield from _balancer(parts.balancer)
        yield GaugeMetricFamily(
            "pharos_l4_containers", "containers with a data plane of their own", value=parts.containers
        )
        yield GaugeMetricFamily(
            "pharos_l4_kernel_failures",
            "switches and firewall rules that could not be set",
            value=len(parts.kernel_failures),
        )
    if parts.connections is not None:
        yield CounterMetricFamily(
            "pharos_l4_connection_tables_cut_total",
            "looks at the kernel's table of connections that did not get to its end",
            value=parts.connections.tables_cut,
        )
    if parts.checks is not None:
        checks = CounterMetricFamily("pharos_l4_checks_total", "own checks of backends", labels=["type", "result"])
        for (kind, result), count in list(parts.checks.results.items()):
            checks.add_metric([kind, result], count)
        yield checks


def _table(parts: L4Parts, states: Mapping[State, int]) -> Iterator[Metric]:
    table = parts.table
    yield GaugeMetricFamily("pharos_l4_vips", "virtual IPs", value=len(table))
    yield GaugeMetricFamily("pharos_l4_withheld_vips", "virtual IPs at addresses of others", value=len(table.withheld))
    backends = GaugeMetricFamily("pharos_l4_backends", "backends of virtual IPs", labels=["state"])
    for state in State:
        backends.add_metric([state], states.get(state, 0))
    yield backends
    yield counter_by("pharos_l4_bad_labels_total", "labels and definitions left out", "reason", table.bad_labels)
    yield CounterMetricFamily("pharos_l4_faults_total", "what could not be taken in by a fault", value=table.faults)
    yield GaugeMetricFamily("pharos_l4_suspect_nodes", "nodes of which nothing is heard", value=parts.suspects)


def _allocator(allocator: Allocator) -> Iterator[Metric]:
    status, counts = allocator.status, allocator.counters
    yield GaugeMetricFamily("pharos_l4_allocator_leading", "1 while this server allocates", value=status["leader"])
    yield GaugeMetricFamily("pharos_l4_allocated_names", "names in use with an address", value=status["allocated"])
    yield GaugeMetricFamily(
        "pharos_l4_names_without_address", "names in use that lack an address", value=len(status["without_address"])
    )
    yield CounterMetricFamily("pharos_l4_allocations_total", "addresses that were allocated", value=counts.given)
    yield CounterMetricFamily(
        "pharos_l4_allocations_given_up_total", "addresses that were taken back for others", value=counts.given_up
    )
    yield CounterMetricFamily(
        "pharos_l4_coordinator_lost_total", "times that addresses could not be stored", value=counts.lost
    )


def _balancer(balancer: Balancer) -> Iterator[Metric]:
    status, counts = balancer.status(), balancer.counters
    yield GaugeMetricFamily("pharos_l4_served_vips", "virtual IPs that the data plane has", value=status.served)
    yield GaugeMetricFamily("pharos_l4_services", "services in the data plane", value=status.services)
    yield GaugeMetricFamily("pharos_l4_destinations", "destinations of services", value=status.destinations)
    yield GaugeMetricFamily(
        "pharos_l4_draining_services", "services with destinations that drain", value=status.draining
    )
    yield GaugeMetricFamily(
        "pharos_l4_failed_services", "services of which something could not be done", value=status.in_trouble
    )
    yield GaugeMetricFamily(
        "pharos_l4_shared_backends", "backends of several services, which IPVS may mix up", value=status.clashes
    )
    operations = CounterMetricFamily(
        "pharos_l4_operations_total", "changes of the data plane", labels=["operation", "result"]
    )
    for (kind, result), count in list(counts.operations.items()):
        operations.add_metric([kind, result], count)
    yield operations
    yield HistogramMetricFamily(
        "pharos_l4_apply_seconds",
        "time to make changes of the data plane",
        buckets=cumulative(APPLY_BUCKETS, counts.apply_counts),
        sum_value=counts.apply_seconds,
    )
    yield CounterMetricFamily("pharos_l4_reconciles_total", "looks at all that it has", value=counts.reconciles)
    yield GaugeMetricFamily(
        "pharos_l4_reconcile_seconds", "time that the last one took", value=counts.reconcile_seconds
    )
    yield counter_by("pharos_l4_drift_total", "changes of others that were put right", "kind", _texts(counts.drift))
    yield CounterMetricFamily(
        "pharos_l4_data_plane_errors_total", "times that nothing could be read or done", value=counts.plane_errors
    )
    yield CounterMetricFamily(
        "pharos_l4_vip_errors_total", "virtual IPs that could not be worked out", value=counts.vip_errors
    )


def _texts(counts: Mapping[Drift, int]) -> dict[str, int]:
    return {str(kind): count for kind, count in list(counts.items())}
