"""An edge that stands where marathon-lb stood: in a namespace, on the real ports, configured by what the importer says.

    with edge_after_marathon_lb(tmp_path, name, [case, …]) as edge:
        table = edge.serve(case)          # returns when it is served
        see(edge.space, request, servers)

One Marathon, one program for all servers of tasks, one `pharos run`: another case is another document of apps and
another configuration, both read again on SIGHUP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgspec
import trustme

from agent.config import load_text
from agent.import_marathon_lb import convert
from lb7.api import EdgeView, Wanted, rows
from lb7.table import RouteTable
from lb7.view import RouteView
from mesos_dns.model import Entity, HealthOverlay
from tests.fakes.marathon_apps import delta, recorded
from tests.system.echo_servers import READY
from tests.system.inside import get_json
from tests.system.namespace import Namespace, namespace
from tests.system.resolver_lab import Program

API, ADMIN = ("127.0.0.1", 8123), ("127.0.0.1", 9090)
"""Where the importer puts them."""
LIMIT = 120.0
"""Seconds in which a configuration has to be served."""
NAMES = ("*.example.com", "other.test")
NAMED = {"agent7.example.internal": "10.1.0.8", "sched.example.internal": "10.0.0.51"}
"""Hosts of tasks that are given by name."""


class Case(msgspec.Struct):
    """A recorded, or written, state of Marathon; the command line of marathon-lb; and requests."""

    name: str
    folder: Path
    args: list[str]
    env: dict[str, str]
    routes: list[dict[str, Any]]

    @property
    def apps(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / "apps.json").read_text())["apps"]
        return found


def read_case(folder: Path) -> Case:
    """The case in a folder."""
    found = json.loads((folder / "routes.json").read_text())
    return Case(found["case"], folder, found["args"], found["env"], found["routes"])


class Edge:
    """See the module; made by `edge_after_marathon_lb`."""

    def __init__(self, space: Namespace, folder: Path) -> None:
        self.space = space.name
        self.folder = folder
        self._space = space
        self._apps = folder / "apps.json"
        self._config = folder / "pharos.toml"
        self._state = folder / "state"
        self._certificates = folder / "certificates"
        self._marathon: subprocess.Popen[str] | None = None
        self._pharos: Program | None = None
        self._url = ""

    def start(self, servers: Sequence[str], certificates: Sequence[str]) -> None:
        """Start the servers of tasks, and a Marathon without apps; have certificates in files of these names."""
        self._certificates.mkdir()
        authority = trustme.CA()
        for name in certificates:
            pem = self._certificates / name
            pem.touch(mode=0o600)
            pem.write_bytes(authority.issue_cert(*NAMES).private_key_and_cert_chain_pem.bytes())
        names = self.folder / "servers.json"
        names.write_text(json.dumps(list(servers)))
        self._apps.write_text('{"apps": []}')
        python = [sys.executable, "-m"]
        echo = self._space.popen([*python, "tests.system.echo_servers", str(names)], stdout=subprocess.PIPE)
        self._marathon = self._space.popen(
            [*python, "tests.fakes.static_marathon", str(self._apps)], stdout=subprocess.PIPE
        )
        assert _line(echo) == READY
        self._url = _line(self._marathon)

    def serve(self, case: Case) -> RouteTable:
        """Have this case served by every worker, and nothing else; the table that is."""
        assert self._marathon is not None
        _replace(self._apps, (case.folder / "apps.json").read_bytes())
        text = self._imported(case)
        _replace(self._config, text.encode())
        self._marathon.send_signal(signal.SIGHUP)
        if self._pharos is None:
            command = [sys.executable, "-m", "agent", "run", "-c", str(self._config)]
            self._pharos = Program(["ip", "netns", "exec", self.space, *command], self.folder / "pharos.log")
        else:
            self._pharos.running.send_signal(signal.SIGHUP)
        view = _view(text, case)
        self._until_served(case.name, view, _wanted(view, "compat" in text))
        return view.table

    def stop(self) -> None:
        """End the edge in peace."""
        if self._pharos is not None:
            assert self._pharos.stop(60) == 0, self._pharos.text()

    def close(self) -> None:
        """See that nothing is left."""
        if self._pharos is not None:
            self._pharos.end()

    def status(self) -> dict[str, Any]:
        """What the edge tells of itself."""
        found: dict[str, Any] = get_json(self.space, ADMIN, "/status")["l7"]
        return found

    def _imported(self, case: Case) -> str:
        """The configuration that the importer makes of marathon-lb's command line and environment."""
        variables = [f"{key}={value}" for key, value in case.env.items()]
        words = [*variables, "sse", *case.args, "--marathon", self._url, "--ssl-certs", str(self._certificates)]
        return f'state_dir = "{self._state}"\ndrain_timeout = "1s"\n{convert(words).toml}'

    def _until_served(self, name: str, view: RouteView, wanted: list[dict[str, Any]]) -> None:
        end, why = time.monotonic() + LIMIT, ""
        while time.monotonic() < end:
            assert self._pharos is not None
            assert self._pharos.running.poll() is None, f"{name}: {self._pharos.text()}"
            with contextlib.suppress(OSError, HTTPException, ValueError):
                if not (why := self._lacks(view, wanted)):
                    return
            time.sleep(0.03)
        raise AssertionError(f"{name} is not served: {why}")

    def _lacks(self, view: RouteView, wanted: list[dict[str, Any]]) -> str:
        """What is not yet as wanted."""
        found = _plain(get_json(self.space, API, "/v1/routes"))
        if found != wanted:
            return f"routes are {found}, not {wanted}"
        status = self.status()
        if set(status["listeners"]) != set(view.table.listeners) or status["problems"]:
            return f"listeners are {status['listeners']} {status['problems']}, not {set(view.table.listeners)}"
        behind = [worker for worker in status["workers"] if worker["version"] < status["version"]]
        return f"behind {status['version']}: {behind}" if behind or not status["ready"] else ""


