"""Memory and open files of an edge's processes over time."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.system.edge_stage import Stage, until

PAGE = os.sysconf("SC_PAGE_SIZE")
WARM_UP = 0.2
"""Share of the samples that don't count: caches and pools fill."""
GROWTH, GROWTH_OCTETS = 0.05, 6 << 20
"""Share of its memory, and octets on top, that a process may have grown by between the first and the last third."""


class Sample(NamedTuple):
    """Of one process at one time."""

    memory: int
    files: int


class Figures:
    """See the module; processes are "parent", "worker 0" and so on."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.pids: dict[str, int] = {}
        self.samples: dict[str, list[Sample]] = {}
        self.first_files: dict[str, int] = {}

    async def begin(self) -> None:
        """Before any load."""
        workers = (await self.stage.pharos.status())["workers"]
        self.pids = {"parent": self.stage.pharos.process.pid}
        self.pids |= {f"worker {worker['number']}": worker["pid"] for worker in workers}
        self.samples = {name: [] for name in self.pids}
        self.first_files = {name: sample_of(pid).files for name, pid in self.pids.items()}

    async def watch(self) -> None:
        """A sample a second until all ends."""
        while not self.stage.ending.is_set():
            for name, pid in self.pids.items():
                self.samples[name].append(sample_of(pid))
            await asyncio.sleep(1)

    def growth(self) -> list[str]:
        """Processes whose memory grew."""
        found = []
        for name, samples in self.samples.items():
            first, last = thirds([sample.memory for sample in samples])
            if last > first * (1 + GROWTH) + GROWTH_OCTETS:
                found.append(f"memory of {name} grew from {first >> 10} to {last >> 10} KiB")
        return found

    async def leaks(self) -> list[str]:
        """Processes that don't come back to as many open files as they had before the load."""

        async def settled() -> bool:
            return not self._more_files()

        try:
            await until(settled, "open files are as many as before")
        except AssertionError:
            return self._more_files()
        return []

    def _more_files(self) -> list[str]:
        now = {name: sample_of(pid).files for name, pid in self.pids.items()}
        first = self.first_files
        return [f"{name} has {now[name]} open files, not {first[name]}" for name in now if now[name] > first[name]]

    def __str__(self) -> str:
        parts = []
        for name, samples in self.samples.items():
            first, last = thirds([sample.memory for sample in samples])
            files = max(sample.files for sample in samples)
            parts.append(f"{name}: {first >> 10} to {last >> 10} KiB, at most {files} files")
        return "; ".join(parts)


def thirds(values: Sequence[int]) -> tuple[int, int]:
    """The medians of the first and the last third of what comes after the warm-up."""
    warm = list(values[int(len(values) * WARM_UP) :])
    third = max(1, len(warm) // 3)
    return int(statistics.median(warm[:third])), int(statistics.median(warm[-third:]))


def sample_of(pid: int) -> Sample:
    """Of a process now. Raises OSError when it is gone."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(pages * PAGE, len(os.listdir(f"/proc/{pid}/fd")))
