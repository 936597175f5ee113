"""Pharos while answers are made, while tasks change, and while everything is read again from the master."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import cluster
from tests.bench.dns_load import Load
from tests.bench.dns_processes import cpu_seconds
from tests.bench.dns_servers import Server, until_answers

CHANGES = 100
"""Tasks that change in a second."""

_LATENCIES = ("p50_us", "p99_us", "p999_us", "max_us", "longest_gap_ms", "longest_send_gap_ms")
_COUNTS = ("answers", "lost", "wrong", "unexpected", "rcodes")
_PATIENCE = 2.0
"""Seconds after which an answer is lost: a client would have asked again."""


def fill(load: Load, server: Server, queries: Path, count: int) -> dict[str, Any]:
    """Each name asked for once, then once more: seconds, CPU µs for an answer, and memory in MiB (PSS)."""
    found: dict[str, Any] = {"questions": count, "memory_mib_before": server.memory()}
    for name in ("first", "again"):
        before = sum(server.cpu())
        asked = load.run(server.address, queries, seconds=300, passes=1, window=128, timeout=_PATIENCE)
        used = sum(server.cpu()) - before
        found[name] = {
            "seconds": round(asked["seconds"], 3),
            "cpu_us": round(used / 1e3 / max(1, asked["answers"]), 3),
            "p99_us": asked["p99_us"],
            "lost": asked["lost"],
            "wrong": asked["wrong"],
        }
    found["memory_mib_after"] = server.memory()
    return found


def update(server: Server, master: str, seconds: float) -> dict[str, Any]:
    """CPU of Pharos for one changed task: what it uses at CHANGES a second beyond what it uses at none.

    Nobody asks meanwhile. A change is a task killed or started, two or three events; what Pharos does
    every few seconds when something changed (it saves its catalog) is in it.
    """
    idle = _cpu_over(server, seconds)
    before = _churn(master, CHANGES)
    busy = _cpu_over(server, seconds)
    after = _churn(master, 0)
    changes = after["changes"] - before["changes"]
    return {
        "changes_per_second": round(changes / seconds, 1),
        "events_per_change": round((after["events"] - before["events"]) / max(1, changes), 2),
        "idle_cpu_percent": round(100 * idle / seconds, 2),
        "busy_cpu_percent": round(100 * busy / seconds, 2),
        "cpu_us_per_change": round(1e6 * (busy - idle) / max(1, changes), 1),
    }


def latency(load: Load, server: Server, queries: Path, rate: int, seconds: float, master: str = "") -> dict[str, Any]:
    """`rate` questions a second that have answers; with a master, while tasks change and Pharos reads all again.

    `longest_gap_ms` is the longest time without any answer in time; the client's own pauses are in
    `longest_send_gap_ms`. `full_reads` says how often Pharos had read everything before the end.
    """
    load.run(server.address, queries, seconds=300, passes=1, window=128, timeout=_PATIENCE)
    reads = _full_reads(server)
    stats = _churn(master, CHANGES) if master else {}
    cpu, began = cpu_seconds(server.pid), time.monotonic()
    process = load.begin(server.address, queries, seconds=seconds, rate=rate, timeout=_PATIENCE)
    if master:
        time.sleep(min(1.0, seconds / 10))
        cluster.post(f"{master}/simulate/cut", {})
    asked = load.finish(process)
    used, took = cpu_seconds(server.pid) - cpu, time.monotonic() - began
    found = {name: asked[name] for name in (*_LATENCIES, *_COUNTS)}
    found |= {"rate": round(asked["sent"] / seconds, 1), "cpu_percent": round(100 * used / took, 1)}
    if master:
        found["changes"] = _churn(master, 0)["changes"] - stats["changes"]
        found["full_reads"] = _full_reads(server) - reads
        until_answers(server)
    return found


def shared_by_workers(load: Load, server: Server, queries: Path, seconds: float) -> dict[str, Any]:
    """What each of several workers has answered of one burst; None where Pharos does not count that.

    More sockets than otherwise: the kernel shares them out by a hash of their addresses.
    """
    load.run(server.address, queries, seconds=300, passes=1, window=128, timeout=_PATIENCE)
    before = server.metric("pharos_dns_worker_queries_total")
    asked = load.run(server.address, queries, seconds=seconds, sockets=32)
    after = server.metric("pharos_dns_worker_queries_total")
    return {
        "qps": asked["qps"],
        "lost": asked["lost"],
        "wrong": asked["wrong"],
        "answered_by": {name: count - before.get(name, 0) for name, count in after.items()} or None,
    }


def idle(servers: Sequence[Server], seconds: float = 2.0) -> dict[str, float]:
    """Per cent of a core that each server uses while nobody asks; all share one, so it is lost to the others."""
    before = [cpu_seconds(server.pid) for server in servers]
    time.sleep(seconds)
    after = [cpu_seconds(server.pid) for server in servers]
    found = zip(servers, before, after, strict=True)
    return {server.name: round(100 * (end - start) / seconds, 1) for server, start, end in found}


def _cpu_over(server: Server, seconds: float) -> float:
    before = cpu_seconds(server.pid)
    time.sleep(seconds)
    return cpu_seconds(server.pid) - before


def _churn(master: str, rate: float) -> dict[str, Any]:
    return cluster.post(f"{master}/simulate/churn", {"rate": rate})


def _full_reads(server: Server) -> float:
    return sum(server.metric("pharos_source_syncs_total").values()) if server.admin else 0.0
