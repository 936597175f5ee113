"""What one upstream was asked and what came of it, as plain numbers for metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper borders in seconds, inclusive; one more bucket has all that took longer."""


class Tally:
    """Counters of one upstream, from its first question on.

    `sent`: messages by transport (udp, tcp, tls). `results`: exchanges by how they ended (`answered`, the reasons of
    failure, `outrun`), and what happened in them (`mismatch`: packets that were no reply to us; `truncated`; `resent`;
    `plain`: asked again without EDNS; `overdue`: no reply for so long that it was held against the upstream, which may
    still have come). `buckets`, `seconds`: how long those took that were answered, errors included.
    """

    __slots__ = ("buckets", "results", "seconds", "sent")

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def took(self, seconds: float) -> None:
        """A reply came after `seconds`."""
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds
