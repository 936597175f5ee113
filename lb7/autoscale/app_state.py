"""What the leading decider keeps of one app: its past, the change that is under way, and what forbids another.

Times named `now` are the event loop's; those of histories, intents and actions are seconds since 1970.

What is believed of how many instances there are: the catalog; but after a change that Marathon accepted, or a number
that it told, that number, until the catalog shows it, or shows a third, or LAG has passed.

An intent whose outcome is not known (no answer came, or another process had it) is settled: when the catalog shows its
number it was carried out, when it still shows the one before after SETTLE seconds it was not. Until then the app is
locked, for a request that is on its way may still be carried out.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from lb7.autoscale.decide import Decision
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.policy import Policy
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.shown import ShownAction
from lb7.autoscale.state import Direction, Intent, Record, digest, part, shard_of
from lb7.autoscale.summary import summary

LAG = 30.0
"""Seconds for which an accepted number is believed while the catalog shows the one before."""

LAG_LOCK = 5.0
"""Seconds for which the app is left alone meanwhile: its deployment has just begun."""

SETTLE = 20.0
"""Seconds after which a request that was on its way is no more: longer than Marathon thinks about one."""

BACK_OFF = {"locked": 5.0, "delayed": 5.0, "gone": 30.0, "refused": 60.0, "unreachable": 2.0}
"""Seconds until the next try where the outcome names none."""

MOST_BACK_OFF = 300.0
MOST_TEXT = 300
TOLD_AGAIN = 60.0
"""Seconds in which a reason that comes and goes is told once."""


class Underway:
    """A change that is under way. One that `drains` empties tasks before they are killed, and may be given up."""

    def __init__(self, before: int, after: int) -> None:
        self.before, self.after = before, after
        self.given_up = False
        self.intended_at: float | None = None
        self.was_asked = False
        self.task: asyncio.Task[bool] | None = None

    @property
    def drains(self) -> bool:
        """Whether there will be fewer."""
        return self.after < self.before

    @property
    def kind(self) -> Direction:
        """Its direction."""
        return "down" if self.drains else "up"


class _Assumed(NamedTuple):
    """A number that is believed instead of another until a time."""

    instances: int
    instead_of: int
    until: float
    locked_until: float


class AppState:
    """See the module. `marked`: tasks of it may get nothing new that are not to be removed, from a drain that came to
    nothing; that is to be taken back before others are drained."""

    def __init__(self, record: Record, now: float, wall: float) -> None:
        self.key = record.key
        self.digest = digest(record.key)
        self.shard = shard_of(self.digest)
        self.history = record.history
        self.intent = record.intent
        self.decision = record.decision
        self.action = record.action
        self.change: Underway | None = None
        self.seen = record.decision.at if record.decision is not None else wall
        self.settled_at = now + SETTLE
        self.marked = False
        self._assumed: _Assumed | None = None
        self._waits_until, self._waits_for = now, ""
        self._told: dict[str, float] = {}
        self._policy: tuple[Policy, bool, bool, Policy] | None = None
        done = record.action
        if done is not None and done.state == "done" and 0 <= wall - done.at < LAG:
            self._assumed = _Assumed(done.after, done.before, now + LAG, now)

    def record(self) -> Record:
        """What is stored of it."""
        return Record(self.key, self.history, self.intent, self.decision, self.action)

    def page(self, number: int) -> Record:
        """What of it is on a page."""
        return part(self.record(), number)

    def policy(self, given: Policy, paused: bool, dry_run: bool) -> Policy:
        """The policy with what holds beside it: an operator's pause, a dry run of all."""
        if not paused and not dry_run:
            return given
        kept = self._policy
        if kept is None or kept[0] is not given or kept[1:3] != (paused, dry_run):
            both = msgspec.structs.replace(given, paused=given.paused or paused, dry_run=given.dry_run or dry_run)
            self._policy = kept = (given, paused, dry_run, both)
        return kept[3]

    def instances(self, told: int, now: float) -> int:
        """How many there are, where the catalog says `told`."""
        assumed = self._assumed
        if assumed is None:
            return told
        if told == assumed.instances or told != assumed.instead_of or now >= assumed.until:
            self._assumed = None
            return told
        return assumed.instances

    def lock(self, app: ScaledApp, now: float) -> str:
        """Why nothing may be changed now; empty where something may. Tasks that drain are no reason: see Underway."""
        change, assumed = self.change, self._assumed
        if change is not None and not change.drains:
            return f"{change.before} → {change.after} is being asked for"
        if change is None and self.intent is not None:
            return f"whether {self.intent.before} → {self.intent.after} was carried out is not known yet"
        if app.app.deployments:
            return f"a deployment is under way: {app.app.deployments[0][:MOST_TEXT]}"
        if assumed is not None and now < assumed.locked_until:
            return f"{assumed.instead_of} → {assumed.instances} has just begun"
        if app.group:
            return f"a blue-green deployment is under way, with {app.group[0][-1][:MOST_TEXT]}"
        if now < self._waits_until:
            return f"{self._waits_for}; again in {self._waits_until - now:.0f} s"
        return ""

    def resolve(self, told: int, now: float) -> bool:
        """Settle an intent whose outcome is not known, if that can be done; whether it was."""
        intent = self.intent
        if intent is None or self.change is not None:
            return False
        if told == intent.after:
            self.history = self.history.scaled(intent.before, intent.after, intent.at)
            self.action = ShownAction(intent.at, intent.before, intent.after, "done", "found to be carried out")
        elif told == intent.before and now < self.settled_at:
            return False
        elif self.action is None or self.action.state != "given-up":
            text = "not carried out" if told == intent.before else f"another change was made: there are {told}"
            self.action = ShownAction(intent.at, intent.before, intent.after, "dropped", text)
        self.drop_intent(told)
        return True

    def drop_intent(self, told: int | None = None) -> None:
        """An intent is settled, and there are `told` instances; None: nothing was done."""
        intent, self.intent = self.intent, None
        if intent is not None and intent.kind == "down" and told != intent.after:
            self.marked = True

    def decided(self, decision: Decision, policy: Policy, wall: float) -> bool:
        """Keep a decision; whether its reason is to be told: it is another than before."""
        before = self.decision.reason if self.decision is not None else ""
        self.history = decision.history
        self.seen = wall
        self.decision = summary(decision, policy, wall)
        return decision.reason != before and self.is_news(decision.reason, wall)

    def is_news(self, word: str, wall: float) -> bool:
        """Whether a word (of few) was not told just before; it counts as told now."""
        if 0 <= wall - self._told.get(word, -TOLD_AGAIN) < TOLD_AGAIN:
            return False
        self._told[word] = wall
        return True

    def began(self, change: Underway, wall: float) -> None:
        """A change is about to be asked for."""
        change.intended_at = wall
        self.intent = Intent(change.before, change.after, wall, change.kind)
        state = "draining" if change.drains else "sent"
        self.action = ShownAction(wall, change.before, change.after, state)

    def ended(self, change: Underway, outcome: Outcome, now: float, wall: float) -> None:
        """What became of a change."""
        after = change.after
        if outcome.result == "done":
            after = after if outcome.instances is None else outcome.instances
            if change.was_asked:  # else it was so already: counted when it was done, or another's
                self.history = self.history.scaled(change.before, after, wall)
            self._assumed = _Assumed(after, change.before, now + LAG, now + LAG_LOCK)
        elif outcome.result == "changed" and outcome.instances is not None:
            self._assumed = _Assumed(outcome.instances, change.before, now + LAG, now)
        if outcome.result == "uncertain":
            self.settled_at = now + SETTLE
        else:
            self.intent = None
        self._back_off(outcome, now)
        self.action = ShownAction(wall, change.before, after, outcome.result, outcome.text[:MOST_TEXT])

    def gave_up(self, change: Underway, why: str, now: float, wall: float) -> None:
        """Nothing was killed, as far as is known: the catalog will show it."""
        self.settled_at = now
        self.action = ShownAction(wall, change.before, change.after, "given-up", why[:MOST_TEXT])

    def _back_off(self, outcome: Outcome, now: float) -> None:
        seconds = outcome.retry_after or BACK_OFF.get(outcome.result, 0.0)
        self._waits_until = now + min(max(0.0, seconds), MOST_BACK_OFF)
        self._waits_for = f"{outcome.result}: {outcome.text[:MOST_TEXT]}" if outcome.text else outcome.result
