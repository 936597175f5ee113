"""Nodes carry the virtual IPs of the server that they follow, and a node that falls silent gets no connections.

All on machines of their own: a simulated master, a server, and two nodes, which are also the cluster's agents.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.exception
import pytest

from agent.demo.spec import Check
from tests.system.inside import get_json, socket_in
from tests.system.resolver_lab import Lab, Program, lab, quoted, told, until
from tests.system.simulated import simulated
from tests.system.vip_apps import App, Site, Slot
from tests.vm.vip_traffic import Backends, compiled

pytestmark = pytest.mark.root

MASTER, SERVER, NODES = "master", "server", ("node1", "node2")
ZONE = "l4lb.thisdcos.directory"
PORT = 5050
SILENT = 3.0
"""Seconds after which a node that does nothing is suspect."""


class Machines:
    """The programs on the machines, and a VIP with a task on each node."""

    def __init__(self, made: Lab, site: Site) -> None:
        self.lab, self.site = made, site
        self.web = App(site, 0, "web", 80, check=Check.HTTP)
        master = f"http://{made.v4(MASTER)}:{PORT}"
        # The server carries nothing: it is none of the machines that programs run on.
        self.server = self._pharos(SERVER, f'[mesos]\nmasters = ["{master}"]\n[l4]\ndataplane = "off"\n')
        relay = f"[relay]\nservers = {quoted([f'http://{made.v4(SERVER)}:8123'])}\n"
        self.nodes = {name: self._pharos(name, f'{relay}[l4]\nreconcile = "1s"\n') for name in NODES}
        for name, program in ((SERVER, self.server), *self.nodes.items()):
            made.until_ready(name, program)

    def _pharos(self, name: str, sections: str) -> Program:
        address = self.lab.v4(name)
        own = f'[dns]\nlisten = ["{address}:53"]\n[api]\nlisten = ["{address}:8123"]\n'
        return self.lab.pharos(name, own + sections, ready=False)

    def vip(self, machine: str) -> Any:
        """What a machine says of the VIP; None: it knows of none, or does not answer."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            rows = get_json(self.lab.net.space(machine), (self.lab.v4(machine), 8123), "/v1/vips?name=web.marathon")
            return rows[0] if rows else None
        return None

    def states(self, machine: str) -> list[tuple[str, int]]:
        """The states and weights of the VIP's backends there, by node."""
        row = self.vip(machine)
        return [(each["state"], each["weight"]) for each in row["backend"]] if row is not None else []

    def ask(self, machine: str) -> list[str]:
        """What a machine's DNS tells of the VIP's name."""
        with contextlib.suppress(OSError, dns.exception.DNSException):
            return told(self.lab.ask(machine, f"web.marathon.{ZONE}", self.lab.v4(machine), timeout=2))
        return []

    def connect(self, machine: str, address: str) -> int | None:
        """The backend that answers a program on a machine; None: none does."""
        with socket_in(self.lab.net.space(machine), kind=socket.SOCK_STREAM) as sock:
            sock.settimeout(5)
            with contextlib.suppress(OSError):
                sock.connect((address, self.web.port))
                sock.send(b"x")
                if answer := sock.recv(1):
                    return answer[0]
        return None

    def reached(self, machine: str) -> set[int | None]:
        """The backends that answer a program on a machine."""
        row = self.vip(machine)
        return {self.connect(machine, row["address"]) for _ in range(12)} if row is not None else set()

    def numbers(self) -> set[int]:
        """The backends of the VIP."""
        return {slot.number for slot in self.web.slots}

    def followers(self) -> int:
        """How many follow the server."""
        place = (self.lab.v4(SERVER), 8123)
        connection = http.client.HTTPConnection(*place)
        with socket_in(self.lab.net.space(SERVER), kind=socket.SOCK_STREAM) as connection.sock:
            connection.sock.settimeout(10)
            connection.sock.connect(place)
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            text = connection.getresponse().read().decode()
        (line,) = [line for line in text.splitlines() if line.startswith("pharos_watch_followers ")]
        return int(float(line.split()[1]))


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = Path(tmp_path_factory.mktemp("vips"))
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(lab([MASTER, SERVER, *NODES], folder))
        cluster = stack.enter_context(simulated(made.v4(MASTER), PORT, made.net.space(MASTER)))
        backends = Backends(compiled(folder))
        stack.callback(backends.end)
        yield Machines(made, Site(cluster, backends, {made.net.space(name): made.v4(name) for name in NODES}))


