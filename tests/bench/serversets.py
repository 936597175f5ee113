"""Serversets → DNS: 5,000 members in a real ZooKeeper, 100 of them replaced each second; when DNS says so.

A member that is announced has arrived when a DNS question gets its address; one whose znode is
removed has gone when it no longer does. Times are taken when ZooKeeper has acknowledged the change.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from tests.bench import cluster
from tests.bench.event_to_dns import until
from tests.system.ensemble import Ensemble, ensemble

MEMBERS, FOLDERS, RATE, SAMPLES = 5_000, 50, 100, 300


def measure(members: int = MEMBERS, samples: int = SAMPLES) -> dict[str, Any]:
    """Latencies in ms, Pharos' CPU in per cent of a core, and its reads of ZooKeeper for each change."""
    with tempfile.TemporaryDirectory() as folder, ensemble(Path(folder), 3, tick=2000) as servers:
        client = KazooClient(servers.connect)
        client.start()
        for number in range(FOLDERS):
            client.ensure_path(f"/aurora/role{number % 7}/prod/job{number}")
        made = [_announce(client, number % FOLDERS, number) for number in range(members)]
        roots = f'[serversets]\nzk = "zk://{servers.connect}"\nroots = {{ "/aurora" = "aurora" }}\n'
        with cluster.served(roots) as pharos:
            cluster.until_ready(pharos["api"])
            pid, dns = pharos["pid"], pharos["dns"]
            until(dns, "job0.prod.role0.aurora.mesos", True)
            time.sleep(3)
            reads, cpu, began = _received(servers), cluster.cpu_seconds(pid), time.monotonic()
            changes, latencies = 0, []
            for number in range(samples):
                for _ in range(RATE // 50):  # the churn beside the probe
                    client.delete(made.pop(0))
                    made.append(_announce(client, number % FOLDERS, members + changes))
                    changes += 2
                name = f"/aurora/probe/prod/p{number}"
                client.ensure_path(name)
                probe = client.create(f"{name}/member_", _member(1), ephemeral=True, sequence=True)
                told = time.time()
                latencies.append(until(dns, f"p{number}.prod.probe.aurora.mesos", True) - told)
                client.delete(probe)
                told = time.time()
                latencies.append(until(dns, f"p{number}.prod.probe.aurora.mesos", False) - told)
                changes += 3
                time.sleep(max(0.0, began + (number + 1) / 25 - time.monotonic()))
            seconds = time.monotonic() - began
            used = cluster.cpu_seconds(pid) - cpu
            read = _received(servers) - reads
        client.stop()
        client.close()
    return {
        "measurement": "serversets",
        "members": members,
        "changes_per_second": round(changes / seconds, 1),
        "samples": len(latencies),
        "latency_ms": cluster.percentiles([1000 * latency for latency in latencies]),
        "cpu_percent": round(100 * used / seconds, 1),
        "packets_to_zookeeper_per_change_both_clients": round(read / changes, 2),
    }


def _member(number: int) -> bytes:
    endpoint = {"host": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", "port": 31000}
    return json.dumps({"serviceEndpoint": endpoint, "additionalEndpoints": {}, "status": "ALIVE"}).encode()


def _announce(client: KazooClient, folder: int, number: int) -> str:
    path = f"/aurora/role{folder % 7}/prod/job{folder}/member_"
    made: str = client.create(path, _member(number), ephemeral=True, sequence=True)
    return made


def _received(servers: Ensemble) -> int:
    """Packets that the servers have received from all clients."""
    lines = "\n".join(server.word("srvr") for server in servers.servers).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Received:"))
