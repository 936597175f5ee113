"""Ten thousand idle TCP connections to a real `pharos run`: all are held, and UDP is answered beside them."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import pytest

from mesos_dns.connections import RESERVED_FILES
from tests.conftest import REPOSITORY

COUNT = 10_000
PER_ADDRESS = 100
PLACES = 12_000
QUESTIONS = 3000
QUESTION = dns.message.make_query("www.corp.example", "A", use_edns=0, payload=1232).to_wire()
ZONE = """$ORIGIN corp.example.
@ 300 SOA ns1 root 1 60 600 86400 60
@ 300 NS ns1
ns1 300 A 10.9.9.9
www 300 A 10.9.9.1
"""


def write(folder: Path, ports: tuple[int, int], idle: str) -> Path:
    """A configuration with places for all connections."""
    (folder / "corp.zone").write_text(ZONE)
    path = folder / "pharos.toml"
    path.write_text(
        f'state_dir = "{folder}/state"\n[file]\npaths = ["{folder}/corp.zone"]\n'
        f'[api]\nlisten = ["127.0.0.1:{ports[1]}"]\n[dns]\nlisten = ["127.0.0.1:{ports[0]}"]\n'
        f'tcp_clients = {PLACES}\ntcp_clients_per_address = {PER_ADDRESS}\ntcp_idle = "{idle}"\n'
    )
    return path


def latencies(port: int) -> list[float]:
    """Seconds of each UDP question, one after the other; one that is not answered fails the test."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.connect(("127.0.0.1", port))
        for number in range(QUESTIONS):
            ident = number.to_bytes(2, "big")
            began = time.perf_counter()
            sock.send(ident + QUESTION[2:])
            reply = sock.recv(4096)
            found.append(time.perf_counter() - began)
            assert reply[:2] == ident
            assert bytes([10, 9, 9, 1]) in reply
    return found


def told(found: list[float]) -> str:
    """The latencies in words, in microseconds."""
    return f"median {statistics.median(found) * 1e6:.0f} us, p99 {statistics.quantiles(found, n=100)[98] * 1e6:.0f} us"


def metric(port: int, name: str) -> float:
    """A metric of the server, with its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        found = re.search(rf"^{re.escape(name)} (\S+)$", reply.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def resident(process: subprocess.Popen[bytes]) -> int:
    """Bytes of memory that a process uses."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def until(condition: object, limit: float = 60) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + limit
    while True:
        with contextlib.suppress(OSError, AssertionError):
            if condition():  # type: ignore[operator]
                return
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.05)


@contextmanager
def clients(port: int) -> Iterator[subprocess.Popen[str]]:
    """The process that holds the connections."""
    command = [sys.executable, str(REPOSITORY / "tests/system/idle_connections.py"), "127.0.0.1", str(port)]
    command += [str(COUNT), str(PER_ADDRESS), QUESTION.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], command: str) -> int:
    """The answer to a command of `idle_connections`."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{command}\n")
    process.stdin.flush()
    return int(process.stdout.readline())


@pytest.mark.timeout(300)
def test_idle_connections_cost_next_to_nothing(tmp_path: Path, free_port: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < PLACES + RESERVED_FILES:
        pytest.skip(f"needs {PLACES + RESERVED_FILES} open files, and the hard limit (ulimit -Hn) is {hard}")
    with socket.create_server(("127.0.0.1", 0)) as spare:
        ports = (free_port, spare.getsockname()[1])
    config = write(tmp_path, ports, "10m")
    server = subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(config)], cwd=REPOSITORY)
    try:
        until(lambda: metric(ports[1], 'pharos_dns_zone_owners{zone="corp.example"}') > 0)
        without = latencies(ports[0])
        before = resident(server)
        with clients(ports[0]) as holders:
            assert ask(holders, "open") == COUNT
            assert metric(ports[1], 'pharos_dns_tcp_connections{transport="tcp"}') == COUNT
            each = (resident(server) - before) / COUNT
            beside = latencies(ports[0])
            assert ask(holders, "held") == COUNT
            write(tmp_path, ports, "2s")
            server.send_signal(signal.SIGHUP)
            assert ask(holders, "ended") == COUNT
        until(lambda: metric(ports[1], 'pharos_dns_tcp_connections{transport="tcp"}') == 0)
        assert metric(ports[1], 'pharos_dns_tcp_closed_total{reason="idle"}') == COUNT
        assert len(latencies(ports[0])) == QUESTIONS
        print(f"{COUNT} idle connections: {each:.0f} bytes each; UDP {told(beside)}, without them {told(without)}")
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait(60)
