"""A simulated cluster in a process of its own, and Pharos beside it, each on one core."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.ports import free_ports

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[int, int]:
    """(Pharos' core, the simulator's core)."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def spawn(core: int, arguments: Sequence[str], **more: Any) -> subprocess.Popen[str]:
    """`pharos ARGUMENTS` on one core."""
    return subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-m", "agent", *arguments], text=True, **more)


@contextlib.contextmanager
def simulated(nodes: int, tasks: int, churn: float) -> Iterator[dict[str, Any]]:
    """`pharos simulate`; yields what it prints with --json (its URLs)."""
    sizes = ["--nodes", str(nodes), "--tasks", str(tasks), "--churn", str(churn)]
    process = spawn(cores()[1], ["simulate", *sizes, "--json"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield {**json.loads(process.stdout.readline()), "pid": process.pid}
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def following(master: str) -> str:
    """The section that follows a master."""
    return f'[mesos]\nmasters = ["{master}"]\n'


@contextlib.contextmanager
def served(source: str) -> Iterator[dict[str, Any]]:
    """`pharos run` with a source's section; yields pid, dns (host, port) and api URL."""
    with tempfile.TemporaryDirectory(prefix="pharos-bench-") as folder:
        config = Path(folder) / "pharos.toml"
        ports = free_ports(3)
        config.write_text(
            f'state_dir = "{folder}"\n[log]\nlevel = "warning"\n{source}'
            f'[dns]\nlisten = ["127.0.0.1:{ports[0]}"]\n[api]\nlisten = ["127.0.0.1:{ports[1]}"]\n'
            f'[admin]\nlisten = ["127.0.0.1:{ports[2]}"]\n'
        )
        process = spawn(cores()[0], ["run", "-c", str(config)])
        try:
            yield {"pid": process.pid, "dns": ("127.0.0.1", ports[0]), "api": f"http://127.0.0.1:{ports[1]}"}
        finally:
            process.terminate()
            process.wait(60)


def until_ready(api: str, seconds: float = 180) -> float:
    """Wait for /readyz to say 200; how long it took in seconds."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{api}/readyz", timeout=5) as answer:
            if answer.status == 200:
                return time.monotonic() - start
        time.sleep(0.05)
    raise TimeoutError(f"{api}/readyz did not say 200 in {seconds} s")


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST JSON, get JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def cpu_seconds(pid: int) -> float:
    """user+sys of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory now and at its peak, in MB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {"now": int(lines["VmRSS"].split()[0]) / 1024, "peak": int(lines["VmHWM"].split()[0]) / 1024}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and max, rounded."""
    ordered = sorted(values)
    pick = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)]
    found = {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 3) for name, part in pick}
    return {**found, "max": round(ordered[-1], 3)}


def median(values: Sequence[float]) -> float:
    """The median, rounded to three places."""
    return round(statistics.median(values), 3)