@contextlib.contextmanager
def edge_after_marathon_lb(folder: Path, cases: Sequence[Case]) -> Iterator[Edge]:
    """Such an edge, with servers at all addresses of all tasks of the cases. Needs root."""
    servers = sorted({name for case in cases for name in _servers(case)})
    hosts = {name.rpartition(":")[0] for name in servers}
    hosts |= {route["request"][key] for case in cases for route in case.routes for key in ("src", "dst")}
    addresses = sorted(f"{host}/32" for host in hosts - {"127.0.0.1"})
    with namespace(
        f"pharos-{os.getpid()}-edge", addresses, "".join(f"{address} {name}\n" for name, address in NAMED.items())
    ) as space:
        edge = Edge(space, folder)
        try:
            edge.start(servers, sorted({"cert.pem"} | {name for case in cases for name in _certificates(case)}))
            yield edge
            edge.stop()
        finally:
            edge.close()


def _servers(case: Case) -> set[str]:
    """Where tasks can be reached: ports of their hosts, of those too that must get nothing; and whoever is expected."""
    tasks = [task for app in case.apps for task in app.get("tasks", [])]
    found = {f"{NAMED.get(task['host'], task['host'])}:{port}" for task in tasks for port in task.get("ports") or []}
    return found | {server for route in case.routes for server in route["expect"].get("servers", ())}


def _certificates(case: Case) -> set[str]:
    """The files that labels name."""
    labels = [(app.get("labels") or {}).items() for app in case.apps]
    return {Path(value).name for pairs in labels for key, value in pairs if key.endswith("_SSL_CERT")}


def _view(text: str, case: Case) -> RouteView:
    """The routes that the case makes by that configuration."""
    config = load_text(text, case.name)
    assert config.l7 is not None
    view = RouteView(config.l7)
    view.apply(delta(*map(_at_address, recorded(case.folder))))
    view.flush()
    assert view.faults == 0
    return view


def _at_address(entity: Entity) -> Entity:
    """A task as it is once its host's name is looked up."""
    if isinstance(entity, HealthOverlay) and entity.host in NAMED:
        return msgspec.structs.replace(entity, host_addresses=(NAMED[entity.host],))
    return entity


def _wanted(view: RouteView, compat: bool) -> list[dict[str, Any]]:
    """What /v1/routes has to tell of them."""

    async def told() -> list[dict[str, Any]]:
        shown = EdgeView(lambda: view.table, lambda: view.problems, lambda: compat)
        return _plain(json.loads(b"".join([piece async for piece in rows(shown, Wanted())])))

    return asyncio.run(told())


def _plain(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rules without what depends on the moment."""
    for row in found:
        for server in row["servers"]:
            server["state"] = "draining" if server["state"] == "draining" else ""
            server["active"] = server["failures"] = 0
            server["counted"] = False
        row["servers"].sort(key=lambda server: server["address"])
    return sorted(found, key=lambda row: json.dumps(row, sort_keys=True))


def _replace(path: Path, octets: bytes) -> None:
    path.with_suffix(".new").write_bytes(octets)
    path.with_suffix(".new").replace(path)


def _line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()
