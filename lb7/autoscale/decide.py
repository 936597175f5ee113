"""How many instances an app is to have now: HPA v2's decision, with schedules, cooldowns and scale to zero around it.

In this order; the first that applies decides:

    suspended   no instance, and the policy never goes to 0: somebody stopped the app, and it stays stopped
    lowered     more instances than the most that is allowed now: to that, at once
    wake        no instance, and activity: to what metrics ask for, at least `wake`
    asleep      no instance, no activity
    raised      fewer instances than the least that is allowed now: to that, at once
    idle        min is 0, every metric is known, and there was no activity for `idle_time` seconds: to 0
    else        proposals (propose.py) → one recommendation (combine.py) → stabilization windows → cooldown → rates
                (limits.py) → bounds, of which the lower is at least 1

Then `paused`, `locked` and `dry-run` keep it from being carried out. All of it is a function of its arguments. The
same arguments give the same decision until a change is carried out and told by `History.scaled`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from lb7.autoscale.combine import activity, combine
from lb7.autoscale.history import History
from lb7.autoscale.limits import bounds, cooling, highest_allowed, lowest_allowed, stabilized
from lb7.autoscale.policy import SEEN_ASLEEP, Direction, Policy
from lb7.autoscale.propose import Proposal, propose
from lb7.autoscale.samples import Samples

Reason = Literal[
    "up",
    "down",
    "steady",
    "stabilized",
    "cooldown",
    "rate",
    "disabled",
    "maximum",
    "minimum",
    "no-metric",
    "raised",
    "lowered",
    "idle",
    "asleep",
    "wake",
    "suspended",
    "paused",
    "locked",
    "dry-run",
]

REASONS: dict[Reason, str] = {
    "up": "metrics ask for more",
    "down": "metrics ask for fewer",
    "steady": "as many as metrics ask for",
    "stabilized": "a stabilization window holds it back",
    "cooldown": "the last change is too recent",
    "rate": "a rate holds it back",
    "disabled": "changes in this direction are disabled",
    "maximum": "metrics ask for more than the most allowed",
    "minimum": "metrics ask for fewer than the least allowed",
    "no-metric": "a metric failed: no scaling down, and none up without another",
    "raised": "fewer than the least allowed",
    "lowered": "more than the most allowed",
    "idle": "no activity for the idle time: to sleep",
    "asleep": "no instance and no activity",
    "wake": "no instance and activity",
    "suspended": "no instance, and the policy never goes to 0: left alone",
    "paused": "the policy is paused",
    "locked": "the app can't be changed now",
    "dry-run": "the policy is a dry run",
}
"""What shaped the number last, and what that means."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`instances` is what the app is to be defined to have, `current` what it has; equal where nothing is to be done.

    `wanted` is what it would be without pause, lock and dry run; `recommended` what metrics ask for before any limit
    (None: not known). `steps` tell how it came about. `history` goes into the next decision.
    """

    instances: int
    current: int
    wanted: int
    reason: Reason
    low: int
    high: int
    recommended: int | None = None
    schedules: tuple[str, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    steps: tuple[str, ...] = ()
    history: History

    @property
    def text(self) -> str:
        """One line for people."""
        change = f"{self.current}" if self.instances == self.current else f"{self.current} → {self.instances}"
        return f"{change} ({self.reason}): {'; '.join(self.steps)}"


def decide(samples: Samples, policy: Policy, history: History, now: float) -> Decision:
    """What the app is to have at `now` (seconds since 1970). See the module."""
    low, high, opened = bounds(policy, now)
    metrics = [metric for metric in policy.metrics if samples.instances or metric.kind in SEEN_ASLEEP]
    proposals = tuple(propose(metric, samples, policy, now) for metric in metrics)
    path = _Path(samples, policy, history.at(now), now, low, high, proposals)
    path.walk()
    wanted = path.number
    path.carry_out()
    return Decision(
        instances=path.number,
        current=samples.instances,
        wanted=wanted,
        reason=path.reason,
        low=low,
        high=high,
        recommended=path.recommended,
        schedules=opened,
        proposals=proposals,
        steps=tuple(path.steps),
        history=path.history,
    )


class _Path:
    """The way from what is to what is decided: a number, the reason for it, and the steps that led there."""

    def __init__(
        self,
        samples: Samples,
        policy: Policy,
        history: History,
        now: float,
        low: int,
        high: int,
        proposals: tuple[Proposal, ...],
    ) -> None:
        self.number = self.current = samples.instances
        self.reason: Reason = "steady"
        self.steps: list[str] = []
        self.recommended: int | None = None
        self.history = history
        self._samples, self._policy, self._now = samples, policy, now
        self._low, self._high, self._proposals = low, high, proposals

    def walk(self) -> None:
        """To what is wanted."""
        active, why = activity(self._proposals, self._policy, self._samples.held)
        # What is not known counts as activity: nothing goes to sleep blindly, nor just after a blind time.
        if active is not False or self.history.active is None:
            self.history = msgspec.structs.replace(self.history, active=self._now)
        if not self.current and not self._policy.sleeps:
            self._go(0, "suspended", "no instance, and min is not 0")
        elif self.current > self._high:
            self._go(self._high, "lowered", f"at most {self._high}")
        elif not self.current and active:
            self._wake(why)
        elif self.current < self._low:
            self._go(self._low, "raised", f"at least {self._low}")
        elif not self.current:
            self._go(0, "asleep", why)
        elif self._low == 0 and active is False and self._may_sleep():
            self._go(0, "idle", f"no activity for {self._policy.idle_time:g} s")
        else:
            self._follow()

    def carry_out(self) -> None:
        """Leave everything as it is where nothing may be done."""
        if self.number == self.current:
            return
        if self._policy.paused:
            self._go(self.current, "paused", "paused")
        elif self._samples.locked:
            self._go(self.current, "locked", f"locked: {self._samples.locked}")
        elif self._policy.dry_run:
            self._go(self.current, "dry-run", "dry run")

    def _go(self, number: int, reason: Reason, text: str) -> None:
        self.number, self.reason = number, reason
        self.steps.append(text)

    def _may_sleep(self) -> bool:
        since = self._now if self.history.active is None else self.history.active
        down = self._policy.down
        if down.select == "disabled" or cooling(down, self.history, self._now):
            return False
        if any(item.instances is None or item.partial for item in self._proposals):
            return False
        return self._now - since >= self._policy.idle_time

    def _wake(self, why: str) -> None:
        """From nothing: neither window nor cooldown holds that back, and no rate allows less than `wake`."""
        found = combine(self._proposals, self._policy, 0, self._low)
        self.recommended = found.instances
        allowed = max(self._policy.wake, highest_allowed(0, self._policy, self.history, self._now))
        wanted = max(min(found.instances or 0, allowed), self._policy.wake, self._low)
        self.history = self.history.recommending(wanted, self._now)
        self._go(min(wanted, self._high), "wake", why)

    def _follow(self) -> None:
        """To what metrics ask for."""
        found = combine(self._proposals, self._policy, self.current, max(1, self._low))
        self.recommended = found.instances
        if not self.history.recommendations:  # what was right before is not known: assume what there is
            self.history = self.history.recommending(self.current, self._now)
        if found.instances is None:
            self.history = self.history.recommending(self.current, self._now, blind=True)
            self._go(self.current, "no-metric", found.text)
            return
        asked = found.instances
        self._go(asked, "up" if asked > self.current else "down" if asked < self.current else "steady", found.text)
        number = stabilized(asked, self.current, self._policy, self.history, self._now)
        self.history = self.history.recommending(asked, self._now)
        if number != asked:
            self._go(number, "stabilized", f"{number} for what was asked for lately")
        low = max(1, self._low)
        if asked < low and self.number <= low:
            self._go(low, "minimum", f"at least {low}")
        elif asked > self._high and self.number >= self._high:
            self._go(self._high, "maximum", f"at most {self._high}")
        if self.number != self.current:
            self._hold_back(self._policy.up if self.number > self.current else self._policy.down)

    def _hold_back(self, direction: Direction) -> None:
        """A change, by cooldown and rates."""
        if direction.select == "disabled":
            self._go(self.current, "disabled", "disabled in this direction")
            return
        if seconds := cooling(direction, self.history, self._now):
            self._go(self.current, "cooldown", f"{seconds:.0f} s of cooldown left")
            return
        highest = highest_allowed(self.current, self._policy, self.history, self._now)
        lowest = lowest_allowed(self.current, self._policy, self.history, self._now)
        if not lowest <= self.number <= highest:
            allowed = highest if self.number > highest else lowest
            self._go(allowed, "rate", f"{allowed} allowed by rates")
