"""What the DNS server has counted: in this process, and in the workers' shared memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

TYPE_NAMES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    65: "HTTPS",
    255: "ANY",
}
"""Record types that are counted by name; all others are "other"."""


class Totals:
    """What workers have counted: `counts` by name, `answers` by (zone, type, rcode), `queries` by worker."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.queries: Counter[int] = Counter()

    def add(self, other: Totals) -> None:
        """Count another table's totals in."""
        self.counts.update(other.counts)
        self.answers.update(other.answers)
        self.queries.update(other.queries)


class Native(Protocol):
    """The table that workers serve from (fastpath.FastPath)."""

    def totals(self) -> Totals:
        """What its workers have counted."""

    def figures(self) -> dict[str, int]:
        """What it holds."""


class _Held:
    """What several tables hold; what their workers have counted is counted already."""

    def __init__(self, tables: Sequence[Native]) -> None:
        self._tables = tables

    def totals(self) -> Totals:
        return Totals()

    def figures(self) -> dict[str, int]:
        whole: Counter[str] = Counter()
        for table in self._tables:
            whole.update(table.figures())
        return dict(whole)


class DnsCounters:
    """Plain counts, exposed by mesos_dns.metrics. Keys are bounded: types outside a short list are "other".

    `responses` are by (transport, zone, type, rcode, path); a zone is one that is served, or "".
    """

    def __init__(self) -> None:
        self.native: Native | None = None
        self._past = Totals()
        self.queries: Counter[tuple[str, str]] = Counter()
        self.responses: Counter[tuple[str, str, str, int, str]] = Counter()
        self.restarts = 0
        self.compiled = 0
        self.reused = 0
        self.truncated = 0
        self.dropped = 0
        self.faults = 0
        self.prohibited = 0
        self.forwarded: Counter[str] = Counter()
        self.transfers: Counter[str] = Counter()
        self.notifies: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.cookies: Counter[str] = Counter()
        self.tcp_connections: Counter[str] = Counter()
        self.tcp_open: Counter[str] = Counter()
        self.tcp_refused: Counter[str] = Counter()
        self.tcp_closed: Counter[str] = Counter()

    @classmethod
    def together(cls, several: Sequence[DnsCounters]) -> DnsCounters:
        """What several servers of a process have counted, as one; workers are numbered through."""
        whole = cls()
        for each in several:
            for name, value in vars(each).items():
                if isinstance(value, Counter):
                    getattr(whole, name).update(value)
                elif isinstance(value, int):
                    setattr(whole, name, getattr(whole, name) + value)
            totals = each.native_totals()
            first = len(whole._past.queries)
            totals.queries = Counter({first + number: count for number, count in totals.queries.items()})
            whole._past.add(totals)
        whole.native = _Held([each.native for each in several if each.native is not None])
        return whole

    def response(self, transport: str, zone: str, kind: str, rcode: int, path: str = "slow") -> None:
        """One answer that goes out."""
        self.responses[transport, zone, kind, rcode, path] += 1

    def serve(self, native: Native | None) -> None:
        """From now on this table is served from; what the one before counted stays."""
        if self.native is not None and self.native is not native:
            self._past.add(self.native.totals())
        self.native = native

    def native_totals(self) -> Totals:
        """What workers have counted since the process began."""
        whole = Totals()
        whole.add(self._past)
        if self.native is not None:
            whole.add(self.native.totals())
        return whole
