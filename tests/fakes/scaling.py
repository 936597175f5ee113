"""A Marathon in memory with its catalogs, edges and drains, as deciders see them; with what can go wrong.

world = World()
app = world.add("/web", 2, policy)
world.load[app] = 450.0                      # requests a second
one, two = world.decider("one"), world.decider("two")
async with running(one, two): …

Everything that was asked for is in `world.asked`. A deployment takes `deploy_time`; catalogs show what changed `lag`
later. Times are the loop's: run it under tests/fakes/virtual_time.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from lb7.autoscale.acting import Go, at_any_time
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.policy import KINDS, Kind, Metric, Policy
from lb7.autoscale.provider import Loads
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import AppTask, ScaledApp
from lb7.autoscale.scaler import Scaler
from mesos_dns.config import Duration
from mesos_dns.coordinate import Coordinator, CoordinatorLost
from mesos_dns.model import App, Key
from tests.fakes.memory_coordinator import Memory, MemoryCoordinator

EPOCH = 1_800_000_000.0
FRAMEWORK = "marathon-1"


class Asked(NamedTuple):
    """A change that Marathon was asked for and took."""

    at: float
    by: str
    app: str
    before: int
    after: int


class Stage:
    """Where a decider is when something happens to it; called with its name and the app."""

    def __init__(self) -> None:
        self.before_ask: Callable[[str, Key], None] = lambda who, key: None
        self.after_ask: Callable[[str, Key], None] = lambda who, key: None
        self.lose_answers = 0


class _Changing(NamedTuple):
    until: float
    id: str


class World:
    """See the module."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.policies: dict[Key, Policy] = {}
        self.instances: dict[Key, int] = {}
        self.load: dict[Key, float] = {}
        self.error: dict[Key, str] = {}
        self.held: dict[Key, int] = {}
        self.groups: dict[Key, tuple[Key, ...]] = {}
        self.asked: list[Asked] = []
        self.tries = 0
        self.dead: set[str] = set()
        self.stage = Stage()
        self.deploy_time = 3.0
        self.lag = 0.2
        self.think = 0.05
        self.drain_time = 5.0
        self.queue_delay = 0.0
        self.cleared: list[Key] = []
        self.released: list[Key] = []
        self.deciders: list[Decider] = []
        self._deployments: dict[Key, _Changing] = {}
        self._shown: dict[Key, ScaledApp] = {}
        self._unscaled: set[Key] = set()

    @property
    def now(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    def add(self, app_id: str, instances: int, policy: Policy, framework: str = FRAMEWORK) -> Key:
        """An app of so many instances, that run."""
        key = App(app_id, framework_id=framework).key
        self.policies[key], self.instances[key] = policy, instances
        self.load[key], self.held[key] = 0.0, 0
        self.show(key)
        return key

    def decider(self, name: str, **changes: Any) -> Decider:
        """Another process that stands for election."""
        found = Decider(self, name, **changes)
        self.deciders.append(found)
        return found

    def take(self, by: str, key: Key, before: int, after: int) -> Outcome:
        """What Marathon does with a request."""
        self.tries += 1
        if key not in self.policies:
            return Outcome("gone", "no such app")
        current = self.instances[key]
        if current == after:
            return Outcome("done", "there are so many already", current)
        if self.deployment(key):
            return Outcome("locked", "a deployment is under way", current, retry_after=5.0)
        if current != before:
            return Outcome("changed", f"there are {current}", current)
        self.asked.append(Asked(self.now, by, key[3], before, after))
        self.instances[key] = after
        self._deployments[key] = _Changing(self.now + self.deploy_time, f"deployment-{len(self.asked)}")
        self.show_later(key, 0.0)
        self.show_later(key, self.deploy_time)
        return Outcome("done", "", after, self._deployments[key].id)

    def land(self, by: str, key: Key, after: int) -> None:
        """A request arrives that was sent long ago: Marathon compares nothing."""
        self.take(by, key, self.instances[key], after)

    def deployment(self, key: Key) -> str:
        """The deployment that has an app; "": none."""
        found = self._deployments.get(key)
        return found.id if found is not None and self.now < found.until else ""

    def set(self, key: Key, instances: int) -> None:
        """Somebody else changes an app."""
        self.instances[key] = instances
        self.show_later(key, 0.0)

    def show_later(self, key: Key, delay: float) -> None:
        """Let catalogs see an app as it is after a time."""
        asyncio.get_running_loop().call_later(delay + self.lag, self.show, key)

    def show(self, key: Key) -> None:
        """Let catalogs see an app as it is."""
        if key in self._unscaled:
            return
        instances = self.instances[key]
        try:
            deployment = self.deployment(key)
        except RuntimeError:  # before the loop runs
            deployment = ""
        app = App(key[3], instances=instances, framework_id=key[2], deployments=(deployment,) if deployment else ())
        tasks = tuple(AppTask(f"{key[3]}.{number}", f"node-{number % 3}") for number in range(instances))
        self._shown[key] = ScaledApp(app, self.policies[key], "labels", tasks, self.groups.get(key, ()))

    def remove(self, key: Key) -> None:
        """An app is no longer scaled."""
        self._unscaled.add(key)
        del self._shown[key]

    def apps(self) -> Mapping[Key, ScaledApp]:
        """What catalogs show."""
        return self._shown

    def wake(self, key: Key, held: int) -> None:
        """Requests begin to wait for an app; every decider hears it from the edges."""
        self.held[key] = held
        for decider in self.deciders:
            decider.scaler.woken(key)


class Edges:
    """What is read of all apps; the Demand Protocol."""

    kinds: frozenset[Kind] = frozenset(KINDS)

    def __init__(self, world: World) -> None:
        self._world = world
        self.wanted: set[Key] = set()
        self.reads = 0

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        """See provider.Provider."""
        self.wanted = set(apps)

    def reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        """Requests per second, whatever is asked for."""
        self.reads += 1
        if error := self._world.error.get(app.key):
            return Reading(error=error)
        return Reading(value=self._world.load[app.key], at=now)

    def held(self, app: ScaledApp) -> int:
        """See provider.Demand."""
        return self._world.held[app.key]

    async def loads(self, app: ScaledApp) -> Loads:
        """See provider.Demand."""
        return Loads(complete=True)

    async def run(self) -> None:
        """See provider.Provider."""

    def status(self) -> Sequence[Mapping[str, Any]]:
        """One edge."""
        return [{"url": "http://127.0.0.1:8123", "edge": "edge-1", "state": "connected", "age": 0.1}]


class Emptying(msgspec.Struct):
    """See acting.Progress."""

    state: str
    tasks: int
    busy: int = 1


class Hands:
    """One decider's Actor and Shrinker."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name
        self._progress: dict[Key, Emptying] = {}
        self.resized: list[tuple[str, float | None, float | None]] = []

    async def scale(self, app: App, before: int, after: int, go: Go = at_any_time) -> Outcome:
        """See acting.Actor."""
        world = self._world
        await asyncio.sleep(world.think)
        if not go():
            return Outcome("changed", "it is no longer wanted")
        world.stage.before_ask(self._name, app.key)
        if self._name in world.dead:
            await asyncio.Event().wait()
        outcome = world.take(self._name, app.key, before, after)
        world.stage.after_ask(self._name, app.key)
        await asyncio.sleep(world.think)
        if world.stage.lose_answers and outcome.result == "done":
            world.stage.lose_answers -= 1
            return Outcome("uncertain", "no answer", retry_after=1.0)
        return outcome

    async def resize(self, app: App, cpus: float | None, mem: float | None) -> Outcome:
        """See acting.Actor."""
        self.resized.append((app.id, cpus, mem))
        return Outcome("done", deployment="deployment-1")

    async def deployment(self, app: App, deployment: str) -> str:
        """See acting.Actor."""
        return "running"

    async def delay(self, app: App) -> float:
        """See acting.Actor."""
        await asyncio.sleep(self._world.think)
        return self._world.queue_delay

    def progress(self, key: Key) -> Emptying | None:
        """See acting.Shrinker."""
        return self._progress.get(key)

    def has_left(self, key: Key) -> bool:
        """See acting.Shrinker."""
        return False

    async def release(self, app: App) -> None:
        """See acting.Shrinker."""
        await self._world.memory.client().get("drains")
        self._world.released.append(app.key)

    async def run(self, app: ScaledApp, before: int, after: int, still: Callable[[], bool], go: Go) -> Outcome:
        """Empty tasks, then remove them."""
        world = self._world

        def sends() -> bool:
            if go():
                self._progress[app.key] = Emptying("sent", before - after)
                return True
            return False

        self._progress[app.key] = Emptying("draining", before - after)
        try:
            end = world.now + world.drain_time
            while world.now < end:
                await asyncio.sleep(min(1.0, end - world.now))
                if not still():
                    world.cleared.append(app.key)
                    return Outcome("changed", "given up: no longer wanted")
            return await self.scale(app.app, before, after, sends)
        except asyncio.CancelledError:
            world.cleared.append(app.key)
            raise
        finally:
            del self._progress[app.key]


class Decider:
    """One process: its coordinator, its hands and its Scaler."""

    def __init__(self, world: World, name: str, interval: float = 5.0, **changes: Any) -> None:
        self.name = name
        self._world = world
        self.coordinator: MemoryCoordinator = world.memory.client()
        self.edges = Edges(world)
        self.hands = Hands(world, name)
        self.config = AutoscaleConfig(interval=Duration(interval), **changes)
        self.scaler = self.scaler_on(self.coordinator)
        self.task: asyncio.Task[None] | None = None

    def scaler_on(self, coordinator: Coordinator) -> Scaler:
        """What this process decides with, on a coordinator."""
        world = self._world
        return Scaler(
            self.config,
            coordinator,
            self.name,
            world.apps,
            [],
            self.edges,
            self.hands,
            self.hands,
            lambda: EPOCH + asyncio.get_running_loop().time(),
            look_up=lambda app_id: [app.app for app in world.apps().values() if app.app.id == app_id],
        )

    def start(self) -> None:
        """Begin to run."""
        self.task = asyncio.get_running_loop().create_task(self.scaler.run())

    def die(self) -> None:
        """The process is gone: it asks for nothing and writes nothing more. It may be started again, as another."""
        self._world.dead.add(self.name)

        def refused(name: str) -> None:
            raise CoordinatorLost(name)

        self.coordinator.before_put = refused
        if self.task is not None:
            self.task.cancel()
            self.task = None

    async def stop(self) -> None:
        """End in order."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None


@contextlib.asynccontextmanager
async def running(*deciders: Decider) -> AsyncIterator[None]:
    """Run deciders until the end of the context; the first one leads."""
    for decider in deciders:
        decider.start()
        await asyncio.sleep(0.01)
    try:
        yield
        for decider in deciders:
            assert decider.task is None or not decider.task.done(), decider.name
    finally:
        for decider in deciders:
            await decider.stop()


async def until(condition: Callable[[], object], seconds: float = 600.0) -> None:
    """Wait until a condition holds, for so many seconds of the loop at most."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def steps(asked: Iterable[Asked]) -> list[tuple[int, int]]:
    """From and to."""
    return [(item.before, item.after) for item in asked]
