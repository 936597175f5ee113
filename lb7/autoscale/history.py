"""What decisions go by beside the present: what was right lately, what was changed, when there was activity.

A plain value, given to `decide` and given back by it, written as JSON where a successor finds it. Times are seconds
since 1970, for they outlive the process. It stays small: of recommendations only those are kept that can still be the
highest or the lowest of a window that ends now.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lb7.autoscale.policy import LONGEST_PERIOD, LONGEST_WINDOW


class Recommendation(msgspec.Struct, frozen=True, gc=False):
    """How many instances were right at a time, before anything held it back.

    `blind`: nothing was known, and this many there were. It keeps scaling down off, and never scaling up.
    """

    at: float
    instances: int
    blind: bool = False


class Change(msgspec.Struct, frozen=True, gc=False):
    """So many instances more, or less, since a time."""

    at: float
    by: int


class History(msgspec.Struct, frozen=True):
    """See the module. `active` is when there was activity last, `changed` when an instance was added or removed."""

    recommendations: tuple[Recommendation, ...] = ()
    changes: tuple[Change, ...] = ()
    active: float | None = None
    changed: float | None = None

    def at(self, now: float) -> History:
        """The same without what is too old to count. What lies in the future happened now: a clock was set back."""
        return History(
            recommendations=_counting(
                Recommendation(min(item.at, now), item.instances, item.blind)
                for item in self.recommendations
                if item.at > now - LONGEST_WINDOW
            ),
            changes=tuple(
                Change(min(item.at, now), item.by) for item in self.changes if item.at > now - LONGEST_PERIOD
            ),
            active=None if self.active is None else min(self.active, now),
            changed=None if self.changed is None else min(self.changed, now),
        )

    def recommending(self, instances: int, now: float, *, blind: bool = False) -> History:
        """With one recommendation more."""
        latest = Recommendation(now, instances, blind)
        return msgspec.structs.replace(self, recommendations=_counting((*self.recommendations, latest)))

    def scaled(self, before: int, after: int, now: float) -> History:
        """With a change that was carried out. Who carries out a decision says so by this, and by nothing else."""
        if before == after:
            return self
        return msgspec.structs.replace(self, changes=(*self.changes, Change(now, after - before)), changed=now)

    def lowest(self, since: float, otherwise: int) -> int:
        """The lowest that was right after a time, or `otherwise` where that is lower."""
        known = (item.instances for item in self.recommendations if item.at > since and not item.blind)
        return min((otherwise, *known))

    def highest(self, since: float, otherwise: int) -> int:
        """The highest that was right after a time, or `otherwise` where that is higher."""
        return max((otherwise, *(item.instances for item in self.recommendations if item.at > since)))

    def added(self, since: float) -> int:
        """Instances added less those removed after a time."""
        return sum(item.by for item in self.changes if item.at > since)


def _counting(items: Iterable[Recommendation]) -> tuple[Recommendation, ...]:
    """Without those that a later one makes meaningless: each window ends now, so a later one is in all of its windows.

    Kept are the ones higher than all later ones, and those lower than all later ones that were not blind.
    """
    kept: list[Recommendation] = []
    highest: int | None = None
    lowest: int | None = None
    for item in sorted(items, key=lambda item: item.at, reverse=True):
        high = highest is None or item.instances > highest
        low = not item.blind and (lowest is None or item.instances < lowest)
        if high:
            highest = item.instances
        if low:
            lowest = item.instances
        if high or low:
            kept.append(item)
    return tuple(reversed(kept))
