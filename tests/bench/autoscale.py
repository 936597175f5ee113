"""Autoscaling simulated: Pharos' decisions beside marathon-lb-autoscale's and HPA's, the same loads, no clock.

    ./dev bench autoscale [--table FILE] [--plot FILE] [--write]

By load and autoscaler: requests that were not served (and of how many), instance-seconds more than needed, changes.
`--table` writes that as Markdown, `--plot` the course of it as SVG; `--write` renews those of the READMEs.
The figures are the same on every machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.autoscale_plot import Panel, picture
from tests.bench.autoscale_shapes import Shape, shapes
from tests.bench.autoscale_simulation import CAPACITY, SCALERS, START, TARGET, Outcome, needed, simulate

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "lb7" / "autoscale"
READMES, PLOT = (FOLDER / "README.md", REPOSITORY / "README.md"), FOLDER / "simulation.svg"
BEGIN, END = "<!-- simulation:begin -->", "<!-- simulation:end -->"
DRAWN = ("Pharos, every 5 s", "HPA's formula, every 15 s", "marathon-lb-autoscale, every 60 s")

Outcomes = dict[str, dict[str, Outcome]]
"""By load and autoscaler."""


def options(words: Sequence[str]) -> dict[str, Any]:
    """The arguments of `measure` from the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench autoscale", description="autoscaling simulated")
    parser.add_argument("--table", type=Path, help="write the figures as a Markdown table")
    parser.add_argument("--plot", type=Path, help="write the course as SVG")
    parser.add_argument("--write", action="store_true", help="renew the READMEs' tables and plot")
    return vars(parser.parse_args(list(words)))


def measure(table: Path | None = None, plot: Path | None = None, write: bool = False) -> dict[str, Any]:
    """All loads under all autoscalers."""
    loads = shapes()
    outcomes = run(loads)
    if table:
        table.write_text(markdown(outcomes))
    if plot:
        plot.write_text(drawing(loads, outcomes))
    if write:
        for readme in READMES:
            readme.write_text(renewed(readme.read_text(), markdown(outcomes)))
        PLOT.write_text(drawing(loads, outcomes))
    return {
        "measurement": "autoscale",
        "target_per_instance": TARGET,
        "capacity_per_instance": CAPACITY,
        "start_seconds": START,
        "loads": {
            load: {
                name: {
                    "unmet_requests": round(outcome.unmet),
                    "unmet_ratio": round(outcome.unmet_ratio, 5),
                    "wasted_instance_seconds": outcome.wasted,
                    "actions": outcome.actions,
                }
                for name, outcome in of_load.items()
            }
            for load, of_load in outcomes.items()
        },
    }


def run(loads: Sequence[Shape]) -> Outcomes:
    """Each load under each autoscaler."""
    return {load.name: {name: simulate(load, make()) for name, make in SCALERS.items()} for load in loads}


def markdown(outcomes: Outcomes) -> str:
    """The table: for each load the unmet part of requests, wasted instance-minutes and changes."""
    lines = [
        f"| load | {' | '.join(SCALERS)} |",
        f"|---|{'---|' * len(SCALERS)}",
    ]
    for load, of_load in outcomes.items():
        cells = [
            f"{100 * outcome.unmet_ratio:.2f} % · {outcome.wasted / 60:.0f} · {outcome.actions}"
            for outcome in of_load.values()
        ]
        lines.append(f"| {load} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def drawing(loads: Sequence[Shape], outcomes: Outcomes) -> str:
    """The course of the loads and of three of the autoscalers."""
    return picture(
        [
            Panel(
                f"{load.name}: {load.what}",
                [needed(demand) for demand in load.demand],
                {name: outcomes[load.name][name].instances for name in DRAWN},
            )
            for load in loads
        ]
    )


def renewed(text: str, table: str) -> str:
    """A document with this table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"no place between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}{END}{after}"
