"""Runs programs in virtual machines beside the rest of a test session, one after another.

A test with the marker `vm("package.module", SECONDS)` gets what came of `python -m package.module` in a VM by the
fixture `in_vm`. The machines start with the session and those tests come last: an emulated CPU is slow, and most of
that time nobody waits for it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
VMRUN = REPOSITORY / "tests" / "vm" / "vmrun"
NO_VM = 125


class Machines:
    """The programs of a session, with the seconds that each may take. `start` once, `result` for each, `stop`."""

    def __init__(self, programs: Mapping[str, int]) -> None:
        self._programs = dict(programs)
        self._done = {name: threading.Event() for name in programs}
        self._results: dict[str, subprocess.CompletedProcess[str]] = {}
        self._running: subprocess.Popen[str] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run_all, name="virtual-machines", daemon=True)

    def start(self) -> None:
        """Begin with the first."""
        self._thread.start()

    def stop(self) -> None:
        """End the one that runs; the others are not begun."""
        self._stopped = True
        running = self._running
        if running is not None and running.poll() is None:
            running.terminate()
        self._thread.join(30)

    def result(self, name: str) -> subprocess.CompletedProcess[str]:
        """What came of a program, when it has ended."""
        assert self._done[name].wait(sum(self._programs.values()) + 60), f"no virtual machine came to {name}"
        return self._results[name]

    def _run_all(self) -> None:
        for name, seconds in self._programs.items():
            if self._stopped:
                return
            command = [
                sys.executable,
                str(VMRUN),
                "--timeout",
                str(seconds),
                "--env",
                "PYTHONDONTWRITEBYTECODE=1",
                "--",
            ]
            command += [sys.executable, "-m", name]
            with subprocess.Popen(
                command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as running:
                self._running = running
                out, err = running.communicate()
            self._results[name] = subprocess.CompletedProcess(command, running.returncode, out, err)
            self._done[name].set()


def programs_of(items: list[pytest.Item]) -> dict[str, int]:
    """The programs that these tests want, with their times, in the order of the tests."""
    found: dict[str, int] = {}
    for item in items:
        for marker in item.iter_markers("vm"):
            found[marker.args[0]] = marker.args[1]
    return found


def checked(done: subprocess.CompletedProcess[str]) -> str:
    """What a program that ended well has printed; skips where this machine can have no VM."""
    if done.returncode == NO_VM:
        pytest.skip(f"no VM on this machine: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
