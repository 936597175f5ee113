"""A whole edge for its soak: a Marathon of apps that change, their tasks as processes, `pharos run`, and clients.

async with stage(tmp_path) as stage:
    task = await stage.tasks.start("/shop/web")         # listens
    app.tasks.append(task); stage.tell(app)             # Marathon says so
    await stage.until_served(app)                       # all workers know
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
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme

from tests.fakes.static_marathon import StaticMarathon
from tests.ports import free_ports, own_ports

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
LIMIT = 120.0
"""Seconds in which whatever is waited for has to be there."""
SILENCE = 4.0
"""Seconds of silence after which Pharos takes Marathon's event stream for dead."""


@dataclass(eq=False)
class Task:
    """A task of an app, as Marathon knows it, and its process. `alive`: what its health check says, None: nothing."""

    id: str
    port: int
    pid: int
    handle: int
    state: str = "TASK_RUNNING"
    alive: bool | None = True

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal; it may be gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)

    async def ended(self) -> None:
        """Until its process has ended."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.handle, done.set)
        try:
            async with asyncio.timeout(LIMIT):
                await done.wait()
        finally:
            loop.remove_reader(self.handle)
            os.close(self.handle)


@dataclass
class App:
    """An app. `labels` without "HAPROXY_"."""

    id: str
    labels: dict[str, str]
    service_port: int
    tasks: list[Task] = field(default_factory=list)
    checked: bool = False
    mode: str = "http"
    configured: str = ""

    def relabel(self, **labels: str | None) -> None:
        """Other labels (None: none), which is another configuration."""
        for name, value in labels.items():
            if value is None:
                self.labels.pop(name, None)
            else:
                self.labels[name] = value
        self.configured = now_text()

    def document(self) -> dict[str, Any]:
        """As Marathon tells it."""
        return {
            "id": self.id,
            "instances": len(self.tasks),
            "labels": {"HAPROXY_GROUP": "external"} | {f"HAPROXY_{name}": text for name, text in self.labels.items()},
            "portDefinitions": [{"port": self.service_port, "protocol": "tcp", "labels": {}}],
            "networks": [{"mode": "host"}],
            "healthChecks": [{"protocol": "TCP", "portIndex": 0, "intervalSeconds": 1}] if self.checked else [],
            "version": self.configured,
            "versionInfo": {"lastScalingAt": self.configured, "lastConfigChangeAt": self.configured},
            "deployments": [],
            "tasks": [self._task(task) for task in self.tasks],
        }

    def _task(self, task: Task) -> dict[str, Any]:
        found = {
            "id": task.id,
            "appId": self.id,
            "host": HOST,
            "ports": [task.port],
            "state": task.state,
            "slaveId": "S0",
            "stagedAt": self.configured,
            "startedAt": self.configured,
            "version": self.configured,
            "ipAddresses": [{"ipAddress": HOST, "protocol": "IPv4"}],
        }
        if self.checked and task.alive is not None:
            found["healthCheckResults"] = [{"alive": task.alive, "taskId": task.id}]
        return found


def now_text() -> str:
    """The time as Marathon writes it; later calls give later times."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Tasks:
    """The processes of tasks: children of one that has loaded what they need."""

    def __init__(self, log: Path) -> None:
        self._ports = own_ports(8)  # so many that none comes again while anybody may still believe in its last task
        self._number = 0
        self._asking = asyncio.Lock()
        with log.open("ab") as errors:
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "tests.system.edge_backend"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=REPOSITORY,
                text=True,
            )
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._to, self._from = self._nursery.stdin, self._nursery.stdout

    def port(self) -> int:
        """A port that nobody has had for long."""
        return next(self._ports)

    async def start(self, app: App) -> Task:
        """A process that listens; Marathon does not know of it yet."""
        self._number += 1
        name = f"{app.id.strip('/').replace('/', '_')}.{self._number}"
        port = self.port()
        wanted = {"app": app.id, "task": name, "port": port, "mode": app.mode}
        async with self._asking:
            pid = await asyncio.to_thread(self._ask, json.dumps(wanted))
        return Task(name, port, pid, os.pidfd_open(pid))

    def _ask(self, line: str) -> int:
        self._to.write(line + "\n")
        self._to.flush()
        return int(self._from.readline())

    def close(self) -> None:
        """Kill all."""
        self._to.close()
        self._nursery.wait(30)
        self._from.close()


