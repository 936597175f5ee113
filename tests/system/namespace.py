"""A network namespace of the test's own: addresses, a hosts file, and programs that run inside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


class Namespace:
    """Runs commands inside the namespace `name`; processes it started end with it, by pid."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._started: list[subprocess.Popen[str]] = []

    def popen(
        self, command: Sequence[str], *, stdout: int | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a program inside."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command], stdout=stdout, text=True, env={**os.environ, **(env or {})}
        )
        self._started.append(process)
        return process

    def run(self, command: Sequence[str], timeout: float = 120) -> str:
        """Run a program inside to its end; its standard output."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command], stdout=subprocess.PIPE, text=True, timeout=timeout, check=True
        )
        return done.stdout

    def end(self) -> None:
        """End what was started and is still running."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
            if process.stdout is not None:
                process.stdout.close()


@contextlib.contextmanager
def namespace(name: str, addresses: Sequence[str], hosts: str = "") -> Iterator[Namespace]:
    """A new namespace with `addresses` on its loopback device and `hosts` as its /etc/hosts."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2 to make a network namespace")
    folder = Path("/etc/netns") / name
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text(hosts)
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        inside = ["ip", "-n", name]
        subprocess.run([*inside, "link", "set", "lo", "up"], check=True)
        for address in addresses:
            subprocess.run(
                [*inside, "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else [])], check=True
            )
        space = Namespace(name)
        try:
            yield space
        finally:
            space.end()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)
        shutil.rmtree(folder, ignore_errors=True)
