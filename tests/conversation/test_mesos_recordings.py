"""The recorded streams of a real Mesos, byte by byte: the right tasks at every step."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesos_dns.model import Health
from tests.conftest import REPOSITORY
from tests.fakes import replay
from tests.fakes.followed import Followed

DATA = REPOSITORY / "tests/data/mesos-api"
GONE = {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED", "TASK_GONE"}
GONE |= {"TASK_GONE_BY_OPERATOR"}
Table = dict[tuple[str, str], dict[str, Any]]


def oracle(event: dict[str, Any], table: Table) -> None:
    """What an event means for the table of tasks, written down independently; holds are not modelled."""
    if event["type"] == "SUBSCRIBED":
        tasks = event["subscribed"]["get_state"]["get_tasks"]
        table.clear()
        for task in tasks["tasks"] + tasks["unreachable_tasks"]:
            if task["state"] not in GONE:
                table[task["framework_id"]["value"], task["task_id"]["value"]] = task
    elif event["type"] == "TASK_ADDED":
        task = event["task_added"]["task"]
        table[task["framework_id"]["value"], task["task_id"]["value"]] = task
    elif event["type"] == "TASK_UPDATED":
        update = event["task_updated"]
        key = update["framework_id"]["value"], update["status"]["task_id"]["value"]
        if update["state"] in GONE:
            table.pop(key, None)
        elif key in table:
            table[key] = {**table[key], "state": update["state"]}


def connections(data: bytes) -> Iterator[list[bytes]]:
    """The records of each connection: a new one begins with SUBSCRIBED."""
    current: list[bytes] = []
    for record in replay.records(data):
        if b'"type":"SUBSCRIBED"' in record[:60] and current:
            yield current
            current = []
        current.append(record)
    yield current


def moments(folder: Path) -> list[tuple[float, Path]]:
    """When each snapshot of all endpoints was taken."""
    return sorted((float(p.read_text().split()[2]), p.parent) for p in folder.glob("snap_*/README"))


def expected(snapshot: Path) -> tuple[Table, set[str]]:
    """The tasks of a snapshot by key, and the agents that the master still waits for."""
    agents = json.loads((snapshot / "V1_GET_AGENTS.json").read_text())["get_agents"]["recovered_agents"]
    state = json.loads((snapshot / "V1_GET_STATE.json").read_text())["get_state"]["get_tasks"]
    tasks = state["tasks"] + state["unreachable_tasks"]
    table = {(t["framework_id"]["value"], t["task_id"]["value"]): t for t in tasks if t["state"] not in GONE}
    return table, {agent["id"]["value"] for agent in agents}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["main", "extras", "variants"])
async def test_every_event_of_a_recording(name: str) -> None:
    followed, table = Followed(), Table()
    player = replay.Replay(followed)
    nodes: dict[tuple[str, str], str] = {}
    for records in connections(replay.read(DATA / f"{name}.recordio.gz")):
        held: set[tuple[str, str]] = set()

        def after(at: int, records: list[bytes] = records, held: set[tuple[str, str]] = held) -> None:
            event = json.loads(records[at].partition(b"\n")[2])
            before = {key: task["agent_id"]["value"] for key, task in table.items()}
            oracle(event, table)
            if event["type"] == "SUBSCRIBED":
                held.update(before.keys() - table.keys())
                held.difference_update([key for key in held if before[key] in agents_of(event)])
            if event["type"] == "AGENT_ADDED":
                agent = event["agent_added"]["agent"]["agent_info"]["id"]["value"]
                held.difference_update([key for key in held if nodes.get(key) == agent])
            nodes.update({key: task["agent_id"]["value"] for key, task in table.items()})
            held.difference_update(table)
            states = {key: task.state for key, task in followed.tasks().items()}
            assert {key: state for key, state in states.items() if key not in held} == {
                key: task["state"] for key, task in table.items()
            }, f"record {at} {event['type']}"
            assert held <= states.keys()

        ended = await player.connection(iter(records), after)
        assert ended.startswith("connect: ")
    assert player.counters.malformed == 0
    assert player.counters.skipped_fields == 0


def agents_of(event: dict[str, Any]) -> set[str]:
    agents = event["subscribed"]["get_state"]["get_agents"]["agents"]
    return {agent["agent_info"]["id"]["value"] for agent in agents}


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(3))
async def test_tasks_equal_the_masters_own_at_each_snapshot(truth: Path, seed: int) -> None:
    """At each moment when the endpoints were read, running tasks, networks and health are what the master says."""
    folder, dice, compared = truth / "mesos-api/main", random.Random(seed), 0
    data = (folder / "subscribe.recordio").read_bytes()
    index = [json.loads(line) for line in (folder / "subscribe.idx.jsonl").read_text().splitlines()]
    index = [line for line in index if "type" in line]
    said = {snapshot: expected(snapshot) for _, snapshot in moments(folder)}
    times = iter(moments(folder))
    due = next(times, None)
    followed = Followed()
    player = replay.Replay(followed)
    at = 0
    for records in connections(data):
        pieces: list[bytes] = []
        checks: dict[int, Path] = {}
        for record in records:
            while due is not None and index[at]["t"] > due[0]:
                if pieces:
                    checks[len(pieces) - 1] = due[1]
                due = next(times, None)
            pieces += replay.chunks(record, dice, 300)
            at += 1
        if due is not None and at == len(index):
            checks[len(pieces) - 1] = due[1]

        def after(number: int, checks: dict[int, Path] = checks) -> None:
            nonlocal compared
            snapshot = checks.get(number)
            if snapshot is None:
                return
            compared += 1
            (told, waited), tasks = said[snapshot], followed.tasks()
            assert {key for key, task in tasks.items() if task.node_id not in waited} == told.keys(), snapshot.name
            for key, task in told.items():
                assert tasks[key].state == task["state"], (snapshot.name, key)
                assert_same(tasks[key], task)

        await player.connection(iter(pieces), after)
    assert compared >= 10


def assert_same(task: Any, told: dict[str, Any]) -> None:
    assert task.name == told["name"]
    assert task.node_id == told["agent_id"]["value"]
    running = [status for status in told.get("statuses", []) if status["state"] == "TASK_RUNNING"]
    if running and told["state"] == "TASK_RUNNING":
        infos = running[-1].get("container_status", {}).get("network_infos", [])
        addresses = [a["ip_address"] for info in infos for a in info.get("ip_addresses", [])]
        assert [a for network in task.networks for a in network.addresses] == addresses
        healthy = running[-1].get("healthy")
        without = Health.PENDING if "health_check" in told else Health.NONE
        assert task.health == {None: without, True: Health.HEALTHY, False: Health.UNHEALTHY}[healthy]
    ports = [r for r in told.get("resources", []) if r["name"] == "ports"]
    numbers = [n for r in ports for i in r["ranges"]["range"] for n in range(i["begin"], i["end"] + 1)]
    assert list(task.host_ports) == numbers
    labels = told.get("labels", {}).get("labels", [])
    assert list(task.labels) == [(label["key"], label.get("value", "")) for label in labels]


@pytest.mark.asyncio
async def test_a_fail_over_with_tasks_unchanged_changes_nothing() -> None:
    """The near-empty snapshot after the leader's death, then everything comes back as it was."""
    first, second = connections(replay.read(DATA / "main.recordio.gz"))
    followed = Followed()
    player = replay.Replay(followed)
    await player.connection(iter(first))
    before = dict(followed.tasks())
    assert len(before) == 11
    followed.changes()
    settled = 0

    def after(number: int) -> None:
        nonlocal settled
        if settled >= 3:
            return
        settled += b'"AGENT_ADDED"' in second[number][:60]
        assert followed.changes() == {}, second[number][:200]

    await player.connection(iter(second), after, leader="http://two")
    assert settled == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["subscribe2000", "subscribe10000"])
async def test_the_large_recordings(truth: Path, name: str) -> None:
    data = replay.read(truth / f"mesos-api/big/{name}.recordio.gz")
    followed, table = Followed(), Table()
    player = replay.Replay(followed)
    for number, records in enumerate(connections(data)):
        for record in records:
            oracle(json.loads(record.partition(b"\n")[2]), table)
        await player.connection(replay.chunks(b"".join(records), random.Random(number), 100_000))
        running = {key for key, task in table.items() if task["state"] == "TASK_RUNNING"}
        assert followed.running() == running
    assert player.counters.malformed == 0
