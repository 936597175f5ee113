"""The proxy data plane beside nginx' stream module and HAProxy where they are installed, and beside no proxy at all.

One process each, one thread; the backend echoes and is the same for all, so is the client. Every round asks all
of them in turn. Figures per connection are of one octet there and back, `parallel` at a time; CPU is that of the
proxy's process alone (user and system), time is what the client sees.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.cluster import cpu_seconds, median
from tests.ports import free_ports

ROUNDS, CONNECTIONS, EXCHANGES, BULK_MB, PARALLEL = 5, 3000, 10_000, 500, 32

_BACKEND = """
import socket, sys, threading
def udp(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    while True:
        data, client = sock.recvfrom(65536)
        sock.sendto(data, client)
threading.Thread(target=udp, args=(int(sys.argv[1]),), daemon=True).start()
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
view = memoryview(bytearray(1 << 20))
while True:
    client = server.accept()[0]
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    total = 0
    while size := client.recv_into(view):
        total += size
        if size < 1000 and total < 1 << 20:
            client.send(view[:size])
    if total > 1 << 20:
        client.send(b"!")
    client.close()
"""
"""Echoes what is short; of a bulk it says when it has all. One connection at a time: clients end theirs."""

_PHAROS = """
import asyncio, sys, uvloop
from lb4.proxy import Proxy
from lb4.services import BackendKey, Destination, Kind, Operation, ServiceKey, Settings
async def main():
    proxy = Proxy()
    await proxy.open()
    operations = []
    for protocol in ("tcp", "udp"):
        key = ServiceKey(protocol, "127.0.0.1", int(sys.argv[1]))
        operations.append(Operation(Kind.ADD_SERVICE, key, Settings("wlc")))
        backend = BackendKey("127.0.0.1", int(sys.argv[2]))
        operations.append(Operation(Kind.ADD_DESTINATION, key, backend=backend, destination=Destination()))
    assert not await proxy.apply(operations)
    await asyncio.Event().wait()
uvloop.run(main())
"""

_NGINX = """daemon off; master_process off; error_log stderr error; pid {folder}/nginx.pid;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ worker_connections 4096; }}
stream {{ server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass 127.0.0.1:{backend}; proxy_buffer_size 64k;
  proxy_half_close on; }} }}
"""

_HAPROXY = """global
  nbthread 1
  maxconn 4096
defaults
  mode tcp
  timeout connect 3s
  timeout client 60s
  timeout server 60s
listen vip
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{backend}
"""


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Medians over the rounds of each way to the backend, and what Pharos' take as a multiple of the others'."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pharos-bench-")))
        backend, *ports = free_ports(4)
        stack.enter_context(_running([sys.executable, "-c", _BACKEND, str(backend)], backend))
        ways: dict[str, tuple[int, int]] = {"direct": (backend, 0)}
        for name, port in zip(("pharos", "nginx", "haproxy"), ports, strict=True):
            if (command := _command(name, port, backend, folder)) is not None:
                ways[name] = (port, stack.enter_context(_running(command, port)))
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for number in range(rounds):
            for name, (port, pid) in ways.items():
                row = _round(port, pid)
                if name in ("direct", "pharos"):
                    row |= _timed("datagram", EXCHANGES, pid, lambda port=port: _datagrams(port, EXCHANGES))  # type: ignore[misc]
                rows[name].append(row)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    found = {name: {key: median([row[key] for row in of_way]) for key in of_way[0]} for name, of_way in rows.items()}
    ratios = {
        name: {
            key: round(statistics.median(a[key] / b[key] for a, b in zip(rows["pharos"], of_way, strict=True)), 3)
            for key in of_way[0]
            if all(row[key] for row in of_way)
        }
        for name, of_way in rows.items()
        if name != "pharos"
    }
    return {"measurement": "proxy", "rounds": rounds, "parallel": PARALLEL, **found, "ratio_of_pharos_to": ratios}


def _command(name: str, port: int, backend: int, folder: Path) -> list[str] | None:
    """What starts a proxy; None where it is not installed."""
    if name == "pharos":
        return [sys.executable, "-c", _PHAROS, str(port), str(backend)]
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if program is None or (name == "nginx" and not Path("/usr/lib/nginx/modules/ngx_stream_module.so").exists()):
        return None
    config = folder / f"{name}.conf"
    config.write_text((_NGINX if name == "nginx" else _HAPROXY).format(folder=folder, port=port, backend=backend))
    return [program, "-c", str(config)] if name == "nginx" else [program, "-db", "-f", str(config)]


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[int]:
    """A process that listens on a port; yields its id."""
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                break
            time.sleep(0.05)
        else:
            raise TimeoutError(f"nobody listens on port {port}: {command[0]}")
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)


def _round(port: int, pid: int) -> dict[str, float]:
    found = _timed("connection", CONNECTIONS, pid, lambda: _connections(port, CONNECTIONS, 1))
    found |= _timed("parallel", CONNECTIONS, pid, lambda: _connections(port, CONNECTIONS, PARALLEL))
    found |= _timed("exchange", EXCHANGES, pid, lambda: _exchanges(port, EXCHANGES))
    bulk = _timed("bulk", BULK_MB, pid, lambda: _bulk(port, BULK_MB))
    return {
        **found,
        "bulk_mb_per_s": 1e6 / bulk["bulk_us"],
        "bulk_cpu_ms_per_gb": bulk["bulk_cpu_us"],  # µs per MB
    }


def _timed(what: str, number: int, pid: int, work: Callable[[], None]) -> dict[str, float]:
    """µs of time and of a process' CPU (0: of none) for each of so many."""
    cpu, start = cpu_seconds(pid) if pid else 0.0, time.perf_counter()
    work()
    end = time.perf_counter()
    used = cpu_seconds(pid) - cpu if pid else 0.0
    return {f"{what}_us": (end - start) / number * 1e6, f"{what}_cpu_us": used / number * 1e6}


def _connections(port: int, number: int, parallel: int) -> None:
    for _ in range(0, number, parallel):
        opened = []
        for _ in range(parallel):
            sock = socket.create_connection(("127.0.0.1", port), 30)
            sock.send(b"?")
            opened.append(sock)
        for sock in opened:
            if sock.recv(1) != b"?":
                raise ConnectionError("no answer")
            sock.close()


def _exchanges(port: int, number: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(number):
            sock.send(b"?")
            if not sock.recv(100):
                raise ConnectionError("no answer")


def _bulk(port: int, megabytes: int) -> None:
    block = bytes(1_000_000)
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        for _ in range(megabytes):
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)
        while answer := sock.recv(65536):
            if answer.endswith(b"!"):
                return
        raise ConnectionError("the bulk did not arrive")


def _datagrams(port: int, number: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.connect(("127.0.0.1", port))
        for _ in range(number):
            sock.send(b"?")
            sock.recv(100)
