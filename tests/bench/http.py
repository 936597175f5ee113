"""Pharos' edge beside HAProxy, nginx and Envoy where they are installed: CPU per request, one core each.

Load comes from wrk on the other core. A burst keeps the proxy's core busy; CPU per request is what all processes of
the proxy ran for during the burst, over the requests that wrk counted, and is the figure to compare. Everybody is asked
in turn, round after round; ratios are within a round, figures are medians.

What many routes cost is told by three tables that are asked in each round: of a few apps, of many apps with a host
each, and of the same apps with very many hosts. The second costs more than the first because of the servers, to each of
which connections of its own are kept; the third costs more than the second because of the routes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tests.bench import cluster, http_servers
from tests.bench.cluster import median
from tests.bench.dns_processes import scheduling
from tests.bench.http_servers import HOST, PEERS, Proxy, Routed

ROUNDS, SECONDS, IDLE = 5, 3.0, 10_000
FEW, MANY_ROUTES, MANY_APPS = 10, 100_000, 200

Rows: TypeAlias = dict[str, list[dict[str, float]]]
"""What was measured of each proxy, by round."""

_WRK_LINE = re.compile(r"(\d+) requests in ")
_WRK_ERRORS = re.compile(r"Non-2xx or 3xx responses: (\d+)|connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_HEADERS = ("User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Accept: */*", "Accept-Encoding: gzip")
_RANDOM_HOST = """
local count = %d
request = function()
  wrk.headers["Host"] = "host" .. math.random(0, count - 1) .. ".example.com"
  return wrk.format("GET", "/s")
end
"""

LOADS: dict[str, dict[str, Any]] = {
    "small": {"path": "/s"},
    "kilobyte": {"path": "/k"},
    "megabyte": {"path": "/m", "connections": 16},
    "new_connection": {"path": "/s", "headers": ("Connection: close",)},
}
"""By name: the path, and how it is asked otherwise than usual."""


def options(words: Sequence[str]) -> dict[str, Any]:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="bench http")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one burst")
    parser.add_argument("--idle", type=int, default=IDLE, help="idle connections whose memory is measured; 0: none")
    parser.add_argument("--routes", type=int, default=MANY_ROUTES, help="many host names; 0: no loads of routes")
    parser.add_argument("--apps", type=int, default=MANY_APPS, help="many apps; one has a thousand hosts at most")
    parser.add_argument("--loads", nargs="*", default=list(LOADS), choices=list(LOADS))
    return vars(parser.parse_args(list(words)))


def measure(
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    idle: int = IDLE,
    routes: int = MANY_ROUTES,
    apps: int = MANY_APPS,
    loads: Sequence[str] = tuple(LOADS),
) -> dict[str, Any]:
    """Medians of each proxy by load, and what Pharos takes as a multiple of the others."""
    if shutil.which("wrk") is None:
        return {"measurement": "http", "skipped": "wrk is not installed (Debian package wrk)"}
    found: dict[str, Any] = {"measurement": "http", "rounds": rounds, "seconds": seconds, "scheduling": scheduling()}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pharos-bench-")))
        backend = stack.enter_context(http_servers.backend(folder))
        proxies, found["missing"] = _start(stack, folder, backend, Routed(FEW, FEW))
        found["loads"] = {}
        for name in loads:
            found["loads"] |= _alternating({name: (LOADS[name], proxies)}, rounds, seconds)
        if idle:
            found["idle_bytes_a_connection"] = {proxy.name: _idle(proxy, idle) for proxy in proxies}
    if routes:
        tables = (Routed(FEW, FEW), Routed(apps, apps), Routed(routes, apps))
        found["loads"] |= _routes(tables, rounds, seconds)
    return found


def _routes(tables: Sequence[Routed], rounds: int, seconds: float) -> dict[str, Any]:
    """By table, of which each request is for one of all hosts; all of them run at once."""
    with contextlib.ExitStack() as stack:
        asked: dict[str, tuple[dict[str, Any], list[Proxy]]] = {}
        for routed in tables:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pharos-bench-")))
            proxies, _ = _start(stack, folder, stack.enter_context(http_servers.backend(folder)), routed)
            asked[f"{routed.hosts}_routes_to_{routed.apps}_apps"] = (_random(folder, routed.hosts), proxies)
        return _alternating(asked, rounds, seconds)


def _start(stack: contextlib.ExitStack, folder: Path, backend: int, routed: Routed) -> tuple[list[Proxy], list[str]]:
    """The proxies that can be had, Pharos first, and those that can't."""
    proxies, missing = [stack.enter_context(http_servers.pharos(folder, backend, routed))], []
    for name, package in PEERS.items():
        try:
            proxies.append(stack.enter_context(http_servers.peer(name, folder, backend, routed)))
        except FileNotFoundError:
            missing.append(f"{name}: not installed" + (f" (Debian package {package})" if package else ""))
    return proxies, missing


