"""The resolver's addresses in a network namespace, against those who take them away, on a dummy device or `lo`.

Where the kernel has no dummy devices only `lo` is tested; `test_device_in_vm.py` runs this file on one that has.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.system.namespace import Namespace, namespace

pytestmark = pytest.mark.root

ADDRESSES = ["198.51.100.1", "198.51.100.2", "fd01:d::c633:6401"]
DEVICE = "pharos-dns"


class Node:
    """A namespace, and the programs that keep addresses in it."""

    def __init__(self, space: Namespace) -> None:
        self._space = space

    def ip(self, *words: str) -> str:
        """`ip` inside; what it prints."""
        return self._space.run(["ip", *words])

    def addresses(self, device: str) -> set[str]:
        """Global and host addresses of a device with their length, none when it is not there."""
        links = json.loads(self._space.run(["ip", "-json", "address", "show"]))
        entries = [entry for link in links if link["ifname"] == device for entry in link["addr_info"]]
        return {f"{e['local']}/{e['prefixlen']}" for e in entries if e["scope"] != "link"}

    def devices(self) -> dict[str, dict[str, Any]]:
        """All devices by name."""
        return {link["ifname"]: link for link in json.loads(self._space.run(["ip", "-json", "-details", "link"]))}

    def start(self, *addresses: str, device: str = DEVICE, prefix: list[str] | None = None) -> Program:
        """Keep these."""
        command = [sys.executable, "-m", "tests.system.device_program", device, *(addresses or ADDRESSES)]
        process = self._space.popen([*(prefix or []), *command], stdout=subprocess.PIPE)
        return Program(process)


class Program:
    """One keeper of addresses; `device` is what it says it uses."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process, self._out = process, process.stdout
        self.device = self._out.readline().strip()

    def restored(self) -> int:
        """How much it has put back, as far as it has counted."""
        self.process.send_signal(signal.SIGUSR1)
        return int(self._out.readline())

    def stop(self) -> int:
        """End it in peace; how much it had put back."""
        self.process.terminate()
        restored = int(self._out.readline())
        assert self.process.wait(60) == 0
        return restored

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait(60)


@pytest.fixture
def node() -> Iterator[Node]:
    with namespace(f"pharos-{os.getpid()}-device", []) as space:
        yield Node(space)


@pytest.fixture(scope="session")
def has_dummy() -> bool:
    """Whether this kernel makes dummy devices."""
    name = f"ph{os.getpid()}d"
    with namespace(f"pharos-{os.getpid()}-try", []) as space:
        with contextlib.suppress(subprocess.CalledProcessError):
            space.run(["ip", "link", "add", name, "type", "dummy"])
            return True
    return False


@pytest.fixture
def dummy(has_dummy: bool) -> None:
    if not has_dummy:
        pytest.skip("this kernel has no dummy devices (module dummy)")


def until(condition: Callable[[], bool], limit: float = 40) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.05)


def full(addresses: list[str]) -> set[str]:
    return {f"{address}/{128 if ':' in address else 32}" for address in addresses}


def test_put_there_put_back_and_taken_away(node: Node, has_dummy: bool) -> None:
    before = node.addresses("lo")
    program = node.start()
    assert program.device == (DEVICE if has_dummy else "lo")
    assert full(ADDRESSES) <= node.addresses(program.device)
    node.ip("address", "del", "198.51.100.1/32", "dev", program.device)
    node.ip("address", "del", "fd01:d::c633:6401/128", "dev", program.device)
    until(lambda: full(ADDRESSES) <= node.addresses(program.device))
    until(lambda: program.restored() >= 2)  # the kernel has them a moment before that is counted
    program.stop()
    assert node.addresses("lo") == before
    assert DEVICE not in node.devices()


def test_no_program_sends_from_them(node: Node) -> None:
    program = node.start()
    shown = node.ip("-details", "address", "show", "dev", program.device)
    assert "198.51.100.1/32 scope host" in shown
    assert "deprecated" in shown
    assert "tentative" not in shown
    program.stop()


