"""The decider: stands for election, and while it leads decides about every app and has that carried out.

    scaler = Scaler(config, coordinator, identity, apps, providers, demand, actor, shrink)
    await scaler.run()              # until cancelled; who runs the providers is the caller's affair
    scaler.woken(key)               # requests wait for this app: decide at once

Every candidate has its metrics read all the time, so that who is elected decides on what is known at once. What others
write, and what operators ask for, see `operators.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lb7.autoscale.acting import Actor, Shrinker, WatchedDemand
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.marks import DEPLOYED, PAUSED, Marks
from lb7.autoscale.operators import Operators
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.provider import Provider
from lb7.autoscale.sampling import Sampling
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.shown import Shown
from lb7.autoscale.state_store import Deposed
from lb7.autoscale.term import Counts, Surroundings, Term
from lb7.table import Problem
from mesos_dns.coordinate import Coordinator, CoordinatorLost, Election
from mesos_dns.model import App, Key
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

ROLE = "autoscale"
RETRY, MAX_RETRY = 0.25, 10.0
PATIENCE = 30.0
"""Seconds that one who was deposed waits for its election to say so too, before it takes over again."""

SAID_AGAIN = 300.0


def nothing_known(app_id: str) -> Iterable[App]:
    """Where only apps with a policy are known."""
    return ()


class Scaler:
    """See the module. `look_up` gives all apps of an id, those without a policy too; `problems` what of apps' policies
    can't be carried out, by app id; `clock` is seconds since 1970."""

    def __init__(
        self,
        config: AutoscaleConfig,
        coordinator: Coordinator,
        identity: str,
        apps: Callable[[], Mapping[Key, ScaledApp]],
        providers: Sequence[Provider],
        demand: WatchedDemand,
        actor: Actor,
        shrink: Shrinker,
        clock: Callable[[], float] = time.time,
        *,
        look_up: Callable[[str], Iterable[App]] = nothing_known,
        problems: Callable[[], Mapping[str, Sequence[Problem]]] = dict,
    ) -> None:
        self.around = Surroundings(
            config=config,
            coordinator=coordinator,
            identity=identity,
            apps=apps,
            sampling=Sampling(demand, providers),
            actor=actor,
            shrink=shrink,
            clock=clock,
            paused=Marks(coordinator, PAUSED),
            deployed=Marks(coordinator, DEPLOYED),
        )
        self.demand = demand
        self.term: Term | None = None
        self._operators = Operators(self.around, demand, lambda: self.term, look_up, problems)
        self._seldom = Seldom(log, SAID_AGAIN)

    def __repr__(self) -> str:
        return f"<Scaler {self.around.identity} leading={self.leading} apps={len(self.around.apps())}>"

    @property
    def leading(self) -> bool:
        """Whether this process decides now."""
        return self.term is not None and self.term.ready

    @property
    def counts(self) -> Counts:
        """Totals since the process started."""
        return self.around.counts

    async def run(self) -> None:
        """Stand, lead, and stand anew, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for work in (self._stand(), self._keep_wanting(), self.around.paused.run(), self.around.deployed.run()):
                group.create_task(work)

    def woken(self, key: Key) -> None:
        """Requests wait for this app: decide about it at once, if this process decides."""
        if self.term is not None and self.term.ready:
            self.term.wake(key)

    def reconfigure(self, config: AutoscaleConfig) -> None:
        """From now on by this configuration: the interval, and whether anything is changed at all."""
        self.around.config = config
        if self.term is not None and self.term.ready:
            self.term.look_at_all()

    # --- operators -----------------------------------------------------------------------------------

    async def shown(self, app_id: str = "") -> Shown:
        """All that is known of scaling, or of one app ("/id", or "FRAMEWORK:/id"). Raises LookupError."""
        return await self._operators.shown(app_id)

    async def status(self) -> dict[str, Any]:
        """Scaling in a few words, for `/status`; it waits for the coordinator for a moment at most."""
        return await self._operators.status()

    async def pause(self, app_id: str, paused: bool) -> None:
        """Pause an app's scaling, or resume it. Raises LookupError, ValueError (ambiguous), ConnectionError."""
        await self._operators.pause(app_id, paused)

    async def set_instances(self, app_id: str, instances: int) -> Outcome:
        """Have Marathon define an app to have so many instances. Raises LookupError, ValueError."""
        return await self._operators.set_instances(app_id, instances)

    async def resize(self, app_id: str, cpus: float | None, mem: float | None) -> Outcome:
        """Begin to give each instance other processors and memory (MiB). Raises LookupError, ValueError."""
        return await self._operators.resize(app_id, cpus, mem)

    async def deployment(self, app_id: str, deployment: str) -> str:
        """How a deployment of an app is: "running", "finished" or "failed". Raises LookupError, ValueError."""
        return await self._operators.deployment(app_id, deployment)

    # --- leading -------------------------------------------------------------------------------------

    async def _keep_wanting(self) -> None:
        """Have read what the apps need, whoever decides."""
        while True:
            try:
                self.around.sampling.want(self.around.apps())
            except Exception as error:
                self._seldom("it can't be told what is scaled error=%r", error)
            await asyncio.sleep(min(1.0, self.around.config.interval))

    async def _stand(self) -> None:
        """Be a candidate, and lead when elected."""
        failures = 0
        while True:
            try:
                async with self.around.coordinator.elect(ROLE) as election:
                    while True:
                        await election.won()
                        failures = 0 if await self._lead(election) else min(failures + 1, 10)
                        if failures:
                            await asyncio.sleep(_jittered(min(MAX_RETRY, RETRY * 2**failures)))
            except CoordinatorLost as error:
                self._seldom("can't stand for election, nothing is scaled by this process reason=%s", error)
                await asyncio.sleep(_jittered(RETRY))

    async def _lead(self, election: Election) -> bool:
        """Decide until leading is lost; False where it ended for another reason."""
        term = self.term = Term(self.around, election)
        work, lost = asyncio.create_task(term.run()), asyncio.create_task(election.lost())
        try:
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            lost.cancel()
            ended = (await asyncio.gather(work, lost, return_exceptions=True))[0]
            self.term = None
        if isinstance(ended, Deposed):
            log.warning("decides no more: %s", ended)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await election.lost()
            return True
        if isinstance(ended, CoordinatorLost):
            self._seldom("can't lead, nothing is scaled reason=%s", ended)
            return False
        if isinstance(ended, Exception):
            log.error("deciding failed", exc_info=ended)
            return False
        log.info("decides no more: another is elected, or the coordinator is away")
        return True


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)
