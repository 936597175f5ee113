"""Drained tasks: what who scales writes, what servers make of it, and what is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent import draining
from agent.coordinators import StateDirCoordinator
from agent.draining import LONGEST, MOST_TASKS, TRIES, Drain, Drains, DrainSource, drain_key, read_drain
from mesos_dns.catalog import Catalog
from mesos_dns.coordinate import MAX_VALUE, CoordinatorLost, VersionConflict
from mesos_dns.model import App, Draining, Put
from mesos_dns.publish import CatalogPublisher
from tests.fakes.memory_coordinator import Memory, MemoryCoordinator

APP, OTHER = App("/shop/web", framework_id="F1"), App("/shop/api", framework_id="F2", cluster="west")
KEY = drain_key(APP.key)


def later(seconds: float = 60.0) -> float:
    return time.time() + seconds


def stored(memory: Memory, app: App = APP) -> dict[str, Any] | None:
    """The value of an app."""
    found = memory.values.get(drain_key(app.key))
    return json.loads(found.value) if found is not None else None


# --- values ---------------------------------------------------------------------------------------


def test_the_key_is_of_legal_characters_and_of_one_app() -> None:
    assert KEY.startswith("drains/")
    assert len(KEY) == 7 + 32
    assert len({drain_key(app.key) for app in (APP, OTHER, App("/shop/web", framework_id="F2"))}) == 3


def test_a_value() -> None:
    value = json.dumps({"app": APP.key, "tasks": ["a", "b"], "until": 1100.5, "newer": 1}).encode()
    found = read_drain(KEY, value, 1000.0)
    assert found == Drain(("app", "mesos", "F1", "/shop/web"), ("a", "b"), 1100.5)
    assert found.entities() == [Draining("F1", "a", 1100.5), Draining("F1", "b", 1100.5)]
    assert read_drain(KEY, value, 9000.0) == found, "that it has expired is another's question"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"app": ["app", "mesos", "F1"]}, "length 4"),
        ({"app": ["app", "mesos", "F1", "/other"]}, "app:"),
        ({"app": ["node", "mesos", "F1", "/shop/web"]}, "app:"),
        ({"tasks": []}, "tasks: expected 1 to"),
        ({"tasks": ["t"] * (MOST_TASKS + 1)}, "tasks: expected 1 to"),
        ({"tasks": ["a", ""]}, "ids of 1 to"),
        ({"tasks": ["a" * 1025]}, "ids of 1 to"),
        ({"tasks": [1]}, "str"),
        ({"tasks": "abc"}, "array"),
        ({"until": 1000.0 + LONGEST + 1}, "until:"),
        ({"until": 1e400}, "out of range"),
        ({"until": None}, "float"),
    ],
)
def test_what_is_no_value(changes: dict[str, Any], says: str) -> None:
    value = json.dumps({"app": APP.key, "tasks": ["a"], "until": 1100.0} | changes).replace("Infinity", "1e400")
    with pytest.raises(ValueError, match=says):
        read_drain(KEY, value.encode(), 1000.0)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"app":["\\ud800","","",""]}'])
def test_what_is_not_even_json_of_it(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_drain(KEY, value, 1000.0)


# --- who writes -----------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_what_is_set_stays_until_it_is_cleared() -> None:
    memory = Memory()
    drains = Drains(memory.client())
    await drains.set(APP, ["a", "b"], 1_800_000_000.0)
    assert stored(memory) == {"app": list(APP.key), "tasks": ["a", "b"], "until": 1_800_000_000.0}
    await drains.set(OTHER, ["a"], 1_800_000_000.0)
    await drains.set(APP, ["b"], 1_800_000_001.0)
    await drains.set(APP, ["b"], 1_800_000_001.0)
    assert memory.puts == [KEY, drain_key(OTHER.key), KEY], "the same is not written twice"
    await drains.clear(APP)
    await drains.clear(APP)
    assert stored(memory) is None
    await drains.set(OTHER, [], 1_800_000_000.0)
    assert not memory.values


@pytest.mark.asyncio
async def test_what_another_has_set_since_is_not_taken_back() -> None:
    memory = Memory()
    drains, until = Drains(memory.client()), later()
    await drains.set(APP, ["a"], until)
    await Drains(memory.client()).set(APP, ["b"], until + 1.0)
    await drains.clear(APP, until)
    assert (stored(memory) or {})["tasks"] == ["b"]
    await drains.clear(APP, until + 1.0)
    assert stored(memory) is None
    memory.write(KEY, b"?")
    await drains.clear(APP, until)
    assert KEY in memory.values
    await drains.clear(APP)
    assert memory.values == {}


@pytest.mark.asyncio
async def test_a_conflict_is_tried_again_and_not_for_ever() -> None:
    memory = Memory()
    client = memory.client()
    others = 1

    def before_put(key: str) -> None:
        nonlocal others
        if others:
            others -= 1
            memory.write(key, b"other")

    client.before_put = before_put
    await Drains(client).set(APP, ["a"], 1_800_000_000.0)
    assert stored(memory) is not None
    others = TRIES
    with pytest.raises(CoordinatorLost, match="somebody else"):
        await Drains(client).set(APP, ["b"], 1_800_000_000.0)
    assert others == 0


@pytest.mark.asyncio
async def test_a_coordinator_that_is_lost_is_told() -> None:
    memory = Memory()
    drains = Drains(client := memory.client())
    memory.lost = True
    with pytest.raises(CoordinatorLost):
        await drains.set(APP, ["a"], 1_800_000_000.0)
    with pytest.raises(CoordinatorLost):
        await drains.clear(APP)
    memory.lost = False
    client.lose_answers = 1
    with pytest.raises(CoordinatorLost):
        await drains.set(APP, ["a"], 1_800_000_000.0)
    await drains.set(APP, ["a"], 1_800_000_000.0)
    assert memory.puts == [KEY], "it had been done"


@pytest.mark.asyncio
async def test_a_value_that_goes_while_it_is_cleared_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    drains = Drains(client := memory.client())
    await drains.set(APP, ["a"], 1_800_000_000.0)
    delete = client.delete_if

    async def late(key: str, version: int) -> None:
        memory.values.pop(key, None)
        await delete(key, version)

    monkeypatch.setattr(client, "delete_if", late)
    await drains.clear(APP)
    assert not memory.values


@pytest.mark.asyncio
@pytest.mark.parametrize(("tasks", "length", "most"), [(MOST_TASKS + 5, 8, MOST_TASKS), (3000, 1000, 1100)])
async def test_of_too_many_tasks_the_first_are_drained(
    caplog: pytest.LogCaptureFixture, tasks: int, length: int, most: int
) -> None:
    memory = Memory()
    ids = [f"{number:0{length}}" for number in range(tasks)]
    await Drains(memory.client()).set(APP, ids, later())
    value = memory.values[KEY].value
    found = read_drain(KEY, value, time.time())
    assert len(value) <= MAX_VALUE
    assert 900 < len(found.tasks) <= most
    assert list(found.tasks) == ids[: len(found.tasks)]
    assert "not all tasks can be drained" in caplog.text


# --- servers --------------------------------------------------------------------------------------


class Server:
    """A server's catalog, and the source that runs on it."""

    def __init__(self, coordinator: MemoryCoordinator | StateDirCoordinator) -> None:
        self.catalog = Catalog()
        self.source = DrainSource(CatalogPublisher(self.catalog, "draining"), coordinator)

    def drained(self) -> set[str]:
        """The tasks that are drained here."""
        return {entity.task_id for entity in self.catalog.entities("draining") if isinstance(entity, Draining)}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.source.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_all_servers_tell_what_one_process_wrote(tmp_path: Path) -> None:
    clients = [StateDirCoordinator(tmp_path, poll=0.02) for _ in range(3)]
    one, other = Server(clients[1]), Server(clients[2])
    drains = Drains(clients[0])
    try:
        async with one.running(), other.running():
            await drains.set(APP, ["a", "b"], ends := later())
            await drains.set(OTHER, ["c"], later())
            await until(lambda: one.drained() == other.drained() == {"a", "b", "c"})
            assert one.catalog.get(("draining", "mesos", "F1", "a")) == Draining("F1", "a", ends)
            assert ("draining", "west", "F2", "c") in one.catalog.said("draining")
            assert not one.catalog.sources["draining"].stale
            await drains.set(APP, ["b", "d"], later())
            await until(lambda: one.drained() == other.drained() == {"b", "c", "d"})
            await drains.clear(APP)
            await until(lambda: one.drained() == other.drained() == {"c"})
    finally:
        for client in clients:
            client.close()


