"""No change makes the edge drop a request: load of all kinds while everything around it changes and servers die.

A minute in CI, ten in a soak (PHAROS_SOAK); PHAROS_SEED chooses another course. What is done is in `edge_changes.py`,
the load in `edge_clients.py`. All the while:

- nothing that may be tried twice fails, and nobody is refused a connection;
- what may not be tried twice fails only if its server was killed;
- every answer is whole and right, and of the app that had the route at the time;
- WebSockets and transfers outlive all changes, and end when a drained server ends them;
- memory and open files stay what they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.system.edge_changes import Fleet, HandOver, Relabelling, SideApps, Weather, Window
from tests.system.edge_clients import AT_MOST_ONCE, MIX, Note, Plan
from tests.system.edge_figures import Figures, thirds
from tests.system.edge_judge import Judge
from tests.system.edge_stage import LIMIT, REPOSITORY, App, Stage, stage

SOAK = bool(os.environ.get("PHAROS_SOAK"))
SEED = int(os.environ.get("PHAROS_SEED") or (random.randrange(1 << 32) if SOAK else 7))
LENGTH = 600.0 if SOAK else 60.0
"""Seconds under load."""
CHANGES = 500
"""Changes of apps at least; a slow machine goes on until there are as many."""
ANSWERS = 500
"""Answers at least, of all kinds together."""
CLIENTS = 2
"""Processes of clients."""
SHOWN = 10
"""Faults that are told."""


class Course:
    """The apps of a run, and all that happens to them. `begin`, then `run`."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.dice = random.Random(SEED)
        self.loaded = self._loaded()
        self.fleets = [Fleet(stage, app, self.dice, deadly=app.id.startswith("/shop/")) for app in self.loaded.values()]
        port = stage.tasks.port
        one, other = App("/move/one", {"0_VHOST": "moved.example"}, port()), App("/move/other", {}, port())
        self.hand_over = HandOver(stage, one, other, self.dice)
        self.side = SideApps(stage, self.dice)

    def _loaded(self) -> dict[str, App]:
        """What is asked for → the app that serves it at all times."""
        port = self.stage.tasks.port
        web = {"0_VHOST": "web.example", "0_MODE": "http"}
        cart = {"0_VHOST": "web.example", "0_PATH": "/api"}
        sticky = {"0_VHOST": "sticky.example", "0_STICKY": "true"}
        return {
            "web.example": App("/shop/web", web, port()),
            "api.example": App("/shop/api", {"0_VHOST": "api.example"}, port(), checked=True),
            "web.example/api": App("/shop/cart", cart, port()),
            "sticky.example": App("/shop/sticky", sticky, port()),
            "files.example": App("/media/files", {"0_VHOST": "files.example"}, port(), checked=True),
            "tcp": App("/media/lines", {"0_MODE": "tcp"}, port(), mode="tcp"),
        }

    async def begin(self) -> None:
        """Apps with their first tasks, all of which are served."""
        for fleet in self.fleets:
            await fleet.fill()
        await self.hand_over.fill()
        await self.side.fill()
        await self.stage.until_ready()
        for fleet in self.fleets:
            await self.stage.until_served(fleet.app)

    async def run(self) -> None:
        """Everything, until the stage's end."""
        relabelling = Relabelling(self.stage, list(self.loaded.values()), self.dice)
        weather = Weather(self.stage, self.dice)
        parts = [fleet.live() for fleet in self.fleets]
        parts += [relabelling.live(), weather.live(), self.side.live(), self.side.follow(), self.hand_over.live()]
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)

    def plan(self, number: int) -> Plan:
        """Of the clients of this number."""
        ports = {**self.stage.pharos.ports, "web": self.loaded["web.example"].service_port}
        ports["tcp"] = self.loaded["tcp"].service_port
        return Plan(
            notes=str(self.stage.folder / f"notes{number}.jsonl"),
            ca_file=str(self.stage.pharos.ca_file),
            ports=ports,
            apps={asked: app.id for asked, app in self.loaded.items()},
            seed=SEED + number,
        )


@contextlib.asynccontextmanager
async def clients(stage: Stage, plans: list[Plan]) -> AsyncIterator[Counter[str]]:
    """Clients that go by these plans; afterwards there is how many answers of each kind were right."""
    right: Counter[str] = Counter()
    running = []
    log = stage.folder / "clients.log"
    for number, plan in enumerate(plans):
        file = stage.folder / f"plan{number}.json"
        file.write_bytes(msgspec.json.encode(plan))
        running.append(_started(["tests.system.edge_clients", str(file)], log))
    try:
        yield right
        assert all(process.poll() is None for process in running), log.read_text()
        for process in running:
            process.terminate()
        for process in running:
            said, _ = await asyncio.to_thread(process.communicate, timeout=2 * LIMIT)
            assert process.returncode == 0, log.read_text()
            right.update(json.loads(said))
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _started(module: list[str], log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *module]
    with log.open("ab") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=REPOSITORY, text=True)


