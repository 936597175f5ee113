"""Instructions per query of a DNS worker, counted by valgrind: a figure that does not depend on the machine's load.

`python -m tests.native.instructions` prints the figures of this compiler, `--record` also writes them to
tests/data/native-instructions.json, against which tests/system/test_native_instructions.py holds the code.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.native.build import PLAIN, compile_harness

RECORD = Path(__file__).resolve().parent.parent / "data" / "native-instructions.json"
VARIANTS = ("plain", "edns", "case")
FEW, MANY = 25_600, 51_200
"""Queries; the difference of two runs leaves out what the first calls cost."""
# One variant of memcpy and memcmp for all machines: those that every x86-64 processor has.
_FEATURES = ("AVX", "AVX2", "AVX512F", "AVX512VL", "SSSE3", "SSE4_1", "SSE4_2", "ERMS", "FSRM", "MOVBE")
_TUNABLES = f"glibc.cpu.hwcaps={','.join(f'-{feature}' for feature in _FEATURES)}"


def compiler() -> str:
    """Under which name this machine's figures are recorded."""
    version = subprocess.run(("gcc", "-dumpversion"), capture_output=True, text=True, check=True).stdout
    return f"gcc-{version.partition('.')[0].strip()} {platform.machine()}"


def recorded() -> dict[str, dict[str, float]]:
    """Figures by compiler and variant."""
    found: dict[str, dict[str, float]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def figures(folder: Path) -> dict[str, float]:
    """Instructions per query of each variant."""
    program = compile_harness("gcc", "count_instructions", PLAIN, folder)
    return {
        variant: round((collected(program, variant, MANY) - collected(program, variant, FEW)) / (MANY - FEW), 1)
        for variant in VARIANTS
    }


def collected(program: Path, variant: str, queries: int) -> int:
    """Instructions inside the worker's part for this many queries."""
    command = (
        "valgrind",
        "--tool=callgrind",
        "--toggle-collect=counted*",
        f"--callgrind-out-file={os.devnull}",
        str(program),
        variant,
        str(queries),
    )
    environment = {**os.environ, "GLIBC_TUNABLES": _TUNABLES}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    match = re.search(r"Collected : (\d+)", done.stderr)
    assert match is not None, done.stderr
    return int(match[1])


def main() -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        found = {compiler(): figures(Path(folder))}
    print(json.dumps(found))
    if "--record" in sys.argv[1:]:
        RECORD.write_text(json.dumps({**recorded(), **found}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