@pytest.mark.asyncio
async def test_what_was_known_before_stays_until_the_coordinator_was_read_and_while_it_is_lost() -> None:
    memory = Memory()
    await Drains(memory.client()).set(APP, ["a"], later())
    server = Server(memory.client())
    memory.lost = True
    server.catalog.publish("draining", Put(Draining("F1", "restored", later())))
    async with server.running():
        for _ in range(10):
            await asyncio.sleep(0)
        assert server.drained() == {"restored"}
        assert server.catalog.sources["draining"].stale
        memory.lost = False
        await until(lambda: server.drained() == {"a"})
        memory.lost = True
        for _ in range(10):
            await asyncio.sleep(0)
        assert server.drained() == {"a"}


@pytest.mark.asyncio
async def test_a_bad_value_costs_only_itself_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    server = Server(memory.client())
    memory.write(drain_key(OTHER.key), b"{")
    async with server.running():
        for task in ("a", "b", "c"):
            await Drains(memory.client()).set(APP, [task], later())
            await until(partial(lambda wanted: server.drained() == {wanted}, task))
    assert len([message for message in caplog.messages if "can't be read" in message]) == 1


@pytest.mark.asyncio
async def test_what_has_expired_is_not_told() -> None:
    memory = Memory()
    await Drains(memory.client()).set(OTHER, ["old"], later(-1.0))
    await Drains(memory.client()).set(APP, ["new"], later())
    server = Server(memory.client())
    async with server.running():
        await until(lambda: server.drained() == {"new"})