def test_what_others_made_stays(node: Node) -> None:
    node.ip("address", "add", "198.51.100.1/24", "dev", "lo")
    node.ip("address", "add", "192.0.2.7/32", "dev", "lo")
    program = node.start("198.51.100.1", "198.51.100.2")
    assert "198.51.100.1/32" not in node.addresses(program.device)
    assert "198.51.100.2/32" in node.addresses(program.device)
    program.stop()
    after = node.addresses("lo")
    assert {"198.51.100.1/24", "192.0.2.7/32"} <= after
    assert "198.51.100.2/32" not in after


def test_a_successor_takes_over_what_a_crash_left(node: Node) -> None:
    first = node.start("198.51.100.1", "198.51.100.9")
    first.kill()
    assert "198.51.100.9/32" in node.addresses(first.device)
    second = node.start("198.51.100.1")
    assert second.device == first.device
    assert "198.51.100.1/32" in node.addresses(second.device)
    assert "198.51.100.9/32" not in node.addresses(second.device)
    assert second.stop() == 0
    assert not {"198.51.100.1/32", "198.51.100.9/32"} & node.addresses("lo")
    assert DEVICE not in node.devices()


def test_a_second_one_takes_nothing_from_the_first(node: Node) -> None:
    first = node.start()
    for addresses in (ADDRESSES, ["198.51.100.9"]):
        second = node.start(*addresses)
        assert full(ADDRESSES) <= node.addresses(first.device)
        assert "198.51.100.9/32" not in node.addresses(first.device)
        assert second.stop() == 0
        assert full(ADDRESSES) <= node.addresses(first.device)
    second = node.start("198.51.100.1", "198.51.100.9")
    first.kill()
    node.ip("address", "add", "192.0.2.7/32", "dev", "lo")
    node.ip("address", "del", "198.51.100.1/32", "dev", first.device)  # it hears of that
    until(lambda: full(["198.51.100.1", "198.51.100.9"]) <= node.addresses(first.device))
    assert "198.51.100.2/32" not in node.addresses(first.device)
    second.stop()
    assert not full(ADDRESSES) & node.addresses("lo")
    assert DEVICE not in node.devices()


def test_one_in_another_namespace_is_no_matter(node: Node) -> None:
    first = node.start()
    with namespace(f"pharos-{os.getpid()}-other", []) as space:
        other = Node(space)
        second = other.start()
        assert full(ADDRESSES) <= other.addresses(second.device)
        second.stop()
    assert full(ADDRESSES) <= node.addresses(first.device)
    first.stop()


def test_all_there_already_needs_no_rights(node: Node) -> None:
    for address in ADDRESSES:
        node.ip("address", "add", address, "dev", "lo")
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]
    program = node.start(prefix=without)
    assert program.device == DEVICE
    assert program.stop() == 0
    assert {f"{address}/32" for address in ADDRESSES[:2]} <= node.addresses("lo")


def test_without_the_right_it_says_what_to_do(node: Node) -> None:
    command = [sys.executable, "-m", "tests.system.device_program", DEVICE, *ADDRESSES]
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]
    shell = " ".join([*without, *command]) + " 2>&1 || true"
    assert "without CAP_NET_ADMIN: run as root" in node._space.run(["sh", "-c", shell])


@pytest.mark.usefixtures("dummy")
def test_a_dummy_device_comes_back(node: Node) -> None:
    program = node.start()
    link = node.devices()[DEVICE]
    assert link["linkinfo"]["info_kind"] == "dummy"
    assert "UP" in link["flags"]
    node.ip("link", "del", DEVICE)
    until(lambda: full(ADDRESSES) <= node.addresses(DEVICE))
    node.ip("link", "set", DEVICE, "down")
    until(lambda: "UP" in node.devices()[DEVICE]["flags"] and full(ADDRESSES) <= node.addresses(DEVICE))
    node.ip("address", "flush", "dev", DEVICE)
    until(lambda: full(ADDRESSES) <= node.addresses(DEVICE))
    until(lambda: program.restored() >= 9)
    program.stop()
    assert DEVICE not in node.devices()


@pytest.mark.usefixtures("dummy")
def test_a_device_that_somebody_else_made_stays(node: Node) -> None:
    node.ip("link", "add", DEVICE, "type", "dummy")
    node.ip("address", "add", "198.51.100.3/32", "dev", DEVICE)
    program = node.start()
    assert full(ADDRESSES) <= node.addresses(DEVICE)
    program.stop()
    assert node.addresses(DEVICE) == {"198.51.100.3/32"}
