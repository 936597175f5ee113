"""What people ask of the decider: to see what it does, to pause it, to change an app by hand. Any process may be asked.

An app is named by its id, "/shop/web", and where several Marathons have one of that id by "FRAMEWORK:/shop/web", with
the framework's id as `shown` tells it.

A change by hand is Marathon's own at once: who chose it is no metric, so it counts for no rate, window or cooldown.
Within the policy's bounds it holds until metrics say otherwise; outside of them the policy brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from lb7.autoscale.acting import WatchedDemand
from lb7.autoscale.limits import bounds
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.policy import MOST_INSTANCES
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.shown import Shown, ShownAction, ShownApp
from lb7.autoscale.state import Record, digest
from lb7.autoscale.state_store import read_all
from lb7.autoscale.summary import shown_policy
from lb7.autoscale.term import Surroundings, Term
from lb7.table import Problem
from mesos_dns.coordinate import CoordinatorLost
from mesos_dns.model import App, Key
from mesos_dns.sources.pace import Pace


class Operators:
    """See the module. `term` gives the time of leading, where this process leads."""

    def __init__(
        self,
        around: Surroundings,
        demand: WatchedDemand,
        term: Callable[[], Term | None],
        look_up: Callable[[str], Iterable[App]],
        problems: Callable[[], Mapping[str, Sequence[Problem]]],
    ) -> None:
        self._around = around
        self._demand = demand
        self._term = term
        self._look_up = look_up
        self._problems = problems

    async def shown(self, app_id: str = "") -> Shown:
        """All that is known, or what is known of one app. Raises LookupError when there is no such app."""
        term, apps, problems = self._leading(), self._around.apps(), self._problems()
        wanted = [app for app in apps.values() if not app_id or _is_named(app.app, app_id)]
        without = {app for app in problems if app not in {item.app.id for item in wanted}}
        without = {app for app in without if not app_id or app == app_id}
        if app_id and not wanted and not without:
            raise LookupError(f"no app {app_id!r} is scaled")
        decider, records = self._around.identity, self._records(term)
        if term is None:
            decider, records = await self._stored()
        found = [ShownApp(app=app, problems=_texts(problems[app])) for app in without]
        pace = Pace()
        for app in wanted:
            await pace.turn()
            found.append(self._shown(app, records.get(app.key), problems.get(app.app.id, ())))
        return Shown(
            leading=term is not None,
            decider=decider,
            edges=tuple(dict(edge) for edge in self._demand.status()),
            apps=tuple(sorted(found, key=lambda item: (item.app, item.cluster, item.framework))),
        )

    async def pause(self, app_id: str, paused: bool) -> None:
        """Pause an app's scaling, or resume it. Raises LookupError, ValueError (ambiguous), ConnectionError."""
        app = self._one(app_id)
        try:
            await self._around.paused.set(app.key, paused)
        except CoordinatorLost as error:
            raise ConnectionError(f"the coordinator can't be reached, nothing was changed: {error}") from error
        if (term := self._leading()) is not None:
            term.wake(app.key)

    async def set_instances(self, app_id: str, instances: int) -> Outcome:
        """Have Marathon define an app to have so many instances; the text says how long that holds.

        Raises LookupError, ValueError (ambiguous, or no number of instances).
        """
        if not 0 <= instances <= MOST_INSTANCES:
            raise ValueError(f"expected 0 to {MOST_INSTANCES} instances, got {instances}")
        app, actor = self._one(app_id), self._around.actor
        if (term := self._leading()) is not None:
            if term.is_changing(app.key):
                return Outcome("locked", "a change of it is just being asked for: try again", retry_after=1.0)
            term.give_up(app.key, f"an operator asks for {instances}")
        outcome = await actor.scale(app, app.instances, instances)
        if outcome.result == "changed" and outcome.instances is not None:  # the catalog was late
            outcome = await actor.scale(app, outcome.instances, instances)
        if outcome.result != "done":
            return outcome
        text = "; ".join(part for part in (outcome.text, self._how_long(app, instances)) if part)
        return msgspec.structs.replace(outcome, text=text)

    async def resize(self, app_id: str, cpus: float | None, mem: float | None) -> Outcome:
        """Begin a rolling deployment with other processors and memory (MiB). Raises LookupError, ValueError."""
        if cpus is None and mem is None:
            raise ValueError("expected cpus, mem or both")
        return await self._around.actor.resize(self._one(app_id), cpus, mem)

    async def deployment(self, app_id: str, deployment: str) -> str:
        """How a deployment of an app is. Raises LookupError, ValueError."""
        return await self._around.actor.deployment(self._one(app_id), deployment)

    def _leading(self) -> Term | None:
        term = self._term()
        return term if term is not None and term.ready else None

    def _one(self, app_id: str) -> App:
        """The app of this name, scaled or not."""
        found: dict[Key, App] = {app.key: app for app in self._look_up(_plain(app_id)) if _is_named(app, app_id)}
        found |= {app.key: app.app for app in self._around.apps().values() if _is_named(app.app, app_id)}
        if not found:
            raise LookupError(f"there is no app {app_id!r}")
        if len(found) > 1:
            names = ", ".join(sorted(f"{app.framework_id}:{app.id}" for app in found.values()))
            raise ValueError(f"several Marathons have an app {app_id!r}: expected one of {names}")
        return next(iter(found.values()))

    def _how_long(self, app: App, instances: int) -> str:
        scaled = self._around.apps().get(app.key)
        if scaled is None:
            return ""
        policy, (low, high, _) = scaled.policy, bounds(scaled.policy, self._around.clock())
        if digest(app.key) in self._around.paused or policy.paused or policy.dry_run or self._around.config.dry_run:
            return "its scaling changes nothing now, so this holds"
        if not instances and not policy.sleeps:
            return "its policy never goes to 0, so it stays stopped until somebody starts it"
        if not low <= instances <= high:
            return f"its policy allows {low} to {high} and will bring it back; pause it to prevent that"
        return "this holds until its metrics ask for another number"

    @staticmethod
    def _records(term: Term | None) -> dict[Key, Record]:
        return {key: state.record() for key, state in term.states.items()} if term is not None else {}

    async def _stored(self) -> tuple[str, dict[Key, Record]]:
        """What the decider has written; without a coordinator nothing is known of it."""
        try:
            decider, records = await read_all(self._around.coordinator)
        except CoordinatorLost:
            return "", {}
        return decider, {record.key: record for record in records}

    def _action(self, key: Key, record: Record | None) -> ShownAction | None:
        """What was done last, and how far that is."""
        action, progress = record.action if record is not None else None, self._around.shrink.progress(key)
        if action is None or progress is None:
            return action
        text = f"tasks to go: {progress.tasks}, requests that they still have: {progress.busy}"
        return msgspec.structs.replace(action, state=progress.state, text=text)

    def _shown(self, app: ScaledApp, record: Record | None, problems: Sequence[Problem]) -> ShownApp:
        return ShownApp(
            app=app.app.id,
            framework=app.app.framework_id,
            cluster=app.app.cluster,
            told_by=app.told_by,
            paused=digest(app.key) in self._around.paused,
            policy=shown_policy(app.policy),
            decision=record.decision if record is not None else None,
            action=self._action(app.key, record),
            problems=_texts(problems),
        )


def _plain(app_id: str) -> str:
    """The id alone."""
    framework, found, rest = app_id.partition(":/")
    return f"/{rest}" if found and not framework.startswith("/") else app_id


def _is_named(app: App, app_id: str) -> bool:
    return app_id in (app.id, f"{app.framework_id}:{app.id}")


def _texts(problems: Sequence[Problem]) -> tuple[str, ...]:
    return tuple(f"{problem.reason}: {problem.text}" for problem in problems)
