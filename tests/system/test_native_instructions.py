"""A query costs a DNS worker no more instructions than recorded: what a change makes slower is seen on any machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.native.build import need
from tests.native.instructions import compiler, figures, recorded

MOST = 1.05
RENEW = "`python -m tests.native.instructions --record` records anew"


def test_instructions_per_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("gcc", "valgrind")
    before = recorded().get(compiler())
    if before is None:
        missing = f"no figures are recorded for {compiler()}; {RENEW}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    now = figures(tmp_path)
    for variant, count in now.items():
        if count < before[variant] / MOST:
            with capsys.disabled():
                print(f"\n{variant}: {count} instructions a query, {before[variant]} are recorded; {RENEW}")
    more = {variant: count for variant, count in now.items() if count > before[variant] * MOST}
    assert not more, f"more instructions a query than recorded ({before}); if that has to be, {RENEW}"
