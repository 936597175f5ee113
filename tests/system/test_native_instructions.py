"""A query costs a DNS worker no more instructions than recorded: what a change makes slower is seen on any machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.build import need
from tests.native.callgrind import compiler
from tests.native.instructions import figures, recorded
from tests.system.held_instructions import hold

MOST = 1.05


def test_instructions_per_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("gcc", "valgrind")
    hold("a query", compiler(), lambda: figures(tmp_path), recorded().get(compiler()), MOST, capsys)
