"""Three nodes follow two servers, which follow a simulated master: how soon, and what happens when servers are killed.

All on machines of their own. A client asks all nodes all the time; what it is told is held against what the master
was told to do.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.rcode
import pytest

from mesos_dns.catalog_file import CatalogFile
from mesos_dns.model import Task
from tests.system.inside import get_json, post_json, socket_in
from tests.system.resolver_lab import Lab, Program, extended_errors, lab, percentile, quoted, stop_all, told, until

pytestmark = pytest.mark.root

SERVERS, NODES = ["server1", "server2"], ["node1", "node2", "node3"]
PORT, CHANGES = 5050, 60
LATE = 5.0
"""Seconds after which an answer is wrong when it says what was so before; far more than a fail-over takes."""
STALE = 3
"""Extended error (RFC 8914 §4.4)."""


class Cluster:
    """The machines and programs; tests change the master's tasks."""

    def __init__(self, made: Lab) -> None:
        self.lab = made
        simulate = [sys.executable, "-m", "agent", "simulate", "--nodes", "20", "--tasks", "400"]
        master = ["--listen", made.v4("master"), "--master-port", str(PORT)]
        self.master = made.start("master", "simulate", [*simulate, *master])
        until(lambda: "master http" in self.master.text(), "the master", self.master.text)
        self.servers = {name: self._server(name) for name in SERVERS}
        self.nodes = {name: self._node(name) for name in NODES}
        for name, program in (*self.servers.items(), *self.nodes.items()):
            made.until_ready(name, program)

    def _server(self, name: str) -> Program:
        master = f"http://{self.lab.v4('master')}:{PORT}"
        return self.lab.pharos(
            name, f'[mesos]\nmasters = ["{master}"]\n[api]\nlisten = ["{self.lab.v4(name)}:8123"]\n', ready=False
        )

    def _node(self, name: str) -> Program:
        servers = quoted([f"http://{self.lab.v4(server)}:8123" for server in SERVERS])
        return self.lab.pharos(
            name,
            f'[relay]\nservers = {servers}\n[dns]\nlisten = []\nstale_after = "2s"\n[state]\ninterval = "1s"\n'
            f'[resolver]\nlisten = ["{self.lab.v4(name)}:53"]\ndevice = ""\nupstreams = ["{self.lab.v4("master")}"]\n'
            f'[api]\nlisten = ["{self.lab.v4(name)}:8123"]\n',
            ready=False,
        )

    def change(self, **what: Any) -> Any:
        """One change at the master; what it says of it."""
        return post_json(self.lab.net.space("master"), (self.lab.v4("master"), PORT), "/simulate/change", what)

    def ask(self, node: str, name: str) -> dns.message.Message:
        """What a program on a node is told."""
        return self.lab.ask(node, name, self.lab.v4(node), timeout=5)

    def has(self, node: str, task: Any) -> bool:
        """Whether a node has a task that the master tells of."""
        return task["address"] in told(self.ask(node, name_of(task)))

    def has_saved(self, node: str, task: Any) -> bool:
        """Whether the task would be known to a node after a crash."""
        saved = CatalogFile(self.lab.home(node) / "state" / "catalog", 3600).load()
        entities = saved.sources["relay"].entities if saved is not None else ()
        return any(isinstance(entity, Task) and entity.id == task["task"] for entity in entities)

    def source(self, node: str) -> Any:
        """What a node says of what it follows."""
        return next(row for row in self.lab.status(node)["sources"] if row["name"] == "relay")

    def catalog(self, machine: str) -> list[str]:
        """All that a machine's lookup API tells of tasks and names, in one order."""
        address = (self.lab.v4(machine), 8123)
        tasks = get_json(self.lab.net.space(machine), address, "/v1/tasks")
        names = get_json(self.lab.net.space(machine), address, "/v1/axfr")["Records"]
        rows = [json.dumps(row, sort_keys=True) for row in tasks]
        return sorted(
            [*rows, *(f"{kind} {name} {sorted(names[kind][name])}" for kind in names for name in names[kind])]
        )

    def same(self) -> bool:
        """Whether all machines have the same."""
        try:
            return all(each == first for first, each in itertools.pairwise(map(self.catalog, [*SERVERS, *NODES])))
        except (OSError, HTTPException):
            return False


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with lab(["master", *SERVERS, *NODES], Path(tmp_path_factory.mktemp("nodes"))) as made:
        yield Cluster(made)


