"""The README tells the truth: every label, word, reason, module and recorded case is in it."""

from __future__ import annotations

import re
from pathlib import Path

from lb7.autoscale import labels
from lb7.autoscale.decide import REASONS
from tests.unit.lb7.autoscale import test_recorded_traces

FOLDER = Path(__file__).resolve().parents[4] / "lb7" / "autoscale"
README = (FOLDER / "README.md").read_text()


def part(heading: str) -> str:
    """What stands below a heading."""
    return README.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_every_label_is_explained() -> None:
    directions = {f"{way}_{word}" for way in ("UP", "DOWN") for word in labels.DIRECTIONS}
    named = {f"{word}_name" for word in labels.NAMED}
    told = re.findall(r"`PHAROS_SCALE_(\w+)`", part("Labels"))
    assert sorted(told) == sorted({*labels.SINGLE, *labels.PLAIN_METRICS, *directions, *named})


def test_every_word_and_reason_is_explained() -> None:
    for word, text in (*labels.REASONS.items(), *REASONS.items()):
        assert f"| `{word}` | {text} |" in README


def test_every_metric_is_listed() -> None:
    listed = re.findall(r"^\| `(pharos_\w+)` \|", part("What it tells Prometheus"), re.MULTILINE)
    told = re.findall(r'"(pharos_autoscale_\w+)"', (FOLDER / "metrics.py").read_text())
    assert sorted(listed) == sorted(told)


def test_every_module_has_its_place() -> None:
    named = set(re.findall(r"`([a-z_]+)\.py`", README.partition("## An example")[0]))
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == named


def test_every_recorded_case_has_its_test() -> None:
    told = re.findall(r"^\| .* \| `(\w+)` \|$", part("Beside others"), re.MULTILINE)
    tests = [name.removeprefix("test_") for name in vars(test_recorded_traces) if name.startswith("test_")]
    assert told == tests
