"""Machines for tests of the resolver: namespaces with IPv4 and IPv6, each with its own resolv.conf, and programs there.

    with lab(["node", "knot"], tmp_path) as made:
        made.knot("knot", {"test.example": "www 60 A 192.0.2.1"})
        made.pharos("node", '[resolver]\nlisten = ["10.77.0.1:53"]\n…')
        made.ask("node", "www.test.example", "10.77.0.1")

What a test starts is ended with the lab, by its process id.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.system.inside import get_json, socket_in
from tests.system.network import Network, network

ADMIN = ("127.0.0.1", 8124)
"""Where each machine's Pharos has its [admin], inside."""
LIMIT = 40.0
"""Seconds that a wait of a test takes at most."""
_ZONE = "$TTL 3600\n@ SOA ns.{origin}. root.{origin}. 1 3600 600 86400 5\n@ NS ns.{origin}.\nns A 192.0.2.53\n"
_KNOT = """\
server:
    rundir: "{home}"
    listen: [{listen}]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{home}"
template:
  - id: default
    storage: "{home}"
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
zone:
"""
_UNBOUND = """\
server:
    num-threads: 1
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{home}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    module-config: "iterator"
    access-control: 0.0.0.0/0 allow
    access-control: ::0/0 allow
    do-not-query-localhost: no
"""


class Program:
    """A program inside a machine; it can be ended, killed, frozen and started again."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = list(command)
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """Its process."""
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """As a crash ends it."""
        self.running.kill()
        self.running.wait(20)

    def freeze(self) -> None:
        """It does nothing any more, and nobody is told."""
        self.running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self.running.send_signal(signal.SIGCONT)

    def stop(self, limit: float = 30) -> int:
        """End it in peace; its exit code."""
        self.running.terminate()
        return self.running.wait(limit)

    def end(self) -> None:
        """See that it is gone."""
        if self.running.poll() is None:
            self.running.send_signal(signal.SIGCONT)
            self.running.terminate()
            try:
                self.running.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def text(self) -> str:
        """What it has said."""
        return self.log.read_text(errors="replace")


def stop_all(programs: Sequence[Program], limit: float = 60) -> None:
    """End them in peace, all at once; each must end well."""
    for program in programs:
        program.running.terminate()
    for program in programs:
        assert program.running.wait(limit) == 0, program.text()


class Lab:
    """See the module; made by `lab`."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.net = net
        self.folder = folder
        self._started: list[Program] = []

    def v4(self, machine: str) -> str:
        """A machine's IPv4 address."""
        return self.net.address(machine)

    def v6(self, machine: str) -> str:
        """A machine's IPv6 address."""
        return f"fd00:77::{self.net.names.index(machine) + 1:x}"

    def resolv_conf(self, machine: str) -> Path:
        """The file that is /etc/resolv.conf on a machine."""
        return Path("/etc/netns") / self.net.space(machine) / "resolv.conf"

    def home(self, machine: str) -> Path:
        """A folder for what runs there."""
        folder = self.folder / machine
        folder.mkdir(exist_ok=True)
        return folder

    # --- programs ----------------------------------------------------------------------------------

    def run(self, machine: str, *command: str, check: bool = True, timeout: float = 60) -> str:
        """Run a program there to its end; its standard output."""
        done = subprocess.run(
            [*self.net.inside(machine), *command], stdout=subprocess.PIPE, text=True, timeout=timeout, check=check
        )
        return done.stdout

    def succeeds(self, machine: str, *command: str) -> bool:
        """Whether a program there ends well."""
        inside = [*self.net.inside(machine), *command]
        return subprocess.run(inside, capture_output=True, timeout=60, check=False).returncode == 0

    def start(self, machine: str, name: str, command: Sequence[str]) -> Program:
        """Start a program there; its output is NAME.log in the machine's folder."""
        program = Program([*self.net.inside(machine), *command], self.home(machine) / f"{name}.log")
        self._started.append(program)
        return program

    def pharos(self, machine: str, sections: str, *, ready: bool = True) -> Program:
        """`pharos run` with these sections beside [admin]; `ready`: only when it says so."""
        home = self.home(machine)
        config = home / "pharos.toml"
        config.write_text(f'state_dir = "{home}/state"\n{sections}\n[admin]\nlisten = ["{ADMIN[0]}:{ADMIN[1]}"]\n')
        program = self.start(machine, "pharos", [sys.executable, "-m", "agent", "run", "-c", str(config)])
        if ready:
            self.until_ready(machine, program)
        return program

    def until_ready(self, machine: str, program: Program) -> None:
        """Wait until a machine's Pharos says that it is ready."""
        until(lambda: program.running.poll() is not None or self.is_ready(machine), f"{machine} is ready", program.text)
        assert program.running.poll() is None, program.text()

    def is_ready(self, machine: str) -> bool:
        """Whether it says so now."""
        try:
            return bool(self.status(machine)["ready"])
        except (OSError, ValueError):
            return False

    def status(self, machine: str) -> Any:
        """/status of a machine's Pharos."""
        return get_json(self.net.space(machine), ADMIN, "/status")

    def knot(self, machine: str, zones: Mapping[str, str]) -> Program:
        """Knot DNS with these zones (records in the master-file format, below the origin), when it answers."""
        home = self.home(machine)
        config = _KNOT.format(home=home, listen=f'"{self.v4(machine)}@53", "{self.v6(machine)}@53"')
        for origin, records in zones.items():
            (home / f"{origin}.zone").write_text(f"$ORIGIN {origin}.\n{_ZONE.format(origin=origin)}{records}\n")
            config += f'  - domain: {origin}\n    file: "{home}/{origin}.zone"\n'
        (home / "knot.conf").write_text(config)
        program = self.start(machine, "knot", [installed("knotd", "knot"), "-c", f"{home}/knot.conf"])
        self.until_answers(machine, next(iter(zones)), program)
        return program

    def unbound(self, machine: str, settings: str, probe: str) -> Program:
        """Unbound with these settings beside its addresses, when it has an answer about `probe`."""
        home = self.home(machine)
        interfaces = "".join(f"    interface: {address}\n" for address in (self.v4(machine), self.v6(machine)))
        (home / "unbound.conf").write_text(_UNBOUND.format(home=home) + interfaces + settings)
        program = self.start(machine, "unbound", [installed("unbound", "unbound"), "-c", f"{home}/unbound.conf"])
        self.until_answers(machine, probe, program)
        return program

    def until_answers(self, machine: str, name: str, program: Program) -> None:
        """Wait until the name server on a machine knows the name."""

        def answers() -> bool:
            with contextlib.suppress(OSError, dns.exception.DNSException):
                return self.ask(machine, name, self.v4(machine), "SOA", timeout=0.5).rcode() == dns.rcode.NOERROR
            return False

        until(answers, f"{machine} answers", program.text)

    # --- questions ---------------------------------------------------------------------------------

    def ask(
        self, machine: str, name: str, server: str, rtype: str = "A", *, tcp: bool = False, timeout: float = 8
    ) -> dns.message.Message:
        """The answer of a server to a client on a machine. Raises OSError or DNSException (also for its absence)."""
        query = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket_in(self.net.space(machine), family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
            if not tcp:
                sock.setblocking(False)
                return dns.query.udp(query, server, timeout, sock=sock)
            sock.settimeout(timeout)
            sock.connect((server, 53))
            sock.setblocking(False)
            return dns.query.tcp(query, server, timeout, sock=sock)

    def end_of(self, name: str, machine: str = "") -> None:
        """End the programs that were started under this name, on one machine or on all."""
        for program in self._started:
            if program.log.stem == name and machine in ("", program.log.parent.name):
                program.end()

    def end(self) -> None:
        """End all programs."""
        for program in self._started:
            if program.running.poll() is None:
                program.running.send_signal(signal.SIGCONT)
                program.running.terminate()
        for program in self._started:
            program.end()


def told(reply: dns.message.Message) -> list[str]:
    """The answer's records as sorted texts; an error's code in place of them."""
    if reply.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(reply.rcode())]
    return sorted(rdata.to_text() for rrset in reply.answer for rdata in rrset)


