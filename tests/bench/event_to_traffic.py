"""Event → traffic: 5,000 apps of 3 tasks, 100 changes a second; Pharos on one core, all others on the other.

The clock starts when Marathon writes the event of a change, and stops when a request at the edge is answered by the new
state: by the task's successor, or under a host that an app has got. Requests are sent one after another, half a
millisecond apart. All apps have a health check of Marathon's default interval, which the edge makes as well.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.bench import cluster
from tests.bench.dns_processes import descendants, prefer, scheduling
from tests.bench.dns_servers import explained, process
from tests.fakes.static_marathon import StaticMarathon
from tests.ports import free_ports

APPS, TASKS, CHURN, SAMPLES = 5_000, 3, 100.0, 600
HOST = "127.0.0.1"
START = 120.0
"""Seconds in which the edge must be ready."""
PATIENCE = 30.0
"""Seconds in which a change must have arrived."""
QUIET = 5.0
"""Seconds for which CPU is measured without questions."""
STEP = 0.0005
"""Seconds between two questions."""
WHEN = "2026-01-01T00:00:00.000Z"


class Service(asyncio.Protocol):
    """A server that answers everything with its name."""

    def __init__(self, name: str) -> None:
        self.answer = f"HTTP/1.1 200 OK\r\nX-Name: {name}\r\nContent-Length: 0\r\n\r\n".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.write = cast("asyncio.Transport", transport).write

    def data_received(self, data: bytes) -> None:
        """One request, or several."""
        self.write(self.answer * data.count(b"\r\n\r\n"))


class Apps:
    """All apps, and the changes of them; tasks are at any address of 127.0.0.0/8, at one of two ports."""

    def __init__(self, marathon: StaticMarathon, ports: tuple[int, int], apps: int, tasks: int) -> None:
        self.marathon = marathon
        self.ports = ports
        self.dice = random.Random(7)
        self._numbers = itertools.count()
        for number in range(apps):
            app = self._app(number, [self._task(number, ports[0]) for _ in range(tasks)])
            marathon.apps[app["id"]] = app

    def change(self, number: int) -> None:
        """A task of an app is replaced, or a host of its comes or goes."""
        app = dict(self.marathon.apps[_name(number)])
        if self.dice.random() < 0.5:
            tasks = list(app["tasks"])
            tasks[self.dice.randrange(len(tasks))] = self._task(number, self.ports[0])
            app["tasks"] = tasks
        else:
            more = ",more-" + _host(number)
            hosts = app["labels"]["HAPROXY_0_VHOST"]
            hosts = hosts.removesuffix(more) if hosts.endswith(more) else hosts + more
            app["labels"] = app["labels"] | {"HAPROXY_0_VHOST": hosts}
        self.marathon.change(app)

    def move(self, number: int, to: int) -> None:
        """All tasks of an app are replaced by others at this port."""
        app = dict(self.marathon.apps[_name(number)])
        app["tasks"] = [self._task(number, to) for _ in app["tasks"]]
        self.marathon.change(app)

    def name(self, number: int, host: str) -> None:
        """An app has one host more."""
        app = dict(self.marathon.apps[_name(number)])
        app["labels"] = app["labels"] | {"HAPROXY_0_VHOST": f"{_host(number)},{host}"}
        self.marathon.change(app)

    def _app(self, number: int, tasks: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": _name(number),
            "instances": len(tasks),
            "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": _host(number), "owner": f"team {number % 40}"},
            "portDefinitions": [{"port": 10_000 + number, "protocol": "tcp", "labels": {}}],
            "networks": [{"mode": "host"}],
            "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0, "intervalSeconds": 60}],
            "version": WHEN,
            "versionInfo": {"lastScalingAt": WHEN, "lastConfigChangeAt": WHEN},
            "deployments": [],
            "tasks": tasks,
        }

    def _task(self, number: int, port: int) -> dict[str, Any]:
        agent = self.dice.randrange(1000)
        address = f"127.1.{agent // 250}.{agent % 250 + 1}"
        identity = f"bench_app{number}.{next(self._numbers)}"
        return {
            "id": identity,
            "appId": _name(number),
            "host": address,
            "ports": [port],
            "state": "TASK_RUNNING",
            "slaveId": f"S{agent}",
            "stagedAt": WHEN,
            "startedAt": WHEN,
            "version": WHEN,
            "ipAddresses": [{"ipAddress": address, "protocol": "IPv4"}],
            "healthCheckResults": [{"alive": True, "taskId": identity, "firstSuccess": WHEN, "lastSuccess": WHEN}],
        }


def _name(number: int) -> str:
    return f"/bench/app{number}"


def _host(number: int) -> str:
    return f"app{number}.example.com"


class Asking:
    """A connection to the edge on which questions are asked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Asking:
        """Connect."""
        return cls(*await asyncio.open_connection(HOST, port))

    async def who(self, host: str) -> bytes:
        """The name of the server that answers for a host; b"" where none does."""
        self._writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200 "):
            return head.partition(b"X-Name: ")[2].partition(b"\r\n")[0]
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        return b""

    async def until(self, host: str, name: bytes) -> float:
        """When this server answered for it; raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while await self.who(host) != name:
                await asyncio.sleep(STEP)
        return time.perf_counter()

    def close(self) -> None:
        """Ask no more."""
        self._writer.close()


def measure(apps: int = APPS, tasks: int = TASKS, churn: float = CHURN, samples: int = SAMPLES) -> dict[str, Any]:
    """Latencies in ms, the edge's CPU in per cent of a core and its memory in MB, each of parent and worker."""
    sizes = {"apps": apps, "tasks": tasks, "churn": churn, "samples": samples}
    command = [sys.executable, "-m", "tests.bench.event_to_traffic", json.dumps(sizes)]
    with tempfile.TemporaryDirectory(prefix="pharos-bench-") as name:
        folder = Path(name)
        command.append(name)
        # A process of its own: it is to have its core before all others, the edge's probes must not wait.
        with process(command, cluster.cores()[1], folder / "log", stdout=subprocess.PIPE) as running:
            prefer(running.pid)
            assert running.stdout is not None
            said = running.stdout.read()
        if not said:
            raise RuntimeError(f"the measurement failed: {(folder / 'log').read_text()[-3000:]}")
    return {"measurement": "event_to_traffic", **sizes, "scheduling": scheduling(), **json.loads(said)}


