"""Everything that scales an app, as processes of their own: ZooKeeper, a simulated cluster whose tasks really serve,
two servers that may decide, and an edge that follows them.

    with stage(tmp_path) as made:
        made.marathon(lambda marathon: …)        # on the simulated cluster's thread
        made.load.rate = 60                      # requests a second through the edge; every answer is noted
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from agent.demo.marathon_apps import App, Json
from agent.demo.marathon_deployments import DeployingMarathon, Deployment
from tests.ports import free_ports
from tests.system.ensemble import ensemble
from tests.system.resolver_lab import Program, quoted, until
from tests.system.simulated import Simulated, simulated

T = TypeVar("T")
HOST = "127.0.0.1"
VHOST = "shop.example.test"
APP = "/shop/web"
LIMIT = 90.0
"""Seconds in which whatever is waited for has to be there."""
TARGET = 10
"""Requests per second of each instance."""
MOST = 6

LABELS = {
    "HAPROXY_GROUP": "external",
    "HAPROXY_0_VHOST": VHOST,
    "PHAROS_SCALE_MIN": "0",
    "PHAROS_SCALE_MAX": str(MOST),
    "PHAROS_SCALE_RPS": str(TARGET),
    "PHAROS_SCALE_DOWN_WINDOW": "4s",
    "PHAROS_SCALE_IDLE": "4s",
}


class Change:
    """What Marathon was asked for: how many instances there were and are to be."""

    def __init__(self, app: str, before: int, after: int, forced: bool) -> None:
        self.at = time.time()
        self.app, self.before, self.after, self.forced = app, before, after, forced

    def __repr__(self) -> str:
        return f"{self.before}→{self.after}"


class Load(threading.Thread):
    """A client that keeps a connection to the edge and asks `rate` times a second (0: not at all), until `finish`.

    Each answer is noted: `statuses` counts them (0: no answer), `tasks` who gave those of the last second or so.
    """

    def __init__(self, port: int, clients: int = 8, vhost: str = VHOST) -> None:
        super().__init__(name="load")
        self.rate = 0.0
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self.longest = 0.0
        self._port, self._clients, self._vhost = port, clients, vhost
        self._stopped = threading.Event()
        self._due = 0.0

    def run(self) -> None:
        """Until `finish`: clients that take turns, so that one that waits does not hold up the others."""
        turns = threading.Lock()
        workers = [threading.Thread(target=self._work, args=(turns,)) for _ in range(self._clients)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, turns: threading.Lock) -> None:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        while not self._stopped.is_set():
            with turns:
                if not self._my_turn():
                    continue
            connection = self._ask(connection)
        connection.close()

    def _my_turn(self) -> bool:
        """Wait until the next request is due, at most a little; whether it is."""
        rate = self.rate
        now = time.monotonic()
        if rate <= 0:
            self._due = now
            self._stopped.wait(0.02)
            return False
        self._due = max(self._due + 1 / rate, now - 0.5)
        if self._due > now:
            self._stopped.wait(self._due - now)
        return not self._stopped.is_set()

    def _ask(self, connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
        began = time.monotonic()
        try:
            connection.request("GET", "/", headers={"Host": self._vhost})
            answer = connection.getresponse()
            body = answer.read()
            self.statuses[answer.status] += 1
            if answer.status != 200:
                self.failures.append(f"{answer.status}: {body[:100]!r}")
        except (OSError, http.client.HTTPException) as error:
            self.statuses[0] += 1
            self.failures.append(repr(error))
            connection.close()
            connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        self.longest = max(self.longest, time.monotonic() - began)
        return connection

    def finish(self) -> None:
        """No more requests."""
        self._stopped.set()
        self.join(70)


class Stage:
    """See the module. Made by `stage`."""

    def __init__(self, folder: Path, sim: Simulated, marathon: DeployingMarathon, zookeeper: list[str]) -> None:
        self.folder, self.sim = folder, sim
        self.changes: list[Change] = []
        self._marathon = marathon
        self.zookeeper = zookeeper
        self.port, *ports = free_ports(7)
        self.ports = {name: (ports[2 * n], ports[2 * n + 1]) for n, name in enumerate(("one", "two", "edge"))}
        self.programs: dict[str, Program] = {}
        self.load = Load(self.port)
        self._loads: list[Load] = []
        self._note_changes()

    def start(self) -> None:
        """Run all of it, until the edge serves."""
        for name in ("one", "two"):
            self.programs[name] = self.pharos(
                name,
                f'[mesos]\nmasters = ["{self.sim.url}"]\n[marathon]\n'
                f'[autoscale]\ninterval = "1s"\nwindow = "3s"\ndrain_timeout = "5s"\n',
            )
        servers = quoted([f"http://{HOST}:{self.ports[name][0]}" for name in ("one", "two")])
        self.programs["edge"] = self.pharos(
            "edge",
            f'[relay]\nservers = {servers}\n[l7]\nhttp = ["{HOST}:{self.port}"]\nhttps = []\napp_id = []\n'
            f"service_ports = false\nworkers = 2\n",
        )
        for name, program in self.programs.items():
            until(lambda name=name: self.is_ready(name), f"{name} is ready", program.text, LIMIT)  # type: ignore[misc]

    def load_of(self, vhost: str, rate: float, port: int = 0) -> Load:
        """A load of its own for a host name, to the edge's HTTP or a service port, until the end of the stage."""
        load = Load(port or self.port, vhost=vhost)
        load.rate = rate
        load.start()
        self._loads.append(load)
        return load

    def stop(self) -> None:
        """End all of it."""
        for load in (self.load, *self._loads):
            load.finish()
        for program in self.programs.values():
            program.end()

    def marathon(self, work: Callable[[DeployingMarathon], T]) -> T:
        """What a function of the simulated Marathon gives, on its thread."""
        return self.sim.call(lambda: work(self._marathon))

    def create(self, instances: int = 1, app: str = APP, **labels: str) -> None:
        """The app; Marathon starts it. Another one than APP has no labels but those given."""
        raw: Json = {"id": app, "cmd": "serve", "cpus": 0.1, "mem": 32, "instances": instances}
        ports = [{"name": "http", "labels": {}, "port": free_ports(1)[0]}]
        labels = (LABELS if app == APP else {}) | labels
        made = self.marathon(lambda marathon: marathon.create({**raw, "labels": labels, "portDefinitions": ports}))
        # By then it may have been scaled already.
        until(lambda: self.marathon(lambda _: made.done.is_set()), f"{app} runs", self.told, LIMIT)

    def running(self, app: str = APP) -> int:
        """Tasks of the app that run."""
        return self.marathon(
            lambda marathon: sum(
                instance.task.state == "TASK_RUNNING" for instance in marathon.apps[app].instances.values()
            )
        )

    def deployments(self) -> list[str]:
        """Deployments that are under way."""
        return self.marathon(lambda marathon: list(marathon.deployments))

    def until_running(self, count: int, what: str = "", app: str = APP) -> float:
        """Wait until so many run; seconds."""
        return until(lambda: self.running(app) == count, what or f"{count} of {app}", self.told, LIMIT)

    def served(self, count: int) -> None:
        """Wait until so many more requests were answered with 200."""
        goal = self.load.statuses[200] + count
        until(lambda: self.load.statuses[200] >= goal, f"{count} more answers", self.told, LIMIT)

    def autoscale(self, name: str) -> Any:
        """What a server tells of scaling; None where it does not answer."""
        try:
            return self._get(f"http://{HOST}:{self.ports[name][1]}/v1/autoscale")
        except (OSError, ValueError, http.client.HTTPException):
            return None

    def leader(self) -> str:
        """The server that decides; "" while none does."""
        for name in self.programs:
            if self.programs[name].running.poll() is None and (told := self.autoscale(name)) and told["leading"]:
                return name
        return ""

    def row(self, app: str = APP) -> Any:
        """What the one that decides tells of an app; an empty row while nothing is known of it."""
        rows = (self.autoscale(self.leader() or "one") or {"apps": []})["apps"]
        return next((row for row in rows if row["app"] == app and row["decision"]), {"decision": {"reason": ""}})

    def decided(self, reason: str, app: str = APP) -> Any:
        """Wait until the last decision about an app is for this reason; the decision."""
        until(lambda: self.row(app)["decision"]["reason"] == reason, f"{app} is {reason}", self.told, LIMIT)
        return self.row(app)["decision"]

    def changes_of(self, app: str) -> list[tuple[int, int]]:
        """Changes of its size, in their order."""
        return [(change.before, change.after) for change in self.changes if change.app == app]

    def admin(self, name: str) -> str:
        """Where a program's `[admin]` is."""
        return f"http://{HOST}:{self.ports[name][1]}"

    def told(self) -> str:
        """For a failure: what happened."""
        parts = [
            f"{self.changes} rate={self.load.rate} {dict(self.load.statuses)} {self.load.failures[-3:]}",
            *(json.dumps(self.autoscale(name))[:8000] for name in self.programs),
        ]
        return "\n".join(parts + [f"--- {name}\n{program.text()[-4000:]}" for name, program in self.programs.items()])

    def _note_changes(self) -> None:
        update = self._marathon.update

        def noting(old: App, change: Json, *, force: bool = False, **more: Any) -> Deployment:
            made = update(old, change, force=force, **more)
            if "instances" in change:
                self.changes.append(Change(old.definition.id, old.definition.instances, change["instances"], force))
            return made

        self.sim.call(lambda: setattr(self._marathon, "update", noting))

    def pharos(self, name: str, sections: str) -> Program:
        """Run a Pharos of this configuration."""
        home = self.folder / name
        home.mkdir()
        api, admin = self.ports[name]
        (home / "pharos.toml").write_text(
            f'state_dir = "{home / "state"}"\ndrain_timeout = "1s"\n'
            + (f'[zookeeper]\nhosts = {quoted(self.zookeeper)}\nsession_timeout = "3s"\n' if self.zookeeper else "")
            + f'[api]\nlisten = ["{HOST}:{api}"]\n[admin]\nlisten = ["{HOST}:{admin}"]\n'
            + sections
        )
        command = [sys.executable, "-m", "agent", "run", "-c", str(home / "pharos.toml")]
        return Program(command, home / "log")

    def is_ready(self, name: str) -> bool:
        """Whether it serves."""
        program = self.programs[name]
        assert program.running.poll() is None, program.text()
        with contextlib.suppress(OSError, ValueError):
            return bool(self._get(f"{self.admin(name)}/status")["ready"])
        return False

    @staticmethod
    def _get(url: str) -> Any:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """All of it until the end of the context."""
    with ensemble(folder / "zookeeper") as zookeeper, simulated() as sim:
        for number in range(1, 5):
            address = f"127.0.1.{number}"
            sim.call(lambda address=address: sim.cluster.add_agent(address))  # type: ignore[misc]
        with sim.marathon() as marathon:
            made = Stage(folder, sim, marathon, zookeeper.hosts)
            made.load.start()
            try:
                made.start()
                yield made
            finally:
                made.stop()
