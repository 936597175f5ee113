"""The servers of the resolver measurement: Knot as everybody's upstream, and three caches before it.

The upstream is on the load generator's core, each cache on the first with one process or thread that
answers UDP. All rotate answers, leave out what was not asked for, and have room for every question.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import cluster
from tests.bench.dns_processes import prefer
from tests.bench.dns_servers import START, Server, explained, installed, process, until_answers
from tests.bench.resolver_questions import DOMAIN
from tests.ports import free_ports

UPSTREAM = "knotd"
PEERS = {"unbound": "unbound", "dnsmasq": "dnsmasq-base"}
"""Caches that are measured beside Pharos, and the Debian packages that have them."""
PROGRAMS = {UPSTREAM: "knot", **PEERS}
HOST = "127.0.0.1"
CACHE = 100_000
"""Answers that each keeps."""

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
template:
  - id: default
    global-module: mod-stats
zone:
  - domain: {domain}
    file: "{zone_file}"
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
"""
_UNBOUND = """\
server:
    interface: {host}
    port: {port}
    num-threads: 1
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    verbosity: 0
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "iterator"
    msg-cache-size: 128m
    rrset-cache-size: 256m
    msg-cache-slabs: 1
    rrset-cache-slabs: 1
    infra-cache-slabs: 1
    key-cache-slabs: 1
    outgoing-range: 4096
    num-queries-per-thread: 2048
    so-rcvbuf: 4m
    edns-buffer-size: 1232
    minimal-responses: yes
    rrset-roundrobin: yes
    prefetch: no
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {host}@{upstream}
"""


class Upstream:
    """The running Knot, and what it was asked."""

    def __init__(self, config: Path, port: int) -> None:
        self.port = port
        self._config = config

    def asked(self) -> int:
        """Questions so far. Raises CalledProcessError."""
        path = installed("knotc") or "knotc"
        words = [path, "-c", str(self._config), "stats", "mod-stats.request-protocol"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return sum(int(line.rsplit("=", 1)[1]) for line in done.stdout.splitlines() if "=" in line)


@contextlib.contextmanager
def upstream(folder: Path, zone_file: Path) -> Iterator[Upstream]:
    """Knot with the zone, on the last core."""
    home = folder / UPSTREAM
    home.mkdir()
    port, config = free_ports(1)[0], home / "server.conf"
    config.write_text(_KNOT.format(folder=home, zone_file=zone_file, domain=DOMAIN, host=HOST, port=port))
    with process([_found(UPSTREAM), "-c", str(config)], cluster.cores()[1], home / "log") as running:
        prefer(running.pid)
        with explained(running, home / "log"):
            until_answers(Server("knot", running.pid, (HOST, port)), DOMAIN)
        yield Upstream(config, port)


@contextlib.contextmanager
def pharos(folder: Path, upstream: int) -> Iterator[Server]:
    """`pharos run` with a resolver and nothing to follow."""
    home = folder / "pharos"
    home.mkdir()
    port, admin = free_ports(2)
    config = home / "pharos.toml"
    config.write_text(
        f'state_dir = "{home}"\n[log]\nlevel = "warning"\n'
        f'[resolver]\nlisten = ["{HOST}:{port}"]\ndevice = ""\nupstreams = ["{HOST}:{upstream}"]\n'
        f'cache_size = {CACHE}\n[admin]\nlisten = ["127.0.0.1:{admin}"]\n'
    )
    command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
    with process(command, cluster.cores()[0], home / "log") as running:
        prefer(running.pid)
        server = Server("pharos", running.pid, (HOST, port), admin=f"http://127.0.0.1:{admin}")
        with explained(running, home / "log"):
            cluster.until_ready(server.admin, START)
            until_answers(server, DOMAIN)
        yield server


@contextlib.contextmanager
def peer(program: str, folder: Path, upstream: int) -> Iterator[Server]:
    """Unbound or dnsmasq."""
    home = folder / program
    home.mkdir()
    port = free_ports(1)[0]
    command = [_found(program), *_COMMANDS[program](home, port, upstream)]
    with process(command, cluster.cores()[0], home / "log") as running:
        prefer(running.pid)
        server = Server(program, running.pid, (HOST, port))
        with explained(running, home / "log"):
            until_answers(server, DOMAIN)
        yield server


def _unbound(home: Path, port: int, upstream: int) -> list[str]:
    config = home / "server.conf"
    config.write_text(_UNBOUND.format(folder=home, host=HOST, port=port, upstream=upstream))
    return ["-d", "-p", "-c", str(config)]


def _dnsmasq(home: Path, port: int, upstream: int) -> list[str]:
    """A file of its own, as the system's would be read otherwise. Few questions may be in flight by default."""
    config = home / "server.conf"
    lines = [
        f"port={port}",
        f"listen-address={HOST}",
        "bind-interfaces",
        "user=root",
        "pid-file=",
        "no-resolv",
        "no-hosts",
        "no-poll",
        f"server={HOST}#{upstream}",
        f"cache-size={CACHE}",
        "dns-forward-max=2000",
        "edns-packet-max=1232",
        "log-facility=-",
    ]
    config.write_text("\n".join(lines) + "\n")
    return ["--keep-in-foreground", f"--conf-file={config}"]


_COMMANDS: dict[str, Callable[[Path, int, int], list[str]]] = {"unbound": _unbound, "dnsmasq": _dnsmasq}


def _found(program: str) -> str:
    path = installed(program)
    if path is None:
        raise FileNotFoundError(program)
    return path
