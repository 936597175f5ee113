"""The exposition: readable by Prometheus, complete, and true of what was counted."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from mesos_dns import metrics
from mesos_dns.api_context import ApiContext
from mesos_dns.boot_names import BootNames
from mesos_dns.metrics import KINDS, entity_counts, exposition
from mesos_dns.model import App, Draining, HealthOverlay, Leadership, StaticRecords, Suspect, Vip, VipAddress
from mesos_dns.resolver.upstreams import Upstreams
from mesos_dns.saved import SavedCatalog
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.watch import Watch
from tests.conftest import REPOSITORY
from tests.fakes.api import context_of
from tests.fakes.questions import AGENT, MARATHON, task
from tests.fakes.resolver_parts import ResolverParts

pytestmark = pytest.mark.asyncio


class Source:
    """What the metrics look at."""

    def __init__(self) -> None:
        self.counters = SourceCounters()


async def samples(context: ApiContext) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, sorted labels) → value."""
    text = (await exposition(context)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_was_counted_is_told() -> None:
    source = Source()
    source.counters.events["TASK_ADDED"] = 5
    source.counters.errors["status"] = 2
    source.counters.bytes = 1000
    source.counters.held_agents = 3
    source.counters.held_tasks = 4
    context = replace(context_of(task(1), task(2)), sources={"mesos": source, "plain": object()}, version="9.9")
    context.counters.count("/v1/tasks", 200, 0.01)
    context.counters.in_flight = 2
    found = await samples(context)

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert value("pharos_source_connected", source="mesos") == 1
    assert value("pharos_source_stale_seconds", source="mesos") == 0
    assert value("pharos_source_entities", source="mesos") == 4
    assert value("pharos_source_events_total", source="mesos", type="TASK_ADDED") == 5
    assert value("pharos_source_errors_total", source="mesos", kind="status") == 2
    assert value("pharos_source_received_bytes_total", source="mesos") == 1000
    assert value("pharos_source_held_agents", source="mesos") == 3
    assert value("pharos_source_held_tasks", source="mesos") == 4
    assert value("pharos_catalog_entities", kind="task") == 2
    assert value("pharos_catalog_entities", kind="app") == 0
    assert value("pharos_catalog_changes_total") == 4
    assert value("pharos_dns_zone_tasks", zone="mesos") == 2
    assert value("pharos_dns_zone_serial") == context.view.serial
    assert value("pharos_api_requests_total", endpoint="/v1/tasks", status="200") == 1
    assert value("pharos_api_request_seconds_bucket", endpoint="/v1/tasks", le="0.005") == 0
    assert value("pharos_api_request_seconds_bucket", endpoint="/v1/tasks", le="0.025") == 1
    assert value("pharos_api_request_seconds_bucket", endpoint="/v1/tasks", le="+Inf") == 1
    assert value("pharos_api_request_seconds_sum", endpoint="/v1/tasks") == 0.01
    assert value("pharos_api_requests_in_flight") == 2
    assert value("pharos_api_build_info", version="9.9") == 1
    assert value("process_resident_memory_bytes") > 0
    assert all(labels != (("source", "plain"),) for _, labels in found)


async def test_a_lost_source_is_stale() -> None:
    context = context_of()
    status = context.catalog.sources["mesos"]
    status.connected, status.since = False, 0.0
    found = await samples(context)
    assert found["pharos_source_connected", (("source", "mesos"),)] == 0
    assert found["pharos_source_stale_seconds", (("source", "mesos"),)] > 1e9


async def test_saves_are_counted(tmp_path: Path) -> None:
    context = context_of(task(1))
    await asyncio.to_thread((tmp_path / "file").write_text, "no folder")
    saved = SavedCatalog(context.catalog, tmp_path / "catalog", max_age=60, interval=1)
    assert await saved.save()
    refused = SavedCatalog(context.catalog, tmp_path / "file" / "catalog", max_age=60, interval=1)
    assert not await refused.save()
    found = await samples(replace(context, saved=saved))
    assert found["pharos_catalog_saves_total", ()] == 1
    assert found["pharos_catalog_save_errors_total", ()] == 0
    assert found["pharos_catalog_last_save_timestamp_seconds", ()] == saved.last_save_at
    assert (await samples(replace(context, saved=refused)))["pharos_catalog_save_errors_total", ()] == 1


async def test_readme_lists_every_metric(tmp_path: Path) -> None:
    context = context_of(task(1))
    file = {"state": "ours", "replaced": 0, "given_back": 0}
    upstreams = Upstreams([], {}, timeout=1, tls=None)
    parts = ResolverParts(upstreams, addresses={"missing": [], "restored": 0}, resolv_conf=file)
    context = replace(
        context,
        sources={"mesos": Source()},
        saved=SavedCatalog(context.catalog, tmp_path / "catalog", max_age=60, interval=1),
        watch=Watch(context.catalog),
        boot=BootNames(tmp_path / "hosts.json"),
        resolving=lambda: parts,
    )
    told = set(re.findall(r"^# TYPE (pharos_\S+) ", (await exposition(context)).decode(), re.MULTILINE))
    readme = await asyncio.to_thread((REPOSITORY / "mesos_dns" / "README.md").read_text)
    assert set(re.findall(r"^\| `(pharos_\w+)` \|", readme, re.MULTILINE)) == told


async def test_exposition_is_what_prometheus_accepts() -> None:
    """Every family has help and type once, its samples together, and names and units as Prometheus asks."""
    text = (await exposition(context_of(task(1)))).decode()
    helps = re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE)
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert [name for name, _ in helps] == [name for name, _ in types]
    assert len(helps) == len({name for name, _ in helps})
    assert all(what for _, what in helps)
    for name, kind in types:
        assert re.fullmatch(r"(pharos_(source|catalog|dns|api)|process)_[a-z0-9_]+", name)
        assert name.endswith("_total") == (kind == "counter")
    assert text.endswith("\n")


