"""A whole cluster that starts from cold with every resolv.conf pointing at Pharos, and nodes whose Pharos dies.

The master and the servers have names that only one upstream knows, and it comes last. Programs on the nodes look
names up with the C library.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import pytest

from tests.system.inside import post_json
from tests.system.resolver_lab import ADMIN, Lab, Program, installed, lab, quoted, stop_all, told, until

pytestmark = pytest.mark.root

SERVERS, NODES = ["server1", "server2"], ["node1", "node2", "node3"]
MACHINES = ["master", *SERVERS, *NODES, "upstream"]
PORT = 5050
OURS = [f"198.51.100.{number}" for number in (1, 2, 3)]
POINTING_HERE = "".join(f"nameserver {address}\n" for address in OURS)
ORIGINAL = "# by somebody else\nsearch infra.example\nnameserver {upstream}\noptions timeout:1 attempts:2\n"
TOWN = "192.0.2.80"
"""Of town.infra.example, a name that has nothing to do with the cluster."""


def infra(made: Lab) -> dict[str, str]:
    """The zone that the upstream has: where master and servers are."""
    hosts = {"master": made.v4("master"), **{name: made.v4(name) for name in SERVERS}, "town": TOWN}
    return {"infra.example": "".join(f"{name} A {address}\n" for name, address in hosts.items())}


def getent(made: Lab, machine: str, name: str) -> str:
    """What the C library finds on a machine; "" for nothing."""
    return made.run(machine, "getent", "ahostsv4", name, check=False, timeout=90).partition(" ")[0]


def knows(made: Lab, machine: str, names: dict[str, str]) -> bool:
    """Whether Pharos on a machine has these addresses of these names."""
    try:
        return all(told(made.ask(machine, name, OURS[0], timeout=2)) == [names[name]] for name in names)
    except (OSError, dns.exception.DNSException):
        return False


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    installed("knotd", "knot")
    with lab(MACHINES, tmp_path_factory.mktemp("boot")) as made:
        yield made


def start_server(made: Lab, machine: str) -> Program:
    """A server, which follows the master by its name."""
    return made.pharos(
        machine,
        f'[mesos]\nmasters = ["http://master.infra.example:{PORT}"]\n[api]\nlisten = ["{made.v4(machine)}:8123"]\n'
        f'[resolver]\nupstreams = ["{made.v4("upstream")}"]\n',
        ready=False,
    )


def start_node(made: Lab, machine: str) -> Program:
    """A node, which follows the servers by their names."""
    servers = quoted([f"http://{server}.infra.example:8123" for server in SERVERS])
    return made.pharos(
        machine, f'[relay]\nservers = {servers}\n[resolver]\nupstreams = ["{made.v4("upstream")}"]\n', ready=False
    )


def in_sync(made: Lab, machine: str) -> bool:
    """Whether all that a machine follows is there and right."""
    return all(row["connected"] and not row["stale"] for row in made.status(machine)["sources"])


def test_all_at_once_from_cold(made: Lab) -> None:
    for machine in (*SERVERS, *NODES):
        made.resolv_conf(machine).write_text(POINTING_HERE)
    simulate = [sys.executable, "-m", "agent", "simulate", "--nodes", "5", "--tasks", "40"]
    master = made.start("master", "simulate", [*simulate, "--listen", made.v4("master"), "--master-port", str(PORT)])
    programs = {machine: start_server(made, machine) for machine in SERVERS}
    programs |= {machine: start_node(made, machine) for machine in NODES}
    time.sleep(2)
    began = time.monotonic()
    upstream = made.knot("upstream", infra(made))
    until(lambda: "master http" in master.text(), "the master", master.text)
    app = post_json(
        made.net.space("master"), (made.v4("master"), PORT), "/simulate/change", {"op": "launch", "app": "/cold/one"}
    )
    names = {
        "leader.mesos": made.v4("master"),
        f"{app['name']}.{app['framework']}.mesos": app["address"],
        "town.infra.example": TOWN,
    }
    for machine, program in programs.items():
        until(lambda m=machine: knows(made, m, names), f"{machine} has all names", program.text, limit=90)  # type: ignore[misc]
        assert program.running.poll() is None
        for name, address in names.items():
            assert getent(made, machine, name) == address, (machine, name)
        made.until_ready(machine, program)
        until(lambda m=machine: in_sync(made, m), f"{machine} is in sync", program.text)  # type: ignore[misc]
    print(f"all up {time.monotonic() - began:.2f} s after the upstream")
    _again_without_upstream(made, programs, upstream, names)
    stop_all([*programs.values(), master])
    for machine in (*SERVERS, *NODES):
        assert made.resolv_conf(machine).read_text() == POINTING_HERE


def _again_without_upstream(made: Lab, programs: dict[str, Program], upstream: Program, names: dict[str, str]) -> None:
    """Everything crashes, and the one who knows the hosts' names stays away: their last addresses are remembered."""
    machines = ["server1", "server2", "node1"]
    until(lambda: all((made.home(m) / "state" / "hosts.json").exists() for m in machines), "addresses are saved")
    upstream.kill()
    for machine in machines:
        programs[machine].kill()
    for machine in machines:
        programs[machine].start()
    cluster = {name: address for name, address in names.items() if name.endswith(".mesos")}
    for machine in machines:
        made.until_ready(machine, programs[machine])

        def follows(machine: str = machine) -> bool:
            return knows(made, machine, cluster) and all(row["connected"] for row in made.status(machine)["sources"])

        until(follows, f"{machine} follows", programs[machine].text)


