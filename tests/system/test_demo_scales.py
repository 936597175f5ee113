"""`pharos demo`: an app grows and shrinks with real requests through the edge, sleeps, and wakes; no request fails."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(240)

CHANGE = re.compile(r"/shop/checkout: (\d) → (\d) instances?; (\d+) requests answered, (\d+) failed(; who woke it)?")


def test_its_app_grows_shrinks_sleeps_and_wakes() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "demo", "--seconds", "180"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    changes: list[tuple[int, int]] = []
    try:
        for line in process.stdout:
            said.append(line)
            if (match := CHANGE.search(line)) is None:
                continue
            changes.append((int(match[1]), int(match[2])))
            assert match[4] == "0", line
            if match[5]:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    text = "".join(said) + rest
    assert process.returncode == 0, text
    assert changes[-1] == (0, 1), text
    assert max(after for _, after in changes) >= 3, text
    assert any(before > after > 0 for before, after in changes), text
    assert '"level"' not in text, text
