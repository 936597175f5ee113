"""What the kernel says of a server's processes: CPU time, memory; and how they are scheduled."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TypeAlias

Address: TypeAlias = tuple[str, int]
"""(address, port)."""

NICE = -20


def prefer(pid: int) -> None:
    """Run the session of a process before all others, if we may.

    Where the kernel groups processes by session (autogroup), niceness counts within a session only:
    the group's own has to be set too.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))


def real_time(pid: int) -> None:
    """Let a process have its core as soon as it wants it, if we may."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


def scheduling() -> str:
    """How the measured processes are scheduled here, for the report."""
    return f"nice {NICE}" if os.geteuid() == 0 else "as all others: not root"


def descendants(pid: int) -> list[int]:
    """The processes below one, however deep."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def cpu_ns(pid: int) -> int:
    """Nanoseconds that the living threads of a process have run for; 0 when it is gone."""
    total = 0
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((thread / "schedstat").read_text().split()[0])
    return total


def cpu_seconds(pid: int) -> float:
    """Seconds that a process, its ended threads, its ended children and all below it have run for.

    In steps of 10 ms: for spans of seconds.
    """
    ticks = 0
    for each in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Proportional set size of a process and all below it, in MiB: shared pages are counted once."""
    total = 0
    for each in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return round(total / 1024, 1)


def stolen_seconds() -> float:
    """Seconds of CPU that a virtual machine wanted and did not get so far: figures of a run with many say little."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")
