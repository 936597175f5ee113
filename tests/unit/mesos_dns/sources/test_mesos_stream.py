"""One connection: heartbeat intervals, what must come first, records in pieces."""

from __future__ import annotations

import json

import pytest

from mesos_dns.sources.mesos_stream import DEFAULT_HEARTBEAT, MAX_HEARTBEAT, MIN_HEARTBEAT, heartbeat
from tests.fakes import mesos_master as master
from tests.fakes.followed import Followed
from tests.fakes.replay import Replay


@pytest.mark.parametrize(
    ("told", "used"),
    [
        (15.0, 15.0),
        (0.5, 0.5),
        (None, DEFAULT_HEARTBEAT),
        (0.0, DEFAULT_HEARTBEAT),
        (-1.0, DEFAULT_HEARTBEAT),
        (float("nan"), DEFAULT_HEARTBEAT),
        (float("inf"), DEFAULT_HEARTBEAT),
        ("15", DEFAULT_HEARTBEAT),
        (True, DEFAULT_HEARTBEAT),
        (1e-9, MIN_HEARTBEAT),
        (1e9, MAX_HEARTBEAT),
    ],
)
def test_heartbeat(told: object, used: float) -> None:
    assert heartbeat(told) == used


SNAPSHOT = master.subscribed(master.state_of([master.task(1)], [master.agent(1)]))


@pytest.mark.asyncio
async def test_a_heartbeat_may_come_first() -> None:
    followed = Followed()
    pieces = [master.record(master.HEARTBEAT), master.record(SNAPSHOT)]
    assert (await Replay(followed).connection(iter(pieces))).startswith("connect")
    assert followed.running() == {("F1", "t1")}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "first",
    [
        b"{",
        b'{"type":"SUBSCRIBED"}',
        b'{"type":"SUBSCRIBED","subscribed":null}',
        b'{"type":"SUBSCRIBED","subscribed":{}}',
        b'{"type":"SUBSCRIBED","subscribed":{"get_state":[]}}',
        b'{"type":"SUBSCRIBED","subscribed":{"get_state":{"get_tasks":{"tasks":5}}}}',
        json.dumps(SNAPSHOT).encode()[:-1],
        json.dumps(SNAPSHOT).replace("get_tasks", "no_tasks").encode(),
    ],
)
async def test_without_a_good_snapshot_the_connection_is_given_up(first: bytes) -> None:
    followed = Followed()
    ended = await Replay(followed).connection(iter([master.record(first), master.record(SNAPSHOT)]))
    assert ended.startswith("document")
    assert len(followed.catalog) == 0


@pytest.mark.asyncio
async def test_a_large_broken_record_is_swallowed_to_its_end() -> None:
    followed = Followed()
    replay = Replay(followed)
    broken = master.record(b'{"type":"TASK_ADDED"]' + b"1\n" * 100_000)
    stream = master.record(SNAPSHOT) + broken + master.record(master.update(1, "TASK_FAILED"))
    pieces = [stream[at : at + 5000] for at in range(0, len(stream), 5000)]
    assert (await replay.connection(iter(pieces))).startswith("connect")
    assert replay.counters.malformed == 1
    assert followed.running() == set()
    assert replay.book.reads == []


@pytest.mark.asyncio
async def test_a_second_snapshot_on_one_connection_counts() -> None:
    followed = Followed()
    again = master.subscribed(master.state_of([master.task(2)], [master.agent(1)]))
    await Replay(followed).connection(iter([master.record(SNAPSHOT), master.record(again)]))
    assert followed.running() == {("F1", "t2")}


@pytest.mark.asyncio
async def test_what_a_snapshot_can_do_without_may_be_null_or_odd() -> None:
    state = master.state_of([master.task(1)], [master.agent(1)])
    state |= {"get_executors": None}
    state["get_agents"]["recovered_agents"] = state["get_tasks"]["unreachable_tasks"] = None
    followed = Followed()
    odd = {"type": "SUBSCRIBED", "subscribed": {"get_state": state, "heartbeat_interval_seconds": "soon"}}
    assert (await Replay(followed).connection(iter([master.record(odd)]))).startswith("connect")
    assert followed.running() == {("F1", "t1")}

    idle = Followed()
    state["get_tasks"]["tasks"] = None
    assert (await Replay(idle).connection(iter([master.record(master.subscribed(state))]))).startswith("connect")
    assert len(idle.catalog) == 2, "the agent and the framework"
