"""One time of leading: takes over what the leader before has left, then decides about each app in its turn.

Nothing is decided before every shard was taken over and it is known which apps are paused. An app that is no longer
scaled is left as it is; its past is kept for FORGET seconds, in case it was only away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lb7.autoscale.acting import Actor, Shrinker
from lb7.autoscale.app_state import AppState
from lb7.autoscale.carrier import Carrier
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.decide import Decision, decide
from lb7.autoscale.marks import Marks
from lb7.autoscale.policy import LONGEST_WINDOW
from lb7.autoscale.sampling import Sampling
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.state import SHARDS, Record
from lb7.autoscale.state_store import Deposed, StateStore
from lb7.autoscale.turns import Turns
from mesos_dns.coordinate import Coordinator, CoordinatorLost, Election
from mesos_dns.model import Key
from mesos_dns.sources.pace import Pace

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at which apps there are."""

SHORTEST = 0.02
"""Seconds between two turns of an app, whatever the configuration says."""

FORGET = LONGEST_WINDOW
LAST_WRITES = 2.0
"""Seconds for writing down what is not stored yet when the process ends in order."""

SOON = 1.0
"""Seconds until the next decision about an app whose requests wait while it can't be changed."""

MOST_FAILED = 1000
"""Apps whose faults are told."""


@dataclass
class Counts:
    """Totals since the process started: decisions by reason, changes by what became of them, terms."""

    decisions: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    terms: int = 0
    wakes: int = 0


@dataclass
class Surroundings:
    """What all terms of a process go by."""

    config: AutoscaleConfig
    coordinator: Coordinator
    identity: str
    apps: Callable[[], Mapping[Key, ScaledApp]]
    sampling: Sampling
    actor: Actor
    shrink: Shrinker
    clock: Callable[[], float]
    paused: Marks
    deployed: Marks
    counts: Counts = field(default_factory=Counts)
    unasked: dict[Key, float] = field(default_factory=dict)


