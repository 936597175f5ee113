"""A node with `pharos run` on it, a client beyond it and backends behind it: namespaces of one VM.

    client ── 10.2.0.0/24 ── node ── 10.1.0.0/24 ── b1 … b6     the agents of a simulated cluster

The node is the VM itself, where the simulated master is, too. What the kernel has is read from /proc: no program has
to be started for it, which takes long in an emulated CPU.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import dns.exception
import dns.message
import dns.query
import dns.rcode

from lb4.netlink import in_namespace
from lb4.services import BackendKey, ServiceKey

AGENTS = {f"b{number}": f"10.1.0.{10 + number}" for number in range(1, 7)}
"""Namespace → address."""
CLIENT, GATEWAY = "10.2.0.2", "10.2.0.1"
ZONE = "l4lb.thisdcos.directory"
API = ("127.0.0.1", 8123)
MASTER_PORT = 5050
PATIENCE = 90.0
"""Seconds for what is to come; the CPU is emulated."""

Kernel: TypeAlias = dict[ServiceKey, dict[BackendKey, int]]
"""Services, each with its destinations and their weights."""


def run(*words: str) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def until(condition: Callable[[], object], what: str, limit: float = PATIENCE) -> float:
    """Wait until it holds; the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < limit, f"not reached in {limit:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - begin


def build() -> None:
    """Make the network."""
    lines = ["link add br0 type bridge", "address add 10.1.0.1/24 dev br0", "link set br0 up"]
    ends = {name: (address, "10.1.0.1") for name, address in AGENTS.items()}
    for name, (address, way) in {**ends, "client": (CLIENT, GATEWAY)}.items():
        lines += [f"netns add {name}", f"link add v{name} type veth peer name eth0 netns {name}"]
        lines += [f"link set v{name} up" if name == "client" else f"link set v{name} master br0 up"]
        inside = [f"address add {address}/24 dev eth0", "link set lo up", "link set eth0 up"]
        inside += [f"route add default via {way}"]
        (Path("/tmp") / f"{name}.ip").write_text("\n".join(inside))
    lines += [f"address add {GATEWAY}/24 dev vclient"]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
    for name in (*ends, "client"):
        run("ip", "-n", name, "-batch", f"/tmp/{name}.ip")


def kernel() -> Kernel:
    """What IPVS has now, by the kernel's own list (/proc/net/ip_vs)."""
    found: Kernel = {}
    destinations: dict[BackendKey, int] = {}
    for line in Path("/proc/net/ip_vs").read_text().splitlines()[3:]:
        words = line.split()
        if words[0] == "->":
            destinations[BackendKey(*_place(words[1]))] = int(words[3])
        else:
            destinations = found[ServiceKey(words[0].lower(), *_place(words[1]))] = {}
    return found


