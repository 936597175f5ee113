"""What happens to an edge in its soak: labels, apps, tasks, Marathon and settings change, and tasks die.

Everything here goes on until `stage.ending`, each part at its own pace, and leaves the stage as it was.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import replace
from typing import NamedTuple

from tests.system.edge_stage import HOST, LIMIT, SILENCE, App, Stage, Task, until

FEWEST, MOST = 3, 5
"""Tasks of an app under load."""
PACE = 0.07
"""Seconds between two changes of apps that are not under load."""
SIDE_APPS, SERVICES = 40, 4


class Fleet:
    """The tasks of an app under load: more, fewer, others. Where `deadly`, some are killed without notice; at least one
    that the edge knows is always alive."""

    def __init__(self, stage: Stage, app: App, dice: random.Random, *, deadly: bool) -> None:
        self.stage, self.app, self.dice, self.deadly = stage, app, dice, deadly
        self.changing = asyncio.Lock()

    async def fill(self) -> None:
        """Its first tasks."""
        self.app.relabel()
        self.app.tasks += [await self.stage.tasks.start(self.app) for _ in range(FEWEST)]
        self.stage.tell(self.app, "is there")

    async def live(self) -> None:
        """Change until all ends."""
        while not self.stage.ending.is_set():
            await asyncio.sleep(self.dice.uniform(0.1, 1.0))
            async with self.changing:
                if len(self.app.tasks) <= FEWEST:
                    act = self.dice.choice([self.grow, self.kill] if self.deadly else [self.grow])
                elif len(self.app.tasks) >= MOST:
                    act = self.drain
                else:
                    act = self.dice.choice([self.grow, self.drain, self.kill if self.deadly else self.drain])
                await act()

    async def grow(self) -> None:
        """One task more: it listens before Marathon tells of it, and is healthy later still."""
        task = await self.stage.tasks.start(self.app)
        task.state, task.alive = "TASK_STARTING", None
        self.app.tasks.append(task)
        self.stage.tell(self.app, f"{task.id} starts")
        task.state = "TASK_RUNNING"
        self.stage.tell(self.app, f"{task.id} runs")
        task.alive = True
        self.stage.tell(self.app, f"{task.id} is healthy")
        await self.stage.until_served(self.app)

    async def drain(self) -> None:
        """One task less, in peace: it is told to end as Marathon tells of it."""
        task = self.dice.choice(self.app.tasks)
        task.state = "TASK_KILLING"
        self.stage.tell(self.app, f"{task.id} is to end")
        task.signal(signal.SIGTERM)
        await self.stage.until_served(self.app)
        await task.ended()
        self.app.tasks.remove(task)
        self.stage.tell(self.app, f"{task.id} has ended")

    async def kill(self) -> None:
        """One task, or all but one, die; Marathon notices later, and starts others."""
        count = 1 if self.dice.random() < 0.5 else len(self.app.tasks) - 1
        dead: list[Task] = self.dice.sample(self.app.tasks, count)
        for task in dead:
            self.stage.kills.append((time.monotonic(), self.app.id))
            self.stage.did(f"{self.app.id}: {task.id} is killed")
            task.signal(signal.SIGKILL)
        await asyncio.sleep(self.dice.uniform(0.0, 1.5))
        for task in dead:
            await task.ended()
            self.app.tasks.remove(task)
            self.stage.tell(self.app, f"{task.id} has failed")
            self.app.tasks.append(await self.stage.tasks.start(self.app))
            self.stage.tell(self.app, f"{self.app.tasks[-1].id} runs in its place")
        await self.stage.until_served(self.app)


class Relabelling:
    """Labels of apps under load that take none of their routes away."""

    def __init__(self, stage: Stage, apps: list[App], dice: random.Random) -> None:
        self.stage, self.apps, self.dice = stage, apps, dice

    async def live(self) -> None:
        """Change until all ends."""
        before = {app.id: dict(app.labels) for app in self.apps}
        while not self.stage.ending.is_set():
            await asyncio.sleep(self.dice.uniform(0.1, 0.6))
            app = self.dice.choice(self.apps)
            name, value = self._label(before[app.id])
            app.relabel(**{name: value})
            self.stage.tell(app, f"{name} = {value!r}")
        for app in self.apps:
            app.labels = before[app.id]
            self.stage.tell(app, "has its first labels")

    def _label(self, own: dict[str, str]) -> tuple[str, str | None]:
        number = self.dice.randrange(100)
        hosts = own.get("0_VHOST", "")
        labels: list[tuple[str, list[str | None]]] = [
            ("0_BALANCE", ["roundrobin", "leastconn", "p2c", "source", "random", "first", None]),
            ("0_USE_HSTS", ["true", None]),
            ("0_BACKEND_WEIGHT", ["7", None]),
            ("0_BACKEND_SERVER_OPTIONS", ["maxconn 60", "maxconn 8", "maxconn 8", "weight 3", None]),
            ("1_VHOST", ["there.is.no.such.port", None]),
        ]
        if "0_STICKY" not in own:
            labels.append(("0_STICKY", ["true", None]))
        if hosts:
            more = [hosts, f"{hosts},more{number}.example", f"more{number}.example,{hosts},*.more{number}.example"]
            labels += [("0_VHOST", [*more])] * 3
        name, values = self.dice.choice(labels)
        return name, self.dice.choice(values)


class SideApps:
    """Apps that nobody asks for but us: they come, change and go, some with paths on hosts under load.

    `services`: tasks that never end, each of which several of them may have as their own.
    """

    def __init__(self, stage: Stage, dice: random.Random) -> None:
        self.stage, self.dice = stage, dice
        self.services: list[Task] = []
        self.apps: dict[int, App] = {}
        self.ports = [stage.tasks.port() for _ in range(SIDE_APPS)]
        self.followed = 0

    async def fill(self) -> None:
        """The tasks."""
        apps = [App(f"/side/service{number}", {}, 0) for number in range(SERVICES)]
        self.services = [await self.stage.tasks.start(app) for app in apps]

    async def live(self) -> None:
        """Change until all ends."""
        while not self.stage.ending.is_set():
            await asyncio.sleep(PACE)
            number = self.dice.randrange(SIDE_APPS)
            app = self.apps.get(number)
            if app is None:
                self._create(number)
            elif self.dice.random() < 0.2:
                self.stage.remove(self.apps.pop(number))
            else:
                self._change(app, number)
        for app in self.apps.values():
            self.stage.remove(app)

    async def follow(self) -> None:
        """An app that comes is served, and one that goes is no more, as clients see it."""
        app = App("/follow/app", {"0_VHOST": "follow.example"}, self.stage.tasks.port())
        while not self.stage.ending.is_set():
            await self._follow_once(app, self.dice.choice(self.services))
            self.followed += 1
            await asyncio.sleep(0.3)

    async def _follow_once(self, app: App, service: Task) -> None:
        app.tasks = [self._own(app, service)]
        app.relabel()
        self.stage.tell(app, f"comes, served by {service.id}")
        await until(lambda: self._answered(service.id), f"follow.example is served by {service.id}")
        self.stage.remove(app)
        await until(lambda: self._answered(""), "follow.example is served no more")

    async def _answered(self, task: str) -> bool:
        """Whether this task answers ("": none) for the host that comes and goes."""
        reader, writer = await asyncio.open_connection(HOST, self.stage.pharos.ports["http"])
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: follow.example\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(LIMIT):
                answer = await reader.read()
        finally:
            writer.close()
        return f"X-Task: {task}\r\n".encode() in answer if task else answer.startswith(b"HTTP/1.1 503 ")

    def _some(self, app: App, count: int) -> list[Task]:
        return [self._own(app, service) for service in self.dice.sample(self.services, count)]

    def _own(self, app: App, service: Task) -> Task:
        """The same process as a task of this app: no two apps have one task."""
        return replace(service, id=f"{app.id.strip('/').replace('/', '_')}.{service.id}")

    def _create(self, number: int) -> None:
        app = self.apps[number] = App(f"/side/app{number}", {}, self.ports[number])
        app.mode = self.dice.choice(["http", "http", "tcp"])
        app.relabel(**{"0_MODE": app.mode, "0_VHOST": f"side{number}.example" if app.mode == "http" else None})
        app.tasks = self._some(app, self.dice.randrange(1, SERVICES))
        self.stage.tell(app, "comes")

    def _change(self, app: App, number: int) -> None:
        app.relabel(**self.dice.choice(self._labels(number)))
        if self.dice.random() < 0.3:
            app.tasks = self._some(app, self.dice.randrange(SERVICES))
        self.stage.tell(app, "is another")

    def _labels(self, number: int) -> list[dict[str, str | None]]:
        host, pick = f"side{number}.example", self.dice.choice
        return [
            {"0_VHOST": f"{host},also-{host}"},
            {"0_VHOST": f"*.{host}"},
            {"0_VHOST": host, "0_PATH": None},
            {"0_VHOST": "web.example", "0_PATH": f"/side{number} /more{number}"},
            {"0_VHOST": "api.example,web.example", "0_PATH": f"/side{number}"},
            {"0_PORT": str(self.ports[(number + 1) % SIDE_APPS])},
            {"0_PORT": None},
            {"0_AUTH": "realm:user:no hash"},
            {"0_AUTH": "realm:user:$1$salt$qJH7.N4xYta3aEG/dfqo/0"},
            {"0_AUTH": None},
            {"0_REDIRECT_TO_HTTPS": pick(["true", None])},
            {"GROUP": pick(["internal", "external"])},
            {"0_ENABLED": pick(["false", None])},
            {"0_BACKEND_NETWORK_ALLOWED_ACL": pick(["127.0.0.0/8", "10.0.0.0/8", "no network", None])},
            {"0_BALANCE": pick(["source", "leastconn", "no such", None])},
            {"DEPLOYMENT_GROUP": pick(["blue", None])},
        ]


class Window(NamedTuple):
    """From when until when a host may be either app's; before it was the first's, after it is the second's."""

    began: float
    ended: float
    before: str
    after: str


