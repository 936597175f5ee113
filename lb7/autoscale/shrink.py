"""An app shrinks: the right tasks are chosen, get nothing new, end what they have, and only then are killed.

Victims are chosen by how busy they are, marked as draining, and watched until every edge has taken notice and none of
their requests is left, or until `drain_timeout`. Then, if it is still wanted, Marathon is asked to kill exactly them.
Whatever stops it before that clears the marks, and nothing was lost: it is no longer wanted, the app is to go to zero
and requests wait for it, it is cancelled, Marathon takes so long to be asked that the marks would end before.

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
from dataclasses import dataclass
from typing import Protocol

import msgspec

from lb7.autoscale.acting import Go
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

LEAST_LEFT = 20.0
"""Seconds for which marks have to hold when Marathon is asked: longer than it thinks about it."""

CLEARING = 5.0
"""Seconds that taking marks back may take where something else waits for it."""

LOST_PAUSE = 5.0
"""Seconds before another try when the coordinator can't be reached."""


class Drains(Protocol):
    """Marks tasks that are to get no new requests and connections. Both raise CoordinatorLost."""

    async def set(self, app: App, tasks: Sequence[str], until: float) -> None:
        """These of the app's tasks, and no other, until then (seconds since 1970)."""
        ...

    async def clear(self, app: App, until: float | None = None) -> None:
        """None of the app's tasks. With `until` only if it is what was set with it: not what another has set since."""
        ...


class Remover(Protocol):
    """Who changes the app in the end; lb7/autoscale/marathon.py."""

    async def scale(self, app: App, before: int, after: int, go: Go, started: int | None) -> Outcome:
        """Another number, if no more than `started` tasks are there; raises nothing."""
        ...

    async def remove(self, app: App, before: int, victims: Sequence[str], go: Go) -> Outcome:
        """These tasks go for good; raises nothing."""
        ...


class Progress(msgspec.Struct, frozen=True):
    """How far an app's shrinking is. `state`: "draining", then "sent"; `busy`: requests that are left of `tasks`
    tasks; `until`: when they are killed at the latest (seconds since 1970)."""

    state: str
    tasks: int
    busy: int = 0
    until: float = 0.0


