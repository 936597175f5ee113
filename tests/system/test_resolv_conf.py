"""The C library of a node whose resolver is killed, hangs, or ends: it always has a name server that answers.

In a network namespace, whose /etc/resolv.conf is a file that is mounted by itself, as in a container; the
original names a server that gives 192.0.2.1, the resolver gives 192.0.2.99.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.namespace import Namespace, namespace

pytestmark = pytest.mark.root

ORIGINAL = "search example\nnameserver 198.51.100.53\n"
OTHERS, OURS = "192.0.2.1", "192.0.2.99"


class Node:
    """The namespace, its resolv.conf from outside and inside, and the program that keeps it."""

    def __init__(self, space: Namespace, folder: Path) -> None:
        self.space, self.folder = space, folder
        self.outside = Path("/etc/netns") / space.name / "resolv.conf"

    def start(self, path: str = "/etc/resolv.conf", upstreams: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Keep the file; it is ours when this returns."""
        saved = str(self.folder / "resolv.conf.saved")
        command = [sys.executable, "-m", "tests.system.resolv_conf_program", path, saved, "198.51.100.1", *upstreams]
        process = self.space.popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        return process

    def asks(self, name: str = "a.test") -> str:
        """What the C library finds, by whichever server answers; "" for nothing."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.space.name, "getent", "ahostsv4", name],
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.split(" ", 1)[0]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with namespace(f"pharos-{os.getpid()}-conf", ["198.51.100.1/32", "198.51.100.53/32"]) as space:
        made = Node(space, tmp_path)
        made.outside.write_text(ORIGINAL)
        server = [sys.executable, "-m", "tests.system.resolv_conf_program", "--serve", "198.51.100.53", OTHERS]
        process = space.popen(server, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        yield made


def until(condition: Callable[[], object], limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.05)


def test_killed(node: Node) -> None:
    assert node.asks() == OTHERS
    process = node.start()
    assert node.asks() == OURS
    process.kill()
    process.wait(60)
    until(lambda: node.outside.read_text() == ORIGINAL)
    assert node.asks() == OTHERS
    until(lambda: list(node.folder.iterdir()) == [])  # the watchdog removes what it kept when the file is back


def test_ended_in_peace(node: Node) -> None:
    process = node.start()
    assert node.asks() == OURS
    process.terminate()
    assert process.wait(30) == 0
    assert node.outside.read_text() == ORIGINAL
    assert list(node.folder.iterdir()) == []


def test_ended_in_peace_while_its_watchdog_hangs(node: Node) -> None:
    process = node.start()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGSTOP)
    process.terminate()
    assert process.wait(60) == 0
    assert node.outside.read_text() == ORIGINAL
    assert list(node.folder.iterdir()) == []


def test_a_second_one_with_another_state_dir_is_refused(node: Node, tmp_path: Path) -> None:
    process = node.start()
    saved = str(tmp_path / "another" / "resolv.conf.saved")
    words = [sys.executable, "-m", "tests.system.resolv_conf_program", "/etc/resolv.conf", saved, "198.51.100.2"]
    node.space.run(["ip", "address", "add", "198.51.100.2/32", "dev", "lo"])
    said = node.space.run(["sh", "-c", " ".join(words) + " 2>&1 || true"])
    assert "another Pharos keeps" in said
    assert node.asks() == OURS
    process.terminate()
    assert process.wait(30) == 0


def test_hangs_and_comes_back(node: Node) -> None:
    process = node.start()
    process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: node.outside.read_text() == ORIGINAL)
        assert node.asks() == OTHERS
    finally:
        process.send_signal(signal.SIGCONT)
    until(lambda: node.outside.read_text() != ORIGINAL)
    assert node.asks() == OURS


def test_killed_and_restarted_at_once(node: Node) -> None:
    for _ in range(3):
        process = node.start()
        assert node.asks() == OURS
        process.kill()
        process.wait(60)
    until(lambda: node.outside.read_text() == ORIGINAL)


def test_killed_where_the_original_names_no_other_server(node: Node) -> None:
    node.outside.write_text("nameserver 198.51.100.1\n")
    process = node.start(upstreams=("198.51.100.53",))
    process.kill()
    process.wait(60)
    until(lambda: "nameserver 198.51.100.53" in node.outside.read_text())
    assert node.asks() == OTHERS


def test_a_link_in_a_folder_of_its_own(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "theirs").write_text(ORIGINAL)
    (folder / "resolv.conf").symlink_to("theirs")
    process = node.start(str(folder / "resolv.conf"))
    assert "nameserver 198.51.100.1" in (folder / "resolv.conf").read_text()
    (folder / "theirs").write_text("nameserver 198.51.100.99\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "changed 198.51.100.99\n"
    process.kill()
    process.wait(60)
    until((folder / "resolv.conf").is_symlink)
    until(lambda: len(list(folder.iterdir())) == 2)  # the lock goes last
    assert sorted(path.name for path in folder.iterdir()) == ["resolv.conf", "theirs"]
