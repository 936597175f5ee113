"""What the DNS server counts: nothing at first, and what workers have counted beside it."""

from __future__ import annotations

from mesos_dns.counters import DnsCounters, Totals


class Table:
    """A table of workers that have counted something."""

    def __init__(self, count: int) -> None:
        self.counted = Totals()
        self.counted.counts["dropped"] = count
        self.counted.answers["mesos", "A", 0] = 2 * count
        self.counted.queries[1] = 3 * count

    def totals(self) -> Totals:
        return self.counted

    def figures(self) -> dict[str, int]:
        return {}


def test_everything_begins_at_nothing() -> None:
    counters = DnsCounters()
    assert not any(value for name, value in vars(counters).items() if name != "_past")
    assert not any(vars(counters.native_totals()).values())


def test_an_answer_is_counted() -> None:
    counters = DnsCounters()
    counters.response("udp", "mesos", "A", 0)
    counters.response("udp", "mesos", "A", 0)
    counters.response("tcp", "", "other", 5, "fast")
    assert counters.responses == {("udp", "mesos", "A", 0, "slow"): 2, ("tcp", "", "other", 5, "fast"): 1}


def test_what_an_earlier_table_counted_stays() -> None:
    counters = DnsCounters()
    first, second = Table(1), Table(10)
    counters.serve(first)
    counters.serve(first)
    counters.serve(second)
    first.counted.counts["dropped"] = 100  # too late: nobody looks there
    totals = counters.native_totals()
    assert (totals.counts["dropped"], totals.answers["mesos", "A", 0], totals.queries[1]) == (11, 22, 33)
    counters.serve(None)
    assert counters.native_totals().counts == {"dropped": 11}