class Term:
    """See the module. `ready`: everything is taken over."""

    def __init__(self, around: Surroundings, election: Election) -> None:
        self.states: dict[Key, AppState] = {}
        self.ready = False
        self.store = StateStore(around.coordinator, around.identity, self._records)
        self._around = around
        self._election = election
        self._by_shard: list[dict[Key, AppState]] = [{} for _ in range(SHARDS)]
        self._turns = Turns()
        self._wake = asyncio.Event()
        self._failed: dict[Key, None] = {}
        self._carrier = Carrier(
            around.actor,
            around.shrink,
            self.store,
            lambda: self._election.leading,
            self._look_again,
            around.clock,
            around.counts.results,
            around.unasked,
        )

    async def run(self) -> None:
        """Lead until cancelled. Raises Deposed, CoordinatorLost."""
        records = await self.store.take_over()
        await self._around.paused.known.wait()
        await self._around.deployed.known.wait()
        now, wall = asyncio.get_running_loop().time(), self._around.clock()
        for record in records:
            state = self._keep(AppState(record, now, wall))
            if state.intent is not None and self._around.unasked.get(state.key) == state.intent.at:
                state.drop_intent()  # this process knows that nothing came of it
        self._around.unasked.clear()
        self.ready = True
        self._around.counts.terms += 1
        log.info("decides now decider=%s apps=%d of which known=%d", self._around.identity, *self._known())
        works = [asyncio.create_task(self._go_round()), asyncio.create_task(self.store.run())]
        try:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            for work in done:
                work.result()
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            await self._carrier.stop()
            await self._write_the_rest()

    def wake(self, key: Key) -> None:
        """Decide about this app at once."""
        if self._turns.wake(key):
            self._around.counts.wakes += 1
            self._wake.set()

    def look_at_all(self) -> None:
        """Something changed that all go by: see which apps there are at once."""
        self._turns.within(asyncio.get_running_loop().time(), self._interval)
        self._look()
        self._wake.set()

    def give_up(self, key: Key, why: str) -> None:
        """Let an app's tasks no longer drain, and leave it as it is."""
        if (state := self.states.get(key)) is not None:
            self._carrier.give_up(state, why)

    def is_changing(self, key: Key) -> bool:
        """Whether Marathon is being asked for a change of this app that can't be given up."""
        state = self.states.get(key)
        change = state.change if state is not None else None
        return change is not None and (change.was_asked or not change.drains)

    # --- the round -----------------------------------------------------------------------------------

    async def _go_round(self) -> None:
        """Decide about each app in its turn."""
        loop = asyncio.get_running_loop()
        look_at = loop.time()
        while True:
            self._wake.clear()
            if loop.time() >= look_at:
                self._look()
                look_at = loop.time() + LOOK_EVERY
            pace = Pace()
            while (key := self._turns.next(loop.time(), self._interval)) is not None:
                self._consider(key)
                await pace.turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._turns.wait(loop.time(), max(0.0, look_at - loop.time()))):
                    await self._wake.wait()

    @property
    def _interval(self) -> float:
        return max(SHORTEST, self._around.config.interval)

    def _look(self) -> None:
        """See which apps there are."""
        apps, now = self._around.apps(), asyncio.get_running_loop().time()
        for key in self._turns.keep(apps.keys(), now, self._interval):
            self.give_up(key, "it is no longer scaled")
        oldest = self._around.clock() - FORGET
        for key, state in list(self.states.items()):
            if key not in apps and state.change is None and state.seen < oldest:
                del self.states[key], self._by_shard[state.shard][key]
                self.store.touch(state.shard)

    def _look_again(self, state: AppState) -> None:
        """A change ended: go on from what there is now."""
        self._turns.sooner(state.key, asyncio.get_running_loop().time() + SOON)
        if state.action is not None and state.action.state == "given-up":
            self.wake(state.key)
        self._wake.set()

    def _consider(self, key: Key) -> None:
        """One app's turn. What goes wrong with it is told and costs no other its turn."""
        app = self._around.apps().get(key)
        if app is None:
            return
        try:
            self._decide(app)
            self._failed.pop(key, None)
        except Exception:
            if key not in self._failed and len(self._failed) < MOST_FAILED:
                self._failed[key] = None
                log.exception("could not be decided about app=%s framework=%s", app.app.id, app.app.framework_id)

    def _decide(self, app: ScaledApp) -> None:
        around, now, wall = self._around, asyncio.get_running_loop().time(), self._around.clock()
        state = self.states.get(app.key) or self._keep(AppState(Record(_four(app.key)), now, wall))
        told = app.app.instances
        is_settled = state.resolve(told, now)
        policy = state.policy(app.policy, state.digest in around.paused, around.config.dry_run)
        instances = state.instances(told, now)
        locked = state.lock(app, now)
        if not locked and state.digest in around.deployed:
            locked = "a deployment of Pharos is under way"
        samples = around.sampling.samples(app, instances, locked, wall)
        decision = decide(samples, policy, state.history, wall)
        is_news = state.decided(decision, policy, wall)
        around.counts.decisions[decision.reason] += 1
        self.store.touch(state.shard, urgent=is_settled)
        if state.marked and state.change is None:
            self._carrier.release(state, app.app)
        self._carry_out(state, app, decision, is_news)

    def _carry_out(self, state: AppState, app: ScaledApp, decision: Decision, is_news: bool) -> None:
        """Begin what is decided, go on with it, or give it up; say what changes."""
        if (change := state.change) is not None:
            if decision.instances > change.after:
                self._carrier.give_up(state, f"decided otherwise: {decision.text}")
            elif is_news:
                _tell(app, decision)
        elif decision.instances != decision.current:
            is_free = not state.marked or decision.instances > decision.current
            if is_free and self._carrier.has_room(app, decision):  # else it is decided about anew in its next turn
                _tell(app, decision)
                self._carrier.begin(state, app, decision)
        else:
            if is_news:
                _tell(app, decision)
            if decision.reason == "locked" and not decision.current:
                self._turns.sooner(state.key, asyncio.get_running_loop().time() + SOON)

    # --- what is kept --------------------------------------------------------------------------------

    def _keep(self, state: AppState) -> AppState:
        self.states[state.key] = self._by_shard[state.shard][state.key] = state
        return state

    def _records(self, number: int) -> Iterable[Record]:
        return (state.page(number) for state in self._by_shard[number % SHARDS].values())

    def _known(self) -> tuple[int, int]:
        apps = self._around.apps()
        return len(apps), sum(key in apps for key in self.states)

    async def _write_the_rest(self) -> None:
        """Leave the next leader all there is, where that can be done."""
        if not self._election.leading:
            return
        with contextlib.suppress(CoordinatorLost, Deposed, TimeoutError):
            async with asyncio.timeout(LAST_WRITES):
                await self.store.flush()


def _four(key: Key) -> tuple[str, str, str, str]:
    kind, cluster, framework, app = key
    return kind, cluster, framework, app


def _tell(app: ScaledApp, decision: Decision) -> None:
    log.info("decided app=%s framework=%s %s", app.app.id, app.app.framework_id, decision.text)
