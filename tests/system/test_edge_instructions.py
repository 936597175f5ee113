"""A request costs the edge no more instructions than recorded: its messages to read, and all of it in the proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.build import need
from tests.native.edge_instructions import FIGURES, name_of, recorded
from tests.system.held_instructions import hold

MOST = 1.03
"""Two runs differ by less than 1.01; what remains is for compilers and interpreters of other patch levels."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("of", FIGURES)
def test_instructions(of: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("gcc", "valgrind")
    what = {"parser": "a message", "requests": "a request"}[of]
    hold(what, name_of(of), lambda: FIGURES[of](tmp_path), recorded(of), MOST, capsys)
