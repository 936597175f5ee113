"""Other autoscalers' rules, written anew from what they do: marathon-lb-autoscale with its faults, and HPA's formula.

`tests/unit/bench/test_autoscale_peers.py` holds the first against recordings of the real program.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Frontend:
    """What marathon-lb-autoscale keeps of one `<app>_<port>`."""

    rates: deque[float]
    scaled: float = -math.inf
    past: int = 0


@dataclass
class MarathonLbAutoscale:
    """autoscale.rb. `frontends` are names of HAProxy's frontends as `web_10000`; times are counted in intervals."""

    frontends: tuple[str, ...]
    target: float = 1000.0
    samples: int = 10
    cooldown: int = 5
    least: int = 1
    most: int = 1 << 62
    threshold: float = 0.5
    threshold_instances: int = 3
    polls: int = 0
    kept: dict[str, Frontend] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kept = {name: Frontend(deque(maxlen=self.samples)) for name in self.frontends}

    def poll(self, rates: Mapping[str, float], instances: Mapping[str, int]) -> dict[str, int]:
        """What it asks Marathon for. `rates` are rows of HAProxy's statistics: a frontend without a row counts as 0.

        `instances` are by app id as it sees them ("team_prod_svc"); what it asks for is by the path that it makes of
        that ("team/prod/svc")."""
        self.polls += 1
        asked: dict[str, int] = {}
        for name, front in self.kept.items():
            front.rates.append(rates.get(name, 0.0))
            app = name.rpartition("_")[0]
            current, average = instances[app], math.fsum(front.rates) / len(front.rates)
            target = min(max(math.ceil(average / self.target), self.least), self.most)
            if self.polls > self.samples and self._due(front, average, current, target):
                path = app.replace("_", "/")
                if asked.get(path, 0) <= target:
                    asked[path] = target
                    front.scaled = self.polls
        return asked

    def _due(self, front: Frontend, average: float, current: int, target: int) -> bool:
        """Past both thresholds three times in a row, and cooled down."""
        each = average / current if current else math.inf
        near = abs(each - self.target) / self.target < self.threshold
        if target == current or (near and abs(target - current) < self.threshold_instances):
            front.past = 0
            return False
        front.past += 1
        # Intervals are a little longer than asked for, so that the last of them has passed.
        return front.past >= 3 and self.polls - front.scaled >= self.cooldown + self.samples


@dataclass
class HpaFormula:
    """HPA v2 with its defaults and one metric (AverageValue): ⌈rate / target⌉, 10 % tolerance, 300 s downwards, twice
    as many or 4 more in 15 s upwards. A metric that fails changes nothing."""

    target: float
    least: int
    most: int
    recommended: list[tuple[float, int]] = field(default_factory=list)
    added: list[tuple[float, int]] = field(default_factory=list)

    def poll(self, rate: float | None, current: int, now: float) -> int:
        """How many there are to be."""
        if not self.recommended:
            self.recommended.append((now, current))
        if rate is None:
            return current
        ratio = rate / (self.target * current)
        wanted = current if abs(1 - ratio) <= 0.1 else math.ceil(rate / self.target)
        recent = [count for at, count in self.recommended if at > now - 300]
        self.recommended = [item for item in self.recommended if item[0] > now - 300] + [(now, wanted)]
        result = min(max(current, wanted), max([wanted, *recent]))
        start = current - sum(count for at, count in self.added if at > now - 15)
        result = max(self.least, min(result, self.most, max(start + 4, 2 * start, current)))
        if result != current:
            self.added.append((now, result - current))
        return result
