"""Carries out decisions: one change of an app at a time, each only after its intent was stored, and while we lead.

    decided ─▶ (up: does Marathon itself wait?) ─▶ intent stored ─▶ do we lead? ─▶ asked ─▶ outcome stored

A change that makes an app smaller drains tasks first; it is given up when the decision no longer stands. When leading
ends, changes end where they are; the intents of those that Marathon may have been asked for stay for the next leader.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from lb7.autoscale.acting import Actor, Shrinker
from lb7.autoscale.app_state import AppState, Underway
from lb7.autoscale.decide import Decision
from lb7.autoscale.outcome import Outcome, Result
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.state_store import Deposed, StateStore
from mesos_dns.coordinate import CoordinatorLost
from mesos_dns.model import App, Key

log = logging.getLogger(__name__)

ASK_TIME = 45.0
"""Seconds that asking may take, whatever the one who asks thinks; then whether it was done is not known."""

MOST_ASKED, MOST_DRAINING = 32, 200
"""Changes of one Marathon's apps that are under way at a time; more wait, and are decided about anew."""

STOP_TIME = 5.0
"""Seconds that changes have to leave things in order when leading ends."""


class Carrier:
    """See the module. `leading` is asked before anything is sent; `ended` is called when an app may be looked at again.
    `results` counts what became of changes; `unasked` has when the intents were made after which nothing was asked for:
    they may be stored all the same, and this process need not wonder."""

    def __init__(
        self,
        actor: Actor,
        shrink: Shrinker,
        store: StateStore,
        leading: Callable[[], bool],
        ended: Callable[[AppState], None],
        clock: Callable[[], float],
        results: Counter[str],
        unasked: dict[Key, float],
    ) -> None:
        self._actor, self._shrink, self._store = actor, shrink, store
        self._leading, self._ended, self._clock, self._results = leading, ended, clock, results
        self._unasked = unasked
        self._tasks: set[asyncio.Task[bool]] = set()
        self._releasing: dict[Key, asyncio.Task[None]] = {}
        self._under_way: Counter[tuple[str, str, bool]] = Counter()

    def has_room(self, app: ScaledApp, decision: Decision) -> bool:
        """Whether a change may begin now: a Marathon that is slow, or a thousand apps that change at one time, cost no
        other Marathon's apps their turn, nor one that is to wake."""
        if not decision.current:
            return True
        is_shrinking = decision.instances < decision.current
        most = MOST_DRAINING if is_shrinking else MOST_ASKED
        return self._under_way[app.app.cluster, app.app.framework_id, is_shrinking] < most

    def begin(self, state: AppState, app: ScaledApp, decision: Decision) -> None:
        """Begin to carry out a decision that changes something; the app's other change must have ended."""
        change = state.change = Underway(decision.current, decision.instances)
        task = change.task = asyncio.get_running_loop().create_task(self._carry(state, app, change))
        self._tasks.add(task)
        self._under_way[_place(state, change)] += 1
        task.add_done_callback(lambda done: self._done(done, state, change))

    def give_up(self, state: AppState, why: str) -> None:
        """Leave the app as it is, if its tasks still drain."""
        change = state.change
        if change is None or not change.drains or change.given_up or change.was_asked or change.task is None:
            return
        change.given_up = True
        change.task.cancel()
        log.info("given up app=%s framework=%s %d → %d: %s", *_named(state), change.before, change.after, why)
        state.gave_up(change, why, asyncio.get_running_loop().time(), self._clock())

    def release(self, state: AppState, app: App) -> None:
        """Let tasks of an app get requests again that were left marked; what fails is tried again when it is asked for
        again. Until then nothing of the app may be drained."""
        if state.key not in self._releasing:
            task = asyncio.get_running_loop().create_task(self._release(state, app))
            self._releasing[state.key] = task
            task.add_done_callback(lambda done: self._releasing.pop(state.key, None))

    async def _release(self, state: AppState, app: App) -> None:
        try:
            await self._shrink.release(app)
        except (CoordinatorLost, TimeoutError) as error:
            log.debug("tasks stay marked for now app=%s framework=%s reason=%s", *_named(state), error)
        except Exception:
            log.exception("tasks stay marked for now app=%s framework=%s", *_named(state))
        else:
            state.marked = False
            log.info("tasks that were left marked get requests again app=%s framework=%s", *_named(state))

    async def stop(self) -> None:
        """End all of them where they are."""
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *self._releasing.values()]
        for task in tasks:
            if not task.cancelling():  # else it is putting things in order already
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_TIME)

    def _done(self, task: asyncio.Task[bool], state: AppState, change: Underway) -> None:
        """Let the app go on, unless leading ends. One that was given up may not even have begun."""
        place = _place(state, change)
        self._tasks.discard(task)
        self._under_way[place] -= 1
        if not self._under_way[place]:
            del self._under_way[place]
        if change.intended_at is not None and not change.was_asked:
            self._unasked[state.key] = change.intended_at
        state.marked = state.marked or self._shrink.has_left(state.key)
        if task.cancelled():
            is_over = change.given_up
            self._results["given-up"] += is_over
            if change.intended_at is not None and not change.was_asked and not state.marked:
                # Whoever leads next need not wonder.
                if not change.given_up:
                    state.gave_up(change, "who decided ended", asyncio.get_running_loop().time(), self._clock())
                state.intent = None
                self._store.touch(state.shard)
        else:
            is_over = task.result()
        if is_over:
            state.change = None
            self._store.touch(state.shard, urgent=True)
            self._ended(state)

    async def _carry(self, state: AppState, app: ScaledApp, change: Underway) -> bool:
        """A change from beginning to end; False where another leads by now."""
        try:
            outcome = await self._outcome(state, app, change)
        except Deposed as error:
            log.warning("not carried out, another decides now app=%s framework=%s: %s", *_named(state), error)
            return False
        except Exception:
            log.exception("a change failed app=%s framework=%s %d → %d", *_named(state), change.before, change.after)
            result: Result = "uncertain" if change.was_asked else "unreachable"
            self._end(state, change, Outcome(result, "a fault of the decider: see its log", retry_after=60.0))
        else:
            self._end(state, change, outcome)
        return True

    async def _outcome(self, state: AppState, app: ScaledApp, change: Underway) -> Outcome:
        """Ask for a change. Raises Deposed."""
        try:
            async with asyncio.timeout(ASK_TIME):
                # One that sleeps is not kept waiting by this question.
                seconds = await self._actor.delay(app.app) if change.after > change.before > 0 else 0.0
        except TimeoutError:
            return Outcome("unreachable", f"no answer within {ASK_TIME:.0f} s")
        if seconds > 0:
            return Outcome("delayed", f"Marathon waits {seconds:.0f} s before it starts more", retry_after=seconds)
        state.began(change, self._clock())
        try:
            await self._store.secure(state.shard)
        except CoordinatorLost as error:
            return Outcome("unreachable", f"what is intended can't be stored: {error}")
        if not self._leading():
            return Outcome("unreachable", "leading ended before anything was asked for")

        def still() -> bool:
            return self._leading() and not change.given_up

        def go() -> bool:
            change.was_asked = still()
            return change.was_asked

        if change.drains:
            return await self._shrink.run(app, change.before, change.after, still, go)
        try:
            async with asyncio.timeout(ASK_TIME):
                return await self._actor.scale(app.app, change.before, change.after, go)
        except TimeoutError:
            result: Result = "uncertain" if change.was_asked else "unreachable"
            return Outcome(result, f"no answer within {ASK_TIME:.0f} s")

    def _end(self, state: AppState, change: Underway, outcome: Outcome) -> None:
        now, wall = asyncio.get_running_loop().time(), self._clock()
        self._results[outcome.result] += 1
        state.ended(change, outcome, now, wall)
        level = logging.INFO if outcome.result in ("done", "changed", "locked", "delayed") else logging.WARNING
        if outcome.result != "done" and not state.is_news(outcome.result, wall):
            level = logging.DEBUG
        log.log(
            level,
            "%s app=%s framework=%s %d → %d%s",
            outcome.result,
            *_named(state),
            change.before,
            change.after,
            f": {outcome.text}" if outcome.text else "",
        )


def _place(state: AppState, change: Underway) -> tuple[str, str, bool]:
    """What is limited together."""
    return state.key[1], state.key[2], change.drains


def _named(state: AppState) -> tuple[str, str]:
    return state.key[3], state.key[2]