@pytest.mark.asyncio
async def test_there_are_most_tasks_of_all_apps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(draining, "MOST_TOLD", 4)
    memory = Memory()
    server = Server(memory.client())
    drains = Drains(memory.client())
    async with server.running():
        await drains.set(APP, ["a", "b", "c"], later())
        await drains.set(OTHER, ["d", "e"], later())
        await until(lambda: "left out" in caplog.text)
        assert len(server.drained()) in (2, 3)
        await drains.clear(APP)
        await until(lambda: server.drained() == {"d", "e"})
    assert caplog.text.count("left out") == 1


@pytest.mark.asyncio
async def test_values_that_have_expired_for_long_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    server = Server(client := memory.client())
    drains = Drains(memory.client())
    await drains.set(APP, ["a"], 1000.0)
    await drains.set(OTHER, ["b"], 2000.0)
    memory.write("drains/else", b"no value")
    async with server.running():
        await until(lambda: len(server.source._read) == 3)
        await server.source.sweep(1000.0 + 59.0)
        assert len(memory.values) == 3
        memory.lost = True
        await server.source.sweep(1061.0)
        memory.lost = False
        assert len(memory.values) == 3
        await server.source.sweep(1061.0)
        assert memory.values.keys() == {drain_key(OTHER.key), "drains/else"}
        memory.write(drain_key(OTHER.key), json.dumps({"app": OTHER.key, "tasks": ["b"], "until": 9000.0}).encode())
        await server.source.sweep(2061.0)
        assert drain_key(OTHER.key) in memory.values, "it was written anew in between"

        async def conflict(key: str, version: int) -> None:
            raise VersionConflict(key)

        await until(lambda: server.source._read[drain_key(OTHER.key)][0] == memory.values[drain_key(OTHER.key)].value)
        monkeypatch.setattr(client, "delete_if", conflict)
        await server.source.sweep(99_000.0)
        assert drain_key(OTHER.key) in memory.values


@pytest.mark.asyncio
async def test_it_looks_for_them_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "SWEEP_EVERY", 0.01)
    memory = Memory()
    await Drains(memory.client()).set(APP, ["a"], 1000.0)
    async with Server(memory.client()).running():
        await until(lambda: not memory.values)
