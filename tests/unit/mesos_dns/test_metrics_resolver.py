"""The resolver's metrics: none while it is off, and every count where it belongs."""

from __future__ import annotations

import pytest

from mesos_dns.api_context import ApiContext
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.counters import DnsCounters, Totals
from mesos_dns.metrics_resolver import resolver_metrics
from mesos_dns.resolver.upstreams import Upstreams
from mesos_dns.zone import ZoneView
from tests.fakes.resolver_parts import ResolverParts
from tests.fakes.upstreams import right, upstream, wire_question

pytestmark = pytest.mark.asyncio


class Native:
    """A table whose workers have counted."""

    def totals(self) -> Totals:
        totals = Totals()
        totals.answers.update({(".", "A", 0): 7, (".", "A", 3): 2, ("mesos", "A", 0): 100})
        totals.counts.update({"stale": 3, "prohibited": 4, "held_back": 6})
        return totals

    def figures(self) -> dict[str, int]:
        return {}


def samples(parts: ResolverParts | None, counters: DnsCounters | None = None) -> dict[tuple[str, ...], float]:
    made = ApiContext(
        ZoneView(DnsConfig()),
        Catalog(),
        resolving=lambda: parts,
        resolver_dns_counters=counters or DnsCounters(),
    )
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in resolver_metrics(made)
        for sample in family.samples
    }


async def test_nothing_while_it_is_off() -> None:
    assert samples(None) == {}


async def test_cache_results_are_those_of_both_sides() -> None:
    parts = ResolverParts(Upstreams([], {}, timeout=1, tls=None))
    parts.resolver.counters.results.update({"hit": 1, "stale": 1, "miss": 5})
    counters = DnsCounters()
    counters.prohibited = 1
    counters.serve(Native())
    counters.responses.update({("tcp", ".", "A", 0, "fast"): 10, ("tcp", "mesos", "A", 0, "fast"): 1})
    found = samples(parts, counters)
    results = {key[1]: value for key, value in found.items() if key[0] == "pharos_resolver_cache_total"}
    assert results == {"hit": 18, "negative": 2, "stale": 4, "miss": 5, "overload": 6}
    assert found["pharos_resolver_prohibited_total",] == 5


async def test_upstreams_by_name_and_zone() -> None:
    async with upstream(right) as server:
        label = server.address().label
        upstreams = Upstreams([server.address()], {"corp.example": [server.address()]}, timeout=5, tls=None)
        try:
            question = wire_question("www.example.org")
            await upstreams.ask(question[:-4], question, dnssec_ok=False, checking_disabled=False)
            found = samples(ResolverParts(upstreams))
        finally:
            await upstreams.close()
    assert found["pharos_resolver_upstream_queries_total", label, ".", "udp"] == 1
    assert found["pharos_resolver_upstream_results_total", label, ".", "answered"] == 1
    assert found["pharos_resolver_upstream_seconds_count", label, "."] == 1
    assert found["pharos_resolver_upstream_seconds_count", label, "corp.example"] == 0
    assert found["pharos_resolver_upstream_looping", label, "."] == 0


async def test_what_is_kept_on_the_machine() -> None:
    machine = {
        "addresses": {"missing": ["198.51.100.3"], "restored": 2},
        "resolv_conf": {"state": "paused", "replaced": 3, "given_back": 4},
    }
    found = samples(ResolverParts(Upstreams([], {}, timeout=1, tls=None), **machine))
    assert found["pharos_resolver_addresses_missing",] == 1
    assert found["pharos_resolver_addresses_restored_total",] == 2
    states = {key[1]: value for key, value in found.items() if key[0] == "pharos_resolver_resolv_conf"}
    assert states == {"ours": 0, "paused": 1, "original": 0}
    assert found["pharos_resolver_resolv_conf_replaced_total",] == 3
    assert found["pharos_resolver_resolv_conf_given_total",] == 4
