"""The README tells the truth: every label, word, difference, module and metric is in it."""

from __future__ import annotations

import re
from pathlib import Path

from agent.config import reference_markdown
from lb7._proxy import access_record
from lb7.labels import OF_APPS, OF_PORTS
from lb7.problems import REASONS
from lb7.raw_options import TEMPLATES
from tests.unit.lb7 import test_differences

LB7 = Path(__file__).resolve().parents[3] / "lb7"
README = (LB7 / "README.md").read_text()


def part(heading: str) -> str:
    """What stands below a heading."""
    return README.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_every_label_is_explained() -> None:
    told = set(re.findall(r"`HAPROXY_(\w+)`", part("Labels")))
    assert told == {f"n_{name}" for name in OF_PORTS | TEMPLATES} | OF_APPS


def test_every_word_for_what_is_not_carried_out_is_explained() -> None:
    for word, text in REASONS.items():
        assert f"| `{word}` | {text} |" in README


def test_every_difference_has_its_test() -> None:
    told = re.findall(r"^\| .* \| `(\w+)` \|$", part("Which request goes where"), re.MULTILINE)
    tests = [name.removeprefix("test_") for name in vars(test_differences) if name.startswith("test_")]
    assert sorted([*told, "what_neither_does", "what_both_do"]) == sorted(tests)


def test_every_metric_is_listed() -> None:
    listed = re.findall(r"^\| `(pharos_\w+)` \|", README, re.MULTILINE)
    told = "".join(path.read_text() for path in LB7.glob("metrics*.py"))
    assert sorted(listed) == sorted(set(re.findall(r'"(pharos_l7_\w+)"', told)))


def test_every_module_has_its_place() -> None:
    named = set(re.findall(r"`([a-z0-9_]+)\.pyx?`", README.partition("## An edge")[0]))
    assert {path.stem for path in (*LB7.glob("*.py"), *LB7.glob("*.pyx")) if path.stem != "__init__"} == named


def test_the_configuration_is_what_the_code_accepts() -> None:
    written = README.partition("<!-- config:begin -->")[2].partition("<!-- config:end -->")[0]
    assert written.strip() == reference_markdown(["l7"]).strip()


def test_keys_of_limits_are_keys() -> None:
    from lb7.config import L7Config

    keys = set(
        re.findall(
            r"`([a-z_]+)`",
            " ".join(
                line.split("|")[1] for line in part("Limits and time-outs").splitlines() if line.startswith("| `")
            ),
        )
    )
    assert keys <= set(L7Config.__struct_fields__)


def test_the_access_log_has_these_keys() -> None:
    logged = access_record("", "", b"GET / HTTP/1.1\r\n\r\n", None, 200, None, None, 1, 0, 0, 0.0, 0.0, 0.0, 0.0, None)
    rows = part("Operating it").partition("The access log")[2].partition("Other fields")[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", rows, re.MULTILINE)))) == set(logged)
