"""The list of all records: what is in it, once each, in slices, and for whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesos_dns.api_records import records
from mesos_dns.catalog import Delta
from mesos_dns.config import ApiConfig, DnsConfig
from mesos_dns.model import Endpoint, Health, Leadership
from mesos_dns.names import AAAA, SRV, A, unique_suffix
from mesos_dns.sources import pace
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.api import LOOPBACK, Asking, context_of
from tests.fakes.extra_records import Extra
from tests.fakes.questions import drop, put, soa, static, task, view_of

pytestmark = pytest.mark.asyncio

LEADER = Leadership(Endpoint("10.0.0.11", 5050), (Endpoint("10.0.0.11", 5050),))


async def whole(parts: AsyncIterator[bytes]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(b"".join([part async for part in parts]))
    return found


async def rows_of(view: ZoneView) -> set[tuple[str, str, str]]:
    found = await whole(records(view))
    rows = {(row["name"], row["host"], row["rtype"]) for row in found}
    assert len(rows) == len(found)
    return rows


async def test_all_zones_but_their_other_names() -> None:
    extra = Extra(
        ("web.marathon", A, b"\x0b\0\0\7"),
        ("web.marathon", AAAA, b"\xfd\1\0\x0c" + bytes(11) + b"\7"),
        ("_80._tcp.web.marathon", SRV, (80, "web.marathon")),
    )
    view = ZoneView(DnsConfig(), extra=extra)
    view.fill_extra()
    view.apply(put(LEADER))
    assert await rows_of(view) == {
        *(
            row
            for domain in ("mesos", "mesos.thisdcos.directory")
            for row in (
                (f"leader.{domain}", "10.0.0.11", "A"),
                (f"master.{domain}", "10.0.0.11", "A"),
                (f"master0.{domain}", "10.0.0.11", "A"),
                (f"_leader._tcp.{domain}", f"leader.{domain}:5050", "SRV"),
                (f"_leader._udp.{domain}", f"leader.{domain}:5050", "SRV"),
            )
        ),
        ("leader.dcos.thisdcos.directory", "10.0.0.11", "A"),
        ("master.dcos.thisdcos.directory", "10.0.0.11", "A"),
        ("web.marathon.l4lb.thisdcos.directory", "11.0.0.7", "A"),
        ("web.marathon.l4lb.thisdcos.directory", "fd01:c::7", "AAAA"),
        ("_80._tcp.web.marathon.l4lb.thisdcos.directory", "web.marathon.l4lb.thisdcos.directory:80", "SRV"),
    }


async def test_tasks_under_all_their_names() -> None:
    rows = await rows_of(view_of(task(host_ports=(31000,))))
    unique = unique_suffix(task())
    for row in (
        ("web.marathon.mesos", "9.0.0.1", "A"),
        (f"web{unique}.marathon.mesos".lower(), "9.0.0.1", "A"),
        ("_web._tcp.marathon.mesos", f"web{unique}.marathon.slave.mesos:31000", "SRV"),
        ("web.marathon.agentip.dcos.thisdcos.directory", "10.1.0.1", "A"),
        ("web.marathon.mesos.thisdcos.directory", "9.0.0.1", "A"),
    ):
        assert row in rows


async def test_what_dns_leaves_out_is_left_out() -> None:
    rows = await rows_of(view_of(task(0), task(1, health=Health.UNHEALTHY)))
    assert {host for name, host, _ in rows if name == "web.marathon.mesos"} == {"9.0.0.1"}


async def test_zones_of_files_and_other_types() -> None:
    zone = "example.org."
    view = ZoneView(DnsConfig(directory=""))
    view.apply(
        put(
            static(zone, "SOA", soa(), zone=zone),
            static(f"Www.{zone}", "A", b"\x0a\7\0\1", b"\x0a\7\0\2", zone=zone),
            static(f"www.{zone}", "TXT", b"\4text", zone=zone),
            static(f"_x._tcp.{zone}", "SRV", bytes((0, 1, 0, 1, 0, 80)) + name_to_wire("www.example.net"), zone=zone),
        )
    )
    assert await rows_of(view) == {
        ("www.example.org", "10.7.0.1", "A"),
        ("www.example.org", "10.7.0.2", "A"),
        ("_x._tcp.example.org", "www.example.net:80", "SRV"),
    }


async def test_an_empty_list() -> None:
    assert await whole(records(ZoneView(DnsConfig()))) == []


async def test_names_that_utf8_cannot_carry() -> None:
    view = ZoneView(DnsConfig(directory=""))
    view.domain.store.add("a\udc80", A, b"\x0a\7\0\1")
    assert await rows_of(view) == {("a\udc80.mesos", "10.7.0.1", "A")}


async def test_the_loop_has_its_turns_and_changes_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TURN", 0.0)
    tasks = [task(number, f"app{number}") for number in range(200)]
    view = view_of(*tasks)
    turns = 0

    async def changing() -> None:
        nonlocal turns
        while True:
            number = turns % len(tasks)
            change: Delta = drop(tasks[number].key) if turns // len(tasks) % 2 else put(tasks[number])
            view.apply(change)
            turns += 1
            await asyncio.sleep(0)

    changes = asyncio.ensure_future(changing())
    rows = await rows_of(view)
    changes.cancel()
    assert turns > 1000
    assert len([row for row in rows if row[0].startswith("app") and row[0].count(".") == 2]) >= 200


async def test_over_http() -> None:
    context = context_of(task(), LEADER)
    async with Asking(context) as asking:
        for path in ("/v1/records", "/v1/records/"):
            assert {"name": "leader.mesos", "host": "10.0.0.11", "rtype": "A"} in await asking.json(path)
        assert (await asking.ask("/v1/records", accept="text/html"))[0] == 406
        assert (await asking.ask("/v1/records", "POST"))[0] == 405
    async with Asking(context, ApiConfig(listen=LOOPBACK, enumeration=False)) as asking:
        assert (await asking.ask("/v1/records"))[0] == 404


async def test_rows_are_as_recorded(truth: Path) -> None:
    endpoints = json.loads((truth / "dcos-net/rest_api.json").read_text())["endpoints"]
    recorded: list[dict[str, Any]] = next(each for each in endpoints if each["path"] == "/v1/records")["body_shape"]
    found = await whole(records(view_of(LEADER)))
    assert {row["rtype"] for row in found} == {shape["rtype"] for shape in recorded}
    assert {frozenset(row) for row in found} == {frozenset(shape) for shape in recorded}
