"""The README tells the truth: its VIP file is one, and it lists every metric."""

from __future__ import annotations

import re
from pathlib import Path

from lb4.vip_file import read_vips

LB4 = Path(__file__).resolve().parents[3] / "lb4"
README = (LB4 / "README.md").read_text()


def test_the_vip_file_is_one() -> None:
    (text,) = [
        text for text in re.findall(r"^```toml\n(.*?)^```$", README, re.DOTALL | re.MULTILINE) if "[[vip]]" in text
    ]
    vips = read_vips(text.encode(), "README.md")
    assert [(vip.target, vip.port) for vip in vips] == [
        ("db.marathon", 5432),
        ("10.200.0.10", 25),
        ("web.marathon", 80),
    ]


def test_every_metric_is_listed() -> None:
    listed = re.findall(r"^\| `(pharos_\w+)` \|", README, re.MULTILINE)
    told = "".join(path.read_text() for path in LB4.glob("metrics*.py"))
    assert sorted(listed) == sorted(set(re.findall(r'"(pharos_l4_\w+)"', told)))


def test_every_module_has_its_place() -> None:
    named = re.findall(r"`([a-z0-9_*]+)\.py`", README.partition("## Servers and nodes")[0])
    patterns = [re.compile(name.replace("*", ".*")) for name in named]
    modules = [path.stem for path in LB4.glob("*.py") if path.stem != "__init__"]
    assert not [module for module in modules if not any(pattern.fullmatch(module) for pattern in patterns)]
