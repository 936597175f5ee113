"""A whole edge for a test: a Marathon of fixed apps as a process, and `pharos run`, on free ports of loopback.

    with running_edge(tmp_path, {"web.example": [port]}, workers=1, request_timeout="2s") as edge:
        edge.port, edge.tls_port, edge.ca_file, edge.metrics()

Each host is an app with one task a port. It needs no privileges.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import trustme

from tests.ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
LIMIT = 120.0
"""Seconds in which it has to be there."""
STAMP = "2026-01-01T00:00:00.000Z"


class RunningEdge:
    """See the module; made by `running_edge`. `port6`: the same on ::1; 0 where there is no IPv6. `service_ports` are
    those of the apps, in the order of their hosts."""

    def __init__(self, folder: Path, hosts: Sequence[str], service_ports: Sequence[int] = ()) -> None:
        self.service_ports = tuple(service_ports)
        self.port, self.tls_port, self._api, self._admin = free_ports(4)
        self.port6 = _free_port6()
        self.log = folder / "pharos.log"
        self.ca_file = folder / "ca.pem"
        self._config = folder / "pharos.toml"
        self._certificates = folder / "certificates"
        self._certificates.mkdir(mode=0o700)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        pem = self._certificates / "edge.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(authority.issue_cert(*hosts).private_key_and_cert_chain_pem.bytes())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def api(self) -> str:
        """The URL of its `[api]`."""
        return f"http://{HOST}:{self._api}"

    def start(self, marathon: str, settings: Mapping[str, Any]) -> None:
        """Run it, until it serves."""
        http = [f"{HOST}:{self.port}", *([f"[::1]:{self.port6}"] if self.port6 else [])]
        values = {
            "http": http,
            "https": [f"{HOST}:{self.tls_port}"],
            "app_id": [],
            "service_ports": False,
            "cert_dir": str(self._certificates),
        } | dict(settings)
        self._config.write_text(
            f'state_dir = "{self._config.parent / "state"}"\ndrain_timeout = "1s"\n[log]\nlevel = "warning"\n'
            f'[marathon]\nurls = ["{marathon}"]\n'
            f'[api]\nlisten = ["{HOST}:{self._api}"]\n[admin]\nlisten = ["{HOST}:{self._admin}"]\n[l7]\n'
            + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        )
        command = [sys.executable, "-m", "agent", "run", "-c", str(self._config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPOSITORY)
        end = time.monotonic() + LIMIT
        while True:
            assert self._process.poll() is None, self.log.read_text(errors="replace")
            assert time.monotonic() < end, self.log.read_text(errors="replace")
            with contextlib.suppress(OSError):
                _get(f"http://{HOST}:{self._api}/readyz")
                return
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        """What it tells of itself."""
        found: dict[str, Any] = json.loads(_get(f"http://{HOST}:{self._admin}/status"))["l7"]
        return found

    def workers(self) -> list[int]:
        """The processes that carry traffic."""
        return [int(worker["pid"]) for worker in self.status()["workers"]]

    def metrics(self) -> dict[str, float]:
        """All its metrics, by name with labels."""
        text = _get(f"http://{HOST}:{self._api}/metrics")
        lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def stop(self) -> None:
        """End it in peace."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(LIMIT) == 0, self.log.read_text(errors="replace")

    def close(self) -> None:
        """See that it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(LIMIT)


@contextlib.contextmanager
def running_edge(folder: Path, hosts: Mapping[str, Sequence[int]], **settings: Any) -> Iterator[RunningEdge]:
    """An edge that serves these hosts from these ports. `settings`: of `[l7]`."""
    apps = folder / "apps.json"
    numbers = free_ports(len(hosts)) if settings.get("service_ports") else [10000 + at for at in range(len(hosts))]
    given = zip(hosts.items(), numbers, strict=True)
    apps.write_text(
        json.dumps({"apps": [_app(at, host, ports, number) for at, ((host, ports), number) in enumerate(given)]})
    )
    command = [sys.executable, "-m", "tests.fakes.static_marathon", str(apps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as marathon:
        edge = RunningEdge(folder, list(hosts), numbers)
        try:
            assert marathon.stdout is not None
            edge.start(marathon.stdout.readline().strip(), settings)
            yield edge
            edge.stop()
        finally:
            edge.close()
            marathon.terminate()


def _app(number: int, host: str, ports: Sequence[int], service_port: int) -> dict[str, Any]:
    tasks = [
        {
            "id": f"app{number}.{port}",
            "appId": f"/app{number}",
            "host": HOST,
            "ports": [port],
            "state": "TASK_RUNNING",
            "slaveId": "S0",
            "stagedAt": STAMP,
            "startedAt": STAMP,
            "version": STAMP,
        }
        for port in ports
    ]
    return {
        "id": f"/app{number}",
        "instances": len(tasks),
        "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": host},
        "portDefinitions": [{"port": service_port, "protocol": "tcp"}],
        "networks": [{"mode": "host"}],
        "healthChecks": [],
        "version": STAMP,
        "versionInfo": {"lastScalingAt": STAMP, "lastConfigChangeAt": STAMP},
        "deployments": [],
        "tasks": tasks,
    }


def _free_port6() -> int:
    """A port of ::1; 0: this machine has no IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return free_ports(1)[0]
    except OSError:
        return 0


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text