async def _measured(folder: Path, apps: int, tasks: int, churn: float, samples: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda name=name: Service(name), "0.0.0.0", 0) for name in "ab"]  # type: ignore[misc]  # noqa: S104
    old, new = (server.sockets[0].getsockname()[1] for server in servers)
    marathon = StaticMarathon([])
    every = Apps(marathon, (old, new), apps, tasks)
    await marathon.start()
    port, api = free_ports(2)
    config = folder / "pharos.toml"
    config.write_text(
        f'state_dir = "{folder}"\n[log]\nlevel = "warning"\n[marathon]\nurls = ["{marathon.url}"]\n'
        f'[l7]\nhttp = ["{HOST}:{port}"]\nhttps = []\napp_id = []\nservice_ports = false\nworkers = 1\n'
        f'[api]\nlisten = ["{HOST}:{api}"]\n'
    )
    command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
    try:
        with process(command, cluster.cores()[0], folder / "pharos.log") as running:
            prefer(running.pid)
            with explained(running, folder / "pharos.log"):
                ready = await asyncio.to_thread(cluster.until_ready, f"http://{HOST}:{api}", START)
            return {"start_to_ready_s": round(ready, 2), **await _followed(every, running.pid, port, churn, samples)}
    finally:
        for server in servers:
            server.close()
        await marathon.stop()


async def _followed(every: Apps, parent: int, port: int, churn: float, samples: int) -> dict[str, Any]:
    asking = await Asking.open(port)
    await asking.until(_host(0), b"a")
    (worker,) = descendants(parent)
    prefer(worker)
    pids = {"parent": parent, "worker": worker}
    at_ready = {name: cluster.memory_mb(pid) for name, pid in pids.items()}
    start_cpu = {name: round(cluster.cpu_seconds(pid), 2) for name, pid in pids.items()}
    churning = asyncio.create_task(_churn(every, churn, samples))
    await asyncio.sleep(1)
    quiet = await _busy(pids, asyncio.sleep(QUIET))
    moved: list[float] = []
    named: list[float] = []
    asked = await _busy(pids, _samples(every, asking, samples, moved, named))
    churning.cancel()
    asking.close()
    return {
        "start_to_ready_cpu_s": start_cpu,
        "latency_ms": cluster.percentiles([*moved, *named]),
        "latency_of_a_moved_task_ms": cluster.percentiles(moved),
        "latency_of_a_new_host_ms": cluster.percentiles(named),
        "cpu_percent_at_churn_without_questions": quiet,
        "cpu_percent_at_churn_with_questions": asked,
        "memory_mb_at_ready": at_ready,
        "memory_mb_at_end": {name: cluster.memory_mb(pid) for name, pid in pids.items()},
    }


async def _churn(every: Apps, churn: float, probed: int) -> None:
    """So many changes a second of apps that nobody asks for."""
    apps = len(every.marathon.apps)
    began = time.monotonic()
    for done in itertools.count(1):
        every.change(every.dice.randrange(min(probed, apps - 1), apps))
        await asyncio.sleep(max(0.0, began + done / churn - time.monotonic()))


async def _busy(pids: dict[str, int], meanwhile: Any) -> dict[str, float]:
    """Per cent of a core that each takes meanwhile."""
    before, began = {name: cluster.cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
    await meanwhile
    took = time.monotonic() - began
    return {name: round(100 * (cluster.cpu_seconds(pid) - before[name]) / took, 1) for name, pid in pids.items()}


async def _samples(every: Apps, asking: Asking, samples: int, moved: list[float], named: list[float]) -> None:
    """Change one app after the other, and wait until that is so at the edge."""
    for number in range(samples // 2):
        began = time.perf_counter()
        every.move(number, every.ports[1])
        moved.append((await asking.until(_host(number), b"b") - began) * 1000)
        host = f"new{number}.example.com"
        began = time.perf_counter()
        every.name(number, host)
        named.append((await asking.until(host, b"b") - began) * 1000)
        await asyncio.sleep(every.dice.random() * 0.02)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    print(json.dumps(uvloop.run(_measured(Path(sys.argv[2]), **json.loads(sys.argv[1])))), flush=True)
