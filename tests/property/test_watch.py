"""Whatever changes and whatever breaks in between: in the end a follower says what its server says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesos_dns import watch_journal, watch_session, watch_whole
from mesos_dns.catalog import Catalog
from mesos_dns.model import Drop, Entity, Put, Task
from mesos_dns.watch import Watch
from mesos_dns.watch_journal import Journal
from mesos_dns.watch_session import Follower
from mesos_dns.watch_whole import Turns, Whole
from tests.fakes.relaying import FRAMEWORK, SOURCE, Relaying, Serving, cluster, node, same, task

Step: TypeAlias = tuple[str, int]

PUTS = st.tuples(st.sampled_from(["put", "put node", "drop", "drop node", "burst"]), st.integers(0, 30))
BREAKS = st.tuples(st.sampled_from(["cut", "restart", "fail over", "new follower", "turn", "turns"]), st.integers(1, 5))
HISTORIES = st.lists(PUTS | PUTS | BREAKS, max_size=40)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES, st.sampled_from([600, 1 << 20]), st.integers(0, 40))
def test_follower_and_server_agree_in_the_end(history: Sequence[Step], journal: int, tasks: int) -> None:
    asyncio.run(live(history, journal, tasks))


async def live(history: Sequence[Step], journal: int, tasks: int) -> None:
    """Two servers that see the same cluster, and a follower of both; a small journal makes it fall out of it."""
    first = Serving(*cluster(tasks), journal=lambda: Journal(octets=journal))
    second = Serving(*cluster(tasks), journal=lambda: Journal(octets=journal))
    servers = [first, second]
    async with first, second:
        follower = Relaying(first.url, second.url)
        await follower.start()
        try:
            for number, (what, value) in enumerate(history):
                follower = await step(servers, follower, number, what, value)
            await follower.until(lambda: same(follower.said(), first.catalog) and follower.status.connected)
        finally:
            await follower.stop()


async def step(servers: list[Serving], follower: Relaying, number: int, what: str, value: int) -> Relaying:
    """One event of a history; the follower that goes on."""
    if what == "put":
        for server in servers:
            server.put(task(value, f"STATE_{number}"))
    elif what == "put node":
        for server in servers:
            server.put(node(value), FRAMEWORK)
    elif what == "burst":
        for server in servers:
            server.put(*(task(n, f"BURST_{number}") for n in range(value * 40)))
    elif what == "drop":
        for server in servers:
            server.drop(task(value).key)
    elif what == "drop node":
        for server in servers:
            server.drop(node(value).key, FRAMEWORK.key)
    elif what == "cut":
        for server in servers:
            server.watch.dismiss()
    elif what == "restart":
        await servers[value % 2].restart()
    elif what == "fail over":
        await servers[value % 2].stop()
        await asyncio.sleep(0.002 * value)
        await servers[value % 2].restart()
    elif what == "new follower":
        before = dict(follower.said())
        await follower.stop()
        assert dict(follower.said()) == before  # nothing goes because nobody listens
        follower = Relaying(*(server.url for server in servers), catalog=follower.catalog)
        await follower.start()
    else:
        await asyncio.sleep(0 if what == "turn" else 0.002 * value)
    return follower


class Reader:
    """What is sent to a follower, as a follower takes it; with each frame it gets the cluster changes."""

    def __init__(self, change: Callable[[], None], flickered: set[str]) -> None:
        self.flickered = flickered
        self.states: dict[str, int] = {}
        self.newest: dict[str, int] = {}
        self.seen: set[str] | None = set()
        self._change = change

    async def send(self, frame: bytes) -> None:
        for line in frame.split(b"\n"):
            self._take(json.loads(line))
        self._change()
        await asyncio.sleep(0)
        self._change()

    async def beat(self, status: Callable[[], bytes], changed: bool, mark: bytes) -> None:
        pass

    def _take(self, message: dict[str, Any]) -> None:
        for told in message.get("put", ()):
            if message["kind"] == "task":
                name, state = told["id"], int(told["state"])
                # Nothing is told that is older than what was told before, but for what was taken back.
                assert state >= self.newest.get(name, 0) or name in self.flickered
                self.states[name] = self.newest[name] = state
                if self.seen is not None:
                    self.seen.add(name)
        for key in message.get("drop", ()):
            self.states.pop(key[-1], None)
        if message.get("synced"):
            assert self.seen is not None
            self.states = {name: state for name, state in self.states.items() if name in self.seen}
            self.seen = None


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "drop", "flicker", "flush"]), st.integers(0, 45)), min_size=60, max_size=150
    ),
    st.sampled_from([200, 1000, 1 << 18]),
    st.sampled_from([400, 4000, 1 << 26]),
    st.integers(1, 4),
)
def test_everything_is_told_as_it_is_while_it_changes(
    changes: Sequence[Step], slice_octets: int, whole_octets: int, turns: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (watch_whole, watch_session, watch_journal):
            patch.setattr(module, "SLICE_OCTETS", slice_octets)
        asyncio.run(tell_many(changes, whole_octets, turns))


async def tell_many(changes: Sequence[Step], whole_octets: int, turns: int) -> None:
    """Four followers that want everything at once, while each frame to one of them changes something."""
    catalog = Catalog()
    catalog.register(SOURCE)
    waiting, number = list(changes), 0
    taken_back: list[Entity] = []
    flickered: set[str] = set()

    def put(name: int) -> None:
        nonlocal number
        number += 1
        catalog.publish(SOURCE, Put(task(name, str(number))))

    def change() -> None:
        while taken_back:
            catalog.publish(SOURCE, Put(taken_back.pop()))
        what, name = waiting.pop() if waiting else ("", 0)
        if what == "put":
            put(name)
        elif what == "drop":
            catalog.publish(SOURCE, Drop(task(name).key))
        elif what == "flicker" and (before := catalog.get(task(name).key)) is not None:
            flickered.add(task(name).id)
            put(name)
            taken_back.append(before)
        elif what == "flush":
            catalog.flush()

    for name in range(40):
        put(name)
    watch = Watch(catalog)
    watch.turns = Turns(turns)
    watch.whole = Whole(watch._encoded, whole_octets)
    await watch.start()
    readers = [Reader(change, flickered) for _ in range(4)]
    followers = [Follower(watch, reader, answers=False) for reader in readers]
    for follower in followers:
        watch.enter(follower)
    tasks = [asyncio.create_task(follower.tell("")) for follower in followers]
    async with asyncio.timeout(20):
        while any(reader.seen is not None for reader in readers):
            await asyncio.sleep(0)
        while waiting or taken_back:
            change()
        catalog.flush()
        while any(follower._position < watch.journal.head for follower in followers):
            await asyncio.sleep(0)
    now = {entity.id: int(entity.state) for entity in catalog.entities("task") if isinstance(entity, Task)}
    assert [reader.states for reader in readers] == [now] * 4
    for follower in followers:
        follower.end("gone")
    assert await asyncio.gather(*tasks) == ["gone"] * 4
    for follower in followers:
        watch.leave(follower, "gone")
    watch.stop()
