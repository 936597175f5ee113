"""Event → DNS: 10,000 nodes, 100,000 tasks, 100 changes a second; Pharos on one core, the simulator on the other.

The time of a change is taken in the simulated master when the event is made; the change has arrived
when a DNS question gets the new answer. The questions are asked one after another without pause, so
the resolution is that of one DNS round trip.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import dns.message
import dns.rcode

from tests.bench import cluster

NODES, TASKS, CHURN, SAMPLES = 10_000, 100_000, 100.0, 600


def measure(nodes: int = NODES, tasks: int = TASKS, churn: float = CHURN, samples: int = SAMPLES) -> dict[str, Any]:
    """Latencies in ms, Pharos' CPU over the run in per cent of a core, its memory in MB."""
    with (
        cluster.simulated(nodes, tasks, churn) as simulator,
        cluster.served(cluster.following(simulator["master"])) as pharos,
    ):
        ready = cluster.until_ready(pharos["api"])
        start_cpu = cluster.cpu_seconds(pharos["pid"])
        at_ready = cluster.memory_mb(pharos["pid"])
        time.sleep(2)
        before, cpu = time.monotonic(), cluster.cpu_seconds(pharos["pid"])
        time.sleep(5)
        idle = (cluster.cpu_seconds(pharos["pid"]) - cpu) / (time.monotonic() - before)
        both = [_one(simulator, pharos["dns"], number) for number in range(samples // 2)]
        latencies = [latency for pair in both for latency in pair]
        memory = cluster.memory_mb(pharos["pid"])
    return {
        "measurement": "event_to_dns",
        "nodes": nodes,
        "tasks": tasks,
        "changes_per_second": churn,
        "samples": samples,
        "latency_ms": cluster.percentiles(latencies),
        "start_to_ready_s": round(ready, 2),
        "start_to_ready_cpu_s": round(start_cpu, 2),
        "cpu_percent_at_churn_without_questions": round(idle * 100, 1),
        "memory_mb_at_ready": at_ready,
        "memory_mb_at_end": memory,
    }


def _one(simulator: dict[str, Any], server: tuple[str, int], number: int) -> tuple[float, float]:
    """Start a task and kill it; the milliseconds until DNS said each."""
    change = f"{simulator['master']}/simulate/change"
    app = f"/probe-{number}"
    launched = cluster.post(change, {"op": "launch", "app": app})
    name = f"{launched['name']}.{launched['framework']}.mesos"
    come = until(server, name, True) - launched["t"]
    killed = cluster.post(change, {"op": "kill", "app": app})
    gone = until(server, name, False) - killed["t"]
    return come * 1000, gone * 1000


def until(server: tuple[str, int], name: str, there: bool) -> float:
    """The time (epoch seconds) of the first answer in which the name is there, or is not."""
    wire = dns.message.make_query(name, "A").to_wire()
    deadline = time.time() + 10
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(server)
        while time.time() < deadline:
            sock.send(wire)
            reply = sock.recv(4096)
            if (reply[3] & 15 == dns.rcode.NOERROR) is there:
                return time.time()
    raise TimeoutError(f"DNS did not follow: {name}")
