"""Counts instructions with valgrind: figures that do not depend on the machine's load.

They depend on the compiler, though, and where Python takes part on how that was built: they are recorded by both.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parent.parent.parent
# One variant of memcpy and memcmp for all machines: those that every x86-64 processor has.
_FEATURES = ("AVX", "AVX2", "AVX512F", "AVX512VL", "SSSE3", "SSE4_1", "SSE4_2", "ERMS", "FSRM", "MOVBE")
_TUNABLES = f"glibc.cpu.hwcaps={','.join(f'-{feature}' for feature in _FEATURES)}"


def compiler() -> str:
    """Under which name this machine's figures are recorded."""
    version = subprocess.run(("gcc", "-dumpversion"), capture_output=True, text=True, check=True).stdout
    return f"gcc-{version.partition('.')[0].strip()} {platform.machine()}"


def interpreter() -> str:
    """The same for what runs in Python: its version, and how it was built."""
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    built = ("shared" if sysconfig.get_config_var("Py_ENABLE_SHARED") else "static") + " optimized" * optimized
    return f"{compiler()} python-{sysconfig.get_python_version()} {built}"


def collected(command: Sequence[str], counted: str) -> int:
    """Instructions inside the functions of this name, which may end in "*" and must not call each other."""
    done = _run(command, counted, Path(os.devnull))
    match = re.search(r"Collected : (\d+)", done.stderr)
    assert match is not None, done.stderr
    return int(match[1])


def collected_in_parts(command: Sequence[str], counted: str, mark: str, folder: Path) -> tuple[str, list[int]]:
    """What the program prints; and instructions as of `collected`, apart for each part that ends with a call of `mark`.

    The two patterns must not begin alike up to a "*": valgrind heeds but one of them then.
    """
    folder.mkdir(exist_ok=True)
    done = _run((f"--dump-before={mark}", *command), counted, folder / "part")
    parts = sorted(folder.glob("part.*"), key=lambda path: int(path.suffix[1:]))
    totals = [re.search(r"^totals: (\d+)$", part.read_text(), re.MULTILINE) for part in parts]
    return done.stdout, [int(match[1]) if match else 0 for match in totals]


def _run(command: Sequence[str], counted: str, out: Path) -> subprocess.CompletedProcess[str]:
    words = ("valgrind", "--tool=callgrind", f"--toggle-collect={counted}", f"--callgrind-out-file={out}", *command)
    environment = {**os.environ, "GLIBC_TUNABLES": _TUNABLES, "PYTHONHASHSEED": "0"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=_REPOSITORY, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
