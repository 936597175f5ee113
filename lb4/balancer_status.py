"""What the balancer counts and tells of itself: numbers for metrics, and structs for /status and /v1/vips."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from lb4.balancer_state import Drift
from lb4.services import Failure, Kind, Operation, ServiceKey

APPLY_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper bounds in seconds of the histogram of `apply`."""

DONE, FAILED = "done", "failed"


class BalancerCounters:
    """Since the start. `operations` by kind and result (`DONE`, `FAILED`), times in seconds."""

    def __init__(self) -> None:
        self.operations: Counter[tuple[Kind, str]] = Counter()
        self.apply_counts = [0] * (len(APPLY_BUCKETS) + 1)
        self.apply_seconds = 0.0
        self.reconciles = 0
        self.reconcile_seconds = 0.0
        """Of the last one."""
        self.drift: Counter[Drift] = Counter()
        self.plane_errors = 0
        """Times that nothing could be read or done at all."""
        self.vip_errors = 0
        """Times that what a VIP wants could not be worked out."""

    def applied(self, operations: Collection[Operation], failures: Sequence[Failure], seconds: float) -> None:
        """The data plane was told operations, and this came of it."""
        asked = Counter(operation.kind for operation in operations)
        failed = Counter(failure.operation.kind for failure in failures)
        for kind, count in asked.items():
            self.operations[kind, DONE] += count - failed[kind]
        for kind, count in failed.items():
            self.operations[kind, FAILED] += count
        self.apply_counts[bisect_left(APPLY_BUCKETS, seconds)] += 1
        self.apply_seconds += seconds


class Draining(msgspec.Struct, frozen=True, gc=False):
    """A destination that gets no new connections, and for how many seconds it has not."""

    service: ServiceKey
    address: str
    port: int
    seconds: float


class BalancerStatus(msgspec.Struct, frozen=True):
    """The whole of it. `error` is why nothing can be done just now, "" when all is well; `backlog` are services that
    the last look found different and that wait for their turn; `reconciled` is how many seconds ago that was (-1:
    never)."""

    plane: str
    known: bool
    error: str
    vips: int
    served: int
    services: int
    destinations: int
    draining: int
    in_trouble: int
    clashes: int
    backlog: int
    reconciled: float
