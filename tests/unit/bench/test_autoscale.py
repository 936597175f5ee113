"""The simulation of autoscaling: what it counts, and that the READMEs show what it gives now."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench import autoscale
from tests.bench.autoscale_plot import Panel, picture
from tests.bench.autoscale_shapes import Shape, all_of_it, shapes
from tests.bench.autoscale_simulation import needed, simulate


@dataclass
class Script:
    """An autoscaler that wants what it is told to, second by second."""

    wants: dict[int, int]
    interval: int = 1

    def poll(self, shape: Shape, second: int, current: int) -> int:
        return self.wants.get(second, current)


def flat(demand: float, seconds: int) -> Shape:
    return Shape("flat", "", (demand,) * seconds, all_of_it)


def test_it_counts_what_is_not_served_and_what_is_too_much() -> None:
    outcome = simulate(flat(350, 60), Script({10: 2, 20: 6, 50: 5}))
    assert outcome.instances == (5,) * 10 + (2,) * 10 + (6,) * 30 + (5,) * 10
    assert outcome.unmet == 150 * 30, "new instances serve after 20 s"
    assert (outcome.wasted, outcome.actions) == (30, 3)


def test_what_was_not_ready_goes_first() -> None:
    outcome = simulate(flat(500, 60), Script({10: 20, 15: 9, 16: 8, 20: 3}))
    assert needed(500) == 8
    assert outcome.unmet == 40 * 200


def test_needed_instances() -> None:
    assert [needed(demand) for demand in (0, 1, 70, 71, 140)] == [1, 1, 1, 2, 2]


def test_an_autoscaler_of_pharos_serves_more_than_the_others_and_sleeps_through_no_outage() -> None:
    found = {load.name: load for load in shapes() if len(load.demand) <= 3600}
    outcomes = autoscale.run([found["step"], found["metric outage"]])
    for of_load in outcomes.values():
        ours, *others = of_load.values()
        assert all(ours.unmet <= other.unmet for other in others)
    assert next(iter(outcomes["metric outage"].values())).actions == 0


def test_a_picture_is_well_formed() -> None:
    panel = Panel("a < b", [1, 2, 2], {"x & y": [1, 1, 3], "z": [2, 2, 2]})
    root = ET.fromstring(picture([panel, panel, panel]))  # noqa: S314 - our own
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == 3


def test_the_readmes_show_what_it_gives_now(tmp_path: Path) -> None:
    table, plot = tmp_path / "table.md", tmp_path / "plot.svg"
    found = autoscale.measure(**autoscale.options(["--table", str(table), "--plot", str(plot)]))
    assert set(found["loads"]) == {shape.name for shape in shapes()}
    for readme in autoscale.READMES:
        text = readme.read_text()
        assert autoscale.renewed(text, table.read_text()) == text
    assert autoscale.PLOT.read_text() == plot.read_text()


def test_a_document_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no place between"):
        autoscale.renewed("# nothing", "| a |")
