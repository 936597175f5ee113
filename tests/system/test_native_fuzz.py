"""The C code of the DNS fast path and of the edge under AddressSanitizer and UBSan: kept inputs, then new ones.

The folders of the corpus hold one input a file, in hexadecimal, `#` beginning a comment. An input that ever broke
something is added there. PHAROS_SOAK makes libFuzzer's search for new ones long and its seed new.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.native.build import CORE, EDGE, FUZZED, compile_core, compile_harness, need, need_sanitizers

CORPUS = Path(__file__).resolve().parent.parent / "fuzz" / "corpus"
HARNESSES = {"fuzz_packets": "native-packets", "fuzz_store": "native-store", "fuzz_http1": "http1-messages"}
SECONDS, SEED = (600, 0) if os.environ.get("PHAROS_SOAK") else (10, 1)  # 0: libFuzzer takes one and tells it
LONGEST = 1200


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    need_sanitizers()
    folder = tmp_path_factory.mktemp("fuzz")
    return {name: compile_harness("clang", name, FUZZED, folder) for name in HARNESSES}


def kept(name: str, folder: Path) -> Path:
    """The kept inputs of a harness as it reads them, in a folder."""
    folder.mkdir()
    for path in sorted((CORPUS / HARNESSES[name]).glob("*.hex")):
        octets = bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))
        (folder / path.stem).write_bytes(octets)
    return folder


def run(program: Path, folder: Path, *arguments: str) -> None:
    """Fails with what the program has said and the input that broke it."""
    command = (str(program), "-timeout=20", "-rss_limit_mb=3000", f"-artifact_prefix={folder}/broken-", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    broken = {path.name: path.read_bytes().hex() for path in folder.glob("broken-*")}
    said = f"{done.stderr[-6000:]}\n{broken}"
    assert not broken, said
    assert done.returncode == 0, said


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warnings(compiler: str, tmp_path: Path) -> None:
    need(compiler)
    said = [compile_core(compiler, source, tmp_path) for source in sorted([*CORE.glob("*.c"), *EDGE.glob("*.c")])]
    assert len(said) >= 6
    assert not any(said), "\n".join(said)


@pytest.mark.parametrize("name", HARNESSES)
def test_kept_inputs(name: str, programs: dict[str, Path], tmp_path: Path) -> None:
    inputs = sorted(str(path) for path in kept(name, tmp_path / "kept").iterdir())
    assert inputs
    run(programs[name], tmp_path, *inputs)


@pytest.mark.soak
@pytest.mark.parametrize("name", HARNESSES)
def test_new_inputs(name: str, programs: dict[str, Path], tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir()
    bounds = (f"-max_total_time={SECONDS}", f"-seed={SEED}", f"-max_len={LONGEST}")
    run(programs[name], tmp_path, *bounds, str(found), str(kept(name, tmp_path / "kept")))


@pytest.mark.parametrize("name", HARNESSES)
def test_inputs_say_why_they_are_kept(name: str) -> None:
    for path in (CORPUS / HARNESSES[name]).glob("*.hex"):
        assert path.read_text().startswith("# "), path.name