class HandOver:
    """A host that one app takes over from another: who asks for it later gets it when the other lets go."""

    def __init__(self, stage: Stage, one: App, other: App, dice: random.Random) -> None:
        self.stage, self.one, self.other, self.dice = stage, one, other, dice
        self.windows: list[Window] = []

    async def fill(self) -> None:
        """A task of each."""
        for app in (self.one, self.other):
            app.relabel()
            app.tasks = [await self.stage.tasks.start(app)]
            self.stage.tell(app, "is there")

    async def live(self) -> None:
        """Hand it over, until all ends."""
        before, after = self.one, self.other
        while not self.stage.ending.is_set():
            await asyncio.sleep(self.dice.uniform(0.3, 2.0))
            await self._once(before, after)
            before, after = after, before

    async def _once(self, before: App, after: App) -> None:
        after.relabel(**{"0_VHOST": "moved.example"})
        self.stage.tell(after, "asks for moved.example")
        await until(lambda: self._is_refused(after), f"{after.id} is told that moved.example is another's")
        before.relabel(**{"0_VHOST": None})
        began = time.monotonic()
        self.stage.tell(before, "lets go of moved.example")
        await until(lambda: self._is_routed(after), f"moved.example is {after.id}'s")
        await self.stage.until_applied((await self.stage.pharos.status())["version"])
        self.windows.append(Window(began, time.monotonic(), before.id, after.id))
        self.stage.did(f"{after.id}: has moved.example")

    async def _is_refused(self, app: App) -> bool:
        rows = await self.stage.pharos.get(f"/v1/routes?app={app.id}")
        return any("route-conflict" in text for row in rows for text in row["problems"])

    async def _is_routed(self, app: App) -> bool:
        rows = await self.stage.pharos.get("/v1/routes?host=moved.example")
        return {row["app"] for row in rows if row["kind"] == "route"} == {app.id}