async def turns_during(work: Awaitable[object]) -> int:
    """How many turns the loop had while something was done."""
    turns, running = 0, asyncio.ensure_future(work)
    while not running.done():
        await asyncio.sleep(0)
        turns += 1
    await running
    return turns


async def test_reading_gives_the_loop_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_CHUNK", 1)
    context = context_of(*(task(number) for number in range(50)))
    assert await turns_during(metrics.collected(context)) > 50


async def test_the_text_is_made_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()

    def latest(collector: Collector) -> bytes:
        threads.add(threading.get_ident())
        return b"".join(metric.name.encode() for metric in collector.collect())

    monkeypatch.setattr(metrics, "generate_latest", latest)
    assert b"pharos_source_connected" in await exposition(context_of())
    assert threads
    assert threading.get_ident() not in threads


async def test_it_is_made_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "KEPT_FOR", 1e12)
    monkeypatch.setattr(metrics, "KEPT_MOST", 3600.0)
    context = context_of(task(1))
    first, *others = await asyncio.gather(*(exposition(context) for _ in range(3)))
    assert all(other is first for other in others)
    assert await exposition(context) is first
    context.metrics_page.good_until = 0.0
    assert await exposition(context) is not first
    assert await exposition(replace(context)) != b""  # another context has a page of its own


async def test_a_failure_is_that_of_one_who_asks() -> None:
    async def broken() -> list[Metric]:
        raise RuntimeError("broken")

    context = replace(context_of(), more_metrics=broken)
    with pytest.raises(RuntimeError):
        await exposition(context)
    context.more_metrics = None
    assert b"pharos_source_connected" in await exposition(context)


async def test_every_kind_is_counted() -> None:
    entities = (
        MARATHON,
        AGENT,
        task(1),
        Leadership(),
        App("/a"),
        HealthOverlay("f", "t"),
        VipAddress("v", "11.0.0.1"),
        Vip("v", 80),
        Suspect("10.0.0.1"),
        Draining("f", "t", 1_800_000_000.0),
        StaticRecords("a.", 1, 60, ()),
    )
    assert {entity.key[0] for entity in entities} == set(KINDS)
    assert entity_counts(entities) == dict.fromkeys(KINDS, 1)
    assert entity_counts(()) == dict.fromkeys(KINDS, 0)