def start(machines: Machines, slots: list[Slot]) -> None:
    """Have tasks run there, if they don't, and wait until every node carries connections to them."""
    for slot in slots:
        if slot.task is None:
            machines.web.change(slot, "start")
            machines.web.change(slot, "healthy")
    for node, program in machines.nodes.items():
        until(lambda n=node: machines.reached(n) == machines.numbers(), f"{node} reaches all", program.text)  # type: ignore[misc]


def test_nodes_have_the_vips_of_their_server(machines: Machines) -> None:
    start(machines, machines.web.slots)
    until(lambda: machines.vip("node1") == machines.vip("node2") == machines.vip(SERVER), "all tell the same")
    address = machines.vip(SERVER)["address"]
    assert address.startswith("11.")
    for name in (SERVER, *NODES):
        until(lambda n=name: machines.ask(n) == [address], f"the address in the DNS of {name}")  # type: ignore[misc]
    assert machines.connect(SERVER, address) is None


def test_a_node_keeps_its_vips_without_the_server_and_over_a_restart(machines: Machines) -> None:
    start(machines, machines.web.slots)
    address = machines.vip("node1")["address"]
    until(lambda: machines.ask("node1") == [address], "the address in DNS")
    machines.server.kill()
    try:
        for end in (Program.stop, Program.kill):
            end(machines.nodes["node1"])
            machines.nodes["node1"].start()
            until(lambda: machines.reached("node1") == machines.numbers(), "connections", machines.nodes["node1"].text)
            until(lambda: machines.ask("node1") == [address], "the address in DNS")
    finally:
        machines.server.start()
        machines.lab.until_ready(SERVER, machines.server)
    until(lambda: machines.ask(SERVER) == [address], "the server gives the same address")
    until(lambda: machines.followers() == len(NODES), "all follow again")


def test_a_node_that_falls_silent_gets_no_connections(machines: Machines) -> None:
    start(machines, machines.web.slots)
    until(lambda: machines.followers() == len(NODES), "all follow")
    frozen = machines.nodes["node2"]
    left = {machines.web.slots[0].number}
    frozen.freeze()
    try:
        began = time.monotonic()
        until(lambda: machines.states(SERVER) == [("active", 1), ("suspect", 0)], "the server suspects it")
        took = time.monotonic() - began
        until(lambda: machines.states("node1") == [("active", 1), ("suspect", 0)], "so does the other node")
        until(lambda: machines.reached("node1") == left, "connections avoid it")
        print(f"suspect after {took:.1f} s, avoided by others after {time.monotonic() - began:.1f} s")
    finally:
        frozen.thaw()
    began = time.monotonic()
    for name in (SERVER, *NODES):
        until(lambda n=name: machines.states(n) == [("active", 1)] * 2, f"{name} sees it again")  # type: ignore[misc]
    until(lambda: machines.reached("node1") == machines.numbers(), "connections go to it again")
    print(f"back after {time.monotonic() - began:.1f} s")


def test_a_node_whose_process_is_killed_is_not_suspect(machines: Machines) -> None:
    start(machines, machines.web.slots)
    machines.nodes["node2"].kill()
    try:
        until(lambda: machines.followers() == 1, "the server knows that it is gone")
        end = time.monotonic() + 2 * SILENT
        while time.monotonic() < end:
            assert machines.states(SERVER) == [("active", 1)] * 2
            assert machines.states("node1") == [("active", 1)] * 2
        assert machines.reached("node1") == machines.numbers()
    finally:
        machines.nodes["node2"].start()
        machines.lab.until_ready("node2", machines.nodes["node2"])
