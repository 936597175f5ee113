"""From a master's document to serving: 10,000 nodes and 100,000 tasks, beside `json.loads` of the same document.

Both are CPU seconds on one core, in turn, five times each. Pharos' are those of its whole process from
the start of the interpreter until /readyz says 200; json.loads' are of that call alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.bench import cluster

NODES, TASKS, RUNS = 10_000, 100_000, 5
_LOADS = """
import json, sys, time
data = open(sys.argv[1], "rb").read()
before = time.process_time()
json.loads(data)
print(time.process_time() - before)
"""


def measure(nodes: int = NODES, tasks: int = TASKS, runs: int = RUNS) -> dict[str, Any]:
    """Medians of CPU seconds, their ratio, and Pharos' memory in MB when ready."""
    loads: list[float] = []
    serving: list[float] = []
    memory: list[dict[str, float]] = []
    with cluster.simulated(nodes, tasks, 0) as simulator, tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "state.json"
        document.write_bytes(_state(simulator["master"]))
        for _ in range(runs):
            loads.append(_json_loads(document))
            with cluster.served(cluster.following(simulator["master"])) as pharos:
                cluster.until_ready(pharos["api"])
                serving.append(cluster.cpu_seconds(pharos["pid"]))
                time.sleep(1)
                memory.append(cluster.memory_mb(pharos["pid"]))
        size = document.stat().st_size
    return {
        "measurement": "document",
        "nodes": nodes,
        "tasks": tasks,
        "document_mb": round(size / 1e6, 1),
        "json_loads_cpu_s": cluster.median(loads),
        "to_serving_cpu_s": cluster.median(serving),
        "ratio": cluster.median([b / a for a, b in zip(loads, serving, strict=True)]),
        "memory_mb": {key: cluster.median([found[key] for found in memory]) for key in ("now", "peak")},
    }


def _state(master: str) -> bytes:
    body = json.dumps({"type": "GET_STATE"}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{master}/api/v1", body, headers), timeout=120) as answer:
        found: bytes = answer.read()
        return found


def _json_loads(document: Path) -> float:
    command = ["taskset", "-c", str(cluster.cores()[0]), sys.executable, "-c", _LOADS, str(document)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
