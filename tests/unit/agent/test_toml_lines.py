"""Lines of TOML: values come back as they were, and nothing ends a comment."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.toml_lines import TomlLines, toml
from mesos_dns.toml_tables import Problem

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1))
VALUES = st.one_of(SCALARS, st.lists(TEXT), st.dictionaries(TEXT, SCALARS))


@given(VALUES, TEXT, TEXT)
def test_a_value_is_read_back(value: Any, origin: str, remark: str) -> None:
    lines = TomlLines([])
    lines.section("s")
    lines.put("key", value, origin, remark)
    lines.comment(remark)
    assert tomllib.loads(lines.text()) == {"s": {"key": value}}


def test_a_lone_surrogate_is_no_text() -> None:
    assert toml("a\ud800b") == '"a?b"'


def test_lines() -> None:
    warnings: list[Problem] = []
    lines = TomlLines(warnings)
    lines.comment("head")
    lines.section("l7")
    lines.put("groups", ["a"], "--group", "which")
    lines.put("plain", 1, "")
    lines.put("remarked", True, "", "so")
    lines.blank()
    lines.warn("--x", "no\nequivalent")
    assert lines.text() == (
        '# head\n\n[l7]\ngroups = ["a"]  # --group: which\nplain = 1\nremarked = true  # so\n\n# --x: no?equivalent\n'
    )
    assert warnings == [Problem("--x", "no\nequivalent")]


def test_problems_under_their_origin() -> None:
    lines = TomlLines([])
    lines.section("l7")
    lines.put("groups", ["a"], "--group")
    for path in ("l7.groups", "l7.groups[0]", "l7.groups.x.y"):
        assert lines.as_given(Problem(path, "t")) == Problem("--group", "t")
    assert lines.as_given(Problem("l7.http", "t")) == Problem("l7.http", "t")
