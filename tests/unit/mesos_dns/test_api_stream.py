"""Whole-table answers: what is in them, once each, in slices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesos_dns import api_stream
from mesos_dns.api_context import ApiContext
from mesos_dns.api_stream import Owners, TaskFilter, encode, gather
from mesos_dns.model import Framework, Health, Network, Port, Put, Sync
from mesos_dns.sources import pace
from mesos_dns.wire import name_to_wire
from tests.fakes.api import context_of
from tests.fakes.questions import soa, static, task

pytestmark = pytest.mark.asyncio


async def whole(parts: AsyncIterator[bytes]) -> Any:
    return json.loads(b"".join([part async for part in parts]))


async def enumeration(context: ApiContext) -> list[dict[str, Any]] | None:
    frameworks: list[dict[str, Any]] | None = (await whole(api_stream.enumerated(context.view)))["frameworks"]
    return frameworks


async def axfr(context: ApiContext) -> dict[str, Any]:
    found: dict[str, Any] = await whole(api_stream.transferred(context.view, context.catalog))
    return found


def every(context: ApiContext) -> tuple[AsyncIterator[bytes], ...]:
    return (
        api_stream.enumerated(context.view),
        api_stream.transferred(context.view, context.catalog),
        api_stream.tasks(context.view, context.catalog, TaskFilter()),
    )


async def test_pieces_are_worth_a_write() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (api_stream.PIECE_BYTES // 2)

    assert [len(piece) async for piece in gather(parts())] == [api_stream.PIECE_BYTES, api_stream.PIECE_BYTES // 2]


async def test_texts_that_utf8_cannot_carry() -> None:
    assert json.loads(encode({"name": "\udc80é"})) == {"name": "\udc80é"}


async def test_shared_records_are_enumerated_at_the_first_task_only() -> None:
    shared = (Network("", ("9.0.0.9",)),)
    tasks = [task(number, networks=shared) for number in (1, 2)]
    frameworks = await enumeration(context_of(*tasks, Framework("f-2", "idle")))
    assert frameworks is not None
    assert [(f["name"], [t["id"] for t in f["tasks"]]) for f in frameworks] == [
        ("marathon", ["web.1", "web.2"]),
        ("idle", []),
    ]
    first, second = frameworks[0]["tasks"]
    assert {"name": "web.marathon.mesos.", "host": "9.0.0.9", "rtype": "A"} in first["records"]
    assert second["records"]
    assert all(record["name"].startswith("web-") for record in second["records"]), "its canonical names only"
    every = [json.dumps(record) for each in (first, second) for record in each["records"]]
    assert len(every) == len(set(every))


async def test_a_task_whose_records_are_all_told_has_null() -> None:
    frameworks = await enumeration(context_of(task(1), task(1, duplicate=1)))
    assert frameworks is not None
    assert [entry["records"] is None for entry in frameworks[0]["tasks"]] == [False, True]


async def test_only_running_tasks_are_enumerated() -> None:
    frameworks = await enumeration(context_of(task(1, state="TASK_STAGING"), task(2, node="agent-S9")))
    assert frameworks == [{"tasks": [], "name": "marathon"}]


async def test_no_framework_at_all_is_null() -> None:
    context = context_of()
    context.catalog.publish("mesos", Sync())
    context.catalog.flush()
    assert await enumeration(context) is None


async def test_axfr_tells_the_zone() -> None:
    found = await axfr(context_of(task(1, host_ports=(31000,)), ttl=30, soa_rname="ops.mesos", soa_refresh=7))
    assert {key: found[key] for key in ("TTL", "RefreshSeconds", "Mname", "Rname", "Domain")} == {
        "TTL": 30,
        "RefreshSeconds": 7,
        "Mname": "ns1.mesos.",
        "Rname": "ops.mesos.",
        "Domain": "mesos",
    }
    records = found["Records"]
    assert records["As"]["ns1.mesos."] == ["127.0.0.1"]
    assert records["As"]["web.marathon.mesos."] == ["9.0.0.2"]
    assert records["As"]["marathon.mesos."] == ["10.0.0.21"]
    assert records["AAAAs"] == {}
    (target,) = records["SRVs"]["_web._tcp.marathon.slave.mesos."]
    assert target.endswith(".marathon.slave.mesos.:31000")


async def test_axfr_lists_each_record_once_and_sorted() -> None:
    found = await axfr(context_of(*(task(n, name="web") for n in (7, 3, 5))))
    assert found["Records"]["As"]["web.marathon.mesos."] == ["9.0.0.4", "9.0.0.6", "9.0.0.8"]
    assert found["Records"]["As"]["web.marathon.slave.mesos."] == ["10.1.0.1"]


async def test_axfr_leaves_out_what_dns_leaves_out() -> None:
    sick = task(2, health=Health.UNHEALTHY)
    found = (await axfr(context_of(task(1), sick)))["Records"]["As"]
    assert found["web.marathon.mesos."] == ["9.0.0.2"]
    assert (await axfr(context_of(sick)))["Records"]["As"]["web.marathon.mesos."] == ["9.0.0.3"], "never empty"
    both = (await axfr(context_of(task(1), sick, health="ignore")))["Records"]["As"]
    assert both["web.marathon.mesos."] == ["9.0.0.2", "9.0.0.3"]
    same = task(3, health=Health.UNHEALTHY, networks=(Network("", ("9.0.0.2",)),))
    for order in ((task(1), same), (same, task(1))):
        assert (await axfr(context_of(*order)))["Records"]["As"]["web.marathon.mesos."] == ["9.0.0.2"]


async def test_axfr_keeps_case_and_names_that_dns_cannot_carry() -> None:
    port = Port(80, "x" * 70, "tcp")
    found = (await axfr(context_of(task(1, discovery_name="Shop", ports=(port,)))))["Records"]
    assert "Shop.marathon.mesos." in found["As"]
    assert "shop.marathon.mesos." in found["As"]
    assert f"_{'x' * 63}._Shop._tcp.marathon.mesos." in found["SRVs"]


async def test_axfr_has_static_records_of_the_domain_only() -> None:
    context = context_of(
        static("db.mesos.", "A", b"\x0a\0\0\1"),
        static("_x._tcp.mesos.", "SRV", bytes((0, 1, 0, 2, 0, 80)) + name_to_wire("db.example.org")),
        static("db.mesos.", "TXT", b"\1x"),
        static("example.org.", "SOA", soa(), zone="example.org."),
        static("www.example.org.", "A", b"\x0a\0\0\2", zone="example.org."),
    )
    records = (await axfr(context))["Records"]
    assert records["As"]["db.mesos."] == ["10.0.0.1"]
    assert records["SRVs"]["_x._tcp.mesos."] == ["db.example.org.:80"]
    assert not [name for name in records["As"] if "example" in name]


async def test_a_task_row() -> None:
    one = task(
        1,
        name="db.prod",
        host_ports=(31000,),
        labels=(("a", "1"), ("a", "2")),
        discovery_name="db",
        ports=(Port(5432, "pg", "tcp", (("VIP_0", "/db:5432"),)),),
        start_time=5.5,
    )
    context = context_of(one, task(2, node="agent-S9"))
    first, second = await whole(api_stream.tasks(context.view, context.catalog, TaskFilter()))
    assert first == {
        "cluster": "mesos",
        "framework": "marathon",
        "framework_id": "f-1",
        "id": "db.prod.1",
        "name": "db.prod",
        "state": "TASK_RUNNING",
        "health": "none",
        "node_id": "agent-S0",
        "host": "agent0",
        "addresses": ["9.0.0.2"],
        "ports": [31000],
        "discovery_name": "db",
        "discovery_ports": [{"number": 5432, "name": "pg", "protocol": "tcp", "labels": {"VIP_0": "/db:5432"}}],
        "labels": {"a": "2"},
        "start_time": 5.5,
    }
    assert (second["host"], second["addresses"]) == ("", ["9.0.0.3"])


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (TaskFilter(), True),
        (TaskFilter(app="/prod/db"), True),
        (TaskFilter(app="prod/db/"), True),
        (TaskFilter(app="db.prod"), True),
        (TaskFilter(app="shop"), True),
        (TaskFilter(app="db.prod.1"), True),
        (TaskFilter(app="db"), False),
        (TaskFilter(framework="marathon"), True),
        (TaskFilter(framework="f-1"), True),
        (TaskFilter(framework="chronos"), False),
        (TaskFilter(state="running"), True),
        (TaskFilter(state="TASK_RUNNING"), True),
        (TaskFilter(state="TASK_KILLED"), False),
        (TaskFilter(app="shop", framework="chronos"), False),
    ],
)
async def test_filter(wanted: TaskFilter, fits: bool) -> None:
    assert wanted.fits(task(1, name="db.prod", discovery_name="shop"), "marathon") is fits


async def test_the_loop_gets_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slice of no time at all, every task of the table is a turn of the loop."""
    monkeypatch.setattr(pace, "TURN", -1.0)
    context = context_of(*(task(n) for n in range(50)))
    for parts in every(context):
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await whole(parts)
        counting.cancel()
        assert turns >= 50


async def test_a_change_in_the_middle_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TURN", -1.0)
    context = context_of(*(task(n) for n in range(20)))
    for parts in every(context):
        text, number = b"", 100
        async for part in parts:
            text += part
            context.catalog.publish("mesos", Put(task(number, name=f"web{number}")))
            context.catalog.flush()
            number += 1
        json.loads(text)


async def test_owners_are_forgotten_as_they_are_told() -> None:
    owners = Owners()
    for number in range(300):
        owners.add(f"o{number}", b"\x0a\0\0\1", True)
    owners.add("o1", b"\x0a\0\0\1", False)
    owners.add("o2", b"\x0a\0\0\2", False)
    owners.add("o3", "t:1", True)
    told = dict(owners.items())
    assert (told["o1"], told["o2"], set(told["o3"])) == ([b"\x0a\0\0\1"], [b"\x0a\0\0\1"], {b"\x0a\0\0\1", "t:1"})
    assert dict(owners.take()) == told
    assert dict(owners.items()) == {}
