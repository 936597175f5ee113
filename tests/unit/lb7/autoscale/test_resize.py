"""When instances can be replaced without the app being down."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale.marathon_told import ToldApp
from lb7.autoscale.resize import downtime, unfit_size


@pytest.mark.parametrize(
    ("instances", "health", "over", "resident", "says"),
    [
        (1, 1.0, 1.0, False, ""),
        (1, 1.0, 0.0, False, ""),  # Marathon starts one above by itself
        (1, 0.5, 0.0, False, ""),
        (4, 0.5, 0.0, False, ""),
        (0, 0.0, 0.0, False, ""),
        (1, 0.0, 1.0, False, "minimumHealthCapacity above 0"),
        (9, 0.0, 1.0, False, "minimumHealthCapacity above 0"),
        (1, 0.5, 0.0, True, "maximumOverCapacity to 1"),
        (1, 0.5, 1.0, True, ""),
        (2, 0.5, 0.0, True, ""),
    ],
)
def test_downtime(instances: int, health: float, over: float, resident: bool, says: str) -> None:
    told = downtime(ToldApp("/a", instances, min_health=health, over_capacity=over, resident=resident))
    assert says in told
    assert bool(says) == bool(told)


@given(st.integers(1, 50), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_what_is_let_through_keeps_an_instance(instances: int, health: float, over: float, resident: bool) -> None:
    """Against what Marathon does first of all in a rolling deployment."""
    if downtime(ToldApp("/a", instances, min_health=health, over_capacity=over, resident=resident)):
        return
    kept, most = math.ceil(instances * health), int(instances * (1 + over))
    killed = instances - kept
    if kept == most <= instances and resident:
        killed += 1
    assert instances - killed >= 1


@pytest.mark.parametrize(
    ("cpus", "mem", "says"),
    [
        (0.5, None, ""),
        (None, 64.0, ""),
        (None, None, "nothing to change"),
        (0.0, 64.0, "cpus 0"),
        (1.0, -1.0, "mem -1"),
        (float("nan"), None, "cpus nan"),
        (float("inf"), None, "cpus inf"),
    ],
)
def test_sizes(cpus: float | None, mem: float | None, says: str) -> None:
    assert says in unfit_size(cpus, mem)
    assert bool(says) == bool(unfit_size(cpus, mem))