class Weather:
    """What befalls the edge itself: its Marathon falls silent or cuts it off, and its settings change."""

    def __init__(self, stage: Stage, dice: random.Random) -> None:
        self.stage, self.dice = stage, dice
        self.turns = 0

    async def live(self) -> None:
        """One thing after the other until all ends; each at least once."""
        while not self.stage.ending.is_set() or self.turns < 4:
            await asyncio.sleep(self.dice.uniform(1.0, 4.0))
            await (self.cut_off, self.settings, self.silence, self.settings)[self.turns % 4]()
            self.turns += 1
        self.stage.pharos.configure()
        self.stage.pharos.reload()
        self.stage.did("pharos has its first settings")

    async def cut_off(self) -> None:
        """Event streams end, and for some seconds there are none."""
        self.stage.did("Marathon cuts its event streams")
        self.stage.marathon.refusing = True
        self.stage.marathon.cut()
        await asyncio.sleep(self.dice.uniform(0.5, 3.0))
        self.stage.marathon.refusing = False
        self.stage.did("Marathon takes event streams again")

    async def silence(self) -> None:
        """Event streams stay open and say nothing, for longer than Pharos believes them."""
        self.stage.did("Marathon falls silent")
        self.stage.marathon.silent = True
        await asyncio.sleep(SILENCE + self.dice.uniform(0.0, 2.0))
        self.stage.marathon.silent = False
        self.stage.marathon.cut()
        self.stage.did("Marathon speaks again")

    async def settings(self) -> None:
        """Other settings by SIGHUP, sometimes with one address more."""
        pick = self.dice.choice
        more = pick([True, False])
        settings = {
            "server_timeout": pick(['"20s"', '"40s"']),
            "retries": pick(["3", "5"]),
            "access_log": pick(["0.0", "0.01"]),
            "balance": pick(['"roundrobin"', '"leastconn"', '"p2c"']),
            "slow_start": pick(['"0s"', '"3s"']),
            "checks": pick(["true", "false"]),
            "eject_after": pick(["3", "5"]),
            "max_head": pick(["16384", "32768"]),
        }
        self.stage.pharos.configure(more, **settings)
        self.stage.pharos.reload()
        self.stage.did(f"pharos has other settings: more={more} {settings}")
        if more:
            await until(self._more, "the further address is listened on", self.stage.pharos)

    async def _more(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self.stage.pharos.ports["more"])
        except OSError:
            return False
        writer.close()
        return True
