"""What the resolver has counted, as plain numbers for metrics."""

from __future__ import annotations

from collections import Counter
from typing import Final

RESULTS: Final = ("hit", "negative", "stale", "miss", "coalesced", "failure", "prefetch", "overload", "loop")
"""How questions that came here were answered. `hit`: kept records; `negative`: kept absence; `stale`: an answer past
its time; `miss`: an upstream was asked; `coalesced`: with the answer to somebody else's question; `failure`: a kept
failure; `overload`: not at all; `loop`: an error, for it was a probe of ours. `prefetch`: questions asked in the
background. What native workers answer is not among them."""
REASONS: Final = frozenset(
    (
        *("timeout", "unreachable", "tls", "local", "servfail", "refused", "formerr", "notimp", "rcode"),
        *("malformed", "lame", "truncated", "no-upstream", "looping", "fault"),
    )
)
"""Why a question to upstreams had no answer; whatever else is said is "other"."""


class ResolverCounters:
    """`results` by RESULTS, `failures` by REASONS, `kept` by kind of answer (positive, nxdomain, nodata)."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()

    def failed(self, reason: str) -> None:
        """A question to upstreams had no answer."""
        self.failures[reason if reason in REASONS else "other"] += 1
