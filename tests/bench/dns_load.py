"""Runs the load generator (dns_load.c) and the bare echo (dns_echo.c), both compiled when they are needed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.bench import cluster
from tests.bench.dns_processes import Address, prefer, real_time

SOURCES = Path(__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Werror")


def compiled(name: str, folder: Path) -> Path:
    """NAME.c as a program in `folder`. Raises CalledProcessError when gcc refuses it."""
    program = folder / name
    subprocess.run(["gcc", "-O2", *WARNINGS, "-o", str(program), str(SOURCES / f"{name}.c")], check=True)
    return program


class Load:
    """The load generator on a core of its own. What it reports is explained at the head of dns_load.c."""

    def __init__(self, folder: Path, core: int | None = None) -> None:
        self._program = compiled("dns_load", folder)
        self._core = cluster.cores()[1] if core is None else core

    def begin(
        self,
        server: Address,
        queries: Path,
        *,
        seconds: float,
        sockets: int = 8,
        window: int = 192,
        passes: int = 0,
        rate: int = 0,
        tcp: bool = False,
        timeout: float = 0.5,
    ) -> subprocess.Popen[str]:
        """Start asking; `finish` has the result. `rate` in questions a second, `timeout` in seconds."""
        words = ["--host", server[0], "--port", str(server[1]), "--queries", str(queries)]
        numbers = {"sockets": sockets, "window": window, "passes": passes, "rate": rate}
        for name, value in (numbers | {"seconds": seconds, "timeout": timeout}).items():
            words += [f"--{name}", str(value)]
        command = ["taskset", "-c", str(self._core), str(self._program), *words, *(["--tcp"] if tcp else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        prefer(process.pid)
        if rate:
            # It sleeps between questions: first at its core when its time comes, it measures the server's delays.
            real_time(process.pid)
        return process

    def finish(self, process: subprocess.Popen[str], limit: float = 900) -> dict[str, Any]:
        """The result of a run. Raises RuntimeError when it failed; it is ended after `limit` seconds."""
        try:
            out, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            raise RuntimeError(f"the load generator ended with {process.returncode}")
        found: dict[str, Any] = json.loads(out)
        return found

    def run(self, server: Address, queries: Path, **how: Any) -> dict[str, Any]:
        """`begin` and `finish`."""
        return self.finish(self.begin(server, queries, **how))
