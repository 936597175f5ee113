"""Acting on Marathon: apps are scaled, chosen instances removed, sizes changed; each once, and only if it still fits.

Before a change the app is read: it is sent when the app is what was decided about and no deployment has it, never with
force. An answer that does not come is not waited for a second time and never sent again: the app is read until it shows
that the change happened. Whatever the network or Marathon does becomes an Outcome.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeAlias, TypeVar

from lb7.autoscale.acting import Go, at_any_time
from lb7.autoscale.changes import LOCKED_PAUSE, Change, Remove, Resize, Scale, refused
from lb7.autoscale.marathon_peer import Peer
from lb7.autoscale.marathon_told import ToldApp, read_accepted, read_refusal
from lb7.autoscale.outcome import Outcome
from mesos_dns.config import MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import App, Key
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.marathon_auth import authenticator
from mesos_dns.sources.marathon_calls import is_addressable
from mesos_dns.sources.marathon_client import MarathonClient, MarathonError, base_url

log = logging.getLogger(__name__)

PATIENCE = 15.0
"""Seconds that Marathon may think about a change beyond [marathon] connect_timeout: it writes to ZooKeeper first."""

LOOKS = (0.2, 1.0, 3.0)
"""Seconds before each look at an app after a change without an answer."""

PARALLEL = 8
"""Changes under way at one Marathon; more wait. Those that wake an app are counted apart."""

RETRY_FIRST, RETRY_MOST = 1.0, 60.0
"""Seconds until the next try after the first and after many failures."""

QUEUE_KEPT = 2.0
"""Seconds for which what the queue said holds: many apps go up at a time."""

KEPT = 10_000
"""Apps whose failures, and deployments whose versions, are remembered."""

Standing: TypeAlias = Literal["running", "finished", "failed", "unknown"]
"""How a deployment stands. failed: it is over and the app is not as it asked for (taken back, or replaced by another).
unknown: Marathon does not answer now."""

_T = TypeVar("_T")


class MarathonActor:
    """Changes the apps of Marathons. `urls(framework_id)` are those of that Marathon's instances, as they are now.

    Files of [marathon] are read for each change; nothing has to be opened or closed. `looks` and `patience` are as
    LOOKS and PATIENCE.
    """

    def __init__(
        self,
        config: MarathonConfig,
        urls: Callable[[str], Sequence[str]],
        hosts: Hosts,
        *,
        patience: float = PATIENCE,
        looks: Sequence[float] = LOOKS,
        dice: random.Random | None = None,
    ) -> None:
        self.counters = SourceCounters()
        self._config = config
        self._urls = urls
        self._hosts = hosts
        # A login is kept from one change to the next; what only is a file is read for each.
        self._auth = authenticator(config) if config.auth == "iam" else None
        self._patience = patience
        self._looks = tuple(looks)
        self._dice = dice or random.Random()
        self._complain = Complaints(log)
        self._gates: dict[tuple[str, bool], asyncio.Semaphore] = {}
        self._failures: OrderedDict[Key, int] = OrderedDict()
        self._versions: OrderedDict[str, str] = OrderedDict()
        self._queues: dict[str, tuple[float, dict[str, float]]] = {}
        self._queue_locks: dict[str, asyncio.Lock] = {}

    async def scale(
        self, app: App, before: int, after: int, go: Go = at_any_time, started: int | None = None
    ) -> Outcome:
        """Have `after` instances where there are `before`; which ones go is Marathon's choice. With `started` only if
        there are no more tasks than that."""
        return await self._carry_out(app, Scale(app.id, before, after, started), go, wakes=not before)

    async def remove(self, app: App, before: int, victims: Sequence[str], go: Go = at_any_time) -> Outcome:
        """Kill the tasks with these ids and have so many fewer instances than `before`."""
        return await self._carry_out(app, Remove(app.id, before, tuple(dict.fromkeys(victims))), go)

    async def resize(self, app: App, cpus: float | None = None, mem: float | None = None) -> Outcome:
        """Other processors and MiB of memory for each instance, as a rolling deployment; None: as they are.

        Refused, with what to set, when the app would be down meanwhile.
        """
        return await self._carry_out(app, Resize(app.id, cpus, mem))

    async def delay(self, app: App) -> float:
        """Seconds until Marathon launches more instances of the app, as its queue says; 0: it does, or nobody knows."""
        framework = app.framework_id
        async with self._queue_locks.setdefault(framework, asyncio.Lock()):
            at, queue = self._queues.get(framework, (0.0, {}))
            now = asyncio.get_running_loop().time()
            if not at or now - at > QUEUE_KEPT:
                try:
                    queue = await self._with_peer(app, lambda peer: peer.queue())
                except (MarathonError, OSError) as error:
                    log.debug("Marathon's queue is not known error=%s", error)
                    queue = {}
                self._queues[framework] = (asyncio.get_running_loop().time(), queue)
        return queue.get(app.id, 0.0)

    async def deployment(self, app: App, deployment: str) -> Standing:
        """How a deployment of the app stands."""

        async def ask(peer: Peer) -> Standing:
            if deployment in await peer.deployments():
                return "running"
            told = await peer.app(app)
            return "failed" if told is None or not self._reached(told, deployment) else "finished"

        try:
            return await self._with_peer(app, ask)
        except (MarathonError, OSError) as error:
            log.debug("a deployment is not known app=%s error=%s", app.id, error)
            return "unknown"

    def _reached(self, told: ToldApp, deployment: str) -> bool:
        """Whether an app is what a deployment, which is over, was to make of it."""
        version = self._versions.get(deployment)
        if version is not None and version not in (told.version, told.scaled_at, told.configured_at):
            return False
        return all(task >= told.configured_at for task in told.tasks.values())

    async def _with_peer(self, app: App, ask: Callable[[Peer], Awaitable[_T]], *, wakes: bool = False) -> _T:
        """Ask the app's Marathon something. Raises MarathonError, and OSError for files that can't be read."""
        bases = []
        for url in self._urls(app.framework_id):
            try:
                bases.append(base_url(url))
            except ValueError as error:
                self._complain(f"a Marathon's URL is not used framework={app.framework_id}: {error}")
        if not bases:
            raise MarathonError("connect", f"no URL of the Marathon {app.framework_id!r} is known", unsent=True)
        async with self._gates.setdefault((app.framework_id, wakes), asyncio.Semaphore(PARALLEL)):
            async with MarathonClient(self._config, bases, self._hosts, self.counters, self._auth) as client:
                return await ask(Peer(client, bases, app.framework_id))

    async def _carry_out(self, app: App, change: Change, go: Go = at_any_time, *, wakes: bool = False) -> Outcome:
        """A change from beginning to end; `go` is asked at the last moment."""
        if app.kind != "app":
            return refused(f"{app.id} is a {app.kind}: only apps are changed")
        if not is_addressable(app.id):
            return refused(f"{app.id} can't be changed: Marathon takes the URL of such an id for something else")
        try:
            outcome = await self._with_peer(app, lambda peer: self._ask_for(peer, app, change, go), wakes=wakes)
        except MarathonError as error:
            if error.kind == "auth" or error.status in (401, 403):
                return refused(str(error))
            outcome = Outcome("unreachable", str(error))
        except OSError as error:
            outcome = Outcome("unreachable", str(error))
        return self._paced(app, outcome)

    def _paced(self, app: App, outcome: Outcome) -> Outcome:
        """The outcome with the time until another try, which grows with failures in a row."""
        if outcome.result not in ("unreachable", "uncertain"):
            self._failures.pop(app.key, None)
            return outcome
        failures = self._failures.pop(app.key, 0)
        self._failures[app.key] = failures + 1
        if len(self._failures) > KEPT:
            self._failures.popitem(last=False)
        pause = min(RETRY_MOST, RETRY_FIRST * 2.0 ** min(failures, 10)) * self._dice.uniform(0.5, 1.0)
        return Outcome(outcome.result, outcome.text, outcome.instances, outcome.deployment, max(RETRY_FIRST, pause))

    async def _ask_for(self, peer: Peer, app: App, change: Change, go: Go) -> Outcome:
        """Look, ask, and understand the answer. Raises MarathonError where nothing was done."""
        told = await peer.app(app)
        if told is None:
            return _gone(app)
        verdict = change.verdict(told)
        if verdict is not None:
            return verdict
        if not go():
            return Outcome("changed", "it is no longer wanted", told.instances)
        try:
            status, body = await peer.send(change.request(), self._patience)
        except MarathonError as error:
            if error.unsent or error.status in (401, 403):
                raise
            return await self._look_again(peer, app, change, str(error))
        if status in (200, 201):
            try:
                accepted = read_accepted(body)
            except ValueError as error:
                return await self._look_again(peer, app, change, f"an answer that is none of Marathon's: {error}")
            self._remember(accepted.deployment_id, accepted.version)
            return change.done(told, accepted.deployment_id)
        return await self._denied(peer, app, change, status, body)

    async def _denied(self, peer: Peer, app: App, change: Change, status: int, body: bytes) -> Outcome:
        """Marathon, or something before it, did not do it."""
        refusal = read_refusal(body)
        if status == 409:
            # It may be our own change that has the app: a proxy on the way may send again what it got no answer to.
            told = await peer.app(app)
            if told is not None and change.happened(told):
                return change.done(told, told.deployments[0] if told.deployments else "")
            held = refusal.locks or (told.deployments if told is not None else ())
            text = f"deployment {', '.join(held)} is under way" if held else refusal.text
            return Outcome("locked", text, told.instances if told else None, held[0] if held else "", LOCKED_PAUSE)
        if status == 404 and "does not exist" in refusal.message:
            return _gone(app)
        return refused(f"status {status}: {refusal.text}")

    async def _look_again(self, peer: Peer, app: App, change: Change, why: str) -> Outcome:
        """Whether a change happened whose answer is not known."""
        instances = None
        for pause in self._looks:
            await asyncio.sleep(pause)
            try:
                told = await peer.app(app)
            except MarathonError as error:
                log.debug("a change whose answer is not known can't be looked at app=%s error=%s", app.id, error)
                continue
            if told is None:
                return _gone(app)
            if change.happened(told):
                return change.done(told, told.deployments[0] if told.deployments else "")
            instances = told.instances
        return Outcome("uncertain", f"it was sent, and whether it is done is not known: {why}", instances)

    def _remember(self, deployment: str, version: str) -> None:
        if deployment and version:
            self._versions[deployment] = version
            if len(self._versions) > KEPT:
                self._versions.popitem(last=False)


def _gone(app: App) -> Outcome:
    return Outcome("gone", f"Marathon has no app {app.id}", retry_after=RETRY_MOST)