def test_resolv_conf_is_given_back_whatever_ends(made: Lab) -> None:
    original = ORIGINAL.format(upstream=made.v4("upstream"))
    machine, file = "node3", made.resolv_conf("node3")
    file.write_text(original)
    made.end_of("knot")
    made.knot("upstream", infra(made))
    assert getent(made, machine, "town") == TOWN
    program = made.pharos(machine, '[resolver]\nresolv_conf = "/etc/resolv.conf"\n')

    def ours() -> bool:
        return [line for line in file.read_text().splitlines() if line.startswith("nameserver")] == [
            f"nameserver {address}" for address in OURS
        ]

    until(ours, "resolv.conf points at Pharos", program.text)
    # The upstreams are those of the original; its search list and options are still in force.
    for name, address in (("town", TOWN), ("town.infra.example", TOWN), ("ready.spartan", "127.0.0.1")):
        assert getent(made, machine, name) == address
    rows = made.status(machine)["resolver"]["upstreams"]
    assert [row["upstream"] for row in rows] == [f"{made.v4('upstream')}:53"]

    program.kill()
    took = until(lambda: file.read_text() == original, "the original is back after a crash", program.text)
    assert getent(made, machine, "town") == TOWN
    print(f"the original is back {took:.2f} s after a crash")

    program.start()
    until(ours, "resolv.conf points at Pharos again", program.text)
    assert getent(made, machine, "ready.spartan") == "127.0.0.1"
    assert getent(made, machine, "town") == TOWN

    program.freeze()
    took = until(lambda: file.read_text() == original, "the original while Pharos hangs", program.text, limit=60)
    print(f"the original is back {took:.2f} s after Pharos hung")
    assert getent(made, machine, "server1") == made.v4("server1")
    program.thaw()
    assert program.stop() == 0, program.text()
    assert file.read_text() == original
    assert getent(made, machine, "town") == TOWN
    assert not (made.home(machine) / "state" / "resolv.conf.saved").exists()


def test_all_of_it_is_killed_at_once(made: Lab) -> None:
    """As when the power is lost, but for the processes there is nobody to give the file back: the next start does."""
    original = ORIGINAL.format(upstream=made.v4("upstream"))
    machine, file = "node1", made.resolv_conf("node1")
    file.write_text(original)
    program = made.pharos(machine, '[resolver]\nresolv_conf = "/etc/resolv.conf"\n')
    until(lambda: OURS[0] in file.read_text(), "resolv.conf points at Pharos", program.text)
    pid = program.running.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    program.freeze()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    program.kill()
    assert OURS[0] in file.read_text()

    program.start()
    made.until_ready(machine, program)
    assert getent(made, machine, "town") == TOWN
    rows = made.status(machine)["resolver"]["upstreams"]
    assert [row["upstream"] for row in rows] == [f"{made.v4('upstream')}:53"]
    assert program.stop() == 0, program.text()
    assert file.read_text() == original
    assert getent(made, machine, "town") == TOWN


def test_nothing_is_left_without_dns_by_a_resolver_that_can_not_start(made: Lab) -> None:
    original = ORIGINAL.format(upstream=made.v4("upstream"))
    machine, file = "node2", made.resolv_conf("node2")
    file.write_text(original)
    taken = made.start(machine, "taken", [sys.executable, "-m", "http.server", "--bind", ADMIN[0], str(ADMIN[1])])
    port = f":{ADMIN[1]:04X} ".encode()
    until(lambda: port in Path(f"/proc/{taken.running.pid}/net/tcp").read_bytes(), "the port is taken")
    program = made.pharos(machine, '[resolver]\nresolv_conf = "/etc/resolv.conf"\n', ready=False)
    assert program.running.wait(60) != 0
    assert file.read_text() == original
    assert getent(made, machine, "town") == TOWN
    addresses = made.run(machine, "ip", "-o", "-4", "address", "show")
    assert not any(address in addresses for address in OURS)