def _place(text: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    return str(ipaddress.IPv4Address(int(address, 16))), int(port, 16)


def vip_routes() -> set[str]:
    """The addresses that are local by Pharos' doing."""
    routes = json.loads(run("ip", "-json", "route", "show", "table", "local", "dev", "pharos0"))
    return {route["dst"] for route in routes}


def has_device() -> bool:
    """Whether the device of virtual addresses is there."""
    return Path("/sys/class/net/pharos0").exists()


# --- the client ---------------------------------------------------------------------------------------


def client_socket(kind: int) -> socket.socket:
    """A socket of the client."""
    return in_namespace("/run/netns/client", lambda: socket.socket(socket.AF_INET, kind))


def asked(name: str, rtype: str = "A", zone: str = ZONE) -> list[str]:
    """What the node's DNS tells the client of a name below the zone: sorted records, or an error's code."""
    query = dns.message.make_query(f"{name}.{zone}" if zone else name, rtype)
    with client_socket(socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        reply = dns.query.udp(query, GATEWAY, 10, sock=sock)
    if reply.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(reply.rcode())]
    return sorted(rdata.to_text() for rrset in reply.answer for rdata in rrset)


def answers(name: str) -> list[str]:
    """The same, but nothing while there is no server."""
    with contextlib.suppress(OSError, dns.exception.DNSException):
        return asked(name)
    return []


class Flow:
    """A TCP connection or UDP socket of the client that is used all the time until `finish`.

    `backend` is who answered first; `faults` what else than its answers came.
    """

    def __init__(self, address: str, port: int, kind: int, every: float = 0.2) -> None:
        self.faults: list[str] = []
        self.answers = 0
        self._every = every
        self._stopped = threading.Event()
        self._socket = client_socket(kind)
        self._socket.settimeout(10)
        self._socket.connect((address, port))
        self.port = int(self._socket.getsockname()[1])
        self.backend = self.ask()
        self._thread = threading.Thread(target=self._run, name=f"flow to {address}:{port}", daemon=True)

    def ask(self) -> int:
        """The number of the backend that answers."""
        self._socket.send(b"k")
        answer = self._socket.recv(1)
        if not answer:
            raise ConnectionError("the connection has ended")
        return answer[0]

    def start(self) -> None:
        """Ask again and again from now on."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                backend = self.ask()
            except OSError as error:
                self.faults.append(repr(error))
                return
            self.answers += 1
            if backend != self.backend:
                self.faults.append(f"{backend} answers in place of {self.backend}")

    def finish(self) -> None:
        """Ask no more, and close."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(30)
        self._socket.close()


def connect(address: str, port: int) -> int | str:
    """Who answers a new connection of the client, or the error's name."""
    with client_socket(socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        try:
            sock.connect((address, port))
            sock.send(b"x")
            answer = sock.recv(2)
        except OSError as error:
            return type(error).__name__
        return answer[0] if answer else "closed"


def address_of(name: str) -> str:
    """The address that a VIP has got, when its name answers."""
    until(lambda: answers(name) not in ([], ["NXDOMAIN"]), f"{name} answers")
    (address,) = asked(name)
    return address


# --- Pharos -------------------------------------------------------------------------------------------


class Pharos:
    """`pharos run` on the node."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "pharos.toml"
        self.log = folder / "pharos.log"
        self._state = folder / "state"
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, l4: str) -> None:
        """Write the configuration with this text as `[l4]`."""
        self.config.write_text(
            f'state_dir = "{self._state}"\ndrain_timeout = "1s"\n'
            f'[mesos]\nmasters = ["http://127.0.0.1:{MASTER_PORT}"]\n[dns]\nlisten = ["{GATEWAY}:53"]\n'
            f'[api]\nlisten = ["{API[0]}:{API[1]}"]\n[log]\nformat = "text"\n{l4}\n'
        )

    def start(self) -> None:
        """Start it; `until_ready` waits."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "agent", "run", "-c", str(self.config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def until_ready(self) -> None:
        """Wait until it says that it is."""
        until(lambda: self._running.poll() is not None or self.is_ready(), "Pharos is ready", 240)
        assert self._running.poll() is None, "Pharos has ended"

    def is_ready(self) -> bool:
        """Whether it says so now."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/readyz")[0] == 200
        return False

    def kill(self) -> None:
        """As a crash ends it."""
        self._running.kill()
        self._running.wait(20)

    def stop(self) -> None:
        """End it in peace."""
        self._running.terminate()
        assert self._running.wait(30) == 0

    def end(self) -> None:
        """See that it is gone."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def reload(self, l4: str) -> None:
        """Have it take another `[l4]`; returns when it has."""
        before = self.text().count("configuration reloaded")
        self.configure(l4)
        self._running.send_signal(signal.SIGHUP)
        until(lambda: self.text().count("configuration reloaded") > before, "reloaded")

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body at its API. Raises OSError, HTTPException."""
        connection = http.client.HTTPConnection(*API, timeout=10)
        try:
            connection.request("GET", path)
            with connection.getresponse() as response:
                return response.status, response.read()
        finally:
            connection.close()

    def vips(self) -> dict[str, Any]:
        """What it says of virtual IPs, by name, port and protocol ("web.marathon:80/tcp")."""
        rows = json.loads(self.get("/v1/vips")[1])
        return {f"{row['vip'].replace('.' + ZONE, '')}/{row['protocol']}": row for row in rows}

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.get("/metrics")[1].decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def watched_routes() -> Iterator[Callable[[], list[str]]]:
    """Gives what changes of devices and routes there have been on the device of virtual addresses."""
    with subprocess.Popen(
        ["ip", "-o", "monitor", "link", "route", "dev", "pharos0"], stdout=subprocess.PIPE, text=True
    ) as monitor:
        assert monitor.stdout is not None
        seen: list[str] = []
        reader = threading.Thread(target=lambda: seen.extend(monitor.stdout or ()), name="routes", daemon=True)
        reader.start()
        try:
            yield lambda: [line.strip() for line in seen]
        finally:
            monitor.terminate()
