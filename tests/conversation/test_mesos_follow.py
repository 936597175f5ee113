"""The source against scripted masters: what changes nothing, what costs only itself, how it finds its way."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from aiohttp import web

from mesos_dns.model import Endpoint, NodeState
from tests.fakes.following import Following
from tests.fakes.mesos_master import (
    HEARTBEAT,
    FakeMaster,
    agent,
    framework,
    record,
    state_of,
    subscribed,
    task,
    update,
)

pytestmark = pytest.mark.asyncio

SNAPSHOT = subscribed(state_of([task(1), task(2, on=2)], [agent(1), agent(2)]))
BOTH = {("F1", "t1"), ("F1", "t2")}


async def test_events_change_what_is_said() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(SNAPSHOT, HEARTBEAT)
        await follow.until(lambda: follow.running() == BOTH)
        added = {"type": "TASK_ADDED", "task_added": {"task": task(3, state="TASK_STAGING")}}
        master.send(added, update(3, "TASK_STARTING"))
        await follow.until(lambda: ("F1", "t3") in follow.tasks())
        address = {"network_infos": [{"ip_addresses": [{"ip_address": "9.9.9.9"}]}]}
        master.send(update(3, "TASK_RUNNING", container_status=address, timestamp=7.0))
        await follow.until(lambda: ("F1", "t3") in follow.running())
        assert follow.tasks()["F1", "t3"].networks[0].addresses == ("9.9.9.9",)
        assert follow.tasks()["F1", "t3"].name == "app3"
        master.send(update(3, "TASK_KILLED"), update(4, "TASK_RUNNING"))
        await follow.until(lambda: ("F1", "t3") not in follow.tasks())
        await follow.until(lambda: follow.source.counters.unknown_tasks == 1)
        assert follow.running() == BOTH


async def test_the_leader_is_found_through_redirects_with_the_body() -> None:
    async with FakeMaster() as leader, FakeMaster() as other:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"//{leader.place}{request.path}"})

        other.before = redirect
        leader.v1["GET_MASTER"] = {
            "type": "GET_MASTER",
            "get_master": {"master_info": {"address": {"ip": "10.1.1.1", "port": 5050, "hostname": "x"}}},
        }
        leader.gets["/master/state-summary"] = {"frameworks": [{"id": "F1", "name": "x", "pid": "s-1@10.2.2.2:8181"}]}
        async with Following(other.place, leader.place) as follow:
            leader.send(SNAPSHOT)
            await follow.until(lambda: follow.running() == BOTH)
            assert other.calls == ["SUBSCRIBE"]
            assert json.loads(leader.bodies[0]) == {"type": "SUBSCRIBE"}
            await follow.until(lambda: follow.frameworks()["F1"].port == 8181)
            assert follow.frameworks()["F1"].addresses == ("10.2.2.2",)
            await follow.until(lambda: follow.leadership() is not None)
            leadership = follow.leadership()
            assert leadership is not None
            assert leadership.leader == Endpoint("10.1.1.1", 5050)
            assert leadership.masters == (Endpoint("127.0.0.1", other.port), Endpoint("127.0.0.1", leader.port))


async def test_a_dead_master_is_passed_over(free_port: int) -> None:
    async with FakeMaster() as master, Following(f"127.0.0.1:{free_port}", master.place) as follow:
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == BOTH)


async def test_redirects_in_a_circle_end() -> None:
    async with FakeMaster() as master:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"//{master.place}"})

        master.before = redirect
        async with Following(master.place) as follow:
            await follow.until(lambda: follow.source.counters.errors["redirect"] > 0)
            assert len(master.calls) % 5 == 0


async def test_a_503_with_a_valid_snapshot_is_not_believed() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == BOTH)
        await follow.until(lambda: follow.leadership() is not None)  # read beside the stream
        refused = 0

        async def recovering(request: web.Request) -> web.StreamResponse | None:
            nonlocal refused
            if b"SUBSCRIBE" not in await request.read():
                return None  # a read beside the stream
            refused += 1
            if refused > 3:
                return None
            empty = subscribed(state_of([], [agent(1), agent(2)]))
            return web.Response(status=503, body=record(empty), content_type="application/json")

        master.before = recovering
        follow.changes()
        master.cut()
        await follow.until(lambda: refused > 3)
        assert follow.source.counters.errors["status"] == 3
        assert follow.changes() == {}
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.source.counters.syncs == 2)
        assert [key for key in follow.changes() if key[0] != "leadership"] == []


async def test_a_truncated_snapshot_changes_nothing() -> None:
    """At every 100th byte of a document, through a real socket and the real framing."""
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == BOTH)
        master.v1["GET_MASTER"] = {}
        await follow.until(lambda: follow.leadership() is not None)
        follow.changes()
        other = json.dumps(subscribed(state_of([task(3)], [agent(1)])), indent=0).encode()
        whole = record(other)
        master.cut()
        for length in range(0, len(whole), 100):
            await asyncio.wait_for(master.subscribers.acquire(), 20)
            master.send(whole[:length])
            master.cut()
        await asyncio.wait_for(master.subscribers.acquire(), 20)
        for length in range(100, len(other), 400):
            cut = other[:length]
            master.send(b"%d\n%b" % (len(cut), cut))
            await asyncio.wait_for(master.subscribers.acquire(), 20)
        assert follow.changes() == {}
        assert follow.source.counters.syncs == 1


async def test_a_stalled_stream_is_left_and_the_names_stay() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(subscribed(state_of([task(1), task(2, on=2)], [agent(1), agent(2)]), heartbeat=0.1))
        await follow.until(lambda: follow.running() == BOTH)
        await follow.until(lambda: follow.source.counters.errors["stall"] >= 1)
        assert not follow.catalog.sources["mesos"].connected
        assert follow.running() == BOTH


async def test_a_stream_with_heartbeats_lives() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(subscribed(state_of([task(1)], [agent(1)]), heartbeat=0.2))
        for _ in range(10):
            await asyncio.sleep(0.1)
            master.send(HEARTBEAT)
        await follow.until(lambda: follow.source.counters.events["HEARTBEAT"] == 10)
        assert follow.source.counters.errors["stall"] == 0


async def test_an_empty_state_changes_nothing() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == BOTH)
        await follow.until(lambda: follow.leadership() is not None)
        follow.changes()
        master.cut()
        master.send(subscribed(state_of([], [], [])))
        await follow.until(lambda: follow.source.counters.syncs == 2)
        assert follow.changes() == {}
        # One agent returns without its task: that is believed. The other is still waited for.
        master.send({"type": "AGENT_ADDED", "agent_added": {"agent": agent(1)}})
        await follow.until(lambda: follow.running() == {("F1", "t2")})
        assert set(follow.nodes()) == {"A1", "A2"}


async def test_agents_that_do_not_return_in_time_are_dropped() -> None:
    async with FakeMaster() as master, Following(master.place, reregister_timeout=0.2) as follow:
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == BOTH)
        master.cut()
        master.send(subscribed(state_of([task(1)], [agent(1)], recovered=[2])))
        await follow.until(lambda: follow.running() == {("F1", "t1")})
        assert set(follow.nodes()) == {"A1"}


MALFORMED: list[tuple[str, Any]] = [
    ("a number as id", task(9) | {"task_id": {"value": 7}}),
    ("no id", {"name": "x", "state": "TASK_RUNNING"}),
    ("a text", "task"),
    ("null", None),
    ("a state that is a number", task(9) | {"state": 5}),
    ("no agent", {key: value for key, value in task(9).items() if key != "agent_id"}),
]


@pytest.mark.parametrize("bad", [bad for _, bad in MALFORMED], ids=[name for name, _ in MALFORMED])
async def test_a_malformed_task_costs_only_itself(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(subscribed(state_of([task(1), bad, task(2, on=2)], [agent(1), agent(2)])))
        await follow.until(lambda: follow.running() == BOTH)
        assert follow.source.counters.skipped_entities == 1
        master.send({"type": "TASK_ADDED", "task_added": {"task": bad}})
        master.send({"type": "TASK_ADDED", "task_added": {"task": task(3)}})
        await follow.until(lambda: ("F1", "t3") in follow.running())
        assert follow.source.counters.skipped_entities == 2
        assert any("malformed" in message for message in caplog.messages)


async def test_broken_records_are_skipped() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(SNAPSHOT)
        large = b'{"type":"TASK_ADDED","task_added":' + b"x" * 200_000
        master.send(record(b""), record(b"{"), record(b"\xff\xfe"), record(b"[]"), record(large), record(b'{"type":1}'))
        master.send({"type": "WHAT_IS_THIS"}, update(1, "TASK_FAILED"))
        await follow.until(lambda: follow.running() == {("F1", "t2")})
        assert follow.source.counters.malformed == 6
        assert follow.source.counters.connects == 1


async def test_a_broken_frame_ends_the_connection() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(SNAPSHOT, b"nonsense\n")
        await follow.until(lambda: follow.source.counters.errors["framing"] == 1)
        assert follow.running() == BOTH
        await follow.until(lambda: len([call for call in master.calls if call == "SUBSCRIBE"]) == 2)


async def test_a_large_event_is_read_in_pieces() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        big = task(3, labels={"labels": [{"key": f"k{number}", "value": "x" * 100} for number in range(3000)]})
        master.send(SNAPSHOT, {"type": "TASK_ADDED", "task_added": {"task": big}})
        await follow.until(lambda: ("F1", "t3") in follow.running())
        assert len(follow.tasks()["F1", "t3"].labels) == 3000


async def test_an_agent_that_vanished_without_an_event() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == BOTH)
        master.v1["GET_AGENTS"] = {"type": "GET_AGENTS", "get_agents": {"agents": [agent(1)]}}
        master.send(update(2, "TASK_UNREACHABLE", on=2))
        await follow.until(lambda: set(follow.nodes()) == {"A1"})
        assert follow.tasks()["F1", "t2"].state == "TASK_UNREACHABLE"


async def test_a_removed_agents_tasks_go_when_the_master_confirms() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == BOTH)
        master.v1["GET_AGENTS"] = {"type": "GET_AGENTS", "get_agents": {"agents": [agent(1)]}}
        master.v1["GET_FRAMEWORKS"] = {"type": "GET_FRAMEWORKS", "get_frameworks": {"frameworks": [framework(1)]}}
        master.v1["GET_TASKS"] = {"type": "GET_TASKS", "get_tasks": {"tasks": [task(1)]}}
        master.send({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "A2"}}}, HEARTBEAT)
        await follow.until(lambda: follow.source.counters.events["HEARTBEAT"] == 1)
        assert follow.running() == BOTH
        await follow.until(lambda: follow.running() == {("F1", "t1")})
        assert set(follow.nodes()) == {"A1"}


async def test_events_win_over_a_comparison_that_is_under_way() -> None:
    async with FakeMaster() as master, Following(master.place, resync=0.3) as follow:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def tasks(request: web.Request) -> web.StreamResponse:
            asked.set()
            await answer.wait()
            return web.json_response({"type": "GET_TASKS", "get_tasks": {"tasks": [task(1), task(2, on=2), task(5)]}})

        master.v1["GET_AGENTS"] = {"type": "GET_AGENTS", "get_agents": {"agents": [agent(1), agent(2)]}}
        master.v1["GET_FRAMEWORKS"] = {"type": "GET_FRAMEWORKS", "get_frameworks": {"frameworks": [framework(1)]}}
        master.v1["GET_TASKS"] = tasks
        master.send(SNAPSHOT)
        await asyncio.wait_for(asked.wait(), 20)
        master.send(update(1, "TASK_KILLED"), {"type": "TASK_ADDED", "task_added": {"task": task(4)}})
        master.send({"type": "AGENT_ADDED", "agent_added": {"agent": agent(3)}})
        await follow.until(lambda: follow.running() == {("F1", "t2"), ("F1", "t4")} and "A3" in follow.nodes())
        answer.set()
        await follow.until(lambda: ("F1", "t5") in follow.running())
        assert follow.running() == {("F1", "t2"), ("F1", "t4"), ("F1", "t5")}
        assert set(follow.nodes()) == {"A1", "A2", "A3"}


async def test_a_comparison_finds_what_no_event_told() -> None:
    async with FakeMaster() as master, Following(master.place, resync=0.2) as follow:
        moved = task(1)
        moved["statuses"][0]["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"] = "9.1.1.1"
        master.v1["GET_AGENTS"] = {
            "type": "GET_AGENTS",
            "get_agents": {"agents": [agent(1), agent(2, deactivated=True)], "recovered_agents": []},
        }
        master.v1["GET_FRAMEWORKS"] = {"type": "GET_FRAMEWORKS", "get_frameworks": {"frameworks": [framework(1)]}}
        master.v1["GET_TASKS"] = {"type": "GET_TASKS", "get_tasks": {"tasks": [moved]}}
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.running() == {("F1", "t1")})
        assert follow.tasks()["F1", "t1"].networks[0].addresses == ("9.1.1.1",)
        assert follow.nodes()["A2"].state is NodeState.DRAINING


async def test_a_comparison_that_is_cut_changes_nothing() -> None:
    async with FakeMaster() as master, Following(master.place, resync=0.2) as follow:

        async def cut(request: web.Request) -> web.StreamResponse:
            return web.Response(body=b'{"type":"GET_TASKS","get_tasks":{"tasks":[]}', content_type="application/json")

        master.v1["GET_AGENTS"] = {"type": "GET_AGENTS", "get_agents": {"agents": [agent(1), agent(2)]}}
        master.v1["GET_FRAMEWORKS"] = {"type": "GET_FRAMEWORKS", "get_frameworks": {"frameworks": [framework(1)]}}
        master.v1["GET_TASKS"] = cut
        master.send(SNAPSHOT)
        await follow.until(lambda: follow.source.counters.errors["document"] >= 1)
        assert follow.running() == BOTH
        assert follow.source.counters.syncs == 1


async def test_an_unresolvable_host_costs_only_its_addresses() -> None:
    async with FakeMaster() as master, Following(master.place) as follow:
        odd = agent(1, pid="slave(1)@no.such.host.invalid:5051")
        master.send(subscribed(state_of([task(1), task(2, on=2)], [odd, agent(2)])))
        await follow.until(lambda: follow.running() == BOTH)
        assert follow.nodes()["A1"].addresses == ()
        assert follow.nodes()["A2"].addresses == ("10.0.0.2",)
