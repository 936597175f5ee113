"""agent.demo.demo: the command from its first line to its clean end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(120)


def test_it_scales_an_app_and_dns_follows() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent", "demo", "--seconds", "7"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"dig @127\.0\.0\.1 -p \d+ web\.marathon\.mesos", done.stdout)
    assert f"  {sys.executable} -m agent tasks web --api http://127.0.0.1:" in done.stdout
    assert re.search(r"/web has 4 instances; DNS said so \d+\.\d ms after the last change", done.stdout)
    assert re.search(r"/web has 2 instances; DNS said so", done.stdout)
    reached = [re.escape(f"reached {count} tasks, 0 failed") for count in (4, 2)]
    for text in reached:
        assert re.search(rf"24 connections to http://127\.\d+\.\d+\.\d+:\d+/ {text}", done.stdout), done.stdout
    assert re.search(r"\+ web +staging", done.stdout)
    assert re.search(r"- web +gone +127\.0\.1\.\d", done.stdout)
    assert done.stderr == ""


def test_ctrl_c_ends_it_cleanly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert any("Ctrl-C ends it all" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "The end: everything that was started is stopped." in out
    assert err == ""
