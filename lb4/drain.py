"""How destinations leave: TCP ones get no new connections and stay for those they have, UDP ones go at once.

                     weight > 0                     no connection after `minimum`, or `timeout` over
    (not there) ───────────────▶ in use ──▶ draining ────────────────────────────────▶ left out
                                    ▲ weight 0   │
                                    └────────────┘ weight > 0 again

A client's UDP flow stays with its destination while datagrams come, even at weight 0, so that waiting has no end.
A destination without weight that is not there is not added: it is of no use. A service that is wanted no more stays
while it has draining destinations.

A connection counts while the kernel remembers it, so also one that is half closed: the client has sent its FIN, and
its answer may still be on the way. The kernel can't tell that from one that is over but not yet forgotten (TIME_WAIT),
so a busy destination stays that long. `minimum`: what was being opened when the weight fell must have had the time to
be counted. Nothing is kept over a restart: what the kernel has and nobody wants begins to drain anew.

Counting costs the kernel and us in proportion to a service's destinations, so looks come further apart, and there are
never more than POLLS in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from lb4.services import BackendKey, Destination, Service, ServiceKey
from lb4.timetable import Timetable

POLL, LONGEST_POLL = 1.0, 5.0
"""Seconds until the connections of a service's draining destinations are looked at again: doubled each time."""

POLLS = 100
"""Most services that are looked at in a second; the others have to wait."""


class Drains:
    """What drains since when. Seconds; `now` is of any clock that never goes back."""

    def __init__(self, timeout: float, minimum: float = 2.0) -> None:
        self.timeout = timeout
        self.minimum = minimum
        self._began: dict[ServiceKey, dict[BackendKey, float]] = {}
        self._looks = Timetable()
        self._waits: dict[ServiceKey, float] = {}  # until the look after the next
        self._ends = Timetable()
        self._second = -inf  # since when looks are counted
        self._polls = 0

    def __len__(self) -> int:
        return len(self._began)

    def of(self, key: ServiceKey) -> Mapping[BackendKey, float]:
        """The destinations of a service that drain, and since when."""
        return self._began.get(key, {})

    def due(self, now: float) -> list[ServiceKey]:
        """Services whose connections to count and to settle now. They stay due until settled with `active` given."""
        free = POLLS if now >= self._second + 1.0 else POLLS - self._polls
        return self._looks.due(now)[:free] if free > 0 else []

    def ended(self, now: float) -> list[ServiceKey]:
        """Services to settle now, without counting: the time of a destination is over."""
        return self._ends.due(now)

    @property
    def next(self) -> float:
        """Nothing is due or has ended before; infinite: nothing at all."""
        look = self._looks.next if self._polls < POLLS else max(self._looks.next, self._second + 1.0)
        return min(look, self._ends.next)

    def settle(
        self,
        key: ServiceKey,
        target: Service | None,
        there: Service | None,
        active: Mapping[BackendKey, int] | None,
        now: float,
    ) -> Service | None:
        """What the data plane should have of a service now, None: nothing.

        `target` is what is wanted in the end, `there` what the data plane has, `active` how many connections its
        destinations have (None: nobody has counted; a destination that is missing in it: not known).
        """
        if active is not None:
            self._polled(now)
        leaving = _leaving(target, there)
        if key.protocol != "tcp" or not leaving:
            self._end(key)
            kept = {}
        else:
            kept = self._drain(key, leaving, active, now)
        if target is None:
            return Service(there.settings, _drained(kept, {})) if kept and there is not None else None
        used = {backend: d for backend, d in target.destinations.items() if d.weight > 0}
        if not kept:
            return target if len(used) == len(target.destinations) else Service(target.settings, used)
        return Service(target.settings, used | _drained(kept, target.destinations))

    def forget(self, key: ServiceKey, there: Service | None) -> None:
        """This is what the data plane has of a service now: what has left it is no matter any more."""
        if (began := self._began.get(key)) is None:
            return
        left = {b: since for b, since in began.items() if b in there.destinations} if there is not None else {}
        if left:
            self._began[key] = left
        else:
            self._end(key)

    def _drain(
        self,
        key: ServiceKey,
        leaving: Mapping[BackendKey, Destination],
        active: Mapping[BackendKey, int] | None,
        now: float,
    ) -> dict[BackendKey, Destination]:
        """Those of the leaving that have to stay."""
        before = self._began.get(key, {})
        # One that should go but is still there (it could not be dropped) keeps its time.
        began = self._began[key] = {backend: before.get(backend, now) for backend in leaving}
        wait = self._waits.get(key, POLL) if began.keys() <= before.keys() else POLL
        kept = {}
        look = end = inf
        for backend, destination in leaving.items():
            # While its weight could not be taken from it, no connections now says nothing about the next moment.
            idle = active is not None and active.get(backend) == 0 and destination.weight == 0
            if now >= began[backend] + self.timeout or (idle and now >= began[backend] + self.minimum):
                continue
            kept[backend] = destination
            look = min(look, max(began[backend] + self.minimum, now + wait))
            end = min(end, began[backend] + self.timeout)
        if not kept:
            self._rest(key)
            return kept
        self._ends.put(key, end)
        if active is None:
            # Other changes of a service, however many, don't put the look at its connections off.
            self._looks.sooner(key, look)
            self._waits[key] = wait
        else:
            self._looks.put(key, look)
            self._waits[key] = min(LONGEST_POLL, 2 * wait)
        return kept

    def _polled(self, now: float) -> None:
        if now >= self._second + 1.0:
            self._second, self._polls = now, 0
        self._polls += 1

    def _rest(self, key: ServiceKey) -> None:
        """Nothing of it is to be looked at."""
        self._waits.pop(key, None)
        self._looks.drop(key)
        self._ends.drop(key)

    def _end(self, key: ServiceKey) -> None:
        if self._began.pop(key, None) is not None:
            self._rest(key)


def _leaving(target: Service | None, there: Service | None) -> dict[BackendKey, Destination]:
    """Destinations that are there and should get no connections any more."""
    if there is None or (there == target and all(d.weight for d in there.destinations.values())):
        return {}
    if target is None:
        return dict(there.destinations)
    wanted = target.destinations
    return {
        backend: destination
        for backend, destination in there.destinations.items()
        if (new := wanted.get(backend)) is None or new.weight == 0
    }


def _drained(
    kept: Mapping[BackendKey, Destination], wanted: Mapping[BackendKey, Destination]
) -> dict[BackendKey, Destination]:
    """Destinations without weight; thresholds as wanted, or as they are."""
    return {
        backend: Destination(0, (new := wanted.get(backend, there)).upper, new.lower) for backend, there in kept.items()
    }