def notes(folder: Path) -> list[Note]:
    """All that clients noted."""
    decoder = msgspec.json.Decoder(Note)
    return [decoder.decode(line) for file in folder.glob("notes*.jsonl") for line in file.read_bytes().splitlines()]


async def _long_enough(stage: Stage, course: asyncio.Task[None]) -> None:
    began = time.monotonic()
    while (time.monotonic() - began < LENGTH or stage.changes < CHANGES) and not course.done():
        await asyncio.sleep(0.2)


async def _run(folder: Path) -> list[str]:
    """All that was not as it has to be."""
    async with stage(folder) as running:
        course, figures = Course(running), Figures(running)
        await course.begin()
        await figures.begin()
        async with clients(running, [course.plan(number) for number in range(CLIENTS)]) as right:
            changing, watching = asyncio.create_task(course.run()), asyncio.create_task(figures.watch())
            await _long_enough(running, changing)
            running.ending.set()
            await asyncio.gather(changing, watching)
        (folder / "events.json").write_bytes(
            msgspec.json.encode([running.events, running.kills, course.hand_over.windows])
        )
        judge = Judge(running.events, running.kills, course.hand_over.windows, course.hand_over.one.id)
        faults = judge.faults(notes(folder))
        print(
            f"seed {SEED}: {sum(right.values())} right answers {dict(right)}; {running.changes} changes, "
            f"{len(running.kills)} kills that cost {len(judge.excused)} requests that can't be sent twice, "
            f"{len(course.hand_over.windows)} hand-overs, {course.side.followed} apps followed; {figures}"
        )
        faults += await _seen_by_operators(running)
        faults += [*figures.growth(), *await figures.leaks()]
        assert len(judge.excused) <= len(running.kills) * CLIENTS * _streams(AT_MOST_ONCE)
        assert sum(right.values()) > ANSWERS
        assert all(right[kind] for kind, *_ in MIX if kind != "websocket"), right
        assert right["websocket message"]
        assert course.side.followed
        assert course.hand_over.windows
    return faults


def _streams(kinds: frozenset[str]) -> int:
    return sum(count for kind, _, _, count in MIX if kind in kinds)


async def _seen_by_operators(running: Stage) -> list[str]:
    """Metrics and lines of the log that tell of a fault of ours."""
    metrics = await running.pharos.metrics()
    wrong = (
        "pharos_l7_errors_total",
        "pharos_l7_worker_restarts_total",
        "pharos_l7_faults_total",
        "pharos_l7_refused_connections_total",
    )
    found = [f"{name} is {value:g}" for name, value in metrics.items() if name.startswith(wrong) and value]
    log = running.pharos.log.read_text()
    return found + [
        line for line in log.splitlines() if " ERROR " in line or " CRITICAL " in line or "Traceback" in line
    ]


@pytest.mark.soak
@pytest.mark.timeout(0 if SOAK else 600)
def test_nothing_is_dropped_while_everything_changes(tmp_path: Path) -> None:
    faults = asyncio.run(_run(tmp_path))
    assert not faults, f"{len(faults)} faults, of which:\n" + "\n".join(faults[:SHOWN])


def test_what_may_not_be_is_seen() -> None:
    events = [(99.0, "/a: x is killed"), (50.0, "long ago")]
    windows = [Window(10, 12, "/one", "/other"), Window(20, 22, "/other", "/one")]
    judge = Judge(events, [(99.0, "/a")], windows, "/one")
    post = Note(what="failed", kind="post", asked="a.example", why="EOFError", app="/a", began=98.5, ended=99.1)
    asked = Note(what="answered", kind="moved", asked="moved.example", began=5, ended=6)
    assert judge.faults([post]) == []
    assert judge.excused == [post]
    for wrong in (
        msgspec.structs.replace(post, kind="steady"),
        msgspec.structs.replace(post, app="/b"),
        msgspec.structs.replace(post, began=80, ended=81),
        msgspec.structs.replace(post, why="not connected: refused"),
    ):
        (told,) = judge.faults([wrong])
        assert wrong.why in told
    assert "x is killed" in judge.told(post, "")
    assert "long ago" not in judge.told(post, "")
    may = {(5, 6): "/one", (9, 11): "/one /other", (12, 13): "/other", (13, 23): "/one /other", (22, 23): "/one"}
    for (began, ended), apps in may.items():
        assert judge.owners(began, ended) == set(apps.split())
    assert judge.faults([msgspec.structs.replace(asked, app="/one")]) == []
    assert judge.faults([msgspec.structs.replace(asked, app="/other")])
    assert thirds([9, 9, 1, 1, 5, 5, 3, 3, 8, 8]) == (1, 8)
