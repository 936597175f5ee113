"""lb4.balancer_status: the counters."""

from __future__ import annotations

from lb4.balancer_status import APPLY_BUCKETS, DONE, FAILED, BalancerCounters
from lb4.services import Failure, Kind, Operation, ServiceKey

KEY = ServiceKey("tcp", "11.0.0.1", 80)


def test_operations_by_kind_and_result() -> None:
    counters = BalancerCounters()
    add, drop = Operation(Kind.ADD_ADDRESS, KEY), Operation(Kind.DROP_SERVICE, KEY)
    counters.applied([add, add, drop], [Failure(add, 1, "no")], 0.003)
    counters.applied([drop], [], 100.0)
    assert +counters.operations == {
        (Kind.ADD_ADDRESS, DONE): 1,
        (Kind.ADD_ADDRESS, FAILED): 1,
        (Kind.DROP_SERVICE, DONE): 2,
    }
    assert counters.apply_seconds == 100.003
    assert counters.apply_counts == [0, 1, 0, 0, 0, 0, 0, 1]
    assert len(counters.apply_counts) == len(APPLY_BUCKETS) + 1