@dataclass
class _Shrinking:
    """One app that is being shrunk; `until` when its drain ends, `last` up to when (by the loop's clock,
    which nobody sets) Marathon may be asked to kill `chosen`, `sent` once it was."""

    app: ScaledApp
    chosen: tuple[str, ...]
    before: int
    after: int
    still: Callable[[], bool]
    go: Go
    until: float = 0.0
    last: float = 0.0
    sent: bool = False


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
        self._left: set[Key] = set()

    def progress(self, key: Key) -> Progress | None:
        """How far the shrinking of an app is; None: it is not being shrunk."""
        return self._progress.get(key)

    def has_left(self, key: Key) -> bool:
        """See acting.Shrinker."""
        return key in self._left

    async def release(self, app: App) -> None:
        """See acting.Shrinker."""
        async with asyncio.timeout(CLEARING):
            await self._drains.clear(app)
        self._left.discard(app.key)

    async def run(self, app: ScaledApp, before: int, after: int, still: Callable[[], bool], go: Go) -> Outcome:
        """Shrink an app from `before` instances to `after`. `still()`: it is still wanted, and we may still act; `go()`
        the same at the moment when Marathon is asked, and then it can't be taken back.

        `instances` of the outcome may be more than `after`: instances that were never started go first, without a
        drain, and the next decision does the rest.
        """
        missing = before - len(app.tasks)
        if missing > 0 or before <= after:
            fewer = max(after, before - missing) if missing > 0 else after
            return await self._actor.scale(app.app, before, fewer, go, len(app.tasks))
        loads = await self._demand.loads(app)
        chosen = victims(app.tasks, loads.active, before, after)
        try:
            return await self._shrink(_Shrinking(app, chosen, before, after, still, go))
        except CoordinatorLost as error:
            return Outcome("unreachable", f"the coordinator: {error}", retry_after=LOST_PAUSE)
        except _Called as why:
            log.info("shrinking is given up app=%s tasks=%d reason=%s", app.app.id, len(chosen), why)
            return Outcome("changed", f"given up: {why}")
        finally:
            self._progress.pop(app.key, None)

    async def _shrink(self, it: _Shrinking) -> Outcome:
        """Drain the victims and have them killed; where that surely did not happen the marks are taken back. Raises
        _Called, CoordinatorLost."""
        it.until = self._clock() + self.drain_timeout
        it.last = asyncio.get_running_loop().time() + self.drain_timeout + MARGIN - LEAST_LEFT
        self._progress[it.app.key] = Progress("draining", len(it.chosen), 0, it.until)
        try:
            await self._drain(it)
            outcome = await self._actor.remove(it.app.app, it.before, it.chosen, lambda: self._may_send(it))
        except BaseException:
            if not it.sent:
                await self._clear(it)
            raise
        if not it.sent or outcome.result not in ("done", "uncertain"):
            await self._clear(it)
        return outcome

    async def _drain(self, it: _Shrinking) -> None:
        """Mark the victims and wait until they are idle. Raises _Called, CoordinatorLost."""
        loop = asyncio.get_running_loop()
        limit, pause = self.drain_timeout, self._poll
        idle = frozenset(task.id for task in it.app.tasks if not task.ready)
        self._check(it)
        await self._drains.set(it.app.app, it.chosen, it.until + MARGIN)
        self._left.discard(it.app.key)  # these were set in their place
        began = loop.time()
        while True:
            loads = await self._demand.loads(it.app)
            busy = _busy(loads, it.chosen)
            self._progress[it.app.key] = Progress("draining", len(it.chosen), busy, it.until)
            self._check(it)
            waited = loop.time() - began
            if waited >= limit or (not busy and _noticed(loads, it.chosen, idle, waited >= self._settle)):
                return
            await asyncio.sleep(min(pause, limit - waited))
            pause = min(pause * SLOWER, self._poll * SLOWEST)

    def _check(self, it: _Shrinking) -> None:
        """Raises _Called when it should not go on."""
        if not it.still():
            raise _Called("it is no longer wanted")
        if not it.after and (held := self._demand.held(it.app)):
            raise _Called(f"{held} requests wait for an instance")

    def _may_send(self, it: _Shrinking) -> bool:
        """Whether the victims may be killed now. From then on it can't be taken back. Raises _Called."""
        self._check(it)
        if asyncio.get_running_loop().time() > it.last:
            raise _Called("Marathon took so long that tasks would get requests again before they are killed")
        if not it.go():
            return False
        it.sent = True
        self._progress[it.app.key] = Progress("sent", len(it.chosen))
        return True

    async def _clear(self, it: _Shrinking) -> None:
        """Take the marks back, also while being cancelled, but not for long: `release` may do it later, and they expire
        by themselves."""
        key = it.app.key
        self._left.add(key)
        try:
            async with asyncio.timeout(CLEARING):
                await self._drains.clear(it.app.app, it.until + MARGIN)
            self._left.discard(key)
        except (CoordinatorLost, TimeoutError) as error:
            text = str(error) or "timeout"
            log.warning("tasks stay marked as draining for now app=%s error=%s", it.app.app.id, text)


def _busy(loads: Loads, chosen: Iterable[str]) -> int:
    """Requests and connections that the victims still have."""
    return sum(loads.active.get(name, 0) for name in chosen)


def _noticed(loads: Loads, chosen: Iterable[str], idle: frozenset[str], settled: bool) -> bool:
    """Whether no edge sends the victims anything new: each says so, or had time to hear and has no such server, or one
    that is down or of a task that does not serve (which edges tell as down, whether it drains or not)."""
    if not loads.complete:
        return False
    heard = loads.draining
    if settled:
        heard |= {name for name in chosen if name not in loads.active or name in idle or name in loads.down}
    return heard.issuperset(chosen)