def extended_errors(reply: dns.message.Message) -> list[int]:
    """The codes of its extended errors (RFC 8914)."""
    return [int(option.code) for option in reply.extended_errors()]


def until(condition: Callable[[], object], what: str, more: Callable[[], str] = str, limit: float = LIMIT) -> float:
    """Wait until it holds; after how many seconds it did. Fails with `what` and `more()` after `limit` seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit, f"not reached in {limit:g} s: {what}\n{more()}"
        time.sleep(0.03)
    return time.monotonic() - start


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of them are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def installed(program: str, package: str) -> str:
    """A program's path; skips the test where it is missing."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"needs {program} (Debian: {package})")
    return path


@contextlib.contextmanager
def lab(names: Sequence[str], folder: Path) -> Iterator[Lab]:
    """These machines until the end of the context, with what was started on them. Needs root."""
    with network(names) as net:
        made = Lab(net, folder)
        etc = [made.resolv_conf(name).parent for name in names]
        try:
            for name in names:
                made.resolv_conf(name).parent.mkdir(parents=True, exist_ok=True)
                made.resolv_conf(name).write_text("nameserver 127.0.0.1\n")
                (made.resolv_conf(name).parent / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
                address = ["address", "add", f"{made.v6(name)}/64", "dev", "eth0", "nodad"]
                subprocess.run(["ip", "-n", net.space(name), *address], check=True)
            yield made
        finally:
            made.end()
            for each in etc:
                shutil.rmtree(each, ignore_errors=True)


def quoted(texts: Sequence[str]) -> str:
    """A TOML list of strings."""
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"