class Pharos:
    """`pharos run` with an edge of two workers."""

    def __init__(self, folder: Path, marathon: str, ports: Iterator[int]) -> None:
        self.ports = {name: next(ports) for name in ("http", "more", "https", "app_id")}
        self.api, self.admin = (f"http://{HOST}:{port}" for port in free_ports(2))
        self.log = folder / "pharos.log"
        self.ca_file = folder / "ca.pem"
        self._config = folder / "pharos.toml"
        self._marathon = marathon
        self._state = folder / "state"
        self._certificates = folder / "certificates"
        self._certificates.mkdir(mode=0o700)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        pem = self._certificates / "web.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(authority.issue_cert("web.example").private_key_and_cert_chain_pem.bytes())
        self.configure()
        command = [sys.executable, "-m", "agent", "run", "-c", str(self._config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPOSITORY)

    def configure(self, more: bool = False, **settings: str) -> None:
        """Write the configuration. `more`: listen on one address more; `settings`: TOML values of `[l7]`."""
        listened = [f"{HOST}:{self.ports[name]}" for name in ("http", "more")[: 1 + more]]
        values = {"server_keep_alive": '"8s"', "retries": "3"} | settings
        text = (
            f'state_dir = "{self._state}"\n[log]\nlevel = "info"\n'
            f'[marathon]\nurls = ["{self._marathon}"]\nsilence = "{SILENCE:g}s"\nresync = "20s"\n'
            f'[api]\nlisten = ["{self.api.removeprefix("http://")}"]\n'
            f'[admin]\nlisten = ["{self.admin.removeprefix("http://")}"]\n'
            f'[l7]\nhttp = {json.dumps(listened)}\nhttps = ["{HOST}:{self.ports["https"]}"]\n'
            f'app_id = ["{HOST}:{self.ports["app_id"]}"]\nworkers = 2\ncert_dir = "{self._certificates}"\n'
        )
        text += "".join(f"{name} = {value}\n" for name, value in values.items())
        fresh = self._config.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._config)

    def reload(self) -> None:
        """Have it read its configuration again."""
        self.process.send_signal(signal.SIGHUP)

    async def get(self, path: str, *, admin: bool = False) -> Any:
        """JSON of its API."""
        return json.loads(await asyncio.to_thread(_get, (self.admin if admin else self.api) + path))

    async def metrics(self) -> dict[str, float]:
        """All its metrics, by name with labels."""
        text = await asyncio.to_thread(_get, f"{self.api}/metrics")
        lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    async def status(self) -> dict[str, Any]:
        """Of the edge."""
        found: dict[str, Any] = (await self.get("/status", admin=True))["l7"]
        return found

    def stop(self) -> int:
        """End it in peace; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(LIMIT)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


class Stage:
    """See the module. `events`: what was done when, for people; `kills`: app → when tasks of it were killed;
    `changes`: how often Marathon told something else of an app."""

    def __init__(self, folder: Path, marathon: StaticMarathon) -> None:
        self.folder = folder
        self.marathon = marathon
        self.tasks = Tasks(folder / "tasks.log")
        self.pharos = Pharos(folder, marathon.url, own_ports())
        self.events: list[tuple[float, str]] = []
        self.kills: list[tuple[float, str]] = []
        self.changes = 0
        self.ending = asyncio.Event()

    def did(self, text: str) -> None:
        """Something was done just now."""
        self.events.append((time.monotonic(), text))

    def tell(self, app: App, why: str) -> None:
        """Marathon knows an app as it is now."""
        self.changes += 1
        self.did(f"{app.id}: {why}")
        self.marathon.change(app.document())

    def remove(self, app: App) -> None:
        """Marathon knows the app no more."""
        self.changes += 1
        self.did(f"{app.id}: gone")
        self.marathon.remove(app.id)

    async def until_ready(self) -> None:
        """Until Pharos is."""
        await until(lambda: _ready(self.pharos), "pharos is ready", self.pharos)

    async def until_served(self, app: App) -> None:
        """Until the table has all the app's tasks that are to serve, no others, and all workers go by that table."""
        wanted = {task.id for task in app.tasks if task.state == "TASK_RUNNING" and task.alive is not None}
        path = f"/v1/routes?app={app.id}"
        await until(lambda: self._tasks_are(path, wanted), f"{app.id} is served by {wanted}", self.pharos)
        version = (await self.pharos.status())["version"]
        await self.until_applied(version)

    async def until_applied(self, version: int) -> None:
        """Until all workers have applied what was wanted then."""

        async def applied() -> bool:
            workers = (await self.pharos.status())["workers"]
            return all(worker["version"] >= version for worker in workers)

        await until(applied, f"workers have applied {version}", self.pharos)

    async def _tasks_are(self, path: str, wanted: set[str]) -> bool:
        rows = await self.pharos.get(path)
        return {server["task"] for row in rows for server in row["servers"]} == wanted


async def until(condition: Callable[[], Any], what: str, pharos: Pharos | None = None) -> None:
    """Until it holds; `condition` is a coroutine function."""
    deadline = time.monotonic() + LIMIT
    while not await condition():
        assert pharos is None or pharos.process.poll() is None, f"pharos ended: {pharos.log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"not in {LIMIT:g} s: {what}"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Everything running, without an app."""
    marathon = StaticMarathon([], keep_alive=1.0)
    await marathon.start()
    made = Stage(folder, marathon)
    try:
        yield made
        assert await asyncio.to_thread(made.pharos.stop) == 0
    except BaseException:
        print(f"--- pharos\n{made.pharos.log.read_text(errors='replace')[-6000:]}")
        raise
    finally:
        if made.pharos.process.poll() is None:
            made.pharos.process.kill()
            made.pharos.process.wait()
        made.tasks.close()
        await marathon.stop()


async def _ready(pharos: Pharos) -> bool:
    with contextlib.suppress(OSError):
        await asyncio.to_thread(_get, f"{pharos.api}/readyz")
        return True
    return False
