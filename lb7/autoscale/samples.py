"""What is known of an app at one moment: its instances, and what was read of each metric."""

from __future__ import annotations

import msgspec


class Instance(msgspec.Struct, frozen=True, gc=False):
    """One that runs. `ready`: it serves, and its figures mean something (it is not warming up)."""

    id: str
    ready: bool = True


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of one metric, `at` a time: one `value` of the app as a whole (all edges, all listeners), or the
    values of `each` instance by its id; neither where that failed, and `error` says why.

    `partial`: some of those asked did not answer, so that the true value may be higher. Where no request came,
    latencies and error rates are 0.
    """

    at: float = 0.0
    value: float | None = None
    each: dict[str, float] | None = None
    partial: bool = False
    error: str = ""


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """`instances` is how many the app is defined to have, `running` those that there are (None: not known, all of them
    count as ready). `held`: requests that wait for an app without instances. `locked`: why nothing may be changed now
    (a deployment is under way)."""

    instances: int
    running: tuple[Instance, ...] | None = None
    readings: dict[str, Reading] = {}
    held: int = 0
    locked: str = ""

    def ready(self) -> int:
        """How many serve."""
        if self.running is None:
            return self.instances
        return sum(instance.ready for instance in self.running)
