"""Instructions per message of the edge's parser, and per request of the whole proxy, counted by valgrind.

`python -m tests.native.instructions` prints these figures too, `--record` writes them to
tests/data/edge-instructions.json, against which tests/system/test_edge_instructions.py holds the code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.native import edge_messages as messages
from tests.native.build import PLAIN, compile_harness
from tests.native.callgrind import collected_in_parts, compiler, interpreter
from tests.native.edge_conversation import CONVERSATIONS, REQUESTS

RECORD = Path(__file__).resolve().parent.parent / "data" / "edge-instructions.json"
TIMES = 256

PARSED = {
    "request": ("request", messages.GET),
    "request_of_browser": ("request", messages.GET_BROWSER),
    "answer": ("answer", messages.OK),
    "answer_of_app": ("answer", messages.OK_APP),
    "few_chunks": ("chunks", messages.FEW_CHUNKS),
    "many_chunks": ("chunks", messages.MANY_CHUNKS),
}
"""By name: how a message is read, and the message."""


def recorded(of: str) -> dict[str, float] | None:
    """Figures of "parser" or "requests", as they were recorded for this compiler and interpreter."""
    found: dict[str, dict[str, dict[str, float]]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found.get(of, {}).get(name_of(of))


def record(of: str, figures: dict[str, float]) -> None:
    """Write figures beside those of other compilers and interpreters."""
    found = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    found.setdefault(of, {})[name_of(of)] = figures
    RECORD.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def name_of(of: str) -> str:
    """Under which name they are recorded."""
    return compiler() if of == "parser" else interpreter()


def parser(folder: Path) -> dict[str, float]:
    """Instructions of each message: read, and its fields written anew."""
    command = [str(compile_harness("gcc", "count_http1", PLAIN, folder)), str(TIMES)]
    for name, (kind, octets) in PARSED.items():
        path = folder / name
        path.write_bytes(octets)
        command += [kind, str(path)]
    _, totals = collected_in_parts(command, "counted*", "part_over*", folder / "parser")
    return _each(list(PARSED), totals, TIMES)


def requests(folder: Path) -> dict[str, float]:
    """Instructions of each conversation's request and answer, in user space, without loop and sockets.

    The proxy is the extension that is installed. All that it calls takes part, Python's own functions too.
    """
    command = (sys.executable, "-m", "tests.native.edge_conversation")
    names, totals = collected_in_parts(command, "__pyx_pw_*data_received", "*Edge_*counts", folder / "requests")
    assert names.split() == list(CONVERSATIONS), names
    return _each(names.split(), totals, REQUESTS)


def _each(names: list[str], totals: list[int], times: int) -> dict[str, float]:
    """Of two parts each the second one, in which nothing happens for the first time."""
    assert len(totals) == 2 * len(names), f"{len(totals)} parts for {len(names)} names"
    assert all(totals), "nothing was counted: is the extension stripped of its symbols?"
    return {name: round(total / times, 1) for name, total in zip(names, totals[1::2], strict=True)}


FIGURES: dict[str, Callable[[Path], dict[str, float]]] = {"parser": parser, "requests": requests}
"""What is counted, in a folder for its files."""
