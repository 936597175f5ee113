"""Masters without the operator API: their /state is polled and means the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mesos_dns.model import Endpoint
from tests.fakes.following import Following
from tests.fakes.mesos_master import FakeMaster

pytestmark = pytest.mark.asyncio


def task(number: int, on: int = 1, **more: Any) -> dict[str, Any]:
    status = {
        "state": "TASK_RUNNING",
        "timestamp": 5.0,
        "container_status": {"network_infos": [{"ip_address": f"9.0.0.{number}"}]},
    }
    return {
        "id": f"t{number}",
        "name": f"app{number}",
        "framework_id": "F1",
        "slave_id": f"A{on}",
        "state": "TASK_RUNNING",
        "resources": {"ports": "[31000-31001, 31005-31005]", "cpus": 0.1},
        "labels": [{"key": "a", "value": "b"}],
        "statuses": [status],
        **more,
    }


def slave(number: int) -> dict[str, Any]:
    return {"id": f"A{number}", "hostname": f"10.0.0.{number}", "pid": f"slave(1)@10.0.0.{number}:5051"}


def state(master: FakeMaster, tasks: list[Any], slaves: list[Any], **more: Any) -> dict[str, Any]:
    pid = f"master@{master.place}"
    framework = {"id": "F1", "name": "marathon", "pid": "scheduler-1@10.7.7.7:4000", "tasks": tasks, "active": True}
    return {"pid": pid, "leader": pid, "slaves": slaves, "frameworks": [framework], **more}


async def test_state_is_polled() -> None:
    async with FakeMaster() as master, Following(master.place, poll=0.05) as follow:
        master.v1["SUBSCRIBE"] = not_there
        master.gets["/state.json"] = state(master, [task(1), task(2, on=2)], [slave(1), slave(2)])
        await follow.until(lambda: follow.running() == {("F1", "t1"), ("F1", "t2")})
        assert follow.tasks()["F1", "t1"].host_ports == (31000, 31001, 31005)
        assert follow.tasks()["F1", "t1"].networks[0].addresses == ("9.0.0.1",)
        assert follow.frameworks()["F1"].port == 4000
        await follow.until(lambda: follow.leadership() is not None)
        leadership = follow.leadership()
        assert leadership is not None
        assert leadership.leader == Endpoint("127.0.0.1", master.port)
        master.gets["/state.json"] = state(master, [task(2, on=2)], [slave(1), slave(2)])
        await follow.until(lambda: follow.running() == {("F1", "t2")})
        syncs = follow.source.counters.syncs
        follow.changes()
        master.gets["/state.json"] = state(master, [], [])
        await follow.until(lambda: follow.source.counters.syncs > syncs + 2)
        assert follow.changes() == {}, "an empty state is that of a master that has not heard of its agents"
        master.gets["/state.json"] = state(master, [], [slave(1)], recovered_slaves=[slave(2)])
        await follow.until(lambda: follow.source.counters.syncs > syncs + 4)
        assert follow.running() == {("F1", "t2")}
        master.gets["/state.json"] = state(master, [], [slave(1), slave(2)])
        await follow.until(lambda: follow.running() == set())


async def not_there(request: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


async def test_another_masters_state_is_not_believed() -> None:
    async with FakeMaster() as other, FakeMaster() as leader, Following(other.place, poll=0.05) as follow:
        other.v1["SUBSCRIBE"] = leader.v1["SUBSCRIBE"] = not_there
        wrong = state(other, [task(9)], [slave(1)])
        other.gets["/master/state"] = {**wrong, "leader": f"master@{leader.place}"}
        leader.gets["/master/state"] = state(leader, [task(1)], [slave(1)])
        await follow.until(lambda: follow.running() == {("F1", "t1")})
        assert follow.source.leader == f"http://{leader.place}"


async def test_masters_that_name_nobody_or_each_other() -> None:
    async with FakeMaster() as one, FakeMaster() as two, Following(one.place, two.place, poll=0.05) as follow:
        one.v1["SUBSCRIBE"] = two.v1["SUBSCRIBE"] = not_there
        one.gets["/master/state"] = {**state(one, [task(1)], [slave(1)]), "leader": f"master@{two.place}"}
        two.gets["/master/state"] = {**state(two, [task(2)], [slave(1)]), "leader": f"master@{one.place}"}
        await follow.until(lambda: follow.source.counters.errors["redirect"] > 2)
        assert follow.tasks() == {}
        one.gets["/master/state"] = {**state(one, [task(1)], [slave(1)]), "leader": ""}
        await follow.until(lambda: follow.source.counters.errors["status"] > 2)
        assert follow.tasks() == {}


@pytest.mark.parametrize(
    "document",
    [b"{}", b"null", b'{"error": "x"}', b'{"slaves": [], "leader": "master@127.0.0.1:5050"}', b"", b"<html>"],
)
async def test_what_is_no_state_changes_nothing(document: bytes) -> None:
    async with FakeMaster() as master, Following(master.place, poll=0.05) as follow:
        master.v1["SUBSCRIBE"] = not_there
        master.gets["/master/state"] = state(master, [task(1)], [slave(1)])
        await follow.until(lambda: follow.running() == {("F1", "t1")})

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(body=document, content_type="application/json")

        master.gets["/master/state"] = answer
        await follow.until(lambda: follow.source.counters.errors["document"] > 0)
        assert follow.running() == {("F1", "t1")}


async def test_a_cut_state_changes_nothing() -> None:
    async with FakeMaster() as master, Following(master.place, poll=0.0) as follow:
        master.v1["SUBSCRIBE"] = not_there
        master.gets["/master/state"] = state(master, [task(1), task(2)], [slave(1)])
        await follow.until(lambda: len(follow.running()) == 2)
        await follow.until(lambda: follow.leadership() is not None)
        document = json.dumps(state(master, [task(3)], [slave(1)])).encode()
        lengths = iter(range(1, len(document), 100))
        done = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            length = next(lengths, None)
            if length is None:
                done.set()
                return web.Response(status=503, body=document)
            return web.Response(body=document[:length], content_type="application/json")

        follow.changes()
        master.gets["/master/state"] = answer
        await asyncio.wait_for(done.wait(), 30)
        assert follow.changes() == {}


@pytest.mark.parametrize(
    ("bad", "cost"),
    [
        ({"resources": {"ports": "31000"}}, "host_ports"),
        ({"resources": {"ports": "[31000]"}}, "host_ports"),
        ({"resources": {"ports": 31000}}, "host_ports"),
        ({"resources": None}, "host_ports"),
        ({"labels": "x"}, "labels"),
        ({"labels": None}, "labels"),
        ({"discovery": []}, "discovery_name"),
        ({"statuses": {}}, "networks"),
        ({"statuses": [{"state": "TASK_RUNNING", "container_status": {"network_infos": "x"}}]}, "networks"),
    ],
)
async def test_a_bad_part_costs_only_itself(bad: dict[str, Any], cost: str) -> None:
    async with FakeMaster() as master, Following(master.place, poll=0.05) as follow:
        master.v1["SUBSCRIBE"] = not_there
        master.gets["/master/state"] = state(master, [task(1, **bad), task(2)], [slave(1)])
        await follow.until(lambda: len(follow.running()) == 2)
        found = follow.tasks()["F1", "t1"]
        for name in ("host_ports", "labels", "networks"):
            assert bool(getattr(found, name)) == (name != cost), name


async def test_null_and_empty_pids() -> None:
    async with FakeMaster() as master, Following(master.place, poll=0.05) as follow:
        master.v1["SUBSCRIBE"] = not_there
        document = state(master, [task(1)], [{**slave(1), "pid": None}, {**slave(2), "pid": ""}])
        document["frameworks"][0].update({"pid": None, "hostname": "10.3.3.3"})
        document["frameworks"].append({"id": "F2", "name": "chronos", "pid": "", "hostname": "nowhere.invalid"})
        document["frameworks"].append({"id": 7, "name": "bad"})
        document["slaves"].append("bad")
        master.gets["/master/state"] = document
        await follow.until(lambda: follow.running() == {("F1", "t1")})
        assert {id: node.addresses for id, node in follow.nodes().items()} == {"A1": ("10.0.0.1",), "A2": ("10.0.0.2",)}
        assert follow.frameworks()["F1"].addresses == ("10.3.3.3",)
        assert follow.frameworks()["F1"].port == 0
        assert follow.frameworks()["F2"].addresses == ()


async def test_recorded_states_say_what_the_recorded_api_says(truth: Path) -> None:
    """/state and v1 of one moment give the same tasks, agents and frameworks."""
    for folder in sorted((truth / "mesos-api/main").glob("snap_*")):
        v1 = json.loads(await asyncio.to_thread((folder / "V1_GET_STATE.json").read_text))
        old = json.loads(await asyncio.to_thread((folder / "GET_master_state.json").read_text))
        event = {"type": "SUBSCRIBED", "subscribed": {"get_state": v1["get_state"], "heartbeat_interval_seconds": 15}}
        async with FakeMaster() as master, Following(master.place) as new_way:
            master.send(event)
            await new_way.until(lambda: new_way.source.counters.syncs)
            async with FakeMaster() as old_master, Following(old_master.place, poll=60.0) as old_way:
                old_master.v1["SUBSCRIBE"] = not_there
                old_master.gets["/master/state"] = old
                await old_way.until(lambda: old_way.source.counters.syncs)
                assert old_way.tasks() == new_way.tasks(), folder.name
                assert old_way.nodes() == new_way.nodes(), folder.name
                assert old_way.frameworks() == new_way.frameworks(), folder.name
