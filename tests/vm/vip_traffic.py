"""Backends and clients of virtual addresses in network namespaces, by the program vip_traffic.c."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_suffix(".c")
HERE = "-"
"""The namespace of this process."""


def compiled(folder: Path) -> Path:
    """The program, made in a folder."""
    program = folder / "vip_traffic"
    done = subprocess.run(["cc", "-O1", "-o", program, SOURCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


class Backends:
    """Answer with their number (0..255), by TCP and UDP. A context: at its end all are gone."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def open(self, number: int, netns: str, protocol: str, address: str, port: int) -> None:
        """It listens; nothing when it does already."""
        self._do(f"open {number} {netns} {protocol} {address} {port}")

    def close(self, number: int) -> None:
        """It listens no more. Its connections stay."""
        self._do(f"close {number}")

    def end(self) -> None:
        """End all."""
        with self._process as process:
            process.kill()

    def _do(self, line: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer == "ok", f"{line}: {answer}"


class Made(NamedTuple):
    """One connection: its start and end (seconds of time.monotonic), to which address, which backend answered
    (-1: none), and the error (errno; 0: none, 1000: it ended without an answer)."""

    start: float
    end: float
    to: int
    backend: int
    error: int


class Connections:
    """So many short connections a second from a namespace, to each of some addresses in turn, until `finish`."""

    def __init__(self, program: Path, netns: str, rate: int, log: Path, places: Sequence[tuple[str, int]]) -> None:
        self._log = log
        command = [
            str(program),
            "connect",
            netns,
            str(rate),
            str(log),
            *(f"{address}:{port}" for address, port in places),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def finish(self) -> list[Made]:
        """Wait for those that are open; all that were made."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0
        made = []
        for line in self._log.read_text().splitlines():
            start, end, to, backend, error = line.split()
            made.append(Made(float(start), float(end), int(to), int(backend), int(error)))
        return made

    def stop(self) -> None:
        """End it at once, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
