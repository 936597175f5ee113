"""The table of answers while it changes: one writer, two readers, with and without ThreadSanitizer."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.native.build import PLAIN, RACED, compile_harness, need, need_sanitizers

SECONDS = 120 if os.environ.get("PHAROS_SOAK") else 4
SEED = random.randrange(1 << 31) if os.environ.get("PHAROS_SOAK") else 5


def run(program: Path) -> None:
    command = [str(program), str(SECONDS), str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in done.stderr:  # ThreadSanitizer on kernels that spread addresses widely
        done = subprocess.run(["setarch", "-R", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed={SEED} {done.stdout}{done.stderr[-6000:]}"
    assert "replies" in done.stdout


@pytest.mark.soak
def test_no_data_races(tmp_path: Path) -> None:
    need_sanitizers()
    run(compile_harness("clang", "race_store", RACED, tmp_path))


@pytest.mark.soak
def test_no_torn_answers(tmp_path: Path) -> None:
    need("gcc")
    run(compile_harness("gcc", "race_store", PLAIN, tmp_path))
