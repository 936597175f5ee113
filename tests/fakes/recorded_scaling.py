"""The recorded runs of marathon-lb-autoscale, and the loads that they were: by interval, the first is 1.

The recordings have parameters and calls. The loads are those of the cases' names; where a name leaves it open (when a
spike comes, how long a wave is), what gives exactly the recorded calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).resolve().parents[1] / "data" / "autoscale" / "traces.json"

Rows = dict[str, float]
"""HAProxy's rates by frontend; one that is missing has no row."""


@dataclass(frozen=True)
class Case:
    """`real` is the load that the app really has where the program did not see all of it."""

    start: int
    rows: Callable[[int], Rows]
    app: str = "web"
    frontends: tuple[str, ...] = ("web_10000",)
    real: float | None = None


def _constant(rate: float, name: str = "web_10000") -> Callable[[int], Rows]:
    return lambda _: {name: rate}


CASES: dict[str, Case] = {
    "const_5000rps_from_1": Case(1, _constant(5000)),
    "const_5000rps_from_4_within_thresholds": Case(4, _constant(5000)),
    "drop_to_0_from_10": Case(10, _constant(0)),
    "min_max": Case(1, _constant(50_000)),
    "spike_2_intervals": Case(5, lambda i: {"web_10000": 50_000 if i in (20, 21) else 5000}),
    "oscillate_2k_8k": Case(5, lambda i: {"web_10000": 2000 if i // 6 % 2 else 8000}),
    "step_up_then_down_cooldown": Case(1, lambda i: {"web_10000": 8000 if i < 25 else 1000}),
    "nested_id_team/prod/svc": Case(
        1, _constant(5000, "team_prod_svc_10000"), "team_prod_svc", ("team_prod_svc_10000",)
    ),
    "underscore_id_my_app": Case(1, _constant(5000, "my_app_10000"), "my_app", ("my_app_10000",)),
    "two_frontends_same_app": Case(
        1, lambda _: {"web_10000": 5000, "web_10001": 9000}, frontends=("web_10000", "web_10001")
    ),
    "scaled_to_zero_then_traffic": Case(0, _constant(5000)),
    "missing_frontend": Case(5, lambda _: {}, real=5000),
    "vhost_port80_traffic_only": Case(5, _constant(0), real=5000),
}


def recorded() -> dict[str, dict[str, Any]]:
    """All recordings, by name."""
    found: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text())
    return found
