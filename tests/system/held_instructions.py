"""Counted instructions beside recorded ones: what a change makes slower fails a test, on any machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import pytest

RENEW = "`python -m tests.native.instructions --record` records anew"


def hold(
    what: str,
    name: str,
    count: Callable[[], Mapping[str, float]],
    before: Mapping[str, float] | None,
    most: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fail when one of these is above its recorded figure times `most`; say so when it is far below.

    `what` has so many instructions; `name`: of the compiler or interpreter. What was never recorded fails in CI.
    """
    if before is None:
        missing = f"no instructions of {what} are recorded for {name}; {RENEW}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    now = count()
    assert set(now) == set(before), f"other kinds of {what} than recorded; {RENEW}"
    for kind, number in now.items():
        if number < before[kind] / most:
            with capsys.disabled():
                print(f"\n{kind}: {number} instructions of {what}, {before[kind]} are recorded; {RENEW}")
    more = {
        kind: f"{number}, {100 * (number / before[kind] - 1):.1f} % more than {before[kind]}"
        for kind, number in now.items()
        if number > before[kind] * most
    }
    assert not more, f"more instructions of {what} than recorded: {more}; if that has to be, {RENEW}"
