"""Machines on a network of the test's own: namespaces on a bridge, any of which can be cut off together.

    with network(["zk1", "zk2", "w1"]) as net:
        net.address("zk1")                    # "10.77.0.1"
        [*net.inside("w1"), "ping", ...]      # a command inside
        net.cut(["zk1", "w1"])                # these two see each other, and nobody else
        net.join()

Whatever is cut off keeps its link: nobody is told, packets are lost. The bridges are in a namespace
too, so the machine's own network is left alone. Whoever runs something inside ends it first.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence

PREFIX = "10.77.0."


class Network:
    """See the module."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._cut: set[str] = set()

    @property
    def hub(self) -> str:
        """The namespace with the bridges."""
        return self.space("hub")

    def space(self, name: str) -> str:
        """The namespace of a machine, unique on the real one."""
        return f"pharos-{os.getpid()}-{name}"

    def address(self, name: str) -> str:
        """A machine's address."""
        return f"{PREFIX}{self.names.index(name) + 1}"

    def inside(self, name: str) -> list[str]:
        """What to put before a command to run it on a machine."""
        return ["ip", "netns", "exec", self.space(name)]

    def cut(self, names: Sequence[str]) -> None:
        """Part these machines from the others, but not from each other."""
        for name in names:
            self._connect(name, "apart")
        self._cut.update(names)

    def join(self) -> None:
        """Bring all together again."""
        for name in self._cut:
            self._connect(name, "main")
        self._cut.clear()

    def build(self) -> None:
        """Make the namespaces, the bridges and the links."""
        _ip("netns", "add", self.hub)
        for bridge in ("main", "apart"):
            _ip("-n", self.hub, "link", "add", bridge, "type", "bridge")
            _ip("-n", self.hub, "link", "set", bridge, "up")
        for name in self.names:
            space, port = self.space(name), f"to-{name}"
            _ip("netns", "add", space)
            _ip("-n", self.hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", space, "link", "set", device, "up")
            self._connect(name, "main")
            _ip("-n", self.hub, "link", "set", port, "up")

    def remove(self) -> None:
        """Remove what was made; the links end with their namespaces."""
        for name in [*self.names, "hub"]:
            subprocess.run(["ip", "netns", "delete", self.space(name)], capture_output=True, check=False)

    def _connect(self, name: str, bridge: str) -> None:
        _ip("-n", self.hub, "link", "set", f"to-{name}", "master", bridge)


@contextlib.contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Such a network until the end of the context. Needs root."""
    net = Network(names)
    try:
        net.build()
        yield net
    finally:
        net.remove()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
