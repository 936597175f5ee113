"""Random changes of tasks behind virtual addresses, and which connections may have come of them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lb4.services import BackendKey, ServiceKey
from tests.system.vip_apps import App, Slot
from tests.vm.service_lab import kernel
from tests.vm.vip_traffic import Made

GRACE = 2.0
"""Seconds from when the kernel gives a backend no new connections until its port closes: those that it has end."""
LOOK_EVERY = 0.01


class Churn:
    """Changes some apps' tasks, but never the first and the last slot of each. `counts`: of changes, by kind.
    `latencies`: seconds from a change at the master until the kernel has it, while `measures`.

    A backend whose task has ended closes its port, as soon as the kernel knows: whoever connects to it then fails.
    """

    def __init__(self, apps: Sequence[App], seed: int) -> None:
        self.latencies: list[float] = []
        self.measures = True
        self.counts: Counter[str] = Counter()
        self._apps = apps
        self._random = random.Random(seed)
        self._awaited: dict[tuple[ServiceKey, BackendKey], tuple[float, bool, Slot]] = {}

    def go(self, steps: int, pause: float) -> None:
        """So many changes, with a pause after each; fewer while the kernel is behind."""
        for _ in range(steps):
            self.step()
            self.watch(pause)

    def step(self) -> None:
        """One change, of a slot of which the kernel is up to date: else it can't be seen what the kernel knows."""
        places = ((app, slot) for app in self._apps for slot in app.slots[1:-1])
        free = [(app, slot) for app, slot in places if (app.service, slot.key) not in self._awaited]
        if free:
            app, slot = self._random.choice(free)
            self.change(app, slot, self._random.choice(app.ways(slot)))

    def change(self, app: App, slot: Slot, way: str) -> None:
        """This one."""
        was_good = slot.good
        at = app.change(slot, way)
        self.counts[way] += 1
        if slot.good != was_good:
            self._awaited[app.service, slot.key] = (at, slot.good, slot)

    def watch(self, seconds: float) -> None:
        """Look at the kernel for so long, and close ports."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self.look()
            time.sleep(LOOK_EVERY)
        for app in self._apps:
            for slot in app.slots:
                if slot.state == "absent" and not slot.history[-1][1] and slot.history[-1][0] < now - GRACE:
                    app.close(slot)

    def look(self) -> bool:
        """See what the kernel has; whether it has all."""
        there = kernel() if self._awaited else {}
        now = time.monotonic()
        for key, (at, good, slot) in list(self._awaited.items()):
            if (there.get(key[0], {}).get(key[1], 0) > 0) == good:
                if self.measures:
                    self.latencies.append(now - at)
                slot.note(now, good)
                del self._awaited[key]
        return not self._awaited


def misled(made: Iterable[Made], apps: Sequence[App]) -> list[str]:
    """The connections that failed, or were answered by a backend that the kernel gave no connections at that time."""
    slots: Mapping[int, tuple[int, Slot]] = {
        slot.number: (number, slot) for number, app in enumerate(apps) for slot in app.slots
    }
    wrong = []
    for each in made:
        if each.error:
            wrong.append(f"{each} failed")
            continue
        number, slot = slots[each.backend]
        if number != each.to or not slot.was_good(each.start, each.end):
            then = [change for change in slot.history if each.start - 10 < change[0] < each.end + 10]
            wrong.append(f"{each} went to {slot.key}: {then}")
    return wrong


def figures(seconds: Iterable[float]) -> str:
    """Their median and 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    at = {part: ordered[min(len(ordered) - 1, len(ordered) * part // 100)] * 1000 for part in (50, 99)}
    return f"p50={at[50]:.0f} ms p99={at[99]:.0f} ms of {len(ordered)}"