def _random(folder: Path, count: int) -> dict[str, Any]:
    script = folder / f"hosts{count}.lua"
    script.write_text(_RANDOM_HOST % count)
    return {"path": "/s", "script": script}


def _alternating(
    asked: Mapping[str, tuple[dict[str, Any], Sequence[Proxy]]], rounds: int, seconds: float
) -> dict[str, Any]:
    """What each proxy takes for each load, all in each round; and as multiples of what it takes for those before."""
    rows: dict[str, Rows] = {name: {proxy.name: [] for proxy in proxies} for name, (_, proxies) in asked.items()}
    for load, proxies in asked.values():
        for proxy in proxies:
            _burst(proxy, load, 0.5)  # warm
    for number in range(rounds):
        for name, (load, proxies) in asked.items():
            # Whoever comes after a busy process finds other caches: everybody does in turn.
            order = [*proxies[number % len(proxies) :], *proxies[: number % len(proxies)]]
            for proxy in order:
                rows[name][proxy.name].append(row := _burst(proxy, load, seconds))
                print(f"round {number + 1} {name} {proxy.name}: {row}", file=sys.stderr, flush=True)
    found = {name: _medians(of_load) for name, of_load in rows.items()}
    for before, name in itertools.combinations(asked, 2):
        found[name][f"ratio_of_cpu_to_{before}"] = {
            who: _ratio(of_who, rows[before][who]) for who, of_who in rows[name].items()
        }
    return found


def _medians(rows: Rows) -> dict[str, Any]:
    of_each: dict[str, Any] = {
        who: {
            key: sum(row[key] for row in of_who) if key == "errors" else median([row[key] for row in of_who])
            for key in of_who[0]
        }
        for who, of_who in rows.items()
    }
    ratios = {who: _ratio(rows["pharos"], of_who) for who, of_who in rows.items() if who != "pharos"}
    return {**of_each, "ratio_of_cpu_to": ratios}


def _ratio(ones: Sequence[dict[str, float]], others: Sequence[dict[str, float]]) -> float:
    return median([one["cpu_us"] / other["cpu_us"] for one, other in zip(ones, others, strict=True)])


def _burst(proxy: Proxy, load: dict[str, Any], seconds: float) -> dict[str, float]:
    """One run of wrk: µs of CPU for a request, requests a second, and answers that were none."""
    connections = load.get("connections", 64)
    words = ["taskset", "-c", str(cluster.cores()[1]), "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    words += ["--timeout", "10s", "-H", f"Host: {http_servers.hosts(1)[0]}"]
    for header in (*_HEADERS, *load.get("headers", ())):
        words += ["-H", header]
    if script := load.get("script"):
        words += ["-s", str(script)]
    before = proxy.cpu_ns()
    done = subprocess.run(
        [*words, f"http://{HOST}:{proxy.port}{load['path']}"], capture_output=True, text=True, check=True, timeout=300
    )
    used = proxy.cpu_ns() - before
    counted = _WRK_LINE.search(done.stdout)
    requests = max(1, int(counted[1])) if counted else 1
    errors = sum(int(number) for match in _WRK_ERRORS.finditer(done.stdout) for number in match.groups() if number)
    return {
        "cpu_us": round(used / requests / 1e3, 3),
        "rps": round(requests / max(1, round(seconds))),
        "errors": errors,
    }


def _idle(proxy: Proxy, count: int) -> float:
    """Octets of memory that each of `count` connections takes that had one request and have none now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(count, hard - 500)
    request = f"GET /s HTTP/1.1\r\nHost: {http_servers.hosts(1)[0]}\r\n\r\n".encode()
    try:
        with contextlib.ExitStack() as first:
            _ask(first, 500, proxy, request)
        with contextlib.ExitStack() as held:
            before = proxy.memory_kib()
            _ask(held, count, proxy, request)
            return round((proxy.memory_kib() - before) * 1024 / count)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _ask(held: contextlib.ExitStack, count: int, proxy: Proxy, request: bytes) -> None:
    """One request on each of so many new connections; they are kept open as long as `held` is."""
    for number in range(count):
        connection = held.enter_context(socket.create_connection((HOST, proxy.port), 10))
        connection.sendall(request)
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{proxy.name} does not answer on its connection {number + 1}")
