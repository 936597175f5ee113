"""Real ZooKeeper servers (Debian's package): one or an ensemble, killed, stopped, wiped and started again.

    with ensemble(tmp_path, 3) as zookeeper:
        zookeeper.connect                     # "127.0.0.1:40001,127.0.0.1:40002,127.0.0.1:40003"
        zookeeper.servers[0].kill()           # kill -9

Servers listen on loopback, or where `addresses` says (network namespaces of the test's own); `prefix`
is then put before each server's command line. Every process is ended by its pid.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.ports import free_ports

JARS = Path("/usr/share/java")
JAR = JARS / "zookeeper.jar"
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
TICK = 200
"""Milliseconds; sessions may last 2 to 20 of them unless `settings` says more."""


@functools.cache
def missing() -> str:
    """What this machine lacks to run ZooKeeper; empty: nothing."""
    if not JAR.exists():
        return "needs ZooKeeper's server (Debian: apt-get install libzookeeper-java)"
    if shutil.which("java") is None:
        return "needs a Java runtime (Debian: apt-get install default-jre-headless)"
    return ""


def _class_path() -> str:
    # The jar names most of what it needs itself, but not all of netty, which TLS needs.
    return os.pathsep.join(map(str, [JAR, JARS / "slf4j-simple.jar", *sorted(JARS.glob("netty-*.jar"))]))


class Server:
    """One server process; its data stay between `kill` and `start`, until `wipe`."""

    def __init__(self, folder: Path, number: int, address: str, ports: Sequence[int], prefix: Sequence[str]) -> None:
        self.folder = folder
        self.number = number
        self.address = address
        self.port, self.peer_port, self.election_port = ports[:3]
        self.secure_port = 0
        self.java: list[str] = []
        self._prefix = list(prefix)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def connect(self) -> str:
        """HOST:PORT for clients: of the port that speaks TLS, where there is one."""
        return f"{self.address}:{self.secure_port or self.port}"

    @property
    def running(self) -> bool:
        """True while the process lives (stopped ones do)."""
        return self._process is not None and self._process.poll() is None

    def configure(self, lines: Sequence[str], java: Sequence[str] = ()) -> None:
        """Write zoo.cfg and myid."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.java = list(java)
        own = [f"dataDir={self.folder}/data", f"clientPortAddress={self.address}", f"clientPort={self.port}"]
        if self.secure_port:
            own += [f"secureClientPortAddress={self.address}", f"secureClientPort={self.secure_port}"]
        (self.folder / "zoo.cfg").write_text("\n".join([*lines, *own, ""]))
        self._identify()

    def _identify(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data" / "myid").write_text(f"{self.number}\n")

    def start(self) -> None:
        """Start the process; `wait` says when it serves."""
        assert not self.running
        command = ["java", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        # What was written outlives a killed process without the disk, for which others on the machine may queue.
        command += ["-Dzookeeper.forceSync=no"]
        command += ["-Dzookeeper.admin.enableServer=false", "-Dzookeeper.4lw.commands.whitelist=*", *self.java]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", _class_path()]
        command += [MAIN, str(self.folder / "zoo.cfg")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._prefix, *command], stdout=log, stderr=log)

    def word(self, command: str) -> str:
        """What the server answers to a four-letter word; "" when it does not."""
        ask = ["python3", "-c", _ASK, self.address, str(self.port), command]
        done = subprocess.run([*self._prefix, *ask], capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    def serving(self) -> bool:
        """True when the server answers clients (it is part of a quorum, or alone)."""
        return "Mode:" in self.word("srvr")

    def leads(self) -> bool:
        """True for the leader of an ensemble, and for a server that is alone."""
        mode = self.word("srvr")
        return "Mode: leader" in mode or "Mode: standalone" in mode

    def wait(self, limit: float = 60) -> None:
        """Until it serves."""
        deadline = time.monotonic() + limit
        while not (self.running and self.serving()):
            if not self.running or time.monotonic() > deadline:
                pytest.fail(f"ZooKeeper {self.number} does not serve:\n{self.log()}")
            time.sleep(0.05)

    def log(self) -> str:
        """The end of the server's log."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove every bit of data of a server that is not running."""
        assert not self.running
        shutil.rmtree(self.folder / "data")
        self._identify()

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self.running:
            self._end(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)


class Ensemble:
    """Servers that form a quorum (or one that is alone)."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = list(servers)

    @property
    def connect(self) -> str:
        """All servers for clients, as kazoo and zk:// take them."""
        return ",".join(server.connect for server in self.servers)

    @property
    def hosts(self) -> list[str]:
        """All servers, HOST:PORT each."""
        return [server.connect for server in self.servers]

    def leader(self) -> Server:
        """The leading server."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for server in self.servers:
                if server.running and server.leads():
                    return server
            time.sleep(0.1)
        pytest.fail("no ZooKeeper server leads")

    def wait(self) -> None:
        """Until every server serves."""
        for server in self.servers:
            server.wait()


def settings(servers: Sequence[Server], tick: int) -> list[str]:
    """zoo.cfg's lines that all servers share."""
    lines = [f"tickTime={tick}", "initLimit=50", "syncLimit=10", "maxClientCnxns=0", "admin.enableServer=false"]
    if len(servers) > 1:
        lines += [f"server.{s.number}={s.address}:{s.peer_port}:{s.election_port}" for s in servers]
    return lines


@contextlib.contextmanager
def ensemble(
    folder: Path,
    count: int = 1,
    *,
    tick: int = TICK,
    more: Sequence[str] = (),
    java: Sequence[str] = (),
    secure: bool = False,
    addresses: Sequence[str] = (),
    prefix: Callable[[int], Sequence[str]] = lambda number: (),
) -> Iterator[Ensemble]:
    """Run `count` servers until the end of the context. `more` are lines of zoo.cfg, `secure` adds a TLS port."""
    if missing():
        pytest.skip(missing())
    servers = []
    free = free_ports(4 * count)
    for number in range(1, count + 1):
        address = addresses[number - 1] if addresses else "127.0.0.1"
        ports = (2181, 2888, 3888) if addresses else free[4 * number - 4 : 4 * number]
        servers.append(Server(folder / f"zk{number}", number, address, ports, prefix(number)))
        servers[-1].secure_port = free[4 * number - 1] if secure else 0
    for server in servers:
        server.configure([*settings(servers, tick), *more], java)
    try:
        for server in servers:
            server.start()
        group = Ensemble(servers)
        group.wait()
        yield group
    finally:
        for server in servers:
            server.end()


_ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 2) as sock:
        sock.settimeout(2)
        sock.sendall(sys.argv[3].encode())
        while data := sock.recv(65536):
            sys.stdout.write(data.decode())
except OSError:
    pass
"""
