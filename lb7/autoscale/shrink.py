"""An app shrinks: the right tasks are chosen, get nothing new, end what they have, and only then are killed.

Victims are chosen by how busy they are, marked as draining, and watched until every edge has taken notice and none of
their requests is left, or until `drain_timeout`. Then, if it is still wanted, Marathon is asked to kill exactly them.
Whatever stops it before that clears the marks, and nothing was lost: it is no longer wanted, the app is to go to zero
and requests wait for it, it is cancelled.

    no instance was started for it ─▶ Marathon's number alone
    no edge knows the victims      ─▶ a short wait (nodes hear of it too), then removed
    an edge does not answer, or
    there is none that could       ─▶ drain_timeout, then removed (virtual IPs drain as well)

Once Marathon was asked to kill them the marks stay until they expire: who is about to be killed is not sent to again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from lb7.autoscale.outcome import Outcome
from lb7.autoscale.provider import Demand, Loads
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.victims import victims
from mesos_dns.coordinate import CoordinatorLost
from mesos_dns.model import App, Key

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between the first looks at how busy the victims are; later ones are up to SLOWEST times as far apart."""

SLOWER, SLOWEST = 1.5, 5.0

SETTLE = 2.0
"""Seconds that a mark gets at least to reach edges and nodes, where no edge tells that it has."""

MARGIN = 60.0
"""Seconds for which a mark holds beyond `drain_timeout`: until Marathon has killed who is marked."""

CLEARING = 5.0
"""Seconds that taking marks back may take where something else waits for it."""

LOST_PAUSE = 5.0
"""Seconds before another try when the coordinator can't be reached."""


class Drains(Protocol):
    """Marks tasks that are to get no new requests and connections. Both raise CoordinatorLost."""

    async def set(self, app: App, tasks: Sequence[str], until: float) -> None:
        """These of the app's tasks, and no other, until then (seconds since 1970)."""
        ...

    async def clear(self, app: App) -> None:
        """None of the app's tasks."""
        ...


class Remover(Protocol):
    """Who changes the app in the end; lb7/autoscale/marathon.py."""

    async def scale(self, app: App, before: int, after: int) -> Outcome:
        """Another number; raises nothing."""
        ...

    async def remove(self, app: App, before: int, victims: Sequence[str]) -> Outcome:
        """These tasks go for good; raises nothing."""
        ...


class Progress(msgspec.Struct, frozen=True):
    """How far an app's shrinking is. `state`: "draining", then "sent"; `busy`: requests that are left of `tasks`
    tasks; `until`: when they are killed at the latest (seconds since 1970)."""

    state: str
    tasks: int
    busy: int = 0
    until: float = 0.0


class _Called(Exception):
    """It is given up; the text says why."""


class Shrink:
    """Shrinks apps, any number at a time. `drain_timeout`, `poll` and `settle` are seconds, `clock` since 1970."""

    def __init__(
        self,
        actor: Remover,
        demand: Demand,
        drains: Drains,
        drain_timeout: float,
        *,
        poll: float = POLL,
        settle: float = SETTLE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.drain_timeout = drain_timeout
        self._actor = actor
        self._demand = demand
        self._drains = drains
        self._poll = poll
        self._settle = settle
        self._clock = clock
        self._progress: dict[Key, Progress] = {}

    def progress(self, key: Key) -> Progress | None:
        """How far the shrinking of an app is; None: it is not being shrunk."""
        return self._progress.get(key)

    async def run(self, app: ScaledApp, before: int, after: int, still: Callable[[], bool]) -> Outcome:
        """Shrink an app from `before` instances to `after`. `still()`: it is still wanted, and we may still act.

        `instances` of the outcome may be more than `after`: instances that were never started go first, without a
        drain, and the next decision does the rest.
        """
        missing = before - len(app.tasks)
        if missing > 0 or before <= after:
            return await self._actor.scale(app.app, before, max(after, before - missing) if missing > 0 else after)
        loads = await self._demand.loads(app)
        chosen = victims(app.tasks, loads.active, before, after)
        try:
            await self._drain(app, chosen, after, still)
            return await self._remove(app, before, chosen, still)
        except CoordinatorLost as error:
            return Outcome("unreachable", f"the coordinator: {error}", retry_after=LOST_PAUSE)
        except _Called as why:
            log.info("shrinking is given up app=%s tasks=%d reason=%s", app.app.id, len(chosen), why)
            return Outcome("changed", f"given up: {why}")
        finally:
            self._progress.pop(app.key, None)

    async def _drain(self, app: ScaledApp, chosen: Sequence[str], after: int, still: Callable[[], bool]) -> None:
        """Mark the victims and wait until they are idle. Raises _Called, CoordinatorLost; then no mark is left."""
        loop = asyncio.get_running_loop()
        limit, pause = self.drain_timeout, self._poll
        idle = frozenset(task.id for task in app.tasks if not task.ready)
        until = self._clock() + limit
        self._progress[app.key] = Progress("draining", len(chosen), 0, until)
        try:
            await self._drains.set(app.app, chosen, until + MARGIN)
            began = loop.time()
            while True:
                loads = await self._demand.loads(app)
                busy = _busy(loads, chosen)
                self._progress[app.key] = Progress("draining", len(chosen), busy, until)
                self._check(app, after, still)
                waited = loop.time() - began
                if waited >= limit or (not busy and _noticed(loads, chosen, idle, waited >= self._settle)):
                    return
                await asyncio.sleep(min(pause, limit - waited))
                pause = min(pause * SLOWER, self._poll * SLOWEST)
        except BaseException:
            await self._clear(app)
            raise

    def _check(self, app: ScaledApp, after: int, still: Callable[[], bool]) -> None:
        """Raises _Called when it should not go on."""
        if not still():
            raise _Called("it is no longer wanted")
        if not after and (held := self._demand.held(app)):
            raise _Called(f"{held} requests wait for an instance")

    async def _remove(self, app: ScaledApp, before: int, chosen: Sequence[str], still: Callable[[], bool]) -> Outcome:
        """Have the victims killed; where that surely did not happen the marks are taken back."""
        self._progress[app.key] = Progress("sent", len(chosen))
        outcome = await self._actor.remove(app.app, before, chosen)
        if outcome.result not in ("done", "uncertain"):
            await self._clear(app)
        return outcome

    async def _clear(self, app: ScaledApp) -> None:
        """Take the marks back, also while being cancelled, but not for long: they expire by themselves."""
        try:
            async with asyncio.timeout(CLEARING):
                await self._drains.clear(app.app)
        except (CoordinatorLost, TimeoutError) as error:
            text = str(error) or "timeout"
            log.warning("tasks stay marked as draining until that expires app=%s error=%s", app.app.id, text)


def _busy(loads: Loads, chosen: Iterable[str]) -> int:
    """Requests and connections that the victims still have."""
    return sum(loads.active.get(name, 0) for name in chosen)


def _noticed(loads: Loads, chosen: Iterable[str], idle: frozenset[str], settled: bool) -> bool:
    """Whether no edge sends the victims anything new: each says so, or had time to hear and has no such server, or one
    of a task that does not serve (which edges may tell as down, whether it drains or not)."""
    if not loads.complete:
        return False
    return all(name in loads.draining or (settled and (name not in loads.active or name in idle)) for name in chosen)
