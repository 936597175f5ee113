"""Compiles the native core, or the edge's native part, together with a harness of this folder.

Their files are taken as they are, `-Werror`; those that a harness includes are left out of its link.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORE = HERE.parent.parent / "mesos_dns" / "native"
EDGE = HERE.parent.parent / "lb7" / "native"
STRICT = ("-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")
PLAIN = ("-O2",)
CHECKED = ("-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FUZZED = ("-O2", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
RACED = ("-O1", "-fsanitize=thread")
_PARTS = {
    "fuzz_packets": ("draft.c", "shapes.c", "walk.c"),
    "fuzz_store": ("draft.c",),
    "race_store": ("draft.c", "walk.c"),
    "count_instructions": ("draft.c",),
    "fuzz_http1": (),
    "count_http1": (),
    "tell_edge": (),
}
_OF_THE_EDGE = {"fuzz_http1", "count_http1", "tell_edge"}
_INCLUDED = {"fuzz_store": ("blocks.c", "store.c"), "count_instructions": ("loop.c",)}


def need(*programs: str) -> None:
    """Skip the test where one of these is not installed (`./dev test` installs them)."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def need_sanitizers() -> None:
    """Skip the test where clang or what its sanitizers link is not installed."""
    need("clang")
    asked = ("clang", "--rtlib=compiler-rt", "--print-libgcc-file-name")
    runtime = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    if not runtime.with_name(runtime.name.replace("builtins", "fuzzer")).exists():
        pytest.skip("clang's runtime libraries (libclang-rt-dev) are not installed")


def compile_core(compiler: str, source: Path, folder: Path) -> str:
    """What a compiler says of one such file, as the extension is built; empty when it says nothing."""
    command = (compiler, *STRICT, *PLAIN, "-c", str(source), "-o", str(folder / f"{compiler}-{source.stem}.o"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr or ("" if done.returncode == 0 else f"exit code {done.returncode}")


def compile_harness(compiler: str, name: str, flags: tuple[str, ...], folder: Path) -> Path:
    """The program of a harness. A compiler's complaint fails the test."""
    program = folder / f"{name}-{compiler}{''.join(flags).replace(',', '').replace('=', '')}"
    native = EDGE if name in _OF_THE_EDGE else CORE
    linked = sorted(path for path in native.glob("*.c") if path.name not in _INCLUDED.get(name, ()))
    sources = (HERE / f"{name}.c", *(HERE / part for part in _PARTS[name]), *linked)
    command = (compiler, *STRICT, *flags, *map(str, sources), "-o", str(program))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program
