"""The servers of the DNS measurements, each on the same core with one process or thread that answers UDP.

Pharos is `pharos run` with a simulated Mesos master; Knot and NSD are Debian's, with the zone that
Pharos gave. Both get what Pharos does by default: rotating answers and no limit for loopback.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import msgspec

from tests.bench import cluster
from tests.bench.dns_load import compiled
from tests.bench.dns_processes import Address, cpu_ns, descendants, memory_mib, prefer
from tests.ports import free_ports

PEERS = {"knotd": "knot", "nsd": "nsd"}
"""Programs that are measured beside Pharos, and the Debian packages that have them."""

_VERSION_OPTIONS = {"knotd": "--version", "nsd": "-v", "unbound": "-V", "dnsmasq": "--version"}

START = 120.0
"""Seconds for a server to load the zone."""

_KNOT = """\
server:
    rundir: "{folder}"
    listen: {host}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    answer-rotation: on
database:
    storage: "{folder}"
zone:
  - domain: {domain}
    file: "{zone_file}"
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
"""
_NSD = """\
server:
    ip-address: {host}@{port}
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    zonelistfile: "{folder}/zone.list"
    xfrdfile: ""
    xfrdir: "{folder}"
    pidfile: "{folder}/nsd.pid"
    database: ""
    round-robin: yes
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: {domain}
    zonefile: "{zone_file}"
"""


@dataclass(frozen=True)
class Server:
    """A running server: its first process, where it answers DNS, and for Pharos its HTTP addresses."""

    name: str
    pid: int
    address: Address
    api: str = ""
    admin: str = ""

    def cpu(self) -> tuple[int, int]:
        """Nanoseconds of CPU so far: of the first process, of those below it."""
        return cpu_ns(self.pid), sum(map(cpu_ns, descendants(self.pid)))

    def memory(self) -> float:
        """MiB (PSS) of all its processes."""
        return memory_mib(self.pid)

    def metric(self, name: str) -> dict[str, float]:
        """The samples of one of Pharos' metrics by their labels as text; empty when there is no such metric."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
        return {series.removeprefix(name).strip("{}"): float(value) for series, value in samples}

    def axfr(self) -> dict[str, Any]:
        """Pharos' zone: the document of /v1/axfr."""
        with urllib.request.urlopen(f"{self.api}/v1/axfr", timeout=300) as answer:
            found: dict[str, Any] = msgspec.json.decode(answer.read())
            return found


def missing(programs: Mapping[str, str] = PEERS) -> list[str]:
    """What can't be measured here, and the Debian package that would change that."""
    return [
        f"{program}: not installed (Debian package {package})"
        for program, package in programs.items()
        if not installed(program)
    ]


def versions(programs: Iterable[str] = PEERS) -> dict[str, str]:
    """What those programs say of themselves that are here."""
    found = {}
    for program in programs:
        if path := installed(program):
            done = subprocess.run([path, _VERSION_OPTIONS[program]], capture_output=True, text=True, check=False)
            found[program] = (done.stdout + done.stderr).splitlines()[0]
    return found


def installed(name: str) -> str | None:
    """Where a program is; daemons may be outside of a user's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def process(command: Sequence[str], core: int | str, log: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A program in a session of its own on the given cores; ended with what is below it."""
    with log.open("w") as errors:
        words = ["taskset", "-c", str(core), *command]
        output = {"stdout": errors, "stderr": errors, **more}
        running = subprocess.Popen(words, start_new_session=True, text=True, **output)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(60)
        if running.stdout is not None:
            running.stdout.close()


@contextlib.contextmanager
def explained(running: subprocess.Popen[str], log: Path) -> Iterator[None]:
    """A TimeoutError that says how the program fares and what it logged last."""
    try:
        yield
    except TimeoutError as error:
        state = "runs" if running.poll() is None else f"ended with {running.returncode}"
        raise TimeoutError(f"{error}; it {state}; its log ends with: {log.read_text()[-800:]}") from error


@contextlib.contextmanager
def mesos(folder: Path, agents: int, tasks: int) -> Iterator[str]:
    """A simulated cluster on the load generator's core; yields the URL of its master."""
    sizes = ["--agents", str(agents), "--tasks", str(tasks)]
    command = [sys.executable, "-m", "tests.bench.dns_cluster", *sizes]
    with process(command, cluster.cores()[1], folder / "mesos.log", stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        if not line:
            raise RuntimeError(f"the simulated cluster ended: {(folder / 'mesos.log').read_text()[-500:]}")
        yield msgspec.json.decode(line)["master"]


@contextlib.contextmanager
def pharos(folder: Path, master: str, host: str, workers: int = 1) -> Iterator[Server]:
    """`pharos run`, ready: it has read the whole cluster."""
    home = folder / f"pharos-{workers}"
    home.mkdir()
    port, api, admin = free_ports(3)
    config = home / "pharos.toml"
    config.write_text(
        f'state_dir = "{home}"\n[log]\nlevel = "warning"\n{cluster.following(master)}resync = 0\n'
        f'[dns]\nlisten = ["{_listen(host, port)}"]\nworkers = {workers}\n'
        f'[api]\nlisten = ["127.0.0.1:{api}"]\n[admin]\nlisten = ["127.0.0.1:{admin}"]\n'
    )
    first, last = cluster.cores()
    command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
    with process(command, first if workers < 2 else f"{first},{last}", home / "log") as running:
        prefer(running.pid)
        server = Server("pharos", running.pid, (host, port), f"http://127.0.0.1:{api}", f"http://127.0.0.1:{admin}")
        with explained(running, home / "log"):
            cluster.until_ready(server.api, START)
            until_answers(server)
        yield server


@contextlib.contextmanager
def peer(program: str, folder: Path, zone_file: Path, domain: str, host: str) -> Iterator[Server]:
    """Knot or NSD, with the zone loaded."""
    home = folder / program
    home.mkdir()
    path, port, config = installed(program), free_ports(1)[0], home / "server.conf"
    if path is None:
        raise FileNotFoundError(program)
    facts = {"folder": home, "zone_file": zone_file, "domain": domain, "host": host, "port": port}
    config.write_text((_KNOT if program == "knotd" else _NSD).format(**facts))
    command = [path, "-c", str(config)] if program == "knotd" else [path, "-d", "-c", str(config)]
    with process(command, cluster.cores()[0], home / "log") as running:
        prefer(running.pid)
        server = Server(PEERS[program], running.pid, (host, port))
        with explained(running, home / "log"):
            until_answers(server, domain)
        yield server


@contextlib.contextmanager
def echo(folder: Path, host: str) -> Iterator[Server]:
    """The bare echo: what the kernel alone costs."""
    port = free_ports(1)[0]
    command = [str(compiled("dns_echo", folder)), host, str(port)]
    with process(command, cluster.cores()[0], folder / "echo.log", stdout=subprocess.PIPE) as running:
        prefer(running.pid)
        assert running.stdout is not None
        running.stdout.readline()
        yield Server("echo", running.pid, (host, port))


def until_answers(server: Server, domain: str = "mesos", seconds: float = START) -> None:
    """Wait until the server answers for the zone's apex. Raises TimeoutError."""
    question = dns.message.make_query(domain, "SOA")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(dns.exception.DNSException, OSError):
            if dns.query.udp(question, server.address[0], 1, server.address[1]).answer:
                return
        time.sleep(0.1)
    raise TimeoutError(f"{server.name} did not answer for {domain} in {seconds} s")


def _listen(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