def follows(source: Any) -> bool:
    """Whether it is there and right. A server that has just started may be left once more for one that is in sync."""
    return bool(source["connected"] and not source["stale"])


def name_of(task: Any) -> str:
    """The DNS name of a task that the master tells of."""
    return f"{task['name']}.{task['framework']}.mesos"


def test_every_change_is_on_every_node_soon(cluster: Cluster) -> None:
    until(cluster.same, "all have the same")
    latencies: list[float] = []
    with contextlib.ExitStack() as stack:
        socks = {node: stack.enter_context(socket_in(cluster.lab.net.space(node))) for node in NODES}
        for node, sock in socks.items():
            sock.settimeout(5)
            sock.connect((cluster.lab.v4(node), 53))
        for number in range(CHANGES // 2):
            launched = cluster.change(op="launch", app=f"/probe-{number}")
            latencies += _arrivals(socks, name_of(launched), launched["t"], dns.rcode.NOERROR)
            killed = cluster.change(op="kill", app=f"/probe-{number}")
            latencies += _arrivals(socks, name_of(launched), killed["t"], dns.rcode.NXDOMAIN)
    assert len(latencies) == CHANGES * len(NODES)
    figures = {part: round(percentile(latencies, part / 100) * 1000, 1) for part in (50, 90, 99)}
    print(f"change at the master → answers of {len(NODES)} nodes, ms: {figures} max={max(latencies) * 1000:.1f}")
    assert max(latencies) < 5
    until(cluster.same, "all have the same")


def _arrivals(socks: dict[str, Any], name: str, since: float, expected: dns.rcode.Rcode) -> list[float]:
    """Seconds from `since` (epoch) until each node says so."""
    wire = dns.message.make_query(name, "A").to_wire()
    waiting, found = dict(socks), []
    deadline = time.monotonic() + 20
    while waiting:
        assert time.monotonic() < deadline, f"{name} is not {expected.name} on {list(waiting)}"
        for node, sock in list(waiting.items()):
            sock.send(wire)
            if sock.recv(4096)[3] & 15 == expected:
                found.append(time.time() - since)
                del waiting[node]
        time.sleep(0.001)
    return found


class Truth:
    """Which addresses names had when; told by whoever changes the master. `wrong` has the answers that never were."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()
        # name → address → since when; two instances on one machine have the same one
        self._now: dict[str, dict[str, list[float]]] = {}
        self._past: dict[tuple[str, str], float] = {}  # until when

    def starts(self, name: str, address: str, ago: float = 0.0) -> None:
        """From now on, or since so many seconds."""
        with self._lock:
            self._now.setdefault(name, {}).setdefault(address, []).append(time.monotonic() - ago)

    def ends(self, name: str, address: str) -> None:
        """From now on the instance that came last is no more."""
        with self._lock:
            self._now[name][address].pop()
            if not self._now[name][address]:
                del self._now[name][address]
                self._past[name, address] = time.monotonic()

    def names(self) -> list[str]:
        """Those that ever were."""
        with self._lock:
            return list(self._now)

    def judge(self, node: str, name: str, asked: float, said: list[str]) -> None:
        """Note an answer to a question that was sent at `asked`."""
        self.answers[node] += 1
        with self._lock:
            now = self._now[name]
            missing = [each for each, since in now.items() if since[0] < asked - LATE and each not in said]
            never = [each for each in said if each not in now and self._past.get((name, each), 0) < asked - LATE]
        if said == ["NXDOMAIN"]:
            never = []
        if missing or never:
            self.wrong.append(f"{node} {name}: {said}, has {now}, missing {missing}, never or no more {never}")


def asking(cluster: Cluster, truth: Truth, stopped: threading.Event) -> None:
    """Ask all nodes for all names, again and again; silence is wrong, too."""
    while not stopped.wait(0.02):
        for name in truth.names():
            for node in NODES:
                asked = time.monotonic()
                try:
                    truth.judge(node, name, asked, told(cluster.ask(node, name)))
                except (OSError, dns.exception.DNSException) as error:
                    truth.wrong.append(f"{node} {name}: {error!r}")


def changing(cluster: Cluster, truth: Truth, stopped: threading.Event) -> None:
    """Start and end instances of a few apps; each keeps the one that it began with."""
    for number in itertools.count():
        if stopped.wait(0.1):
            return
        app = f"/turn-{number % 4}"
        task = cluster.change(op="launch", app=app)
        truth.starts(name_of(task), task["address"])
        if stopped.wait(0.1):
            return
        truth.ends(name_of(task), task["address"])
        cluster.change(op="kill", task=task["task"])


@contextlib.contextmanager
def in_threads(*works: Callable[[], None]) -> Iterator[None]:
    """These run meanwhile; the last sees that they end."""
    threads = [threading.Thread(target=work, name=f"work {number}") for number, work in enumerate(works)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(60)


def test_servers_are_killed_in_turn(cluster: Cluster) -> None:
    truth, stopped = Truth(), threading.Event()
    tasks = [cluster.change(op="launch", app=f"/turn-{number}") for number in range(4)]
    until(cluster.same, "all have the same")
    for task in tasks:
        truth.starts(name_of(task), task["address"], 2 * LATE)
    before = {node: cluster.source(node) for node in NODES}
    works = [lambda: asking(cluster, truth, stopped), lambda: changing(cluster, truth, stopped)]
    with in_threads(*works):
        try:
            for server in (*SERVERS, SERVERS[0]):
                program = cluster.servers[server]
                program.kill()
                until(lambda: all(cluster.source(node)["connected"] for node in NODES), "all follow another")
                time.sleep(0.5)
                program.start()
                cluster.lab.until_ready(server, program)
        finally:
            stopped.set()
    until(cluster.same, "all have the same")
    assert truth.wrong == [], truth.wrong[:5]
    moved = {}
    for node in NODES:
        events = {kind: cluster.source(node)["events"].get(kind, 0) for kind in ("full", "digests", "resume", "slice")}
        assert events["full"] == before[node]["events"]["full"] == 1, events
        moved[node] = events, cluster.source(node)["bytes"] - before[node]["bytes"]
    assert sum(events["digests"] + events["resume"] for events, _ in moved.values()) >= len(NODES)
    print(f"answers={dict(truth.answers)} first bytes={before['node1']['bytes']} events and bytes since={moved}")


def test_a_server_that_hangs_is_left(cluster: Cluster) -> None:
    until(lambda: all(cluster.source(node)["connected"] for node in NODES), "all follow one")
    detail = cluster.source(NODES[0])["detail"]
    server = next(name for name in SERVERS if cluster.lab.v4(name) in detail)
    cluster.servers[server].freeze()
    try:
        task = cluster.change(op="launch", app="/while-it-hangs")
        for node in NODES:
            took = until(functools.partial(cluster.has, node, task), f"{node} has it")
            print(f"{node} has a change {took:.1f} s later although {server} hangs")
    finally:
        cluster.servers[server].thaw()
    until(cluster.same, "all have the same")
    assert [cluster.source(node)["events"]["full"] for node in NODES] == [1, 1, 1]


def test_without_servers_and_after_a_restart_without_them(cluster: Cluster) -> None:
    task = cluster.change(op="launch", app="/last")
    name, right = name_of(task), [task["address"]]
    for node in NODES:
        until(lambda n=node: told(cluster.ask(n, name)) == right, f"{name} on {node}")  # type: ignore[misc]
    until(lambda: cluster.has_saved("node1", task), "saved on node1")
    for program in cluster.servers.values():
        program.kill()
    for _ in range(10):
        assert [told(cluster.ask(node, name)) for node in NODES] == [right] * len(NODES)
        time.sleep(0.1)
    for end in (Program.kill, Program.stop):
        end(cluster.nodes["node1"])
        cluster.nodes["node1"].start()
        cluster.lab.until_ready("node1", cluster.nodes["node1"])
        assert told(cluster.ask("node1", name)) == right
        row = cluster.source("node1")
        assert (row["connected"], row["restored"], row["stale"]) == (False, True, True), row
    for node in NODES:
        until(lambda n=node: extended_errors(cluster.ask(n, name)) == [STALE], f"{node} says that it is stale")  # type: ignore[misc]
        assert told(cluster.ask(node, name)) == right

    gone = cluster.change(op="kill", task=task["task"])
    for program in cluster.servers.values():
        program.start()
    for node in NODES:
        until(lambda n=node: told(cluster.ask(n, name)) == ["NXDOMAIN"], f"{name_of(gone)} is gone on {node}")  # type: ignore[misc]
    until(cluster.same, "all have the same")
    for node in NODES:
        until(lambda n=node: follows(cluster.source(n)), f"{node} follows a server that is in sync")  # type: ignore[misc]
        row = cluster.source(node)
        assert row["events"].get("full", 0) <= (node != "node1"), row
    stop_all([*cluster.nodes.values(), *cluster.servers.values()])
