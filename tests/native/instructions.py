"""Instructions per query of a DNS worker, counted by valgrind; and where all such figures are recorded.

`python -m tests.native.instructions` prints the figures of this compiler and this interpreter, those of the edge too
(edge_instructions.py). `--record` also writes them to tests/data/native-instructions.json and edge-instructions.json,
against which tests/system/test_native_instructions.py and test_edge_instructions.py hold the code.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.native import edge_instructions
from tests.native.build import PLAIN, compile_harness
from tests.native.callgrind import collected, compiler

RECORD = Path(__file__).resolve().parent.parent / "data" / "native-instructions.json"
VARIANTS = ("plain", "edns", "case")
FEW, MANY = 25_600, 51_200
"""Queries; the difference of two runs leaves out what the first calls cost."""


def recorded() -> dict[str, dict[str, float]]:
    """Figures by compiler and variant."""
    found: dict[str, dict[str, float]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def figures(folder: Path) -> dict[str, float]:
    """Instructions per query of each variant."""
    program = compile_harness("gcc", "count_instructions", PLAIN, folder)
    found = {}
    for variant in VARIANTS:
        few, many = (collected((str(program), variant, str(queries)), "counted*") for queries in (FEW, MANY))
        found[variant] = round((many - few) / (MANY - FEW), 1)
    return found


def main() -> None:
    """See the module."""
    recording = "--record" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        found = {compiler(): figures(Path(folder))}
        print(json.dumps(found))
        if recording:
            RECORD.write_text(json.dumps({**recorded(), **found}, indent=1, sort_keys=True) + "\n")
        for of, count in edge_instructions.FIGURES.items():
            of_edge = count(Path(folder))
            print(json.dumps({of: {edge_instructions.name_of(of): of_edge}}))
            if recording:
                edge_instructions.record(of, of_edge)


if __name__ == "__main__":
    main()
